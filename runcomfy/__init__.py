"""The engine: one image or prompt in, one archived video out. It does not depend on Prefect.

The names here are imported when they are first used; import everything else from its own module. Beside the folders are
`values` (what the stages hand on), `policy` (what a user may say), `errors`, `retry`, `texts` (one form of a text),
`redaction` (secrets) and `lazy_names`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runcomfy.lazy_names import lazily

if TYPE_CHECKING:
    from runcomfy.api.client import RunComfyClient
    from runcomfy.archive.provenance import Provenance
    from runcomfy.download.hosts import HostPolicy
    from runcomfy.errors import (
        ArchiveConflict,
        ArchiveError,
        AuthenticationError,
        BatchIncomplete,
        BudgetReached,
        CommonCause,
        ConfigurationError,
        DownloadError,
        GenerationCancelled,
        GenerationError,
        GenerationFailed,
        HostNotAllowed,
        ImageUnavailable,
        InsufficientBalance,
        InvalidInput,
        NoOutput,
        NotFinished,
        PollingFailed,
        QueueTimeout,
        RateLimited,
        RequestNotFound,
        RequestRejected,
        RunComfyError,
        RunTimeout,
        ServiceError,
        ServiceUnavailable,
        StillRateLimited,
        StorageError,
        StoreUnavailable,
        SubmissionNotSent,
        TemporaryFileError,
        UncertainSubmission,
        UnexpectedContent,
        UnreadableEntry,
        WaitError,
        is_retryable,
    )
    from runcomfy.generation.destination import Destination
    from runcomfy.generation.engine import Engine, open_engine
    from runcomfy.generation.hooks import Hooks
    from runcomfy.journal import Journal
    from runcomfy.models import ImageToVideo, ImageToVideoSettings, TextToVideo, TextToVideoSettings
    from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, Polling, RunPolicy
    from runcomfy.storage.keys import KeyTemplate
    from runcomfy.storage.store import Store
    from runcomfy.values import (
        Archive,
        ArchivedVideo,
        Generation,
        GenerationFacts,
        MediaFacts,
        Outcome,
        OutcomeStatus,
        Result,
        StagedImage,
        Submission,
    )

__all__ = [
    "Archive", "ArchiveConflict", "ArchiveError", "ArchivedVideo", "AuthenticationError", "BatchIncomplete",
    "BudgetReached", "CommonCause", "ConfigurationError", "Deadlines", "Destination", "DownloadError", "Engine",
    "Generation", "GenerationCancelled", "GenerationError", "GenerationFacts", "GenerationFailed", "Hooks",
    "HostNotAllowed", "HostPolicy", "ImageToVideo", "ImageToVideoSettings", "ImageUnavailable", "InsufficientBalance",
    "InvalidInput", "Journal", "KeyTemplate", "MediaFacts", "NoOutput", "NotFinished", "OnInterrupt", "OnUncertain",
    "Outcome", "OutcomeStatus", "Polling", "PollingFailed", "Provenance", "QueueTimeout", "RateLimited",
    "RequestNotFound", "RequestRejected", "Result", "RunComfyClient", "RunComfyError", "RunPolicy", "RunTimeout",
    "ServiceError", "ServiceUnavailable", "StagedImage", "StillRateLimited", "StorageError", "Store",
    "StoreUnavailable", "Submission", "SubmissionNotSent", "TemporaryFileError", "TextToVideo", "TextToVideoSettings",
    "UncertainSubmission", "UnexpectedContent", "UnreadableEntry", "WaitError", "is_retryable", "open_engine",
]  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__)
