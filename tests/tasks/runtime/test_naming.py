"""A name never fails a run: the parameters may hold anything."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import Flow, Task
from prefect.context import FlowRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed
from prefect.utilities.annotations import allow_failure, quote, unmapped

import flows
import tasks
from tasks.runtime.naming import LONGEST, clean, fact, flow_name, task_name


def public(package: Any, kind: type[Any]) -> Iterator[Any]:
    """Every task (or flow) that any module of the package defines."""
    found: dict[int, Any] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            named = vars(importlib.import_module(module.name)).values()
            found |= {id(each): each for each in named if isinstance(each, kind)}
    return iter(found.values())


class Raises:
    """An object that raises at every access."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd:
    """Facts that are not texts."""

    request_id = model_id = bucket = number = object()


EXOTIC = {
    "future": lambda: PrefectConcurrentFuture(uuid4(), Future()),
    "futures": lambda: [PrefectConcurrentFuture(uuid4(), Future())],
    "state": lambda: Completed(data=object()),
    "failed": lambda: Failed(data=ValueError("upstream")),
    "allow_failure": lambda: allow_failure(Completed()),
    "quote": lambda: quote("x"),
    "unmapped": lambda: unmapped("x"),
    "error": lambda: RuntimeError("upstream"),
    "raises": Raises,
    "odd": Odd,
    "none": lambda: None,
    "number": lambda: 7,
    "bytes": lambda: b"\x00",
    "class": lambda: Odd,
    "empty": lambda: "",
    "ugly": lambda: "a/b\n\x00\ud800" + "x" * 9000,
}


@pytest.mark.parametrize("what", [*EXOTIC, "nothing"])
def test_no_task_fails_because_of_its_name(what: str) -> None:
    """Every task of the project, with an unexpected value for every parameter, or none at all."""
    named = 0
    for each in public(tasks, Task):
        parameters = {} if what == "nothing" else dict.fromkeys(each.fn.__annotations__, EXOTIC[what]())
        if callable(each.task_run_name):
            name = each.task_run_name(parameters=parameters)
            assert isinstance(name, str) and name and len(name) <= LONGEST and name.isprintable()
            named += 1
        else:  # a template would be filled in with values from outside
            assert "{" not in (each.task_run_name or "")
    assert named >= 7


@pytest.mark.parametrize("what", [*EXOTIC, "nothing"])
def test_no_flow_fails_because_of_its_name(what: str) -> None:
    """Every flow of the project, in the same way."""
    named = 0
    for each in public(flows, Flow):
        assert not isinstance(each.flow_run_name, str) or "{" not in each.flow_run_name
        if callable(each.flow_run_name):
            parameters = {} if what == "nothing" else dict.fromkeys(each.fn.__annotations__, EXOTIC[what]())
            with FlowRunContext.model_construct(parameters=parameters):
                name = each.flow_run_name()
            assert isinstance(name, str) and name and len(name) <= LONGEST and name.isprintable()
            named += 1
    assert named >= 10


@given(st.text(st.characters()))
def test_a_name_can_be_shown_and_stored(text: str) -> None:
    """One line of printable characters, not too long, and cleaning it again changes nothing."""
    name = clean(text)

    assert len(name) <= LONGEST and (name.isprintable() or not name) and "\x00" not in name
    assert clean(name) == name


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda given: f"archive {fact(given['result'], 'request_id')}", "archive r-1"),
        (lambda given: f"archive {fact(given['dumped'], 'request_id')}", "archive r-2"),
        (lambda given: f"archive {given['missing']}", "otherwise"),
        (lambda given: 7, "otherwise"),
        (lambda given: "\n\x00", "otherwise"),
    ],
)
def test_the_name_has_what_is_known(make: Callable[[Any], str], name: str) -> None:
    """A text as it is, an attribute of an object, a field of a mapping; otherwise the fallback name."""
    parameters = {"result": "r-1", "dumped": {"request_id": "r-2"}}

    assert task_name(make, otherwise="otherwise")(parameters=parameters) == name
    assert flow_name(lambda _: make(parameters), otherwise="otherwise")() == name
