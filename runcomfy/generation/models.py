"""A model of the catalogue: its pin beside the journal, and the staged files of its inputs."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from runcomfy.api.client import RunComfyClient
from runcomfy.download.hosts import HostPolicy
from runcomfy.errors import InvalidInput
from runcomfy.generation.generate import stage
from runcomfy.generation.hooks import Hooks
from runcomfy.generation.phases import staging
from runcomfy.generation.staging import stage_image
from runcomfy.generation.staging_clips import stage_clip
from runcomfy.journal.journal import Journal
from runcomfy.media.image_files import check_image_file, path_of, scheme_of
from runcomfy.models import ModelInputs, check_inputs
from runcomfy.models.media_fields import MediaField, MediaKind
from runcomfy.models.orders import Kinds
from runcomfy.models.pins import Pin, class_of, pinned
from runcomfy.models.registry import MODELS, model_id_of
from runcomfy.storage.store import Store
from runcomfy.values import MediaFacts, StagedFile, StagedImage

__all__ = [
    "broken_rules",
    "check_local_files",
    "checked",
    "kinds_of",
    "model_class",
    "pin_of",
    "stage_file",
    "stage_inputs",
    "stage_medium",
]

_STAGING_AT_ONCE = 4
_PINNING_AT_ONCE = 8
_RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip


async def pin_of(model_id: str, client: RunComfyClient, journal: Journal) -> Pin:
    """Return the pin of a model; on its first use, it is fetched from the catalogue and kept beside the journal.

    Raises:
        ConfigurationError: The pin cannot be read by this version.
        InvalidInput: There is no such model.
        ServiceError: The catalogue could not be read.
        StorageError: The pin could not be read or written.
    """

    async def create(note: str, document: bytes) -> None:
        await journal.create_note(note, document)

    return await pinned(model_id, read=journal.read_note, create=create, fetch=client.model, source=client.base_url)


async def model_class(model_id: str, client: RunComfyClient, journal: Journal) -> type[ModelInputs]:
    """Return the class of a model's inputs: the typed one, else that of its pin; raises as `pin_of` does."""
    return MODELS.get(model_id) or class_of(await pin_of(model_id, client, journal))


async def kinds_of(models: Iterable[str], client: RunComfyClient, journal: Journal) -> Kinds:
    """Return the class of each model of the catalogue, by the name that it is given; or why there is none.

    Args:
        models: As orders name them; a typed model, and an empty name, are left out.
        client: Open; it is asked for what is not pinned yet.
        journal: Where pins are kept.

    Raises:
        ConfigurationError: A pin cannot be read by this version.
        ServiceError: The catalogue could not be read.
        StorageError: A pin could not be read or written.
    """
    gate, kinds = asyncio.Semaphore(_PINNING_AT_ONCE), dict[str, type[ModelInputs] | InvalidInput]()

    async def add(name: str) -> None:
        async with gate:
            try:
                kinds[name] = await model_class(model_id_of(name, "model"), client, journal)
            except InvalidInput as error:
                kinds[name] = error

    await asyncio.gather(*(add(name) for name in sorted(set(models)) if name and name not in MODELS))
    return kinds


def checked(kind: type[ModelInputs], given: Mapping[str, Any]) -> ModelInputs:
    """Check what is given before anything is staged: a medium may be a path, which is no URL yet.

    Raises:
        InvalidInput: with every violation.
    """
    return check_inputs(kind, {name: _listed(value, kind.media.get(name)) for name, value in given.items()})


def check_local_files(kind: type[ModelInputs], inputs: ModelInputs) -> None:
    """Check that the media that are files on this machine are there, before anything else is done.

    Raises:
        InvalidInput: One is not there, or an image is none.
    """
    body = inputs.body()
    for name, medium in kind.media.items():
        for source in _sources(body[name]) if name in body else ():
            if scheme_of(source) not in ("file", "path"):
                continue
            if medium.kind is MediaKind.IMAGE:
                check_image_file(source)
            elif not (path := path_of(source)).is_file():
                raise InvalidInput(f"{name}: there is no file {path}. Check the path. Nothing was paid for.")


