"""Bring an output file into the bucket: exactly one whole, checked object with its provenance, whatever breaks.

The bytes go from the output host into an unnamed temporary file, are checked there as a whole, and become visible by
one conditional PUT: a broken transfer leaves nothing behind, even if the process is killed. The provenance comes last
and marks the object as complete; a run that crashed in between is completed by repeating it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio

from runcomfy.api.responses import Answer
from runcomfy.archive.attempt import Archiving
from runcomfy.archive.temporary_file import check_folder
from runcomfy.content_credentials import Signing
from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import RetryBudget
from runcomfy.errors import ArchiveError, HostNotAllowed, UnexpectedContent
from runcomfy.media.validation import OutputValidation
from runcomfy.storage.keys import KeyTemplate
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts

__all__ = [
    "archive_answer",
    "archive_output",
    "check_folder",
    "verify_exists",
]

logger = logging.getLogger(__name__)

_DEFAULT_TEMPLATE = KeyTemplate()
_RETRY_BUDGET = RetryBudget()
# Its own threads: slow files must not delay the rest of the process, least of all a cancellation.
_TRANSFERS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="archive")


async def archive_output(
    url: str,
    index: int,
    facts: GenerationFacts,
    store: Store,
    *,
    hosts: HostPolicy,
    template: KeyTemplate = _DEFAULT_TEMPLATE,
    validation: OutputValidation | None = None,
    retry_budget: RetryBudget = _RETRY_BUDGET,
    mark: bool = True,
    signing: Signing | None = None,
    contact_sheet: bool = False,
    set_aside: bool = False,
) -> ArchivedVideo:
    """Copy one output file into the store, with its provenance, and return where it is. Can be repeated at any time.

    A repetition finds the object and its provenance, and reads only the first bytes of the file. Cancelling waits until
    the transfer is undone, which takes moments; what was complete by then stays.

    Args:
        url: Where the file is, by the service's answer. No token is sent there.
        index: Which of the request's outputs it is, from 0.
        facts: What is known of the generation; written to the provenance.
        store: Where it goes.
        hosts: Where it may come from, redirects included.
        template: The key, under the store's prefix. The extension is that of the content.
        validation: What was asked for; a file that is different is kept, with warnings.
        retry_budget: How often a broken connection is resumed in the middle of the file, where the host allows it.
        mark: Whether to mark the file as made by a model, if it is an MP4 that can be (see `runcomfy.media.marking`);
            its provenance says so in any case.
        signing: What signs the file's Content Credentials; `None` if nothing does.
        contact_sheet: Whether to put a contact sheet beside a video: nine frames with their times, `<key>.sheet.jpg`.
        set_aside: Whether a file that is judged suspect or damaged goes below `quarantine/` instead. What exists of the
            output already is found in both places, and stays where it is.

    Returns:
        Where it is; for one that a person rejected, where it was.

    Raises:
        DownloadError: The file could not be read to its end.
        UnexpectedContent: It is no media at all, or seems cut off and its length is unknown.
        TemporaryFileError: This machine has no room for it, or no folder for temporary files.
        SigningFailed: It has to be signed, and cannot be.
        HostNotAllowed: Its host is not one that `hosts` allows.
        ArchiveConflict: Another object, or another generation's, is at its key; it was not touched.
        StorageError: The store refused or could not be reached.
        ConfigurationError: The template does not suit these facts.
    """
    archive = Archiving(
        url,
        index,
        facts,
        store,
        hosts,
        template,
        validation,
        retry_budget,
        mark,
        signing=signing,
        contact_sheet=contact_sheet,
        set_aside=set_aside,
    )
    work = asyncio.get_running_loop().run_in_executor(_TRANSFERS, archive.run)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        archive.stop()
        # Prefect's time-outs cancel every further await; anyio's shield blocks that.
        with anyio.CancelScope(shield=True):
            while archive.opened.is_set() and not work.done():
                with suppress(asyncio.CancelledError):  # once is enough: it is raised below
                    await asyncio.wait([work])
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise


async def archive_answer(
    answer: Answer, facts: GenerationFacts, store: Store, *, validation: OutputValidation | None = None, **options: Any
) -> list[ArchivedVideo]:
    """Archive every file that an answer of the result call names; what is odd about the answer goes into the warnings.

    A file that cannot be archived does not stop the others; its error is raised at the end. Where the URLs of files had
    to be guessed, one that turns out to be no file (a page, a host that is not trusted) is only logged.

    Args:
        answer: A success, as `runcomfy.api.requests.collect` returns it.
        facts: What is known of the generation.
        store: Where the files go.
        validation: What was asked for.
        **options: As for `archive_output`, which also lists the errors.
    """
    validation = validation or OutputValidation()
    odd = (*answer.warnings, *validation.count_warnings(len(answer.outputs)))
    validation = validation.model_copy(update={"answer_warnings": odd})
    archived: list[ArchivedVideo] = []
    failed: list[ArchiveError] = []
    refused: list[ArchiveError] = []
    for index, url in enumerate(answer.outputs):
        try:
            archived.append(await archive_output(url, index, facts, store, validation=validation, **options))
        except ArchiveError as error:
            is_no_file = isinstance(error, HostNotAllowed) or (isinstance(error, UnexpectedContent) and error.no_media)
            (refused if answer.guessed and is_no_file else failed).append(error)
    if failed or (refused and not archived):
        raise (failed or refused)[0]
    for refusal in refused:
        logger.warning("A URL in the output of request %s is no file: %s", answer.request_id, refusal.message)
    return archived


def verify_exists(videos: Sequence[ArchivedVideo], store: Store) -> bool:
    """Whether archived files and their provenance are where they were put; two small calls a file. Blocks.

    Raises:
        StorageError: The store refused or could not be reached.
    """
    for video in videos:
        existing = store.head(video.key, video.bucket)
        if existing is None or existing.size_bytes != video.size_bytes:
            return False
        if store.head(video.provenance_key, video.bucket) is None:
            return False
    return True
