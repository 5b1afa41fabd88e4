"""Public names of a package that are imported when they are first used, so that importing the package costs nothing.

The package imports them for the type checker only, and the module of each is read from those imports, so that it is
written once. (A checker that sees a package's `__getattr__` accepts any name, so it is hidden from it.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module

__all__ = ["lazily"]


def lazily(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package that imports names below `if TYPE_CHECKING:`."""

    @cache
    def module_of() -> dict[str, str]:
        import ast  # late, like the next: most programs import from the modules themselves
        from inspect import getsource

        statements = ast.parse(getsource(sys.modules[package])).body
        checked = [
            each for each in statements if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
        ]
        imports = [each for block in checked for each in block.body if isinstance(each, ast.ImportFrom)]
        return {name.name: str(each.module) for each in imports for name in each.names}

    def find(name: str) -> object:
        if name.startswith("_") or name not in module_of():
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        found = getattr(import_module(module_of()[name]), name)
        setattr(sys.modules[package], name, found)  # from now on Python finds it there
        return found

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of()})

    return find, listed
