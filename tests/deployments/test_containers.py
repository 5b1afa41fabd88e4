"""The container files, as far as they can be checked without a container; `test_production` runs their commands."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect.settings import Settings
from prefect_redis.cleanup_queue import RedisWorkerCleanupQueueSettings  # type: ignore[import-untyped]
from prefect_redis.client import RedisMessagingSettings  # type: ignore[import-untyped]
from pydantic import AliasChoices
from pydantic_settings import BaseSettings
from ruamel.yaml import YAML

from tasks.runtime.heartbeats import FREQUENCY, VARIABLE, frequency_given
from tests.deployments.stack import PRODUCTION, ROOT, compose

DOCKERFILE = PRODUCTION / "Dockerfile"
REQUIREMENTS = PRODUCTION / "requirements.txt"
SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def settings_of(model: type[BaseSettings]) -> Iterator[str]:
    """Yield the environment variables that settings are read from."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from settings_of(field.annotation)
        yield f"{model.model_config['env_prefix']}{name}".upper()
        if isinstance(field.validation_alias, AliasChoices):
            yield from (choice.upper() for choice in field.validation_alias.choices if isinstance(choice, str))


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions: word and arguments."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8")))
    found = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(word, " ".join(arguments.split())) for word, _, arguments in found]


def arguments_of(word: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == word]


