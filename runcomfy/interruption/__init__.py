"""What interrupts this process: SIGTERM waits until submissions are answered (`shutdown`); Ctrl-C is noticed, and work
that must not be interrupted finishes (`keyboard`).
"""
