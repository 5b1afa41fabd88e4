"""The command `prefect-runcomfy`: the engine from a shell, without Prefect and without a server."""
