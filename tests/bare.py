"""An interpreter that finds only what a plain `pip install prefect-runcomfy` installs, or with some of its extras."""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["program_without_extras"]

_PROGRAM = """
import sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, NotInstalled())
"""


@cache
def program_without_extras(*installed: str) -> str:
    """Return the beginning of a program that finds no package of an extra, but of those named here.

    A real environment costs minutes and a network (`make test-python` has one); this one costs nothing, and knows from
    the packages' own metadata what would be there.
    """
    there = _with_dependencies("prefect-runcomfy", installed)
    owners = defaultdict(set)
    for package in metadata.distributions():
        for name in _modules(package):
            owners[name].add(canonicalize_name(package.name))
    missing = {name for name, packages in owners.items() if packages.isdisjoint(there)}
    return _PROGRAM.format(names=sorted(missing - set(sys.builtin_module_names)))


def _with_dependencies(name: str, extras: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = [(canonicalize_name(name), extra) for extra in ("", *extras)]
    seen = set()
    while waiting:
        package, extra = each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        try:
            required = metadata.requires(package) or []
        except metadata.PackageNotFoundError:  # of another system
            continue
        found.add(package)
        for requirement in map(Requirement, required):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), further) for further in ("", *requirement.extras)]
    return found


def _modules(package: metadata.Distribution) -> set[str]:
    """Return its modules, two levels deep: several packages have a part of `opentelemetry`."""
    listed = (package.read_text("RECORD") or "").splitlines()
    files = (line.partition(",")[0] for line in listed)
    found: set[str] = set()
    for top, second in {(*file.split("/", 2), "")[:2] for file in files if file.endswith((".py", ".so"))}:
        first, below = top.partition(".")[0], second.partition(".")[0]
        found |= {first, f"{first}.{below}"} if below and below != "__init__" else {first}
    return found - {""}
