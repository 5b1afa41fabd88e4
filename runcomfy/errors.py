"""What can go wrong, with what to do about it.

    RunComfyError
    ├── InvalidInput            fix the input; nothing was paid for
    │   ├── ImageUnavailable        the image could not be read this time: try again
    │   └── GenerationErased        a person erased it: set a variation, or release it and pay again
    ├── ConfigurationError      fix a setting; nothing was paid for
    │   └── BudgetReached           raise the budget, or stop there
    ├── ServiceError            the service said no
    │   ├── AuthenticationError     fix the token or the account
    │   ├── InsufficientBalance     top up
    │   ├── RateLimited             try later
    │   │   └── StillRateLimited        sent as often as is safe: try tomorrow, or check if it was accepted
    │   ├── RequestNotFound         unknown, deleted or expired, or another user's: check it
    │   ├── RequestRejected         any other refusal: fix the request
    │   └── ServiceUnavailable      cannot be reached or answers nonsense: try later
    ├── SubmissionNotSent       surely not accepted, surely not paid for: try again
    ├── UncertainSubmission     perhaps accepted, perhaps billed: check before paying again
    ├── GenerationError         a request ended without a video
    │   ├── GenerationFailed        the service tried and failed: change something or pay again
    │   ├── GenerationCancelled     someone cancelled it
    │   └── NoOutput                succeeded, but named no file: check it
    ├── WaitError               the request may be running and may be billed: fetch it later
    │   ├── QueueTimeout            was still queued at its deadline, and was cancelled
    │   ├── RunTimeout              was not finished at its deadline; nothing can stop it
    │   ├── PollingFailed           its state could not be read
    │   └── NotFinished             its files were requested too early
    ├── DefectiveOutput         archived, and judged suspect or damaged: look at it
    │   └── OutputRejected          a person rejected it: release it in the journal to pay for another
    ├── VerificationFailed      a bucket is not as it should be: see what was found
    ├── CommonCause             others failed the same way, so it was not started: remove the cause
    ├── BatchIncomplete         some rows of a batch have no video: see its results, run it again
    ├── StorageError            the bucket, or the credentials for it: fix them
    │   ├── StoreUnavailable        the store cannot be reached, or is busy: try again
    │   └── UnreadableEntry         the journal has something that is not an entry: check it
    └── ArchiveError            the generated file did not reach the bucket
        ├── DownloadError           broken, truncated or refused on the way: try again
        ├── UnexpectedContent       not the kind of file that was expected: try again, then check it
        ├── TemporaryFileError      no room or no folder for the file on this machine: fix that
        ├── SigningFailed           it has to be signed, and cannot be: fix the signer
        ├── HostNotAllowed          a host that is not on the allow-list: check it, then allow it
        └── ArchiveConflict         another object has that key: check it

Errors carry facts as declared fields (`request_id`, `error_code`, `http_status` …), survive pickling, and hold no token
and no signed URL: every text in them is redacted (`runcomfy.redaction.redact`).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, ClassVar

from runcomfy.redaction import redact

__all__ = [
    "ArchiveConflict",
    "ArchiveError",
    "AuthenticationError",
    "BatchIncomplete",
    "BudgetReached",
    "CommonCause",
    "ConfigurationError",
    "DefectiveOutput",
    "DownloadError",
    "GenerationCancelled",
    "GenerationErased",
    "GenerationError",
    "GenerationFailed",
    "HostNotAllowed",
    "ImageUnavailable",
    "InsufficientBalance",
    "InvalidInput",
    "NoOutput",
    "NotFinished",
    "OutputRejected",
    "PollingFailed",
    "QueueTimeout",
    "RateLimited",
    "RequestNotFound",
    "RequestRejected",
    "RunComfyError",
    "RunTimeout",
    "ServiceError",
    "ServiceUnavailable",
    "SigningFailed",
    "StillRateLimited",
    "StorageError",
    "StoreUnavailable",
    "SubmissionNotSent",
    "TemporaryFileError",
    "UncertainSubmission",
    "UnexpectedContent",
    "UnreadableEntry",
    "VerificationFailed",
    "WaitError",
    "is_retryable",
]


@dataclass(eq=False, repr=False)
class RunComfyError(Exception):
    """The root of the tree: a sentence for a person, and facts for a program.

    Args:
        message: One sentence that says what happened and what to do now.

    Every other field is a fact, passed by name, and `None` if it is unknown. Texts are redacted.
    """

    retryable: ClassVar[bool] = False
    """Whether the same call may be repeated unchanged: it costs nothing and may succeed."""

    message: str
    _: KW_ONLY
    cause: str = field(default="", init=False)
    """What happened, without the advice; known in the process that raises it only."""
    http_status: int | None = None
    error_code: int | str | None = None
    """The service's number, S3's or SQS's name, or the class of a library's exception."""
    retry_after_seconds: float | None = None
    """What the service asked for."""
    details: Any = None
    """The service's own account, in any shape."""
    request_id: str | None = None
    generation_key: str | None = None
    model_id: str | None = None
    sent_at: str | None = None
    """When the submission was sent: ISO 8601, UTC."""
    created_at: str | None = None
    """When the service accepted the request, in its own words."""
    cost_usd: float | None = None
    last_state: str | None = None
    """The last state of the request that the service reported."""
    violations: list[tuple[str, str]] | None = None
    """`(field, what is wrong)` for each."""
    cause_type: str | None = None
    """The class of the error that the others failed with."""
    output_index: int | None = None
    """Which of a request's files, from 0."""
    host: str | None = None
    address: str | None = None
    """The IP address of the host."""
    no_media: bool | None = None
    """Whether the answer is surely not media at all."""
    bucket: str | None = None
    key: str | None = None
    """Of the object in the bucket."""
    other_generation_key: str | None = None
    """Of the generation that made the object that has the key."""
    folder: str | None = None
    needed_bytes: int | None = None
    is_full: bool | None = None
    """Whether the disk has no room."""
    is_shared: bool | None = None
    """Whether other files of this process take up the room."""
    rows: int | None = None
    archived: int | None = None
    counts: dict[str, int] | None = None
    """Of a batch: how many rows there are, how many of them have a video, and how many ended in each way."""
    verdicts: dict[str, int] | None = None
    by_setting: list[dict[str, Any]] | None = None
    usd_per_good_file: float | None = None
    requests_without_cost: int | None = None
    set_aside: int | None = None
    rejected: int | None = None
    """Of a batch: how its files were judged, in all and by model and setting, what a good one costs, how many wait for
    a person's decision, and of how many rows a person rejected one."""
    results: str | None = None
    to_run_again: str | None = None
    """Of a batch: the URIs of its table of results, and of the manifest with the rest."""
    stopped_by: str | None = None
    """The class of the error that stopped the whole batch."""

    def __post_init__(self) -> None:
        self.message = redact(self.message)
        for name, value in self.facts.items():
            setattr(self, name, redact(value))
        super().__init__(self.message)

    @property
    def facts(self) -> dict[str, Any]:
        """The known facts, by name."""
        known = ((name, getattr(self, name)) for name in _FACTS)
        return {name: value for name, value in known if value is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)

    def __repr__(self) -> str:
        """Return class and message: Prefect writes this into its log, for people."""
        return f"{type(self).__name__}: {self}"

    def __str__(self) -> str:
        named = [f"{name}={self.facts[name]}" for name in _SHOWN if name in self.facts]
        return f"{self.message} ({', '.join(named)})" if named else self.message


