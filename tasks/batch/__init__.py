"""A batch as Prefect runs it: `plan`, `run` and `report` are its stages, and `program` makes each row a task run.

A large batch is done by several workers: `shards` starts a flow run for each shard, and `shard_run` watches one.
"""
