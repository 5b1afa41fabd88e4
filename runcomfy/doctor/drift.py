"""Whether the catalogue still says of the pinned models what their pins say.

Runs read the pins, so a schema that changed breaks nothing here; but the service checks with its own, and may refuse
what is accepted here, or take what is refused. A refusal costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runcomfy.api.client import RunComfyClient
from runcomfy.doctor.findings import Diagnosis, not_checked, ok, warning
from runcomfy.doctor.running import Check
from runcomfy.errors import ConfigurationError, InvalidInput, RunComfyError
from runcomfy.journal.journal import Journal
from runcomfy.models.differences import differences
from runcomfy.models.media_fields import media_fields
from runcomfy.models.pins import Pin, note_of
from runcomfy.models.schema import is_text, standard, subschemas_changed

__all__ = ["Drift", "drift_check", "drift_of_pins"]

_AREA = "Models"
_ASKED_AT_ONCE = 4
_SECONDS = 30.0
_SHOWN = 3
_ONLY_WORDS: Final = frozenset({"title", "description", "examples", "example", "$comment", "order", "deprecated"})


@dataclass(frozen=True)
class Drift:
    """What the catalogue says of a pinned model by now."""

    model_id: str
    changes: tuple[str, ...] = ()
    """What is accepted or refused otherwise, as sentences; empty if nothing, or if that is not known."""
    unknown: str = ""
    """Why it is not known; empty if it is."""


async def drift_of_pins(client: RunComfyClient, journal: Journal, *, seconds: float = _SECONDS) -> list[Drift]:
    """Compare each pin with the catalogue: one call for each, which costs nothing.

    Args:
        client: Asks the catalogue.
        journal: The pins are beside it.
        seconds: How long it may take in all; of what has no answer by then, nothing is known.

    Raises:
        StorageError: The pins could not be listed.
    """
    names = [name.removeprefix(note_of("")) for name in await journal.notes(note_of(""), seconds=seconds)]
    found = {name: Drift(name, unknown="the catalogue did not answer in time") for name in names}
    gate = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def ask(name: str) -> None:
        async with gate:
            found[name] = await _drift(name, client, journal)

    tasks = [asyncio.create_task(ask(name)) for name in names]
    if tasks:
        done, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in done:
            task.result()
    return list(found.values())


async def _drift(model_id: str, client: RunComfyClient, journal: Journal) -> Drift:
    try:
        document = await journal.read_note(note_of(model_id))
        if document is None:  # removed in between
            return Drift(model_id)
        pin = Pin.from_json(document, note_of(model_id))
        entry = await client.model(model_id)
    except InvalidInput:
        return Drift(model_id, ("it is no longer in the catalogue",))
    except (ConfigurationError, RunComfyError) as error:
        return Drift(model_id, unknown=error.message.partition(". ")[0].rstrip("."))
    before, after = _judged(pin.input_schema, pin.media), _judged(entry["input_schema"], pin.media)
    if before == after:
        return Drift(model_id)
    return Drift(model_id, tuple(differences(before, after)) or ("what it says of several inputs together",))


def _judged(schema: Mapping[str, Any], media: Mapping[str, str]) -> dict[str, Any]:
    """Return what a schema accepts and fills in, without its words and samples."""
    whole = standard(schema)
    properties = {name: own for name, own in whole.get("properties", {}).items() if isinstance(own, dict)}
    files = {*media_fields(properties, {}), *(name for name, kind in media.items() if kind != "none")}
    for name, own in properties.items():
        if name in files or is_text(name, own):
            own.pop("default", None)
    judged: dict[str, Any] = _without_words(whole)
    judged["required"] = sorted(each for each in judged.get("required", ()) if isinstance(each, str))
    return judged


def _without_words(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name not in _ONLY_WORDS and not name.startswith("x-")}
    return subschemas_changed(kept, _without_words)


def drift_check(
    open_client: Callable[[], Awaitable[RunComfyClient]],
    open_journal: Callable[[], Awaitable[Journal]],
    *,
    needs: tuple[str, ...],
) -> Check:
    """Return the check of the pinned models.

    Args:
        open_client: Makes a client of the service, which is closed afterwards.
        open_journal: Opens the journal.
        needs: Names of the checks that this depends on.
    """

    async def check() -> Diagnosis:
        async with await open_client() as client:
            return _verdict(await drift_of_pins(client, await open_journal()))

    return Check(_AREA, "pinned models", check, needs=needs, seconds=_SECONDS * 2)


def _verdict(found: Sequence[Drift]) -> Diagnosis:
    changed = [each for each in found if each.changes]
    unknown = [each for each in found if each.unknown]
    if not found:
        return ok("none")
    if unknown and not changed:
        return not_checked(f"not known of {', '.join(each.model_id for each in unknown)}: {unknown[0].unknown}")
    if not changed:
        return ok(f"{len(found)}, as the catalogue has them")
    said = [f"{each.model_id}: {_shortened(each.changes)}" for each in changed]
    return warning(
        f"The catalogue says otherwise of {len(changed)} of {len(found)}. {'. '.join(said)}.",
        "See `prefect-runcomfy models diff MODEL`; `models refresh MODEL` takes it over. Runs go by the pin until "
        "then, and what the service refuses costs nothing.",
    )


def _shortened(changes: Sequence[str]) -> str:
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return "; ".join(changes[:_SHOWN]) + more
