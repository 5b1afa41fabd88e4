"""The package as users have it: built, installed into an empty environment, used from a project of their own."""

from __future__ import annotations

import ast
import asyncio
import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML

from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.ports import free_ports
from tests.prefect_server import MANY_RETRIES

ROOT = Path(__file__).parents[1]
PACKAGE = "prefect_runcomfy"
FOLDERS = ("blocks", "tasks", "flows", "deployments")
LEFT_OUT = ("deployments/production/", "deployments/monitoring/", "deployments/demo-requirements.txt")  # for a checkout
COLLECTIONS = """
import sys
from prefect.plugins import load_prefect_collections
found = load_prefect_collections()["prefect_runcomfy"]
from prefect.blocks.core import Block
print(found.__file__, [name for name in sys.modules if name.endswith(("tasks.submit_request", "flows.inbox"))])
for slug in ("runcomfy-credentials", "media-store"):
    kind = Block.get_block_class_from_key(slug)
    print(slug, kind.__module__, kind._calculate_schema_checksum())
"""
FLOW = """
import asyncio, os
from prefect import flow
from pydantic import SecretStr
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from prefect_runcomfy import MediaStore, RunComfyCredentials
from prefect_runcomfy.tasks import archive_outputs, submit_request, wait_for_result
from runcomfy import ArchivedVideo, Polling, TextToVideo


@flow
async def chain(prompt: str, account: RunComfyCredentials, store: MediaStore) -> list[ArchivedVideo]:
    inputs = TextToVideo(prompt=prompt)
    submission = await submit_request(inputs, account, store)
    result = await wait_for_result(submission, account, store, polling=quick)
    return await archive_outputs(
        result, account, store, model_id=inputs.model_id, inputs=inputs, submission=submission
    )


env = os.environ
account = RunComfyCredentials(
    api_token=SecretStr(env["TOKEN"]), base_url=env["SERVICE"], output_hosts=[env["OUTPUT_HOST"]]
)
keys = AwsCredentials(
    aws_access_key_id=env["ACCESS_KEY"], aws_secret_access_key=SecretStr(env["SECRET_KEY"]), region_name="us-east-1",
    aws_client_parameters=AwsClientParameters(endpoint_url=env["S3"]),
)
store = MediaStore(bucket="videos", prefix=env["PREFIX"], credentials=keys)
quick = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
(made,) = asyncio.run(chain("Rain on a window at night", account, store))
print(made.uri, submit_request.__module__, type(made).__module__)
"""
TESTS_OF_FLOWS = ("tests/flows/test_callers.py", "tests/flows/test_decisions.py", "tests/flows/test_fetch.py")
NOT_AGAIN = "not other_processes and not unsaved_block"  # those start many processes, which takes long
WRONG = """
from prefect_runcomfy import MediaStore, RunComfyCredentials, text_to_video
from prefect_runcomfy.tasks import submit_request


async def wrong(account: RunComfyCredentials, store: MediaStore) -> int:
    await submit_request("a prompt", account, store)
    made = await text_to_video("rain", account, store)
    return made.videos
"""
ALIASES = f"""
import importlib.abc, importlib.machinery, importlib.util, sys

class Aliases(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {FOLDERS!r}:
            return None
        named = importlib.util.find_spec(f"{PACKAGE}.{{name}}")
        return named and importlib.machinery.ModuleSpec(
            name, self, origin=named.origin, is_package=named.submodule_search_locations is not None
        )

    def create_module(self, spec):
        module = importlib.import_module(f"{PACKAGE}.{{spec.name}}")
        self.own = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self.own

    def get_code(self, name):
        return importlib.util.find_spec(f"{PACKAGE}.{{name}}").loader.get_code(f"{PACKAGE}.{{name}}")

    def get_source(self, name):
        return None

    def is_package(self, name):
        return importlib.util.find_spec(f"{PACKAGE}.{{name}}").submodule_search_locations is not None

sys.meta_path.insert(0, Aliases())
"""
"""Lets `from tasks import …` mean `from prefect_runcomfy.tasks import …`, in processes that tests start, too."""


