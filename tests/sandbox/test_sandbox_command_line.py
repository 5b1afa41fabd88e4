from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from runcomfy.sandbox import FAULTS
from runcomfy.sandbox.faults import ENDPOINTS

PAGE = Path(__file__).parents[2] / "docs" / "sandbox.md"
COMMAND = [sys.executable, "-m", "runcomfy.sandbox"]


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen([*COMMAND, "serve", "--port", "0", *arguments], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.terminate()
            process.communicate(timeout=300)


def url_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", text)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(number: signal.Signals) -> None:
    """The command prints URL and token, logs calls without the token, and ends with 0 on SIGINT and SIGTERM."""
    with served("--token", "other-token", "--fault", "http_503:balance") as (process, hello):
        headers = {"Authorization": "Bearer other-token"}
        answer = httpx.get(f"{url_in(hello)}/prod/v2/balance?x=y", headers=headers, trust_env=False)
        process.send_signal(number)
        _, log = process.communicate(timeout=300)

    assert "other-token" in hello
    assert answer.status_code == 503
    assert "GET /prod/v2/balance 503" in log
    assert "other-token" not in log
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("sh") is None or shutil.which("curl") is None, reason="there is no shell or curl")
def test_the_printed_curl_lines_can_be_pasted() -> None:
    """The first line that the command prints for copying submits a request."""
    with served("--tiny-videos") as (process, hello):
        assert process.stdout is not None
        lines = "".join(process.stdout.readline() for _ in range(3)).strip()
        done = subprocess.run(["sh", "-c", lines], capture_output=True, text=True, timeout=300, env={"NO_PROXY": "*"})
        books = httpx.get(f"{url_in(hello)}/sandbox/books", trust_env=False).json()

    assert "request_id" in done.stdout
    assert books["submissions_accepted"] == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["--fault", "none"], "no fault"), (["--fault", "html=often"], "NAME"), (["--slots", "0"], "slots")],
)
def test_the_command_says_why_it_cannot_start(arguments: list[str], why: str) -> None:
    """A setting that does not fit ends the command with one sentence, and no traceback."""
    done = subprocess.run([*COMMAND, "--port", "0", *arguments], capture_output=True, text=True, timeout=300)

    assert done.returncode != 0
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_help_does_not_load_the_heavy_libraries() -> None:
    """The help does not wait for the web server, the encoder or the image library."""
    code = "import sys, runcomfy.sandbox.__main__; print([n for n in ('aiohttp', 'av', 'PIL') if n in sys.modules])"

    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300).stdout.strip() == "[]"
    )


def test_every_fault_is_listed_by_the_command() -> None:
    """`faults` names every fault of the catalogue."""
    done = subprocess.run([*COMMAND, "faults"], capture_output=True, text=True, timeout=300, env={"COLUMNS": "250"})

    listed = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert listed >= FAULTS.keys()


def test_the_page_lists_exactly_the_faults_of_the_catalogue() -> None:
    """The table of faults on the page is the catalogue, word for word."""
    names = {ENDPOINTS: "everywhere", tuple(name for name in ENDPOINTS if name != "output"): "all but output"}
    expected = [
        f"| `{fault.name}` | {fault.about} | {names.get(fault.endpoints, ', '.join(fault.endpoints))} | {fault.scope} |"
        for fault in FAULTS.values()
    ]
    page = PAGE.read_text(encoding="utf-8")

    table = page[page.index("| fault | what happens") : page.index("The same table")]
    assert expected == table.strip().splitlines()[2:]


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    """The pytest example on the page passes as it stands."""
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (tmp_path / "test_example.py").write_text(example[1])

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert "1 passed" in done.stdout, done.stdout
