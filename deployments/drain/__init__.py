"""`python -m deployments.drain`: empty a work pool before its workers are stopped.

`places` pauses it and knows what is under way there, `progress` shows that, and `waiting` waits for its end.
"""
