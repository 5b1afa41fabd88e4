"""Share what is learnt of run times among all that work with one journal: a note beside its entries."""

from __future__ import annotations

import logging

from runcomfy.errors import RunComfyError
from runcomfy.journal.journal import Journal
from runcomfy.polling.forecast import RunTimes

__all__ = ["note_run_times", "recall_run_times"]

_NOTE = "run-times"
logger = logging.getLogger(__name__)


async def recall_run_times(journal: Journal) -> RunTimes:
    """Return what is known of run times; if the journal does not tell, nothing is, and looks are more frequent."""
    run_times = RunTimes()
    try:
        run_times.read_note(await journal.read_note(_NOTE))
    except RunComfyError as error:
        logger.info("It could not be read how long requests usually run: %s", error)
    return run_times


async def note_run_times(journal: Journal, run_times: RunTimes) -> None:
    """Write down what was learnt; where another worker does so at the same moment, or the journal fails, it is lost."""
    if not run_times.has_news:
        return
    try:
        if await journal.update_note(_NOTE, run_times.added_to):
            run_times.forget_news()
    except RunComfyError as error:
        logger.info("It could not be written down how long requests ran: %s", error)
