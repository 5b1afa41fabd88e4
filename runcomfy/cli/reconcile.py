"""`reconcile`: collect what no process waits for, and tidy up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from runcomfy.cli import environment
from runcomfy.cli.log import log_progress
from runcomfy.cli.options import ArchivingOptions, Json
from runcomfy.cli.output import exit_code, print_facts
from runcomfy.errors import ArchiveError, ConfigurationError
from runcomfy.storage.commands import StoreOptions, shell_command

if TYPE_CHECKING:
    from runcomfy.generation.reconcile import Reconciliation
    from runcomfy.values import ArchivedVideo

__all__ = ["reconcile"]


def reconcile(
    *,
    abandoned_after_seconds: Annotated[
        float,
        Parameter(validator=Number(gte=0), help="A request that no process has updated for so long is polled."),
    ] = 900,
    uploads_older_than_hours: Annotated[
        float, Parameter(validator=Number(gte=1), help="Unfinished multipart uploads that are older are aborted.")
    ] = 24,
    images_older_than_days: Annotated[
        float | None,
        Parameter(validator=Number(gte=2), help="Staged images that are unused for so long are deleted."),
    ] = None,
    archive: ArchivingOptions,
    json: Json = False,
) -> None:
    """Archive what has finished with no process waiting, find out what became of the rest, and say what needs a person.

    Exit code 13 if a finished generation could not be archived. What concerns Prefect's runs and limits, the deployment
    of the same name does.
    """
    environment.check(archive.bucket, archive.journal, archive.archive_key)
    if archive.journal.strip() == "none":
        raise ConfigurationError("The journal is 'none': there is nothing to reconcile.")
    log_progress()
    ages = timedelta(hours=uploads_older_than_hours), _days(images_older_than_days)
    found = _reconciled(archive, abandoned_after_seconds, *ages)
    if json:
        print_facts("", found.model_dump(mode="json"), as_json=True)
    else:
        _print(found, environment.store_options(archive.bucket, archive.journal, archive.settings))
    if found.failures:
        raise SystemExit(exit_code(ArchiveError("Something could not be archived.")))


def _reconciled(
    archive: ArchivingOptions, abandoned_after_seconds: float, uploads: timedelta, images: timedelta | None
) -> Reconciliation:
    from runcomfy.cli.following import to_the_end
    from runcomfy.generation.archive import archive_with_retries
    from runcomfy.generation.engine import open_engine
    from runcomfy.generation.hooks import Hooks
    from runcomfy.generation.reconcile import (
        KnownRuns,
        Reconciliation,
        check_journal,
        collect,
        need_a_person,
        tidy_bucket,
    )
    from runcomfy.journal import Entry, inputs_of, submission_of

    hooks = Hooks()

    async def reconciled() -> Reconciliation:
        account, hosts = environment.client(), environment.host_policy()
        destination = archive.destination()
        async with open_engine(account, destination, hosts=hosts, hooks=hooks) as engine:

            async def archived(entry: Entry) -> list[ArchivedVideo]:
                _, videos = await archive_with_retries(
                    engine, entry.request_id or "",
                    model_id=entry.model_id, inputs=inputs_of(entry), staged=entry.files,
                    submission=submission_of(entry),
                )  # fmt: skip
                return videos

            checked = await check_journal(engine, KnownRuns(), abandoned_after_seconds=abandoned_after_seconds)
            collected, failures = await collect(checked.findings, archived)
            tidied = await tidy_bucket(
                destination, checked.findings, hooks.log, uploads_older_than=uploads, images_older_than=images
            )
        due = [finding.due for finding in checked.findings if finding.due]
        return Reconciliation(
            open=len(checked.findings),
            collected=collected,
            failures=failures,
            need_a_person=need_a_person(checked.findings),
            aborted_uploads=tidied.uploads,
            removed_images=tidied.images,
            next_look_at=min(due, default=None),
        )

    return to_the_end(reconciled(), hooks)


def _print(found: Reconciliation, store: StoreOptions) -> None:
    facts = {
        "open": found.open,
        "collected": "\n".join(video.uri for videos in found.collected.values() for video in videos) or None,
        "not archived": "\n".join(f"{key[:12]}: {why}" for key, why in found.failures.items()) or None,
        "need a person": "\n".join(f"{key[:12]}: {why}" for key, why in found.need_a_person.items()) or None,
        "what now": f"`{shell_command('journal', 'list', *store.for_journal)}`" if found.need_a_person else None,
        "aborted uploads": len(found.aborted_uploads) or None,
        "removed images": len(found.removed_images) or None,
        "due next": f"{found.next_look_at:%Y-%m-%d %H:%M:%S} UTC" if found.next_look_at else None,
    }
    print_facts("Reconciled", facts, as_json=False)


def _days(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)