async def stage_inputs(
    kind: type[ModelInputs], given: Mapping[str, Any], store: Store, hooks: Hooks
) -> tuple[ModelInputs, tuple[StagedFile, ...]]:
    """Check what is given, stage its media, and return the inputs that name them, with the staged files.

    Args:
        kind: The model.
        given: By field; a medium is a path, an `https://` URL or an `s3://` URI, or a list of them.
        store: Where they are staged.
        hooks: The program around it.

    Raises:
        InvalidInput: An input is wrong, or a file cannot be used; nothing was paid for.
        StorageError: The store could not be written or read.
    """
    inputs = checked(kind, given)
    body, gate = inputs.body(), asyncio.Semaphore(_STAGING_AT_ONCE)
    asked = [(name, each) for name in kind.media if name in body for each in _sources(body[name])]

    async def one(name: str, source: str) -> StagedFile:
        async with gate:
            return await stage_file(source, kind.media[name], store, hooks, name)

    staged = await asyncio.gather(*(one(name, source) for name, source in asked))
    uris: dict[str, list[str]] = {}
    for (name, _), file in zip(asked, staged, strict=True):
        uris.setdefault(name, []).append(file.uri)
    named = {name: each if kind.media[name].many else each[0] for name, each in uris.items()}
    return check_inputs(kind, {**given, **named}), tuple(dict.fromkeys(staged))


async def stage_file(
    source: str | Path, medium: MediaField, store: Store, hooks: Hooks, name: str = "input"
) -> StagedFile:
    """Check a file and put it into the bucket, under a key made of its content; a repetition uploads nothing.

    Args:
        source: A local path, an `https://` URL, or an `s3://` URI.
        medium: What it has to be, and the catalogue's rules about it.
        store: Where to put it.
        hooks: The program around it.
        name: The field, for errors.

    Raises:
        InvalidInput: It is no such file, or breaks a rule; nothing was paid for.
        StorageError: The store could not be written or read.
    """
    if medium.kind is MediaKind.IMAGE:
        staged: StagedFile = await stage(source, store, hooks)
    else:
        with staging(hooks) as measured:
            staged = await stage_medium(source, medium.kind, store)
            measured(staged)
        hooks.log.info("%s %s (%s)", "Uploaded" if staged.uploaded else "Already staged:", staged.uri, medium.kind)
    if broken := broken_rules(medium, staged):
        raise InvalidInput(f"{name}: {' '.join(broken)} Nothing was paid for.")
    return staged


async def stage_medium(source: str | Path, kind: MediaKind, store: Store) -> StagedFile:
    """Check a file and put it into the bucket, without the catalogue's rules; see `stage_file`."""
    if kind is MediaKind.IMAGE:
        return await stage_image(source, store)
    what: Literal["video", "audio"] = "video" if kind is MediaKind.VIDEO else "audio"
    return await asyncio.to_thread(stage_clip, source, what, store, HostPolicy(allowed=("*",)))


def broken_rules(medium: MediaField, file: StagedFile) -> list[str]:
    """Return the sentence of each rule of the catalogue that a file breaks; a rule of an unknown kind passes."""
    facts: StagedImage | MediaFacts = file if isinstance(file, StagedImage) else file.media
    measures: dict[str, float | None] = {
        "file_size_mb": file.size_bytes / 1_000_000,
        "file_size_bytes": file.size_bytes,
        "width_pixels": facts.width,
        "height_pixels": facts.height,
        "width/height": facts.width / facts.height if facts.width and facts.height else None,
        "height/width": facts.height / facts.width if facts.width and facts.height else None,
        "duration_seconds": getattr(facts, "duration_seconds", None),
    }
    return [
        rule.words or f"{rule.measure} has to be {rule.relation} {rule.bound:g}; it is {measured:g}."
        for rule in medium.rules
        if (measured := measures.get(rule.measure)) is not None and not _RELATIONS[rule.relation](measured, rule.bound)
    ]


def _listed(value: Any, medium: MediaField | None) -> Any:
    return [value] if medium is not None and medium.many and isinstance(value, str) else value


def _sources(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
