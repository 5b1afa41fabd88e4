"""The production set-up on this machine: the commands and settings of `compose.yaml`, without the containers.

PostgreSQL and Redis are real servers in a temporary folder. Only what containers provide is replaced: host
names, ports, folders, and secrets.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from tests.ports import free_ports

__all__ = ["COMPOSE", "PRODUCTION", "ROOT", "Stack", "compose", "end", "environment_of", "is_worker", "running_stack"]

ROOT = Path(__file__).parents[2]
PRODUCTION = ROOT / "deployments" / "production"
COMPOSE = PRODUCTION / "compose.yaml"
SECRETS = {
    "POSTGRES_PASSWORD": "postgres-0f6e",
    "PREFECT_PASSWORD": "prefect-77b2",
    "PREFECT_SERVER_ENCRYPTION_KEY": "YSBrZXkgb2YgdGhpcnR5LXR3byBieXRlcywgeWVzISE=",
}
_UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root


def compose() -> dict[str, Any]:
    """Return `compose.yaml`, its anchors resolved."""
    told: dict[str, Any] = YAML(typ="safe").load(COMPOSE)
    return told


def environment_of(service: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a service: its files, then its own, with the secrets filled in."""
    found: dict[str, str] = {}
    for name in service.get("env_file", []):
        lines = (PRODUCTION / name).read_text(encoding="utf-8").splitlines()
        found |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for name, value in service.get("environment", {}).items():
        found[name] = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: secrets[match[1]], value)
    return found


