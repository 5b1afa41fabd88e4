"""The place of our SIGTERM handler in a process in which Prefect runs a flow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PROGRAM = """
import signal, sys, threading
from prefect.utilities import engine

def in_main_thread():
    import tasks

def in_another_thread():
    thread = threading.Thread(target=in_main_thread)
    thread.start()
    thread.join()

before = engine._prefect_sigterm_handler
with engine.capture_sigterm():  # as it is while a flow runs
    globals()[sys.argv[1]]()
    print(engine.is_prefect_sigterm_handler_installed(), signal.getsignal(signal.SIGTERM) is not before)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


@pytest.mark.parametrize(("how", "in_front"), [("in_main_thread", True), ("in_another_thread", False)])
def test_tasks_imported_while_a_flow_runs_keep_prefects_handler(how: str, in_front: bool) -> None:
    """Prefect finds its own handler installed, which it needs in order to cancel; ours comes first where it can."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )

    assert done.stdout.split() == ["True", str(in_front), "True"], done.stderr
