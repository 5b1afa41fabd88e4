"""Read by every Python process that tests start: collect garbage less often.

What Prefect imports is some hundred thousand objects that stay. To look through them again and again while they are
made takes a fifth of the time in which such a process starts, and each test of the slow suite starts some.
"""

import gc

gc.set_threshold(20_000, 50, 50)
