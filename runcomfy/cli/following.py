"""Run the work of a command to its end, and know its generation if a person interrupts it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from runcomfy.api.responses import State
from runcomfy.cli.failure import AfterSubmitting
from runcomfy.errors import RunComfyError
from runcomfy.generation.archive import archive_with_retries, refuse_defects
from runcomfy.generation.engine import Engine
from runcomfy.generation.generate import wait
from runcomfy.generation.hooks import Hooks, StateChange
from runcomfy.interruption.keyboard import noticing_ctrl_c
from runcomfy.journal import EntryState
from runcomfy.journal.situation import Situation
from runcomfy.models import ModelInputs
from runcomfy.polling.poll import Poll
from runcomfy.redaction import redact
from runcomfy.values import Generation, StagedFile, Submission, only_image

__all__ = ["Counting", "Following", "Interrupted", "finished", "to_the_end"]

_T = TypeVar("_T")


class Interrupted(KeyboardInterrupt):
    """A person pressed Ctrl-C.

    Args:
        situation: That of the generation of the command, if it has one.
    """

    def __init__(self, situation: Situation | None) -> None:
        super().__init__()
        self.situation = situation


class Following(Hooks):
    """Follows the one generation of a command: logs its progress, and keeps its situation."""

    def __init__(self) -> None:
        self.situation: Situation | None = None
        self._shown: tuple[State, int | None] | None = None

    def changed(self, change: StateChange) -> None:
        """Keep its state."""
        before = self.situation
        self.situation = Situation(
            # one that runs goes on without this process
            state=EntryState.DETACHED if change.state is EntryState.SUBMITTED else change.state,
            generation_key=change.key or (before.generation_key if before else ""),
            model_id=change.model_id or (before.model_id if before else ""),
            request_id=change.request_id or (before.request_id if before else None),
            reason=change.reason or "",
            error_type=change.error_type,
        )

    def follows(self, submission: Submission) -> None:
        """Keep the submission that is waited for, which may be another run's."""
        if submission.archive is None:
            state, key = EntryState.SUBMITTED, submission.generation_key
            self.changed(
                StateChange(state, "", key=key, request_id=submission.request_id, model_id=submission.model_id)
            )

    async def show(self, poll: Poll) -> None:
        """Log what a poll found, if it differs from the one before."""
        now = (poll.state, poll.queue_position)
        if poll.failure is not None:
            self.log.warning("The service did not say where the request is: %s", poll.failure)
        elif now != self._shown and not poll.state.is_final:
            ahead = f", {poll.queue_position} before it" if poll.queue_position else ""
            left = f"; likely done in {poll.seconds_left:.0f} s" if poll.seconds_left else ""
            self.log.info("The request is %s%s%s", str(poll.state).replace("_", " "), ahead, left)
            self._shown = now


async def finished(
    engine: Engine,
    hooks: Following,
    submission: Submission,
    inputs: ModelInputs | None,
    staged: Sequence[StagedFile],
) -> Generation:
    """Wait for a request, archive what it makes, and return all that is known of it.

    Args:
        engine: The account and the bucket.
        hooks: Those of the engine.
        submission: The submission.
        inputs: The inputs, if they are known.
        staged: Its staged files.
    """
    hooks.follows(submission)
    result, answer = await wait(
        engine.client, submission, engine.destination, engine.run_times, engine.policy, hooks, show=hooks.show
    )
    _, videos = await archive_with_retries(
        engine, result,
        model_id=submission.model_id, inputs=inputs, staged=staged, submission=submission, answer=answer,
    )  # fmt: skip
    refuse_defects(videos, engine.destination)
    return Generation(image=only_image(staged), submission=submission, result=result, videos=videos)


class Counting(Hooks):
    """Knows whether anything was submitted by a command that makes many generations."""

    has_submitted = False

    def changed(self, change: StateChange) -> None:
        """Keep whether there was a submission."""
        self.has_submitted = self.has_submitted or change.state is not EntryState.REFUSED


def to_the_end(work: Coroutine[Any, Any, _T], hooks: Hooks) -> _T:
    """Run the work in an event loop, and return what it returns.

    An error of a command with one generation names its request, as soon as there is one.

    Raises:
        Interrupted: a person pressed Ctrl-C; the request is cancelled or detached by then.
        AfterSubmitting: something went wrong after a command that makes many had submitted some.
    """

    async def noticing() -> _T:
        with noticing_ctrl_c(hooks.notices_ctrl_c):  # between the stages too
            return await work

    try:
        return asyncio.run(noticing())
    except KeyboardInterrupt:
        raise Interrupted(hooks.situation if isinstance(hooks, Following) else None) from None
    except Exception as error:
        if isinstance(hooks, Counting) and hooks.has_submitted:
            raise AfterSubmitting(error) from error
        situation = hooks.situation if isinstance(hooks, Following) else None
        if situation is None or not situation.request_id:
            raise
        known = error if isinstance(error, RunComfyError) else RunComfyError(redact(f"{type(error).__name__}: {error}"))
        known.request_id = known.request_id or situation.request_id
        known.generation_key = known.generation_key or situation.generation_key or None
        known.model_id = known.model_id or situation.model_id or None  # so that it can be fetched anywhere
        if known is error:
            raise
        raise known from error
