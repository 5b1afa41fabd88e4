"""Our flows: Prefect's, but for what a person is told where Prefect itself could not start one.

A script that calls a flow meets Prefect's API before the first line of the flow. Without this, an API that is away is
a hundred lines of the HTTP library, and a text that JSON or the server's database cannot hold is an error of a codec.
And what Prefect says of parameters that do not fit has all of them in it, secrets too.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache
from typing import Any, ParamSpec, TypeVar, get_type_hints

from prefect import Flow
from prefect.blocks.core import Block
from prefect.exceptions import ParameterBindError
from pydantic import BaseModel

from blocks.prefect_api import in_words
from runcomfy.errors import InvalidInput
from runcomfy.redaction import redact
from runcomfy.texts import unwritable

__all__ = ["flow"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_DEEPEST = 20
_OPTIONS = ("return_state", "wait_for")


class _WithoutParameters(logging.Filter):
    """Drops the line in which Prefect logs all parameters as they were given (3.9, `Flow.validate_parameters`).

    The next line says in words which of them cannot be used, and why.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Parameter validation failed for flow ")


logging.getLogger("prefect.flows").addFilter(_WithoutParameters())


class _FlowInWords(Flow[_P, _R]):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        known = inspect.signature(self.fn)
        try:
            known.bind(*args, **{name: value for name, value in kwargs.items() if name not in _OPTIONS})
        except TypeError as error:  # Prefect would say what all the others were
            names = ", ".join(known.parameters)
            raise ParameterBindError(f"{self.name}: {error}. Its parameters are {names}.") from None
        parameters = dict(zip(known.parameters, args, strict=False)) | kwargs
        return _in_words(parameters, lambda: super(_FlowInWords, self).__call__(*args, **kwargs))

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return what Prefect stores of a run: it does that before the parameters are checked, with what was given."""
        blocks = _blocks_of(self.fn)
        return super().serialize_parameters(
            {name: _storable(value, blocks.get(name)) for name, value in parameters.items()}
        )

    def with_options(self, **options: Any) -> Flow[_P, _R]:
        changed = super().with_options(**options)
        changed.__class__ = type(self)  # Prefect makes one of its own class
        return changed


async def _in_words(parameters: Mapping[str, Any], call: Callable[[], Awaitable[Any]]) -> Any:
    found = [(name, sentence) for name, text in _texts("", parameters) if (sentence := unwritable(text))]
    if found:
        named = "; ".join(f"{name}: {sentence}" for name, sentence in found[:5])
        raise InvalidInput(f"{named}. Nothing was started or paid for.", violations=found)
    with in_words():
        return await call()


@cache
def _blocks_of(function: Callable[..., Any]) -> Mapping[str, type[Block]]:
    """Return the parameters that take a block."""
    hints = get_type_hints(function)
    return {name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, Block)}


def _storable(value: Any, block: type[Block] | None = None, depth: int = 0) -> Any:
    """Return a parameter without what only its checked form would hide: the fields of a block, a signed URL."""
    if block is not None and not isinstance(value, Block) and "$ref" not in (value if isinstance(value, dict) else ()):
        return f"<{block.__name__}>"
    if isinstance(value, str):
        is_json_or_url = "://" in value and (value.lstrip()[:1] in "{[" or " " not in value.strip())
        return redact(value) if is_json_or_url else value
    if isinstance(value, dict | list | tuple) and depth >= _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {name: _storable(inner, None, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner, None, depth + 1) for inner in value]
    return value


def _texts(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield each text in a parameter, with its name; secrets are left alone."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, BaseModel):
        yield from _texts(name, dict(value), depth)
    elif isinstance(value, Mapping) and depth < _DEEPEST:
        for field, inner in value.items():
            part = "" if field == "root" else str(field)
            yield from _texts(".".join(filter(None, (name, part))), inner, depth + 1)
    elif isinstance(value, list | tuple) and depth < _DEEPEST:
        for inner in value:
            yield from _texts(name, inner, depth + 1)


def flow(name: str, flow_run_name: Callable[[], str] | None = None) -> Callable[[Callable[_P, _R]], Flow[_P, _R]]:
    """Return a decorator that makes a flow of an asynchronous function; as `prefect.flow`.

    Args:
        name: The flow's name in Prefect.
        flow_run_name: Names its runs.
    """

    def decorate(function: Callable[_P, _R]) -> Flow[_P, _R]:
        return _FlowInWords(function, name=name, flow_run_name=flow_run_name)

    return decorate
