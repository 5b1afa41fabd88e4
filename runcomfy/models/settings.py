"""What a generation was asked for beside its content: resolution, length and the like, to compare generations by.

Never the prompt, another text, the seed or a medium: what is counted by its settings is counted a few times, not once.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from runcomfy.texts import is_written

__all__ = ["MAIN_SETTINGS", "OTHERS", "label_of", "main_label_of", "settings_of", "telling_names"]

MAIN_SETTINGS: Final = re.compile(
    r"(?:.*[_-])?(?:resolution|size|aspect_ratio|ratio|duration|seconds|num_frames|frames_per_second|fps|width|height"
    r"|length|quality)",
    re.IGNORECASE,
)
"""Names of inputs that say what a file is to be like, in whatever model."""
OTHERS: Final = "other settings"
"""What stands for all beyond the largest number of groups."""
_CONTENT: Final = re.compile(
    r"(?:.*[_-])?(?:prompts?|texts?|lyrics|script|caption|title|description|instructions?|seed|urls?|uris?|paths?|files?"
    r"|images?|videos?|audios?|id|ids|tags?)",
    re.IGNORECASE,
)
_NEXT_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # as in negativePrompt
_CHOICE: Final = re.compile(r"[\x20-\x7e]{1,60}")  # texts in scripts without blanks are no choice of a model
_FILE: Final = re.compile(r".+\.[A-Za-z][A-Za-z0-9]{1,4}")
_PLAIN: Final = re.compile(r"[\w.:*+-]{1,20}", re.ASCII)  # of a label of a metric: a number, a size, a word of a choice
_MOST_VALUES, _MOST_NAMES = 8, 5
_LONGEST_NUMBER = 20


def settings_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings among the inputs of a generation, as texts by name.

    Args:
        inputs: As they are sent, or as they are in the journal or the catalogue, with or without the content.
    """
    return {
        name: _shown(value)
        for name, value in inputs.items()
        if isinstance(value, str | int | float) and not _is_content(name, value)
    }


def telling_names(generations: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the settings to group generations of one model by: those that vary, else those of size and time.

    One that has more than eight values is no setting, but content. There are five at most, the main ones first.

    Args:
        generations: The settings of each.
    """
    values: defaultdict[str, Counter[str]] = defaultdict(Counter)
    count = 0
    for settings in generations:
        count += 1
        for name, value in settings.items():
            values[name][value] += 1
    few = {name: counted for name, counted in values.items() if len(counted) <= _MOST_VALUES}
    varying = [name for name, counted in few.items() if len(counted) > 1 or counted.total() < count]
    chosen = varying or [name for name in few if MAIN_SETTINGS.fullmatch(name)]
    return tuple(sorted(chosen, key=lambda name: (not MAIN_SETTINGS.fullmatch(name), name))[:_MOST_NAMES])


def label_of(settings: Mapping[str, str], names: Sequence[str]) -> str:
    """Return what a group of generations is called: `num_frames 81, resolution 720p`; empty where nothing tells."""
    return ", ".join(f"{name} {settings[name]}" for name in sorted(names) if name in settings)


def main_label_of(inputs: Mapping[str, Any]) -> str:
    """Return the settings of size and time alone, for the attribute of a metric, which has few values and no texts."""
    main = {
        name: value
        for name, value in settings_of(inputs).items()
        if MAIN_SETTINGS.fullmatch(name) and _PLAIN.fullmatch(value)
    }
    return label_of(main, sorted(main)[:_MOST_NAMES])


def _is_content(name: str, value: Any) -> bool:
    if _CONTENT.fullmatch(_NEXT_WORD.sub("_", name)) or is_written(value):
        return True
    if not isinstance(value, str):
        return len(_shown(value)) > _LONGEST_NUMBER
    return "/" in value or not value.strip() or not _CHOICE.fullmatch(value) or _FILE.fullmatch(value) is not None


def _shown(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else f"{value:.12g}" if isinstance(value, float) else str(value)
