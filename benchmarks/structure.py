"""Measure the structure of the code from its imports: `python -m benchmarks.structure [revision …]`.

A room is a folder or a single file directly in `runcomfy/`, and each other root folder. An arrow leads from a room to
one that it imports from, also in a function or for the type checker only. A room's floor is one more than the highest
that its arrows lead to. Where rooms import each other in a circle, the fewest arrows that make the circle are left out
of that: they run upwards.

Each argument is a revision of git, whose files are read from the repository; without one, the working tree is measured.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE = "runcomfy"
FOLDERS = (ENGINE, "blocks", "tasks", "flows", "deployments")
Arrow = tuple[str, str]


@dataclass(frozen=True)
class Structure:
    """The rooms of a revision, and what each imports."""

    rooms: frozenset[str]
    imports: Mapping[Arrow, frozenset[Arrow]]
    """Arrows between rooms, with those between modules that each is made of."""

    @property
    def circles(self) -> list[list[str]]:
        """The rooms that import each other, however long the way."""
        reached = _reachable(self.imports)
        circles = {
            frozenset(other for other in reached[room] if room in reached.get(other, ()))
            for room in self.rooms
            if room in reached.get(room, ())
        }
        return sorted(sorted(circle) for circle in circles)

    @cached_property
    def upwards(self) -> list[Arrow]:
        """The arrows that run upwards: the fewest without which there is no circle."""
        return sorted(arrow for circle in self.circles for arrow in _fewest(circle, self.imports))

    @cached_property
    def floors(self) -> dict[str, int]:
        """The floor of each room, counted from 1."""
        below: dict[str, set[str]] = {room: set() for room in self.rooms}
        for source, target in self.imports.keys() - set(self.upwards):
            below[source].add(target)
        floors: dict[str, int] = {}
        for room in TopologicalSorter(below).static_order():
            floors[room] = 1 + max((floors[other] for other in below[room]), default=0)
        return floors


def structure_of(files: Mapping[str, str]) -> Structure:
    """Return the structure of these files, Python's source by its path from the project's root."""
    rooms = {_module(path): _room(path) for path in files if path != f"{ENGINE}/__init__.py"}
    imports: dict[Arrow, set[Arrow]] = defaultdict(set)
    for module, room in rooms.items():
        for target in _imported(ast.parse(files[_path(module, files)]), rooms):
            if rooms[target] != room:
                imports[room, rooms[target]].add((module, target))
    return Structure(frozenset(rooms.values()), {arrow: frozenset(made_of) for arrow, made_of in imports.items()})


def files_at(revision: str | None) -> dict[str, str]:
    """Return the project's source by its path: of a revision of git, or of the working tree for `None`."""
    if revision is None:
        paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
        return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    listed = _git("ls-tree", "-r", "--name-only", revision, "--", *FOLDERS).splitlines()
    return {path: _git("show", f"{revision}:{path}") for path in listed if path.endswith(".py")}


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _path(module: str, files: Mapping[str, str]) -> str:
    path = module.replace(".", "/")
    return f"{path}.py" if f"{path}.py" in files else f"{path}/__init__.py"


def _room(path: str) -> str:
    first, second, *deeper = path.split("/")
    if first != ENGINE:
        return f"{first}/"
    return f"{first}/{second}{'/' if deeper else ''}"


def _imported(tree: ast.AST, modules: Mapping[str, str]) -> Iterator[str]:
    """Return the modules of the project that are imported, wherever in the file."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        for name in names:
            while name and name not in modules:  # what is imported may be a member of a module
                name = name.rpartition(".")[0]
            if name:
                yield name


def _reachable(arrows: Iterable[Arrow]) -> dict[str, set[str]]:
    targets: dict[str, set[str]] = defaultdict(set)
    for source, target in arrows:
        targets[source].add(target)
    reached = {}
    for source in list(targets):
        found: set[str] = set()
        left = [source]
        while left:
            new = targets.get(left.pop(), set()) - found
            found |= new
            left += new
        reached[source] = found
    return reached


def _fewest(circle: list[str], arrows: Iterable[Arrow]) -> tuple[Arrow, ...]:
    inner = sorted(arrow for arrow in arrows if set(arrow) <= set(circle))
    for count in range(1, len(inner) + 1):
        for left_out in combinations(inner, count):
            reached = _reachable(set(inner) - set(left_out))
            if not any(room in others for room, others in reached.items()):
                return left_out
    return ()


def main(revisions: list[str]) -> None:
    """Print the structure of each revision, or of the working tree."""
    measured: list[str | None] = [*revisions] or [None]
    for revision in measured:
        found = structure_of(files_at(revision))
        highest = max(found.floors.values())
        print(
            f"{revision or 'The working tree'}: {len(found.rooms)} rooms on {highest} floors, "
            f"{len(found.imports)} arrows, {len(found.upwards)} of them upwards, {len(found.circles)} circles"
        )
        for floor in range(highest, 0, -1):
            print(f"  {floor:>2}  {'  '.join(sorted(room for room in found.rooms if found.floors[room] == floor))}")
        for arrow in found.upwards:
            modules = ", ".join(f"{module} imports {target}" for module, target in sorted(found.imports[arrow]))
            print(f"  upwards: {' -> '.join(arrow)} ({modules})")
        for circle in found.circles:
            print(f"  circle: {', '.join(circle)}")
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
