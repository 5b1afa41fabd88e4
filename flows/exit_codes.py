"""What the command line's exit code says; scripts branch on it."""

from __future__ import annotations

from runcomfy import errors

__all__ = ["EXIT_CODES", "INTERRUPTED", "STOPPED", "UNEXPECTED", "exit_code"]

UNEXPECTED = 1
INTERRUPTED = 130
STOPPED = 143

# The first class that an error belongs to decides, so a narrower one stands before its parent.
EXIT_CODES: tuple[tuple[type[errors.RunComfyError], int, str], ...] = (
    (errors.InvalidInput, 2, "the input is wrong; nothing was paid for"),
    (
        errors.ConfigurationError,
        3,
        "a setting is missing or wrong: nothing was paid for; or a batch has reached its budget",
    ),
    (errors.AuthenticationError, 4, "the RunComfy token or account was refused"),
    (errors.InsufficientBalance, 5, "the RunComfy account has no balance"),
    (errors.QueueTimeout, 7, "still queued at the deadline, and cancelled"),
    (errors.WaitError, 6, "not finished in time: it may be running and billed; `fetch` it later"),
    (errors.GenerationError, 8, "the request ended without a video"),
    (errors.UncertainSubmission, 9, "perhaps accepted, perhaps billed: look before you run it again"),
    (errors.RequestNotFound, 10, "the request is unknown, expired, or another account's"),
    (errors.SubmissionNotSent, 11, "the service refused, or could not be reached"),
    (errors.ServiceError, 11, "the service refused, or could not be reached"),
    (errors.StorageError, 12, "the bucket refused or could not be reached"),
    (errors.CommonCause, 14, "some rows of a batch have no video"),
    (errors.BatchIncomplete, 14, "some rows of a batch have no video"),
    (errors.ArchiveError, 13, "made, but not archived: `fetch` it again"),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code that stands for an error."""
    return next((code for kind, code, _ in EXIT_CODES if isinstance(error, kind)), UNEXPECTED)
