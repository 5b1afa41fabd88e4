"""Without its extras, the package does everything that is paid for, and says what to install for the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from runcomfy.errors import ConfigurationError
from runcomfy.extras import needed
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.bare import program_without_extras
from tests.prefect_server import MANY_RETRIES

ROOT = Path(__file__).parents[1]
BEHIND_AN_EXTRA = (
    "runcomfy.catalogue.columns", "runcomfy.catalogue.gathering", "runcomfy.catalogue.partitions",
    "runcomfy.catalogue.rows", "runcomfy.catalogue.updating", "runcomfy.manifest.excel", "runcomfy.manifest.parquet",
    "runcomfy.report.drawing",
    "runcomfy.report.plots",
)  # fmt: skip
EVERY_MODULE = """
import importlib, json, pathlib
names = [
    ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    for folder in ("runcomfy", "blocks", "tasks", "flows", "deployments", "prefect_runcomfy")
    for path in sorted(pathlib.Path(folder).rglob("*.py")) if "monitoring" not in path.parts
]
missing = {}
for name in names:
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing[name] = error.name
import prefect_runcomfy
for name in prefect_runcomfy.__all__:
    getattr(prefect_runcomfy, name)
print(json.dumps([len(names), missing]))
"""
COMMANDS = """
import json
from runcomfy.cli.__main__ import main
for words in json.loads(sys.argv[1]):
    print(main(words), file=sys.stderr, flush=True)
"""
FLOWS = """
import asyncio, os
from pathlib import Path
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.catalogue import catalogue
from flows.text_to_video import text_to_video
from runcomfy.errors import ConfigurationError
from runcomfy.policy import Polling

env = os.environ
account = RunComfyCredentials(api_token=env["TOKEN"], base_url=env["SERVICE"], output_hosts=[env["OUTPUT_HOST"]])
keys = AwsCredentials(
    aws_access_key_id=env["ACCESS_KEY"], aws_secret_access_key=env["SECRET_KEY"], region_name="us-east-1",
    aws_client_parameters=AwsClientParameters(endpoint_url=env["S3"]),
)
store = MediaStore(bucket="videos", prefix=env["PREFIX"], credentials=keys)
quick = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)

async def main():
    made = await text_to_video("rain", account, store, polling=quick)
    print(len(made.videos))
    for name in ("rows.csv", "rows.jsonl"):
        report = await batch(name, account, store, polling=quick)
        print(report.archived)
    for refused in (batch("rows.parquet", account, store, polling=quick), catalogue(store)):
        try:
            await refused
        except ConfigurationError as error:
            print(error)

asyncio.run(main())
"""


def run(program: str, *arguments: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program where no extra is installed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNCOMFY_", "AWS_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-c", program_without_extras() + program, *arguments],
        cwd=folder, env=kept | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def missing(what: str, name: str, extra: str) -> str:
    return f'{what} needs {name}, which is not installed: run `pip install "prefect-runcomfy[{extra}]"`.'


@pytest.mark.slow
def test_only_what_needs_an_extra_cannot_be_imported() -> None:
    """Every flow and task loads without any, so that all deployments can be made and served."""
    done = run(EVERY_MODULE)
    assert done.returncode == 0, done.stderr
    count, missing = json.loads(done.stdout.splitlines()[-1])

    assert count > 250
    assert sorted(missing) == sorted(BEHIND_AN_EXTRA)
    assert set(missing.values()) <= {"altair", "jinja2", "openpyxl", "pyarrow", "pyarrow.compute", "vl_convert"}


def test_a_command_says_in_one_sentence_what_to_install(tmp_path: Path) -> None:
    """With the exit code of a missing setting, and before it asks the service or the bucket for anything."""
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    where = ("--bucket", "s3://videos")
    commands = {
        ("catalogue", *where): missing("The catalogue", "pyarrow", "parquet"),
        ("report", *where): missing("A report", "altair", "report"),
        ("batch", str(tmp_path / "rows.parquet"), *where): missing("A Parquet manifest", "pyarrow", "parquet"),
    }  # fmt: skip
    done = run(
        COMMANDS, json.dumps(list(commands)), RUNCOMFY_API_TOKEN="token-of-nobody", RUNCOMFY_BASE_URL="http://127.0.0.1:9",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:9", AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret",
    )  # fmt: skip

    said = done.stderr
    assert said.split("\n3\n")[:-1] == [
        f"ConfigurationError: {sentence}" + ("\n  Nothing was paid for." if words[0] == "batch" else "")
        for words, sentence in commands.items()
    ], said


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModuleNotFoundError("No module named 'pyarrow.lib'", name="pyarrow.lib"), "needs pyarrow, which is not"),
        (ImportError("libarrow.so: cannot open shared object", name="pyarrow.lib"), "pyarrow, which cannot be"),
        (ImportError("libstdc++.so.6: version not found"), "a package, which cannot be loaded"),
    ],
)  # fmt: skip
def test_a_package_that_cannot_be_loaded_is_a_missing_setting(error: ImportError, sentence: str) -> None:
    """Whether it is not there, half there, or made for another machine."""
    said = pytest.raises(ConfigurationError, match=r'pip install "prefect-runcomfy\[parquet\]"')
    with said as raised, needed("parquet", "A table"):
        raise error

    assert sentence in raised.value.message


def test_a_fault_of_our_own_is_not_taken_for_a_missing_package() -> None:
    """A module of ours that does not exist stays what it is."""
    with pytest.raises(ModuleNotFoundError), needed("parquet", "A table"):
        raise ModuleNotFoundError("No module named 'runcomfy.missing'", name="runcomfy.missing")


def test_all_is_everything_that_there_is_to_use() -> None:
    """Each extra, but what is for work on this project; each that a sentence names exists."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])

    assert everything.extras == extras.keys() - {"all", "bench", "dev"}


@pytest.mark.slow
def test_flows_run_without_extras(
    prefect_api: str, sandbox: Sandbox, object_store: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    """Everything that is paid for works; what needs pyarrow is refused before anything is paid for."""
    (tmp_path / "rows.csv").write_text("prompt\nsnow\nhail\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "sleet"}\n', encoding="utf-8")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    done = run(
        FLOWS, folder=tmp_path, PREFECT_API_URL=prefect_api, **MANY_RETRIES,
        TOKEN=sandbox.token, SERVICE=sandbox.url, OUTPUT_HOST=sandbox.host, S3=object_store.endpoint_url, PREFIX=prefix,
        ACCESS_KEY=object_store.access_key, SECRET_KEY=object_store.secret_key,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "1", "2", "1",
        missing("A Parquet manifest", "pyarrow", "parquet"), missing("The catalogue", "pyarrow", "parquet"),
    ]  # fmt: skip
    assert sandbox.books().submissions_accepted == 4