@dataclass(frozen=True)
class Installed:
    """An environment that a wheel is installed in, and a project that has `blocks`, `tasks` … of its own."""

    python: Path
    project: Path

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a user, with these variables."""
        others = ("PYTHON", "PREFECT_", "AWS_", "RUNCOMFY_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        return kept | {"HOME": str(self.project), "DO_NOT_TRACK": "1", **MANY_RETRIES, **variables}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project; fail the test if it does not end well."""
        done = subprocess.run(
            [self.python, *arguments], cwd=self.project, env=self.environment(variables),
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    @contextlib.contextmanager
    def running(self, *arguments: str, **variables: str) -> Iterator[Path]:
        """Run Python in the project beside the test, and yield the file of what it prints."""
        log = self.project / f"{arguments[-1]}-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [self.python, "-u", *arguments], cwd=self.project, env=self.environment(variables),
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield log
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Installed:
    """Install a wheel into an empty environment, which finds its dependencies where those of the tests are.

    The checkout is not on its path: a `.pth` names the folder of the packages, whose own `.pth` files are not read.
    """
    project, environment = folder / "project", folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    paths = sysconfig.get_paths("venv", vars={"base": str(environment), "platbase": str(environment)})
    needed = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(paths["purelib"]) / "packages_of_the_tests.pth").write_text("\n".join(needed), encoding="utf-8")
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)], check=True)
    for name in (*FOLDERS, "generic"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("raise AssertionError('This is the user\\'s.')\n", encoding="utf-8")
    return Installed(python, project)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def unpacked(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "unpacked")
    return wheel.parent / "unpacked"


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A checkout, which is a project of its own: its names are its folders'."""
    folder = tmp_path_factory.mktemp("editable")
    installed = install(build("wheel:editable", folder), folder)
    for name in FOLDERS:
        (installed.project / name / "__init__.py").unlink()
        (installed.project / name).rmdir()
    return installed


def in_checkout(path: Path) -> Path:
    """Return the file of the checkout that a file of the wheel is made of, by its path in the wheel."""
    if path.parts[0] == PACKAGE and len(path.parts) > 2:
        return ROOT / Path(*path.parts[1:])
    return ROOT / path


def files_in(folder: Path) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return {name for name in listed if (ROOT / name).exists() and not name.startswith(LEFT_OUT)}


def test_the_wheel_holds_every_file_and_no_generic_name(unpacked: Path) -> None:
    """The engine as it is, the rest below `prefect_runcomfy`; no production, no monitoring, no git-ignored file."""
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    (information,) = {name.partition("/")[0] for name in found if ".dist-info/" in name}
    code = {name for name in found if not name.startswith(information)}

    expected = files_in(ROOT / "runcomfy") | files_in(ROOT / PACKAGE)
    for folder in FOLDERS:
        expected |= {f"{PACKAGE}/{name}" for name in files_in(ROOT / folder)}
    assert code == expected
    assert {name for name in code if name.endswith("py.typed")} == {
        "runcomfy/py.typed", f"{PACKAGE}/py.typed", *(f"{PACKAGE}/{folder}/py.typed" for folder in FOLDERS),
    }  # fmt: skip
    assert (unpacked / information / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    entries = configparser.ConfigParser()
    entries.read(unpacked / information / "entry_points.txt", encoding="utf-8")
    assert dict(entries["console_scripts"]) == {"prefect-runcomfy": "runcomfy.cli.__main__:run"}
    assert dict(entries["prefect.collections"]) == {PACKAGE: PACKAGE}


def as_in_checkout(text: str) -> str:
    """Return a text with the names of a checkout; `prefect.yaml` is what `init` writes into a user's project."""
    return text.replace(f"{PACKAGE}.", "").replace("deployments/prefect.yaml", "prefect.yaml")


class Comparable(ast.NodeTransformer):
    """Gives imports and texts the names that they have in a checkout."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        node.module = str(node.module).removeprefix(f"{PACKAGE}.")
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str):
            node.value = as_in_checkout(node.value)
        return node


def test_only_imports_and_texts_differ_from_the_checkout(unpacked: Path) -> None:
    """The code that runs is the tested code, except for the names of our own modules."""
    compared = 0
    for path in unpacked.rglob("*.py"):
        source = in_checkout(path.relative_to(unpacked))
        ours, theirs = (
            ast.dump(Comparable().visit(ast.parse(file.read_text(encoding="utf-8")))) for file in (source, path)
        )
        assert ours == theirs, path
        compared += 1
    assert compared > 250
    text = (unpacked / PACKAGE / "deployments" / "prefect.yaml").read_text(encoding="utf-8")
    ours = (ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8")
    assert as_in_checkout(text) == as_in_checkout(ours)


def test_every_command_that_a_message_names_is_there(unpacked: Path) -> None:
    """`python -m prefect_runcomfy.deployments.setup`, and no `python -m deployments.setup`, which is the checkout's."""
    named = {
        found
        for path in [*unpacked.rglob("*.py"), *unpacked.rglob("*.yaml")]
        for found in re.findall(r"\b(?:python|register) -m ([\w.]+\w)", path.read_text(encoding="utf-8"))
    }

    texts = "".join(path.read_text(encoding="utf-8") for path in (unpacked / PACKAGE).rglob("*.py"))
    assert "--prefect-file prefect.yaml" in texts and "deployments/prefect.yaml" not in texts
    assert {f"{PACKAGE}.deployments.setup", f"{PACKAGE}.deployments.worker", f"{PACKAGE}.blocks"} <= named
    missing = {name for name in named if not list(unpacked.glob(f"{name.replace('.', '/')}*"))}
    assert missing == set()


def test_every_module_imports_away_from_the_checkout(installed: Installed) -> None:
    """With `blocks`, `tasks`, `flows` and `deployments` of the user's own beside it, none of which is touched."""
    program = f"""
import importlib, json, pkgutil, sys, {PACKAGE}
unlisted = sorted(set({PACKAGE}.__all__) - set(dir({PACKAGE})))
names = [each.name for each in pkgutil.walk_packages({PACKAGE}.__path__, "{PACKAGE}.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
for name in {PACKAGE}.__all__:
    getattr({PACKAGE}, name)
generic = sorted({set(FOLDERS)!r} & sys.modules.keys())
print(json.dumps([{PACKAGE}.__file__, len(names), generic, sys.path, unlisted]))
"""
    done = installed.run("-c", program)
    file, count, generic, path, unlisted = json.loads(done.stdout)

    assert Path(file).is_relative_to(installed.python.parents[1])
    assert count > 80
    assert generic == []
    assert str(ROOT) not in path
    assert unlisted == []
    assert "warning" not in done.stderr.lower()


@pytest.mark.parametrize("target", ["installed", "editable"])
def test_prefect_finds_the_blocks_without_a_warning(target: str, request: pytest.FixtureRequest) -> None:
    """By the entry point; a block has the same schema by either name, so that both read what the other has stored."""
    installed: Installed = request.getfixturevalue(target)
    done = installed.run("-c", COLLECTIONS)
    (file, loaded), *blocks = (line.split(" ", 1) for line in done.stdout.splitlines())

    assert "warning" not in (done.stdout + done.stderr).lower()
    where, below = (ROOT, "") if target == "editable" else (installed.python.parents[1], f"{PACKAGE}.")
    assert Path(file).is_relative_to(where)
    assert loaded == "[]"  # a server has no use for tasks and flows
    from blocks import MediaStore, RunComfyCredentials  # late: the other tests need no Prefect

    assert blocks == [
        [kind.get_block_type_slug(), f"{below}{kind.__module__} {kind._calculate_schema_checksum()}"]
        for kind in (RunComfyCredentials, MediaStore)
    ]


def test_what_prefect_yaml_names_is_found(installed: Installed, unpacked: Path) -> None:
    """Its steps, and its flows both by their files, as `deployments.serve` loads them, and by their modules."""
    content = YAML(typ="safe").load(unpacked / PACKAGE / "deployments" / "prefect.yaml")
    steps = sorted({name for step in content["build"] for name in step})
    entrypoints = [each["entrypoint"] for each in content["deployments"]]
    program = f"""
import json, {PACKAGE}
from pathlib import Path
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.importtools import import_object
for step in {steps!r}:
    assert callable(import_object(step)), step
for entrypoint in {entrypoints!r}:
    file, _, name = entrypoint.partition(":")
    by_file = load_flow_from_entrypoint(str(Path({PACKAGE}.__file__).parent / entrypoint))
    module = file.removesuffix(".py").replace("/", ".")
    by_module = load_flow_from_entrypoint(f"{PACKAGE}.{{module}}.{{name}}")
    assert by_file.name == by_module.name == name.replace("_", "-"), entrypoint
"""
    installed.run("-c", program)

    assert steps == [f"{PACKAGE}.deployments.steps.{name}" for name in ("read_environment", "refer_to_blocks")]
    assert len(entrypoints) == 13


@pytest.mark.slow
def test_a_chain_over_the_tasks_runs_from_the_wheel(
    installed: Installed, prefect_api: str, sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """A user's own flow: one request, one video in the bucket, whose provenance says who archived it."""
    script = installed.project / "my_flow.py"
    script.write_text(FLOW, encoding="utf-8")
    done = installed.run(
        str(script), PREFECT_API_URL=prefect_api, TOKEN=sandbox.token,
        SERVICE=sandbox.url, OUTPUT_HOST=sandbox.host, S3=object_store.endpoint_url, PREFIX=prefix,
        ACCESS_KEY=object_store.access_key, SECRET_KEY=object_store.secret_key,
    )  # fmt: skip
    uri, *modules = done.stdout.split()

    assert modules == [f"{PACKAGE}.tasks.submit_request", "runcomfy.values"]
    assert sandbox.books().submissions_accepted == 1
    key = uri.removeprefix(f"s3://videos/{prefix}/")
    assert key != uri
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    provenance = json.loads(store.read(store.key(f"{key}.json"), limit_bytes=2**20))
    assert provenance["uri"] == uri
    assert re.fullmatch(r"runcomfy-prefect/\d+\.\d+\.\d+", provenance["archiver"])


def test_the_command_is_installed(installed: Installed) -> None:
    """It is beside the interpreter, and finds the engine of the wheel."""
    done = installed.run(str(installed.python.with_name("prefect-runcomfy")), "--help")

    assert "text-to-video" in done.stdout


@pytest.mark.slow
def test_a_users_type_checker_sees_our_types(installed: Installed, tmp_path: Path) -> None:
    """Strictly, and without pydantic's plugin: what is right passes, and what is wrong is found."""
    files = {"right.py": FLOW, "wrong.py": WRONG}
    for name, source in files.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    installed.run("-m", "runcomfy", "init", str(tmp_path))
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed.python), *files, "flows"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = [line.partition(": error: ")[::2] for line in done.stdout.splitlines() if ": error: " in line]

    assert [place for place, _ in found] == ["wrong.py:7", "wrong.py:9"], done.stdout + done.stderr
    assert '"str"' in found[0][1] and "ArchivedVideo" in found[1][1]


@pytest.mark.slow
def test_tests_of_flows_pass_with_the_wheel(installed: Installed, tmp_path: Path) -> None:
    """The same tests, in which `flows`, `tasks` and `blocks` are the modules of the installed package."""
    for name in ("tests", "pyproject.toml", "deployments/demo.jpg"):
        source, to = ROOT / name, tmp_path / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, to)
    (tmp_path / "sitecustomize.py").write_text(ALIASES, encoding="utf-8")
    weed = Path(sysconfig.get_path("scripts")) / "weed"  # the S3 server is looked for beside the interpreter
    installed.python.with_name("weed").symlink_to(weed)
    project = Installed(installed.python, tmp_path)

    done = project.run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS_OF_FLOWS, "-k", NOT_AGAIN, PYTHONPATH=str(tmp_path)
    )

    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE) and "failed" not in done.stdout


