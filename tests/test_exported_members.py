"""Each public module lists what it exports, and each export has a docstring."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("blocks", "deployments", "flows", "prefect_runcomfy", "runcomfy", "tasks")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def in_order(names: list[str]) -> list[str]:
    """Return the names sorted as ruff sorts them, each once: constants, classes, functions."""
    return sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def is_private(path: Path) -> bool:
    return path.stem.startswith("_") and path.stem != "__main__"


# An `__init__.py` that only says what its package is for offers nothing, and needs no `__all__`; the others are below.
MODULES = sorted(
    module_name(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py") if not is_private(path)
)
INITS = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in PACKAGES
    for path in (ROOT / package).rglob("__init__.py")
)


def documented(module: ModuleType) -> list[tuple[str, Any]]:
    """Return the functions and classes that the module defines and exports, with the classes' public methods."""
    found = []
    for name in module.__all__:
        member = inspect.unwrap(getattr(module, name))
        if not (inspect.isclass(member) or callable(member)) or getattr(member, "__module__", None) != module.__name__:
            continue
        found.append((name, member))
        if inspect.isclass(member):
            for label, attribute in vars(member).items():
                method = isinstance(attribute, property | classmethod | staticmethod | FunctionType)
                if method and not label.startswith("_") and getattr(attribute, "__name__", "") != "<lambda>":
                    found.append((f"{name}.{label}", attribute))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_lists_its_exports(name: str) -> None:
    """`__all__` exists, is sorted as isort sorts it, has no name twice, and every name exists."""
    module = importlib.import_module(name)

    offered = module.__all__
    assert offered == in_order(offered)
    assert [word for word in offered if not hasattr(module, word)] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_export_is_documented(name: str) -> None:
    """A docstring for the module, and for each public function, class and method that it defines."""
    module = importlib.import_module(name)

    assert module.__doc__
    assert [label for label, member in documented(module) if not (member.__doc__ or "").strip()] == []


def test_every_type_checker_sees_the_defaults_of_fields() -> None:
    """`Field(7)` is a default for pydantic only: to users who check types without its plugin, the field is required."""
    positional = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Field" and call.args
    ]

    assert positional == []


@pytest.mark.parametrize("name", INITS)
def test_a_package_says_what_it_is_for(name: str) -> None:
    """And if it re-exports names, it lists them, sorted."""
    package = importlib.import_module(name)

    assert package.__doc__
    offered = getattr(package, "__all__", [])
    assert offered == in_order(offered)
    assert [word for word in offered if not hasattr(package, word)] == []