_FACTS = dict.fromkeys(each.name for each in fields(RunComfyError) if each.init and each.name != "message").keys()
_SHOWN = ("request_id", "http_status", "error_code")


def is_retryable(error: object) -> bool:
    """Whether the call that ended with this error may be repeated unchanged, at no cost."""
    return isinstance(error, RunComfyError) and error.retryable


def _rebuild(kind: type[RunComfyError], message: str, facts: dict[str, Any]) -> RunComfyError:
    return kind(message, **{name: facts[name] for name in facts.keys() & _FACTS})  # another version may know others


class InvalidInput(RunComfyError):
    """The inputs break the model's published schema, or the image cannot be used; nothing was paid for."""


class ImageUnavailable(InvalidInput):
    """The image's URL could not be read this time; nothing was paid for."""

    retryable = True


class GenerationErased(InvalidInput):
    """A person erased this very generation, so it is not submitted again by itself; nothing was paid for."""


class ConfigurationError(RunComfyError):
    """A setting is missing or contradicts another one; nothing was paid for."""


class BudgetReached(ConfigurationError):
    """It would cost more than is left of the budget; nothing was sent."""


class ServiceError(RunComfyError):
    """The service answered, and the answer was no."""


class AuthenticationError(ServiceError):
    """The token is missing, wrong or revoked, or the account is closed to it."""


