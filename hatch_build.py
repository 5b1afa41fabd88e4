"""Build hook: puts blocks, tasks, flows and deployments into the package `prefect_runcomfy`, and renames their imports.

In a checkout they are the root folders, and an editable install finds them there: for it, this hook does nothing.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "prefect_runcomfy"
FOLDERS = ("blocks", "tasks", "flows", "deployments")
LEFT_OUT = (Path("deployments/production"), Path("deployments/monitoring"))
CODE, TEXTS, OTHERS = {".py"}, {".yaml"}, {".jpg", ".typed"}
OUR_FILE, PROJECT_FILE = "deployments/prefect.yaml", "prefect.yaml"  # the latter is written by `prefect-runcomfy init`
_ANY = "|".join(FOLDERS)


class PackageHook(BuildHookInterface[Any]):
    """Puts copies into the wheel in which imports, and commands to paste, have the installed names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the copies into a temporary folder, and have hatchling include it in the wheel."""
        if version == "editable":
            return
        self._copies = TemporaryDirectory()
        root, copies = Path(self.root), Path(self._copies.name)
        files = {file: file.relative_to(root / PACKAGE) for file in _files(root / PACKAGE)}
        files |= {file: file.relative_to(root) for folder in FOLDERS for file in _files(root / folder)}
        files = {file: to for file, to in files.items() if not any(map(to.is_relative_to, LEFT_OUT))}
        named = _named_modules(to for to in files.values() if to.suffix in CODE)
        for file, to in files.items():
            (copies / to).parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in OTHERS:
                shutil.copyfile(file, copies / to)
                continue
            text = file.read_text(encoding="utf-8")
            renamed = _renamed(text, named) if file.suffix in CODE else named.sub(_below, text)
            (copies / to).write_text(renamed, encoding="utf-8")
        build_data["force_include"][str(copies)] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Delete the copies."""
        if version != "editable":
            self._copies.cleanup()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in CODE | TEXTS | OTHERS)


def _named_modules(files: Iterable[Path]) -> re.Pattern[str]:
    """Return a pattern for the names of these modules, and for those of the packages after `-m`; no other words."""
    names = (".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files)
    modules = "|".join(re.escape(name) for name in names if "." in name)  # without a dot it may be any word
    return re.compile(rf"(?<![\w./-])(?:{modules})\b|(?<=-m )(?:{_ANY})\b|{re.escape(OUR_FILE)}")


def _below(found: re.Match[str]) -> str:
    return PROJECT_FILE if found[0] == OUR_FILE else f"{PACKAGE}.{found[0]}"


def _renamed(source: str, named: re.Pattern[str]) -> str:
    """Return Python source with the installed names in its imports and strings; other code stays as it is.

    Raises:
        ValueError: it has an `import tasks`, which would bind another name in the wheel.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(name.name.partition(".")[0] in FOLDERS for name in node.names):
            raise ValueError(f"Write `from … import …` instead of: {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom):
            at = node.lineno - 1
            lines[at] = re.sub(rf"(?<=\bfrom )(?:{_ANY})\b", _below, lines[at], count=1)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for at in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[at] = named.sub(_below, lines[at])
    return "".join(lines)
