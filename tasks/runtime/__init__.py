"""What only Prefect knows of a run, for the engine: `hooks` hands it over, and says what a task may retry.

Who interrupted it (`interruption`, `sigterm`), its slots of the account's limit (`slots`, `slot_lease`, `slot_label`),
its events and assets (`events`), its name (`naming`), how often it sends a heartbeat (`heartbeats`), and which
generations no run waits for any more (`abandoned`). `request_task` makes the tasks whose cancellation leaves no request
alone in the queue. `flow` makes our flows, which say in words why Prefect could not start one.
"""
