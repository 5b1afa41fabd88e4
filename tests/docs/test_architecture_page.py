"""docs/architecture.md is the map of the code: it names every folder with its floor, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.structure import files_at, structure_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = files_at(None)
FLOORS = structure_of(FILES).floors
ROOMS = {path for path in FILES if path.count("/") == 1 and path.startswith("runcomfy/")} - {"runcomfy/__init__.py"}
FOLDERS = {f"{path.rpartition('/')[0]}/" for path in FILES} - {"runcomfy/"}
MAP = {name: next(str(floor) for room, floor in FLOORS.items() if name.startswith(room)) for name in ROOMS | FOLDERS}
MAP["prefect_runcomfy/"] = "-"  # it only names the others
ROW = re.compile(r"^\| (\d+|-) \| `([^`]+)` \|", re.MULTILINE)
FENCE = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`([\w.-]*/[\w./{},-]*|\w+\.py)(?::([\w.]+))?`")
QUESTIONS = re.compile(r"^## Ten questions\n(.*?)^## ", re.MULTILINE | re.DOTALL)
BESIDE = {"httpx", "boto3", "pydantic", "runcomfy", "stage", "submit", "wait"}
"""What drawings name that is no folder: what the engine imports, and the stages."""


def short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].removesuffix(".py")


def docstring(path: str) -> str:
    return ast.get_docstring(ast.parse(FILES[path])) or ""


def paths(text: str) -> Iterator[tuple[str, str]]:
    """Return the paths that a text names, with what is named in each; `a/{b,c}.py` are two."""
    for path, member in PATH.findall(text):
        before, _, rest = path.partition("{")
        several, _, after = rest.partition("}")
        for one in several.split(","):
            yield before + one + after, member


def defines(nodes: list[ast.stmt], name: str) -> bool:
    """Whether a class, function or constant has this name, or `Class.method`."""
    name, _, member = name.partition(".")
    for node in nodes:
        match node:
            case ast.ClassDef(name=found, body=body):
                pass
            case ast.FunctionDef(name=found) | ast.AsyncFunctionDef(name=found):
                body = []
            case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)):
                body = []
            case _:
                continue
        if found == name:
            return not member or defines(body, member)
    return False


def mistakes(page: str) -> list[str]:
    """Return how a page and the code differ."""
    rows = ROW.findall(page)
    found = [f"no row | {floor} | `{name}` |" for name, floor in sorted(MAP.items()) if (floor, name) not in rows]
    found += [
        f"a wrong row, or one too many: {row}" for row in rows if (MAP.get(row[1]), rows.count(row)) != (row[0], 1)
    ]
    drawn = re.findall(r"^(\d+) +(.+)$", "".join(FENCE.findall(page)), re.MULTILINE)
    floors = sorted((floor, name) for floor, names in drawn for name in names.split())
    engine = {name for name in MAP if name.startswith("runcomfy/")} - {"runcomfy/__main__.py"}
    if floors != sorted((MAP[name], short(name)) for name in engine):
        found.append("the drawing of the floors differs")
    known = {short(name) for name in MAP} | BESIDE
    found += [
        f"drawn, and no folder: {word}"
        for word in re.findall(r"[a-z_]\w+", "".join(FENCE.findall(page)))
        if word not in known
    ]
    for path, member in paths(page):
        if not (ROOT / path).exists():
            found.append(f"there is no {path}")
        elif member and not defines(ast.parse(FILES[path]).body, member):
            found.append(f"{path} has no {member}")
    return found


def test_the_page_and_the_code_agree() -> None:
    """Folders have the floors that `benchmarks.structure` computes; paths, classes and functions exist."""
    assert mistakes(PAGE) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("| 5 | `runcomfy/polling/` |", "| 4 | `runcomfy/polling/` |"),
        ("| 5 | `runcomfy/polling/` |", "| 5 | `runcomfy/looking/` |"),
        ("| 5 | `runcomfy/polling/` |", "| 5 | polling |"),
        ("9  cli\n", "8  cli\n"),
        ("flows ─> tasks", "flows ─> chores"),
        ("`runcomfy/polling/schedule.py`", "`runcomfy/polling/timetable.py`"),
        ("`runcomfy/api/{responses,", "`runcomfy/api/{replies,"),
        ("poll_state.py:PollState.", "poll_state.py:Watch."),
        ("archive/place.py:Place.commit`", "archive/place.py:Place.finish`"),
    ],
)
def test_a_page_that_is_wrong_is_found(right: str, wrong: str) -> None:
    """A floor, a folder, a row, a drawing, a path, one of several, a class, a method."""
    assert PAGE.count(right) == 1
    assert mistakes(PAGE.replace(right, wrong)) != []


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_a_folder_names_its_modules(folder: str) -> None:
    """The second jump: from the docstring of `__init__` to a module, or a folder below."""
    within = {path.removeprefix(folder).partition("/")[0] for path in FILES if path.startswith(folder)}
    modules = {short(name) for name in within} - {"__init__", "__main__"}

    assert modules - set(re.findall(r"`(\w+)`", docstring(f"{folder}__init__.py"))) == set()


def test_each_of_the_ten_questions_takes_two_jumps() -> None:
    """From the map to a folder, and from its `__init__` to the module, where the name is."""
    rows = [row for row in QUESTIONS.findall(PAGE)[0].splitlines() if row.startswith("| ") and "?" in row]

    assert len(rows) == 10
    for row in rows:
        walked = [(path, member) for path, member in paths(row) if member]
        assert walked, row
        for path, _ in walked:
            folder = f"{path.rpartition('/')[0]}/"
            assert folder in MAP and f"`{short(path)}`" in docstring(f"{folder}__init__.py"), path


def test_the_readme_has_the_code_in_ten_lines() -> None:
    """Each root folder and each folder of the engine once."""
    ten = README.partition("## The code, in ten lines\n\n```\n")[2].partition("```")[0].splitlines()
    named = [path for line in ten for path, _ in paths(f"`{line.split()[0]}`")]
    roots = {"blocks/", "tasks/", "flows/", "deployments/"}

    assert len(ten) == 10
    assert sorted(named) == sorted(roots | {name for name in FOLDERS if name.startswith("runcomfy/")})