class InsufficientBalance(ServiceError):
    """The account has no balance."""


class RateLimited(ServiceError):
    """Too many calls; `retry_after_seconds` is the wait that the service asked for, if it did."""

    retryable = True


class StillRateLimited(RateLimited):
    """The submission was answered with 429 as often as it is sent in a day: such an answer may hide an acceptance."""

    retryable = False


class RequestNotFound(ServiceError):
    """The request is unknown, deleted, expired, or another user's."""


class RequestRejected(ServiceError):
    """The service refused the call for another reason, which `error_code` and the message give."""


class ServiceUnavailable(ServiceError):
    """The service could not be reached, or answered with a 5xx or with something that is not its JSON."""

    retryable = True


class SubmissionNotSent(RunComfyError):
    """The submission never left this machine, so it was not accepted and not paid for."""

    retryable = True


class UncertainSubmission(RunComfyError):
    """The submission may have been accepted, may be running and may be billed. It is never repeated automatically.

    Facts: `model_id`, `generation_key`, `sent_at` (UTC), and `request_id`, `http_status`, `error_code` where known.
    """


class GenerationError(RunComfyError):
    """The request ended without a video."""


class GenerationFailed(GenerationError):
    """The service says that the generation failed; `details` is its own account of why, in any shape."""


class GenerationCancelled(GenerationError):
    """The request was cancelled while it was in the queue."""


class NoOutput(GenerationError):
    """The service says that the generation succeeded, but its result names no file."""


class WaitError(RunComfyError):
    """The waiting ended before the request did. Fetch it later by its `request_id`."""


class QueueTimeout(WaitError):
    """The request had not left the queue at the queue deadline; it was cancelled, and the service confirmed that."""


class RunTimeout(WaitError):
    """The request was not finished at the run deadline. It may be running still, and may be billed: fetch it later."""


class PollingFailed(WaitError):
    """The state of the request could not be read for too long. It may be running: fetch it later."""


class NotFinished(WaitError):
    """The files of the request were requested while it is still queued or running."""


class CommonCause(RunComfyError):
    """Paid requests before it failed the same way, so nothing more was sent.

    Facts: `cause_type`, the class of their error, and `error_code` where they had one.
    """


class BatchIncomplete(RunComfyError):
    """Some rows of a batch have no video; each has its own reason in the table of results."""


class DefectiveOutput(RunComfyError):
    """The generation is archived, but a file of it was judged suspect or damaged, and such a run is to fail."""


class OutputRejected(DefectiveOutput):
    """A person rejected a file of the generation: nothing is fetched or paid for again until it is released."""


class VerificationFailed(RunComfyError):
    """Files of a bucket, or what is known of them, are not as they were archived; each finding says what."""


class StorageError(RunComfyError):
    """The store refused or could not be reached, or the credentials for it do not work."""


class StoreUnavailable(StorageError):
    """The store could not be reached, failed, or asked for fewer calls."""

    retryable = True


class UnreadableEntry(StorageError):
    """What the journal has under a generation's key is not an entry that this version can read; it was left alone."""


class ArchiveError(RunComfyError):
    """The generated file did not reach the bucket; the request exists, and can be fetched again."""


class DownloadError(ArchiveError):
    """The file could not be read to its end. Nothing of it is visible in the bucket."""

    retryable = True


class UnexpectedContent(ArchiveError):
    """What the URL answered is not a whole video or image. Nothing of it is visible in the bucket."""

    retryable = True


class TemporaryFileError(ArchiveError):
    """This machine's disk has no room for the file, or its folder for temporary files cannot be used.

    Facts: `folder`, and `needed_bytes` where known.
    """

    retryable = True


class SigningFailed(ArchiveError):
    """The file has to be signed before it is archived, and cannot be; it can be fetched again."""

    retryable = True


class HostNotAllowed(ArchiveError):
    """The output, or a redirect on the way to it, points to a host that is not on the allow-list."""


class ArchiveConflict(ArchiveError):
    """A different object has the archive key; it was left as it is."""
