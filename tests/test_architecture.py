"""The layers import to the right only: prefect_runcomfy -> deployments -> flows -> tasks -> blocks -> runcomfy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.structure import files_at, structure_of

ROOT = Path(__file__).parents[1]
LAYERS = ("prefect_runcomfy", "deployments", "flows", "tasks", "blocks", "runcomfy")
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Return every module that a file imports, wherever in it; `from a import b` counts as `a` and as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def offences(folder: str, *forbidden: str, but: tuple[str, ...] = ()) -> list[str]:
    files = [path for path in FILES if path.is_relative_to(ROOT / folder)]
    assert files, f"{folder} holds no code"
    return [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        if not any(path.is_relative_to(ROOT / allowed) for allowed in but)
        for module in imported(path)
        if within(module, *forbidden)
    ]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_to_the_right_only(layer: str) -> None:
    """No layer imports one to its left, nor the tests and benchmarks."""
    above = LAYERS[: LAYERS.index(layer)]

    assert offences(layer, *above, "tests", "benchmarks") == []


def test_the_engine_does_not_import_prefect() -> None:
    """Not even in a function or for the type checker."""
    assert offences("runcomfy", "prefect", "prefect_aws") == []


def test_polling_and_the_journal_do_not_import_each_other() -> None:
    """What one needs of the other is an argument: the run-time cache here, and when a request is due there."""
    assert offences("runcomfy/polling", "runcomfy.journal") == []
    assert offences("runcomfy/journal", "runcomfy.polling") == []


def test_no_import_runs_upwards() -> None:
    """Modules in a cycle cannot be understood alone; `python -m benchmarks.structure` draws all of them."""
    found = structure_of(files_at(None))

    assert (found.upwards, found.circles) == ([], [])


def test_a_cycle_is_found_and_the_floors_are_counted() -> None:
    """Also one that goes through a folder, and one whose import is in a function."""
    files = {
        "runcomfy/__init__.py": "",
        "runcomfy/values.py": "import json",
        "runcomfy/client.py": "from runcomfy.telemetry.metrics import called\nfrom runcomfy.values import Value",
        "runcomfy/telemetry/__init__.py": "",
        "runcomfy/telemetry/metrics.py": "",
        "runcomfy/telemetry/request.py": "def late():\n    from runcomfy import client",
        "tasks/one.py": "import runcomfy.client\nimport tasks.two",
        "tasks/two.py": "import tasks.one",
    }
    sound = structure_of(files | {"runcomfy/telemetry/request.py": ""})
    found = structure_of(files)

    assert sound.floors == {
        "runcomfy/values.py": 1, "runcomfy/telemetry/": 1, "runcomfy/client.py": 2, "tasks/": 3,
    }  # fmt: skip
    assert (sound.upwards, sound.circles) == ([], [])
    assert found.circles == [["runcomfy/client.py", "runcomfy/telemetry/"]]
    assert len(found.upwards) == 1


def test_only_the_sandbox_needs_its_extra() -> None:
    """`aiohttp` and the sandbox are not installed with the engine's own dependencies; the command starts it."""
    assert offences("runcomfy", "aiohttp", but=("runcomfy/sandbox",)) == []
    assert offences("runcomfy", "runcomfy.sandbox", but=("runcomfy/sandbox", "runcomfy/cli")) == []
    for layer in ("blocks", "tasks", "flows"):
        assert offences(layer, "aiohttp", "runcomfy.sandbox") == []


@pytest.mark.parametrize("layer", LAYERS)
def test_only_what_prefect_publishes_is_imported(layer: str) -> None:
    """What is private to Prefect changes without notice."""
    assert offences(layer, "prefect._internal") == []


def test_the_engine_runs_without_prefect() -> None:
    """After the engine is loaded, Prefect is not, not even by a dependency."""
    program = (
        "import sys, runcomfy.api.client, runcomfy.archive.archive, runcomfy.generation.staging\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'prefect', 'prefect_aws', 'aiohttp'}))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
