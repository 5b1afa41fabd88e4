"""A batch as Prefect runs it: `plan`, `run` and `report` are its tasks, and `program` is what a row shows in Prefect.

A large one is done by several workers: `shards` starts a flow run for each part, and `shard_run` watches one of them.
"""