def pins(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Return a lock's packages: version and hashes. (Other packages may require one elsewhere too: markers differ.)"""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=\S)", file.read_text(encoding="utf-8")):
        if "==" in block:
            what, *hashes = re.split(r"\s*\\?\n?\s*--hash=", block.strip())
            name, _, version = what.partition("==")
            found[canonicalize_name(name.strip())] = (
                version.partition(";")[0].strip(),
                frozenset(text.strip(" \\\n") for text in hashes),
            )
    return found


def needed(requirements: Iterable[str], seen: set[tuple[str, str]]) -> Iterator[str]:
    """Yield the names of the packages that requirements resolve to on this machine, dependencies included."""
    for text in requirements:
        requirement = Requirement(text)
        for extra in ("", *requirement.extras):
            wanted = (canonicalize_name(requirement.name), extra)
            if wanted in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            seen.add(wanted)
            yield wanted[0]
            told = importlib.metadata.requires(requirement.name) or []
            marked = ((Requirement(each), each) for each in told)
            yield from needed(
                (
                    each.partition(";")[0]
                    for parsed, each in marked
                    if parsed.marker is None or parsed.marker.evaluate({"extra": extra})
                ),
                seen,
            )


def test_the_image_installs_the_versions_that_are_tested() -> None:
    """Each package of the image has the version and the hashes of constraints.txt."""
    image, tested = pins(REQUIREMENTS), pins(ROOT / "constraints.txt")

    assert len(image) > 100
    assert {name: pin for name, pin in image.items() if tested.get(name) != pin} == {}
    assert [name for name, (_, hashes) in image.items() if not hashes] == []


def test_the_image_has_every_dependency_and_no_tools() -> None:
    """Dependencies, the server's extra, and the installer; no tests, no linters, no S3 server."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    told, build = project["project"], project["build-system"]["requires"]
    wanted = [*told["dependencies"], *told["optional-dependencies"]["server"], *build]
    tools = [Requirement(text).name for extra in ("dev", "sandbox") for text in told["optional-dependencies"][extra]]

    assert set(needed(wanted, set())) - pins(REQUIREMENTS).keys() == set()
    assert {canonicalize_name(name) for name in tools} & pins(REQUIREMENTS).keys() <= {
        "aiohttp",
        "cryptography",
        "jsonschema",
        "markdown-it-py",
    }  # Prefect needs them


def test_every_source_of_copy_exists() -> None:
    """Every source of COPY exists, and .dockerignore lets it through, but no file with secrets."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [name for line in arguments_of("COPY") if "--from" not in line for name in line.split()[:-1]]

    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert [name for name in sources if f"!{Path(name).parts[0]}" not in ignored] == []
    assert "**/.env" in ignored
    assert {"runcomfy", "blocks", "tasks", "flows", "deployments"} <= set(sources)


def test_the_image_runs_a_worker_without_root() -> None:
    """Its user has a number that is not root's; its command is that of compose's worker, and needs no shell."""
    (user,), (command,) = arguments_of("USER"), arguments_of("CMD")

    assert int(user) > 0
    assert set(json.loads(command)) <= set(SERVICES["worker"]["command"])
    assert set(SERVICES["worker"]["command"]) - set(json.loads(command)) == {"--limit", "20"}


def test_one_worker_serves_upkeep_only() -> None:
    """It polls the queue that reconcile and review are deployed to, which every other worker polls too."""
    told: dict[str, Any] = YAML(typ="safe").load(ROOT / "deployments" / "prefect.yaml")
    queues = {each["name"]: each["work_pool"]["work_queue_name"] for each in told["deployments"]}

    assert {name for name, queue in queues.items() if queue} == {"reconcile", "review"}
    command = SERVICES["upkeep"]["command"]
    assert command[command.index("--work-queue") + 1] == queues["reconcile"] == queues["review"]
    assert "--work-queue" not in SERVICES["worker"]["command"]


def test_every_run_sends_heartbeats_as_often_as_the_automations_expect() -> None:
    """Set by each deployment, and by the worker's own environment."""
    told: dict[str, Any] = YAML(typ="safe").load(ROOT / "deployments" / "prefect.yaml")

    assert {frequency_given(each["work_pool"]["job_variables"], None) for each in told["deployments"]} == {FREQUENCY}
    assert f"{VARIABLE}={FREQUENCY}\n" in read("worker.env")


def test_no_secret_is_in_the_files() -> None:
    """Every secret comes from .env, which git ignores and whose example names them all; none has a default."""
    text = (PRODUCTION / "compose.yaml").read_text(encoding="utf-8")
    variables = set(re.findall(r"\$\{(\w+)", text))
    example = dict(
        line.split("=", 1)
        for line in (PRODUCTION / ".env.example").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )

    assert set(re.findall(r"\$\{(\w+):\?see .env.example\}", text)) == variables
    assert example.keys() == variables
    assert [name for name, value in example.items() if value] == ["PREFECT_PUBLIC_URL"]
    assert not re.search(r"(?i)(password|token|key)=", "".join(map(read, ("server.env", "worker.env"))))


def read(name: str) -> str:
    return (PRODUCTION / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    """Each dependency exists and can reach the condition that is waited for; what ends by itself is not restarted."""
    service = SERVICES[name]

    for other, wanted in service.get("depends_on", {}).items():
        if wanted["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
        else:
            assert SERVICES[other]["restart"] == "no"
    for file in service.get("env_file", []):
        assert (PRODUCTION / file).is_file()


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "env_file" in service])
def test_every_setting_exists(name: str) -> None:
    """Prefect silently ignores a misspelt setting."""
    models = (Settings, RedisMessagingSettings, RedisWorkerCleanupQueueSettings)
    known = {name for model in models for name in settings_of(model)}
    known |= {"PREFECT_SERVER_ENCRYPTION_KEY", "RUNCOMFY_WORK_POOL"}  # read from the environment directly
    service = SERVICES[name]
    lines = [line for file in service["env_file"] for line in read(file).splitlines() if line and line[0] != "#"]

    assert {line.partition("=")[0] for line in lines} | service["environment"].keys() <= known


def test_only_the_server_publishes_a_port_and_for_this_machine_only() -> None:
    """A proxy that speaks TLS is in front of it."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"server": ["127.0.0.1:4200:4200"]}


def test_compose_accepts_the_file() -> None:
    """It is valid by the schema of the Compose specification."""
    folder = pytest.importorskip("check_jsonschema.builtin_schemas", reason="pip install check-jsonschema")
    schema = Path(folder.__file__).parent / "vendor" / "compose-spec.json"

    jsonschema.validate(YAML(typ="safe").load(PRODUCTION / "compose.yaml"), json.loads(schema.read_text()))


def test_the_deploy_script_is_valid_shell() -> None:
    """A shell can parse it, and it ends at the first command that fails."""
    script = PRODUCTION / "deploy.sh"
    (run,) = (command for command in (SERVICES["deploy"]["command"],) if command[0] == "sh")

    assert ROOT / run[1] == script
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert "set -eu" in script.read_text(encoding="utf-8")
