"""Wait for a request: when to poll it, how long to go on, and when to give up.

`poll` is the one loop. `poll_state` decides what a failed poll and a deadline mean, `schedule` when the next poll is
due, and `forecast` how long such requests run.
"""
