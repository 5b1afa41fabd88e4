"""Wait for a request: poll it (`poll`), until when (`poll_state`), when next (`schedule`), and how long others ran
(`forecast`).
"""
