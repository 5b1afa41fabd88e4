"""The options that the commands share, as a shell gives them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import ConfigDict, field_validator

from runcomfy.cli import environment
from runcomfy.errors import ConfigurationError
from runcomfy.models import ImageToVideoSettings, TextToVideoSettings
from runcomfy.policy import Deadlines, RunPolicy
from runcomfy.storage.bucket_settings import Acl, BucketSettings, Encryption
from runcomfy.storage.commands import StoreOptions

if TYPE_CHECKING:
    from runcomfy.generation.destination import Destination

__all__ = [
    "ABOVE_ZERO",
    "EPILOGUE",
    "ArchiveOptions",
    "ArchivingOptions",
    "AtOnce",
    "BucketOptions",
    "BucketRules",
    "FirstAtOnce",
    "ImageToVideoOptions",
    "Json",
    "Run",
    "StopAfterAlike",
    "TextToVideoOptions",
    "stated_store",
]

Json = Annotated[
    bool,
    Parameter(
        name="--json", negative="", show_default=False, help="Print one JSON object to stdout; the log is on stderr."
    ),
]


EPILOGUE = "--verbose, of every command: the traceback of an error, all its facts, and a log of everything."
ABOVE_ZERO = Number(gt=0)
_AT_LEAST_ONE = Number(gte=1)

AtOnce = Annotated[
    int,
    Parameter(validator=Number(gte=1, lte=10_000), help="How many generations are under way at the same time."),
]
FirstAtOnce = Annotated[
    int,
    Parameter(validator=_AT_LEAST_ONE, help="How many are paid for until one is archived; if all fail, it stops."),
]
StopAfterAlike = Annotated[
    int, Parameter(validator=_AT_LEAST_ONE, help="After so many in a row that fail alike, it stops.")
]


class ImageToVideoOptions(ImageToVideoSettings):
    """The model's settings: texts that read as numbers are numbers."""

    model_config = ConfigDict(strict=False)


class TextToVideoOptions(TextToVideoSettings):
    """The model's settings: texts that read as numbers are numbers."""

    model_config = ConfigDict(strict=False)

    @field_validator("num_frames", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        # pydantic reads a text as a number for an `int`, but not for a choice of numbers
        return int(value) if isinstance(value, str) and value.isdecimal() else value


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BucketRules:
    """What the rules of the bucket want with each request."""

    encryption: Annotated[
        Encryption,
        Parameter(
            env_var="RUNCOMFY_BUCKET_ENCRYPTION", show_default=False,
            help="How the server encrypts what is written, if not as the bucket says.",
        ),
    ] = ""  # fmt: skip
    kms_key_id: Annotated[
        str,
        Parameter(
            env_var="RUNCOMFY_BUCKET_KMS_KEY_ID", show_default=False,
            help="The key for SSE-KMS: its id, ARN or alias.",
        ),
    ] = ""  # fmt: skip
    acl: Annotated[
        Acl,
        Parameter(
            env_var="RUNCOMFY_BUCKET_ACL", show_default=False,
            help="The ACL of what is written, in a bucket of another account.",
        ),
    ] = ""  # fmt: skip
    requester_pays: Annotated[
        bool,
        Parameter(
            env_var="RUNCOMFY_BUCKET_REQUESTER_PAYS", negative="", show_default=False,
            help="Agree to pay for the requests, as such a bucket wants.",
        ),
    ] = False  # fmt: skip
    expected_bucket_owner: Annotated[
        str,
        Parameter(
            env_var="RUNCOMFY_BUCKET_OWNER", show_default=False,
            help="The AWS account that the bucket has to belong to, or nothing is read or written: 12 digits.",
        ),
    ] = ""  # fmt: skip

    @property
    def settings(self) -> BucketSettings:
        """The same, checked.

        Raises:
            ConfigurationError: a value is none of S3's, or two contradict each other.
        """
        return BucketSettings(**{each.name: getattr(self, each.name) for each in fields(BucketRules)})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BucketOptions(BucketRules):
    """Where the videos are, and the journal of what was paid for."""

    bucket: Annotated[
        str, Parameter(env_var="RUNCOMFY_BUCKET", help="Where videos are archived: s3://bucket/prefix, or a bucket.")
    ]
    journal: Annotated[
        str,
        Parameter(
            env_var="RUNCOMFY_JOURNAL",
            help="Where it is written down what was paid for: bucket (in the bucket, below journal/), "
            "s3://bucket/prefix, or none.",
        ),
    ] = "bucket"

    @property
    def options(self) -> StoreOptions:
        """The same, as other commands name it.

        Raises:
            ConfigurationError: it names no bucket.
        """
        return environment.store_options(self.bucket, self.journal, self.settings)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ArchiveOptions(BucketOptions):
    """Where files go, and under which names."""

    archive_key: Annotated[
        str | None,
        Parameter(help="How archived files are named, such as {model}/{request_id}-{index}.{ext}, the default."),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ArchivingOptions(ArchiveOptions):
    """The same, and what is done about files that are not good."""

    on_defect: Annotated[
        Literal["keep", "set_aside", "fail"] | None,
        Parameter(
            show_default=False,
            help="What to do about a file that is judged suspect or damaged: keep it (the default), set_aside (it is "
            "archived below quarantine/, and a person decides: see review), or fail (it is archived, and the run ends "
            "with 16). Without it, RUNCOMFY_ON_DEFECT says.",
        ),
    ] = None
    contact_sheets: Annotated[
        bool,
        Parameter(
            env_var="RUNCOMFY_CONTACT_SHEETS", negative="", show_default=False,
            help="Put a contact sheet beside each video: nine frames with their times, as one JPEG.",
        ),
    ] = False  # fmt: skip

    def destination(self) -> Destination:
        """Return where a generation goes; see `environment.destination`."""
        return environment.destination(
            self.bucket, self.journal, self.archive_key, self.settings, self.on_defect,
            contact_sheets=self.contact_sheets,
        )  # fmt: skip


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Run(ArchivingOptions):
    """How what is paid for is made."""

    deadlines: Annotated[Deadlines, Parameter(name="*")] = Deadlines()
    variation: Annotated[
        str, Parameter(show_default=False, help="Any text, for another generation with the same inputs.")
    ] = ""
    on_uncertain: Annotated[
        Literal["stop", "pay-again"],
        Parameter(
            help="What to do about an earlier submission of the same inputs whose answer is unknown: stop, and "
            "let a person decide (see journal), or pay-again, which may pay for both."
        ),
    ] = "stop"

    @property
    def policy(self) -> RunPolicy:
        """What holds for every request."""
        return RunPolicy(self.deadlines, on_uncertain="pay_again" if self.on_uncertain == "pay-again" else "stop")


def stated_store(argument: object) -> StoreOptions | None:
    """Return the store that an argument of a command names, as other commands name it; `None` if it names none."""
    if not isinstance(argument, BucketOptions):
        return None
    try:
        store = environment.store_options(argument.bucket, argument.journal, argument.settings)
    except ConfigurationError:
        return None
    return replace(store, archive_key=argument.archive_key) if isinstance(argument, ArchiveOptions) else store
