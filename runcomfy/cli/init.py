"""`init`: write what a project of one's own needs, with a flow to start from.

It only writes files. The deployments are those of `deployments/prefect.yaml`, by the names that modules and steps have
where the package is installed; `templates` has the rest.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from runcomfy.cli.model_flows import model_flows
from runcomfy.cli.options import Json
from runcomfy.cli.output import print_facts
from runcomfy.errors import ConfigurationError, InvalidInput

__all__ = ["init"]

_ROOT = Path(__file__).parents[2]
_CHECKOUT, _INSTALLED = (_ROOT / folder / "prefect.yaml" for folder in ("deployments", "prefect_runcomfy/deployments"))
_SHIPPED = "# ---\n\n"
"""Where the template of prefect.yaml wants the definitions of the shipped one."""
_AS_INSTALLED = (
    (re.compile(r"(?<=^  - )(?=deployments\.)", re.MULTILINE), "prefect_runcomfy."),
    # A worker needs the package for them, and no folder: `pull: []` is Prefect's word for that.
    (
        re.compile(r"(?<=^    entrypoint: )flows/(\w+)\.py:(\w+)", re.MULTILINE),
        r"prefect_runcomfy.flows.\1.\2\n    pull: []",
    ),
)


def init(
    folder: Annotated[Path, Parameter(help="The project; a new folder is made.")] = Path(),
    /,
    *,
    model: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="Also write a flow with a model's own form: its id, or a .json file with its catalogue entry. "
            "Several: once for each.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Begin a project of your own: a prefect.yaml, a flow to start from, an .env.example. Nothing is overwritten."""
    templates = files("runcomfy.cli") / "templates"
    of_models, deployments = model_flows(model or (), (templates / "model.py.txt").read_text(encoding="utf-8"))
    contents = of_models | {
        "prefect.yaml": _prefect_yaml((templates / "prefect.yaml").read_text(encoding="utf-8"), deployments),
        "flows/my_video.py": (templates / "my_video.py.txt").read_text(encoding="utf-8"),
        ".env.example": (templates / "env.example").read_text(encoding="utf-8"),
    }
    to_add = ""
    if model and (folder / "prefect.yaml").is_file():  # a project that exists gets its flow, and nothing else
        to_add = deployments if not _says(folder / "prefect.yaml", deployments) else ""
        contents = of_models
    try:
        unchanged = _unchanged(folder, contents)
        created = [name for name in contents if name not in unchanged]
        for name in created:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for name in created:
            with (folder / name).open("x", encoding="utf-8", newline="\n") as new:
                new.write(contents[name])
    except OSError as error:
        place = error.filename or folder
        raise ConfigurationError(f"{place} cannot be written: {error.strerror}. Name another folder.") from None
    if json:
        more = {"add_to_prefect_yaml": to_add} if to_add else {}
        print_facts("", {"folder": str(folder), "created": created, "unchanged": unchanged} | more, as_json=True)
    else:
        _print(folder, created, unchanged)
        if to_add:
            print("\nNothing is overwritten: add this below `deployments:` in its prefect.yaml, and deploy.\n")
            print(to_add)


def _says(file: Path, deployments: str) -> bool:
    """Whether the project's prefect.yaml has the deployments already."""
    try:
        return deployments.strip() in file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _prefect_yaml(template: str, of_models: str = "") -> str:
    """Return the shipped prefect.yaml for a project that has the package installed, with the project's own beginning.

    Args:
        template: The project's name, and the deployment of its own flow.
        of_models: The deployments of models with forms of their own.
    """
    shipped = (_INSTALLED if _INSTALLED.exists() else _CHECKOUT).read_text(encoding="utf-8")
    for found, installed in _AS_INSTALLED:
        shipped = found.sub(installed, shipped)
    defined, _, deployments = shipped[shipped.index("definitions:") :].partition("deployments:\n")
    head, _, own = template.partition(_SHIPPED)
    return head + defined + own + of_models + deployments


def _unchanged(folder: Path, contents: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are there already.

    Raises:
        InvalidInput: some are there with other contents.
        OSError: it cannot be known.
    """
    there = [name for name in contents if os.path.lexists(folder / name)]
    same = [
        name for name in there if (folder / name).is_file() and (folder / name).read_bytes() == contents[name].encode()
    ]
    if others := [name for name in there if name not in same]:
        raise InvalidInput(
            f"In {folder.absolute()}, these files exist already: {', '.join(others)}. Nothing was written, and nothing "
            "is ever overwritten. Begin in a new folder, `prefect-runcomfy init new-project`, and copy from there."
        )
    return same


def _print(folder: Path, created: list[str], unchanged: list[str]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for outcome, names in (("created", created), ("unchanged", unchanged)):
        for name in names:
            console.print(f"{outcome:<10}{folder / name}", markup=False)
    console.print("\nNext:", style="bold")
    programs = "" if shutil.which("prefect") else f"{shlex.quote(str(Path(sys.executable).parent.absolute()))}/"
    commands = {
        f"cd {shlex.quote(str(folder))}": "",
        "cp .env.example .env": "then fill it in",
        "set -a; . ./.env; set +a": "in each new terminal",
        f"{programs}prefect server start": "in a terminal of its own, if you have no server",
        f"{programs}python -m prefect_runcomfy.deployments.setup": "it says how to go on",
    }
    width = max(map(len, commands))
    for command, comment in commands.items():
        if not (command.startswith("cd ") and folder.resolve() == Path.cwd()):
            console.print(f"  {command:<{width}}{'  # ' if comment else ''}{comment}".rstrip(), markup=False)
    if not _INSTALLED.exists():
        console.print(
            "\nThe files name the installed package, prefect_runcomfy. This is a checkout: build it there with "
            "`pip wheel --no-deps .`, and install it in the project's environment.",
            style="yellow",
        )
