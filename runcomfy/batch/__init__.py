"""Many generations from one manifest: what they are, what they cost, and how far they are.

`prepare` reads a manifest and finds what is left to do: `plan` stages the images of its rows, `status` asks the
journal about them, `account` says what each has cost. `run` does it: `row_scheduler` runs a bounded number of rows at
once, within a `budget` that several runs may share (`shared_budget`), and stops where all fail alike
(`circuit_breaker`), which the other shards hear of too (`halt`). `estimate` says how long the rest may take, `shard`
is a part for another worker, `results` the files with what became of the rows, `program` what Prefect or the command
adds.
"""
