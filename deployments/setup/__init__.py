"""`python -m deployments.setup`: make what deployments need on a Prefect server, each once and nothing unasked.

`steps` says how a thing is made, kept or changed; `pool`, `blocks`, `models` and `automations` are the things, and
`values` asks for what the blocks hold.
"""
