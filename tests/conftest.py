"""Real parts for every test: an S3 server and a sandbox of RunComfy, each once a session."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import runpy
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import certifi
import pytest
from hypothesis import HealthCheck, settings

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore, running_object_store
from tests.prefect_server import MANY_RETRIES
from tests.second_tries import add_second_tries, watch_the_machine
from tests.summary import SUMMARY, section

# A boto3 session reads the descriptions of all services, a tenth of a second each time; here, all sessions share them.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)


def _trust_one_authority() -> None:
    """Let every client of this process, and of those that it starts, read one certificate authority instead of all.

    Nearly nothing here speaks TLS, and what does names its own authority. The whole list takes 20 ms of the processor
    for every client, and Prefect makes one for nearly every call: a fifth of all that a run takes.
    """
    first = "".join(Path(certifi.where()).read_text(encoding="utf-8").partition("END CERTIFICATE-----")[:2])
    with tempfile.NamedTemporaryFile(
        "w", suffix=".pem", prefix="one-authority-", encoding="utf-8", delete=False
    ) as file:
        file.write(first + "\n")
    atexit.register(Path(file.name).unlink, missing_ok=True)
    os.environ["SSL_CERT_FILE"] = file.name  # before Prefect is imported: it reads this only once


_trust_one_authority()


def _start_quickly() -> None:
    """Let this process, and those that it starts, spend less of their start on garbage collection."""
    folder = Path(__file__).with_name("startup")
    runpy.run_path(str(folder / "sitecustomize.py"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


_start_quickly()
os.environ.update(MANY_RETRIES)

# A test run shows what the code does, and not how busy the machine is or which examples were drawn this time:
# the same are drawn each time, unless a person wants to look for others (HYPOTHESIS_EXPLORE=1).
settings.register_profile(
    "repeatable", deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, derandomize=True
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile("explore" if os.environ.get("HYPOTHESIS_EXPLORE") else "repeatable")


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A running S3 server with the buckets `images` and `videos`."""
    with running_object_store() as running:
        yield running


@pytest.fixture(scope="session")
def session_sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(token="sandbox-4d7f0c", run_seconds=0.2, tiny_videos=True)) as running:
        yield running


@pytest.fixture
def sandbox(session_sandbox: Sandbox) -> Sandbox:
    """A sandbox with an empty ledger, no faults, and nothing held."""
    session_sandbox.release()
    session_sandbox.reset()
    return session_sandbox


@pytest.fixture
def prefix() -> str:
    """A prefix in the bucket that no other test uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """Prefect's own test server, once a session: the URL of its API."""
    from tests.prefect_server import patient_prefect_server  # imported late: most tests need no Prefect

    with patient_prefect_server() as url:
        yield url


@pytest.fixture(autouse=True)
def events_of_this_test() -> Iterator[None]:
    """Make sure that the events of the next test do not go to the server of this one."""
    from tests.prefect_server import drop_events_of_other_servers

    yield
    drop_events_of_other_servers()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> list[str]:
    """Lines to add to, which are shown at the end of the session."""
    return section(request.config, "measured")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.pluginmanager.hasplugin("rerunfailures"):  # not with `-p no:rerunfailures`
        add_second_tries(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    watch_the_machine()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what stays: modules and tests, an eighth of the time that tests take."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:  # a worker of xdist has no terminal
        output["summary"] = session.config.stash.get(SUMMARY, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for title, lines in getattr(node, "workeroutput", {}).get("summary", {}).items():
        section(node.config, title).extend(lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for title, lines in config.stash.get(SUMMARY, {}).items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
