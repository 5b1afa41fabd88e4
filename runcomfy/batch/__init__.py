"""Many generations from one manifest: what they are, what they cost, and how far they are.

`prepare` reads a manifest and finds what is left to do: `plan` stages the media of its rows, `status` asks the
journal about them, `account` says what each has cost, `prices` what those that are left are taken to cost. `run` does
it: `row_scheduler` runs a bounded number of rows at once, within a `budget` that several runs may share
(`shared_budget`), and stops if all fail alike (`circuit_breaker`), and with it the other shards (`halt`). `estimate`
says how long the rest may take, `shard` is the share of another worker, `results` the files with the outcomes of the
rows, `program` what Prefect or the command adds.
"""
