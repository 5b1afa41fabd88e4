"""What the process that decodes a file says of it, read as a stranger's words: the file may speak through it."""

from __future__ import annotations

import base64
import signal
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field

from runcomfy.media.isolation import NO_MEMORY, TOO_SLOW
from runcomfy.values import QualityFacts

__all__ = ["Decoded", "read_answer"]

_JPEG = b"\xff\xd8\xff"
_SLOW_SIGNALS = frozenset(
    -number for name in ("SIGXCPU",) if (number := int(getattr(signal, name, 0)))
)  # fmt: skip


class Decoded(NamedTuple):
    """What decoding a whole file found, or why it found nothing."""

    facts: dict[str, Any] | None = None
    """As `motion_decoding` and `still_decoding` have them."""
    trouble: str | None = None
    """Why there are none, as the end of a sentence."""
    hostile: bool = False
    """Whether the file seems to have crashed or hung the decoder, so that it must not be decoded in this process."""
    sheet: bytes | None = None
    """The contact sheet, if one was ordered: a JPEG."""


_Count = Annotated[int, Field(ge=0)]
_Text = Annotated[str, Field(max_length=300)]


class _Answer(QualityFacts):
    """What the process may answer: nothing that is computed with is of another kind than it should be."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    frames: _Count = 0
    packets: _Count = 0
    frames_damaged: _Count = 0
    pictures: _Count = 0
    pictures_damaged: _Count = 0
    sound_packets: _Count = 0
    sound_packets_damaged: _Count = 0
    sound_frames: _Count = 0
    declared_seconds: float | None = None
    damage: _Text | None = None
    stopped: _Text | None = None
    sheet: str | None = None


def read_answer(answer: bytes, status: int | None) -> Decoded:
    """Return what a process found, by what it printed; if that is nothing, why, by the status that it ended with."""
    try:
        facts = _Answer.model_validate_json(answer).model_dump(mode="json", exclude_unset=True)
        sheet = base64.b64decode(facts.pop("sheet", None) or "", validate=True)
        stopped = facts.get("stopped") or (None if any(facts.values()) else "the decoder decoded nothing of it")
        return Decoded(facts, stopped, stopped == NO_MEMORY, sheet if sheet.startswith(_JPEG) else None)
    except ValueError:
        pass
    if status in (None, 0) or status == 1:
        return Decoded(trouble="the decoder gave no answer")
    if status == TOO_SLOW or status in _SLOW_SIGNALS:
        return Decoded(trouble="decoding it took longer than a file of its size may take", hostile=True)
    if status < 0:
        with suppress(ValueError):
            return Decoded(trouble=f"the decoder crashed on it ({signal.Signals(-status).name})", hostile=True)
    return Decoded(trouble=f"the decoder ended with status {status}", hostile=True)
