"""What interrupts this process: SIGTERM waits until submissions are answered (`shutdown`); Ctrl-C is noticed, and
work that must not be interrupted finishes (`keyboard`). What an interruption means for a request is decided in
`runcomfy.generation.ending`; who interrupted a flow run, `tasks.runtime.interruption` knows.
"""
