"""The verdict on a file: good, suspect or damaged, with reasons in words, by what decoding all of it showed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runcomfy.media.decoding import Decoded
from runcomfy.media.thresholds import DETECTED, SUSPECT
from runcomfy.values import Quality, QualityFacts

__all__ = ["damage_in", "quality_of", "with_differences"]

_DAMAGED_SOUND = {"sound_packets_damaged": 3.0, "sound_packets_damaged_share": 0.01}
"""Up to three packets of sound, or one in a hundred, may be damaged: tags at the end of good files look like that."""
_ALL = 0.95
_LEAST_SHARE, _LEAST_SECONDS = 0.95, 0.25
"""Of the length that a sound file declares."""
_THRESHOLDS = DETECTED | SUSPECT | _DAMAGED_SOUND
_RENAMED = {"frames": "frames_decoded", "pictures": "frames_decoded", "pictures_damaged": "frames_damaged"}


def damage_in(facts: dict[str, Any] | None) -> str | None:
    """Return what does not decode, as a sentence without its end; `None` if all of it does."""
    if not facts:
        return None
    damaged = int(facts.get("frames_damaged", 0))
    if damaged:
        whole = max(damaged, int(facts.get("packets", 0)))
        since = facts.get("first_damage_seconds")
        return f"{damaged:,} of {whole:,} frames do not decode in full" + (
            f", the first at {since:.1f} s" if since is not None else ""
        )
    if facts.get("damage"):
        return str(facts["damage"])
    if facts.get("packets") and not facts.get("frames") and not facts.get("stopped"):
        return "none of its frames decodes"
    sound, bad = int(facts.get("sound_packets", 0)), int(facts.get("sound_packets_damaged", 0))
    allowed = max(_DAMAGED_SOUND["sound_packets_damaged"], _DAMAGED_SOUND["sound_packets_damaged_share"] * sound)
    if bad > allowed:
        return f"{bad:,} of {sound:,} packets of its sound do not decode"
    declared, lasts = facts.get("declared_seconds"), float(facts.get("sound_seconds") or 0.0)
    if declared and not facts.get("stopped") and lasts < _LEAST_SHARE * float(declared) - _LEAST_SECONDS:
        return f"it should last {float(declared):.1f} s, and {lasts:.1f} s of it decode"
    if sound and not facts.get("sound_frames") and not facts.get("stopped"):
        return "none of its sound decodes"
    return None


def quality_of(decoded: Decoded | None, damage: str | None, untried: str = "nothing of it is decoded here") -> Quality:
    """Return the verdict on a file.

    Args:
        decoded: What decoding found; `None` if it was not tried.
        damage: What is known to be damaged or missing, as a sentence; it outweighs everything else.
        untried: Why decoding was not tried, as the end of a sentence.
    """
    found = decoded.facts or {} if decoded is not None else {}
    facts = QualityFacts.model_validate({_RENAMED.get(name, name): value for name, value in found.items()})
    trouble = decoded.trouble if decoded is not None else untried
    suspicions = _suspicions(facts) if found else ()
    if damage:
        verdict, reasons = "damaged", (damage, *suspicions)
    elif suspicions:
        verdict, reasons = "suspect", suspicions
    elif trouble:
        verdict, reasons = "not_judged", (f"It was not judged: {trouble}.",)
    else:
        verdict, reasons = "good", ()
    return Quality(verdict=verdict, reasons=reasons, facts=facts, thresholds=_THRESHOLDS)


def with_differences(quality: Quality, differences: Sequence[str]) -> Quality:
    """Return the verdict on a file that differs from what was asked for."""
    if not differences:
        return quality
    verdict = quality.verdict if quality.verdict == "damaged" else "suspect"
    return quality.model_copy(update={"verdict": verdict, "reasons": (*quality.reasons, *differences)})


def _suspicions(facts: QualityFacts) -> tuple[str, ...]:
    found: list[str] = []
    for name, what in (("black", "black"), ("frozen", "frozen"), ("blurred", "blurred")):
        share = _share(getattr(facts, f"{name}_seconds"), facts.seconds)
        if name != "black" and _share(facts.black_seconds, facts.seconds) >= SUSPECT["black_share"]:
            continue  # what is black neither moves nor has edges
        long = (getattr(facts, f"{name}_seconds") or 0.0) >= SUSPECT["min_seconds"] or share >= _ALL
        if share >= SUSPECT[f"{name}_share"] and long:
            found.append(f"The video is {what} for {_percent(share)} of its {facts.seconds:.1f} s.")
    if _share(facts.silent_seconds, facts.sound_seconds) >= SUSPECT["silent_share"]:
        share = _share(facts.silent_seconds, facts.sound_seconds)
        found.append(f"Its sound is silent for {_percent(share)} of its {facts.sound_seconds:.1f} s.")
    if (facts.clipped_share or 0.0) >= SUSPECT["clipped_share"]:
        found.append(f"Its sound is clipped: {_percent(facts.clipped_share or 0.0)} of the samples are at full scale.")
    if facts.uniform:
        found.append("The image has one colour only.")
    return tuple(found)


def _share(part: float | None, whole: float | None) -> float:
    return min(1.0, part / whole) if part and whole else 0.0


def _percent(share: float) -> str:
    return f"{max(1, round(100 * share))} %"
