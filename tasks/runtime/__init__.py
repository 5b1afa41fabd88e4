"""What only Prefect knows of a run, for the engine: `hooks` hands all of it over.

Who interrupted it (`interruption`, `sigterm`), whether it will be tried again (`retries`), its slots of the account's
limit (`slots`, `slot_label`), its events and assets (`events`), its name (`naming`), whether it is alive
(`heartbeats`), and which generations no run waits for any more (`abandoned`).
"""