@dataclass(frozen=True)
class Stack:
    """A running production set-up: where its services are, and how to run a command beside them."""

    home: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str] = field(repr=False)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)

    @property
    def workers(self) -> list[str]:
        """The names of its workers."""
        return [name for name in self.processes if is_worker(self.command(name))]

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['server']}/api"

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of one of compose's services, as it is on this machine."""
        redis = f"redis://127.0.0.1:{self.ports['redis']}"
        here = {
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": str(self.ports["postgres"]),
            "PREFECT_REDIS_MESSAGING_URL": f"{redis}/0",
            "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": f"{redis}/0",
            "PREFECT_SERVER_DOCKET_URL": f"{redis}/1",
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(self.ports["server"]),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.home / "ui"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_WORKER_WEBSERVER_PORT": str(self.ports.get(name, 0)),
        }
        told = environment_of(_service(name), self.secrets)
        given = {key: here.get(key, value) for key, value in told.items()}
        image = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PREFECT_HOME": str(self.home / name)}
        return image | {"HOME": str(self.home), "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"} | given

    def command(self, name: str) -> list[str]:
        """Return what a service runs."""
        command: list[str] = _service(name)["command"]
        return command

    def grace_seconds(self, name: str) -> float:
        """Return how long a service may take to end after a SIGTERM, before it is killed."""
        return float(_service(name).get("stop_grace_period", "10s").removesuffix("s"))

    def run(self, name: str, *, cwd: Path = ROOT, command: list[str] | None = None, **extra: str) -> str:
        """Run a service's command to its end and return what it printed; fail the test if it fails."""
        done = subprocess.run(
            command or self.command(name),
            cwd=cwd, env=self.environment(name) | extra, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Run a service beside the test once it is healthy; end it as a container is ended."""
        self.start(name)
        try:
            yield
        finally:
            self.stop(name)

    def start(self, name: str) -> None:
        """Start a service, and wait until it is healthy."""
        file = self.home / f"{name}.log"
        with file.open("ab") as log:
            process = subprocess.Popen(
                self.command(name), cwd=ROOT, env=self.environment(name), stdout=log, stderr=subprocess.STDOUT
            )
        self.processes[name] = process
        _wait(self.healthy(name), name, process, file)

    def stop(self, name: str) -> None:
        """Stop a service with SIGTERM."""
        end(self.processes[name])

    def stop_all(self) -> None:
        """Stop what still runs, the last started first."""
        for name in reversed(list(self.processes)):
            self.stop(name)

    def healthy(self, name: str) -> Callable[[], bool]:
        """Return a health check of a service."""
        if name != "server" and "--with-healthcheck" not in self.command(name):
            return lambda: True
        path = "api/ready" if name == "server" else "health"
        return lambda: _answers(f"http://127.0.0.1:{self.ports[name]}/{path}")


@contextlib.contextmanager
def running_stack(workers: int) -> Iterator[Stack]:
    """Start everything in the order of `compose.yaml`: stores, migration, server, services, deployments, workers.

    Args:
        workers: How many of the service `worker`; there is one of every other service that is a worker.
    """
    names = ["postgres", "redis", "server", *(f"worker{number}" for number in range(1, workers + 1)), *_other_workers()]
    with contextlib.ExitStack() as parts:
        home = Path(tempfile.mkdtemp(prefix="runcomfy-production-"))
        parts.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o755)  # PostgreSQL's own user passes through it
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        url = f"http://127.0.0.1:{ports['server']}/api"
        stack = Stack(home, ports, SECRETS | {"PREFECT_PUBLIC_URL": url})
        parts.enter_context(_postgres(stack))
        parts.enter_context(_redis(stack))
        stack.run("migrate")
        parts.enter_context(stack.running("server"))
        parts.enter_context(stack.running("services"))
        stack.run("deploy")
        for name in names[3:]:
            parts.enter_context(stack.running(name))
        yield stack


def is_worker(command: Sequence[str]) -> bool:
    """Whether a command starts a worker: Prefect's, or this project's own."""
    return "worker" in command or "deployments.worker" in command


def _service(name: str) -> dict[str, Any]:
    """Return the compose service of a process; `worker2` is one of `worker`."""
    service: dict[str, Any] = compose()["services"][name.rstrip("0123456789")]
    return service


def _other_workers() -> list[str]:
    """Return compose's services that are workers for a queue of their own."""
    services = compose()["services"].items()
    return [name for name, service in services if name != "worker" and is_worker(service.get("command", []))]


@contextlib.contextmanager
def _postgres(stack: Stack) -> Iterator[None]:
    home, port = stack.home / "postgres", stack.ports["postgres"]
    home.mkdir()
    secret = home / "password"
    secret.write_text(stack.secrets["POSTGRES_PASSWORD"], encoding="utf-8")
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": _UNPRIVILEGED, "group": "nogroup", "extra_groups": []}
        shutil.chown(home, _UNPRIVILEGED)
    data = str(home / "data")
    options: dict[str, Any] = user | {"cwd": home, "check": True, "capture_output": True}
    identity = ["--username=prefect", f"--pwfile={secret}", "--auth=scram-sha-256"]
    subprocess.run([_binary("initdb"), "--no-sync", *identity, "--pgdata", data], **options)
    server = [_binary("postgres"), "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
              "-c", f"unix_socket_directories={home}"]  # fmt: skip
    with (stack.home / "postgres.log").open("wb") as log:
        process = subprocess.Popen(server, cwd=home, stdout=log, stderr=subprocess.STDOUT, **user)
    with _ended(process):
        ready = [_binary("pg_isready"), "--host=127.0.0.1", f"--port={port}"]
        _wait(
            lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
            "PostgreSQL", process, stack.home / "postgres.log",
        )  # fmt: skip
        password = {"PGPASSWORD": stack.secrets["POSTGRES_PASSWORD"]}
        create = [_binary("createdb"), "--host=127.0.0.1", f"--port={port}", "--username=prefect", "prefect"]
        subprocess.run(create, check=True, capture_output=True, env=os.environ | password)
        yield


@contextlib.contextmanager
def _redis(stack: Stack) -> Iterator[None]:
    home, port = stack.home / "redis", stack.ports["redis"]
    home.mkdir()
    _, *command = compose()["services"]["redis"]["command"]
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
    with (stack.home / "redis.log").open("wb") as log:
        process = subprocess.Popen([_binary("redis-server"), *command, *here], stdout=log, stderr=subprocess.STDOUT)
    with _ended(process):
        _wait(lambda: _listens(port), "Redis", process, stack.home / "redis.log")
        yield


def dump(stack: Stack) -> str:
    """Return the whole database as text."""
    address = ["--host=127.0.0.1", f"--port={stack.ports['postgres']}", "--username=prefect"]
    done = subprocess.run(
        [_binary("pg_dump"), *address, "--data-only", "prefect"], check=True, capture_output=True, text=True,
        env=os.environ | {"PGPASSWORD": stack.secrets["POSTGRES_PASSWORD"]},
    )  # fmt: skip
    return done.stdout


def _binary(name: str) -> str:
    """Return where a server's program is; without it the test is skipped, but fails in CI."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = next((str(folder / name) for folder in folders if (folder / name).exists()), None) or shutil.which(name)
    if found is None:
        said = f"{name} is not installed: apt-get install postgresql redis-server"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(said)
    return str(found)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process as a container is ended: SIGTERM, and SIGKILL after 30 seconds."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(until: Callable[[], bool], what: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 900
    while not until():
        said = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        assert process.poll() is None and time.monotonic() < deadline, f"{what} did not come up:\n{said}"
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
