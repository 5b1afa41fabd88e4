"""What `reconcile` does for a Prefect server: find runs that nobody works on, run orders again, and free leaked slots.

`tasks.heal_runs` calls it in the flow `reconcile`, which has a schedule; `deployments.automations` mark silent runs
as crashed and start it. Runs: `reading` collects the `facts`, with those of `deployments` and `heartbeats`; `judging`
decides what becomes of each run; `healing` carries that out, `marks` names the tags and messages that it leaves, and
`events` announces it. Slots: `slot_runs` reads which runs hold some, `slot_claims` decides which are leaked, and
`held` frees those. The page: `operations_page`, with `people` (what needs a person) and `page_parts`. `next_run`
plans the next reconcile.
"""
