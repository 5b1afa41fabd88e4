"""Prefect's own handler of SIGTERM raises into whatever runs in the main thread: it waits for what is being paid for.

Prefect looks its handler up in its module when a flow begins, installs it for as long as the flow runs, and recognises
it there (`capture_sigterm` and `is_prefect_sigterm_handler_installed` in `prefect/utilities/engine/__init__.py`,
Prefect 3.9; there is no public hook). So the name there is given a handler that does the same a little later.
Where a version of Prefect has no such name, `runcomfy.interruption.shutdown` puts itself in front of the handler, as
long as the main thread submits.
"""

from __future__ import annotations

import signal

from prefect.utilities import engine

from runcomfy.interruption.shutdown import shutdown

__all__ = ["hold_back_sigterm"]

_HANDLER = "_prefect_sigterm_handler"


def hold_back_sigterm() -> None:
    """Hold SIGTERM back while submissions are being answered, in every flow that begins from now on.

    If a flow is already running, and imports these tasks in its body, in that one too. In another thread than the main
    one the handler cannot be replaced: it is left alone then, since Prefect cancels a run only where it finds the
    handler installed that it looks up.
    """
    handler = getattr(engine, _HANDLER, None)
    if not callable(handler):
        return
    ours = shutdown.wrap_handler(handler)
    if signal.getsignal(signal.SIGTERM) is handler:
        try:
            signal.signal(signal.SIGTERM, ours)
        except ValueError:  # not the main thread
            return
    setattr(engine, _HANDLER, ours)
