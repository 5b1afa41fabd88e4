"""The options that the commands share, as a shell gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import ConfigDict, field_validator

from runcomfy.models import ImageToVideoSettings, TextToVideoSettings
from runcomfy.polling import Deadlines

__all__ = ["Archive", "ImageToVideoOptions", "Json", "Run", "TextToVideoOptions"]

Json = Annotated[
    bool,
    Parameter(
        name="--json", negative="", show_default=False, help="Print one JSON object to stdout; the log is on stderr."
    ),
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
class Archive:
    """Where files go, and under which names."""

    bucket: Annotated[
        str, Parameter(env_var="RUNCOMFY_BUCKET", help="Where to archive: s3://bucket/prefix, or a bucket.")
    ]
    archive_key: Annotated[
        str | None,
        Parameter(help="How archived files are named, such as {model}/{request_id}-{index}.{ext}, the default."),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Run(Archive):
    """How a flow is run."""

    deadlines: Annotated[Deadlines, Parameter(name="*")] = Deadlines()
    variation: Annotated[
        str, Parameter(show_default=False, help="Any text, for another generation with the same inputs.")
    ] = ""
