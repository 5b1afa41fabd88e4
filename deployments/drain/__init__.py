"""`python -m deployments.drain`: empty a work pool before its workers are stopped.

`places` pauses it and reads its active runs, `progress` shows them, and `waiting` waits for their end.
"""