def filled_in(example: str, values: Mapping[str, str]) -> str:
    """Return `.env.example` with values; a variable that is commented out there is one that it knows, too."""
    for name, value in values.items():
        example, count = re.subn(rf"^#?{name}=.*$", f"{name}={shlex.quote(value)}", example, flags=re.MULTILINE)
        assert count == 1, name
    return example


def variables_of(env: Path) -> dict[str, str]:
    """Return what a shell reads from `.env`, as `init` says how."""
    shell = ["env", "-i", "sh", "-c", "set -a; . ./.env; set +a; exec env -0"]
    read = subprocess.run(shell, cwd=env.parent, capture_output=True, text=True, check=True).stdout
    known = dict(line.split("=", 1) for line in read.split("\0") if line)
    return {name: value for name, value in known.items() if name.startswith(("PREFECT_", "AWS_", "RUNCOMFY_"))}


def until_it_answers(url: str, log: Path, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).is_success:
                return
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.2)


async def ends_of(api_url: str, orders: Mapping[str, dict[str, str]], seconds: float = 900) -> dict[str, str | None]:
    """Run deployments with these parameters at the same time; return the names of the states in which they end."""
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url}):
        async with get_client() as client, asyncio.timeout(seconds):
            found = {name: await client.read_deployment_by_name(f"{name}/{name}") for name in orders}
            runs = {
                name: await client.create_flow_run_from_deployment(found[name].id, parameters=parameters)
                for name, parameters in orders.items()
            }
            while True:
                states = {name: (await client.read_flow_run(run.id)).state for name, run in runs.items()}
                if all(state is not None and state.is_final() for state in states.values()):
                    return {name: state.name for name, state in states.items() if state is not None}
                await asyncio.sleep(0.3)


