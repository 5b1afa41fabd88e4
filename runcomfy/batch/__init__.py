"""Many generations from one manifest: what they are, what they cost, and how far they are.

`prepare` reads a manifest and finds what is left to do: `status` asks the journal, `plan` and `estimate` say what it
may take, `account` what each has cost. `run` does it: `row_scheduler` runs a bounded number of rows at once, within a
`budget` that several runs may share (`shared_budget`), and stops where all fail alike (`circuit_breaker`, `halt`).
`shard` is a part for another worker, `results` what became of them, `program` what Prefect or the command adds.
"""
