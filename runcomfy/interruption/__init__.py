"""What wants to stop this process: SIGTERM waits until submissions are answered (`shutdown`), Ctrl-C is noticed, and
what must run to its end does so, whoever cancels it (`keyboard`).
"""
