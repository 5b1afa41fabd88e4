"""The staged files of a generation, and the inputs that name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runcomfy.errors import InvalidInput
from runcomfy.models.inputs import ModelInputs
from runcomfy.redaction import strip_query
from runcomfy.values import StagedFile

__all__ = ["by_field", "media_sha256", "signed", "without_signatures"]


def by_field(inputs: ModelInputs, staged: Sequence[StagedFile]) -> dict[str, tuple[StagedFile, ...]]:
    """Return the staged files of each field, in the order of its URLs.

    A file belongs to the field whose value is its URI. Where a model has one medium, it is the only file, whatever the
    value is.

    Raises:
        InvalidInput: A medium is not staged, or a file belongs to no field. Nothing was sent.
    """
    body = inputs.body()
    given = {name: _listed(body[name]) for name in inputs.media if name in body}
    if len(staged) == 1 and [len(uris) for uris in given.values()] == [1]:
        return {next(iter(given)): (staged[0],)}
    files = {file.uri: file for file in staged}
    unstaged = [name for name, uris in given.items() if not all(uri in files for uri in uris)]
    unused = files.keys() - {uri for uris in given.values() for uri in uris}
    if unstaged or unused:
        model = inputs.model_id
        raise InvalidInput(
            f"{model} is submitted with a staged file for each medium; there is none for {', '.join(unstaged)}."
            if unstaged
            else f"{model} is submitted without staged files that no input names: {', '.join(sorted(unused))}."
        )
    return {name: tuple(files[uri] for uri in uris) for name, uris in given.items() if uris}


def media_sha256(inputs: ModelInputs, staged: Sequence[StagedFile]) -> dict[str, tuple[str, ...]]:
    """Return the SHA-256 of each medium's bytes, by field: what a generation's key has instead of their URLs.

    Without staged files it is empty.
    """
    if not staged:
        return {}
    return {name: tuple(file.sha256 for file in files) for name, files in by_field(inputs, staged).items()}


def signed(inputs: ModelInputs, staged: Sequence[StagedFile], sign: Callable[[StagedFile], str]) -> ModelInputs:
    """Return the inputs with a URL for each medium that the service can fetch; they are secrets."""
    return _replaced(inputs, {name: [sign(file) for file in files] for name, files in by_field(inputs, staged).items()})


def without_signatures(inputs: ModelInputs, staged: Sequence[StagedFile]) -> dict[str, Any]:
    """Return what is asked for as it may be stored: each medium is named by where it is staged."""
    found = by_field(inputs, staged) if staged else {}
    body = _replaced(inputs, {name: [file.uri for file in files] for name, files in found.items()}).body()
    for name in inputs.media.keys() & body.keys() - found.keys():
        value = body[name]
        body[name] = [strip_query(each) for each in value] if isinstance(value, list) else strip_query(value)
    return body


def _replaced(inputs: ModelInputs, urls: dict[str, list[str]]) -> ModelInputs:
    names = {field.alias or name: name for name, field in type(inputs).model_fields.items()}
    return inputs.model_copy(
        update={names[name]: each if inputs.media[name].many else each[0] for name, each in urls.items()}
    )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