def warnings_in(*texts: str) -> list[str]:
    """Return Python's warnings, and Prefect's of a package that it cannot load; a busy Prefect logs WARNING as well."""
    return [line for text in texts for line in text.splitlines() if re.search(r"Warning\b", line)]


@pytest.mark.slow
def test_a_project_of_ones_own_runs_what_init_has_written(
    installed: Installed, editable: Installed, sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """Server, set-up, deployments by module, a worker: nothing warns, and doctor finds nothing broken."""
    script, project = str(installed.python.with_name("prefect-runcomfy")), installed.project
    installed.run(script, "init")
    (port,) = free_ports()
    example = (project / ".env.example").read_text(encoding="utf-8")
    values = {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "RUNCOMFY_WORK_POOL": "my pool",
        "RUNCOMFY_API_TOKEN": sandbox.token, "RUNCOMFY_BASE_URL": sandbox.url, "RUNCOMFY_OUTPUT_HOSTS": sandbox.host,
        "RUNCOMFY_BUCKET": f"s3://videos/{prefix}", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": object_store.endpoint_url, "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
    }  # fmt: skip
    (project / ".env").write_text(filled_in(example, values), encoding="utf-8")
    env = variables_of(project / ".env")
    prefect, ours = ("-m", "prefect"), f"{PACKAGE}.deployments"
    said = []

    def do(*arguments: str, by: Installed = installed) -> str:
        done = by.run(*arguments, **env)
        said.append(done.stdout + done.stderr)
        return done.stdout

    with installed.running(*prefect, "server", "start", "--port", str(port), **env) as server:
        until_it_answers(f"{values['PREFECT_API_URL']}/health", server)
        do("-m", f"{ours}.setup", "--no-prompt")
        do(*prefect, "block", "register", "-m", f"{PACKAGE}.blocks")
        do(*prefect, "block", "register", "-m", "blocks", by=editable)
        do(*prefect, "worker", "start", "--run-once", "--pool", "my pool")
        do(*prefect, "worker", "start", "--run-once", "--pool", "my pool", by=editable)
        do(*prefect, "--no-prompt", "deploy", "-n", "my-video", "-n", "text-to-video", "-n", "reconcile")
        do("-m", f"{ours}.setup", "--no-prompt", "--automations")
        with installed.running("-m", f"{ours}.worker", "--pool", "my pool", **env) as worker:
            moving = {"prompt": "It begins to move"}
            orders = {"my-video": moving | {"image": str(ROOT / "deployments" / "demo.jpg")}, "text-to-video": moving}
            assert asyncio.run(ends_of(values["PREFECT_API_URL"], orders)) == dict.fromkeys(orders, "Completed")
            named = ("--credentials-block", "runcomfy", "--store-block", "videos")
            found = do("-m", f"{ours}.doctor", *named)
        said += [server.read_text(encoding="utf-8"), worker.read_text(encoding="utf-8")]

    assert warnings_in(*said) == []
    assert re.search(r"deployments: 3: my_video, reconcile, text_to_video$", found, re.MULTILINE)
    assert re.search(r"automations: .* a crash starts reconcile$", found, re.MULTILINE)
    assert sandbox.books().submissions_accepted == 2
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    keys = [listed.key for listed in store.list(store.key("wan-ai/"))]
    assert sorted(key.rpartition(".")[2] for key in keys) == ["jpg", "jpg", "json", "json", "mp4", "mp4"]
