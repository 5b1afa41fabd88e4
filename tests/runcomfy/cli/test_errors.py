"""What goes wrong, as a person sees it: what happened, whether it was paid for, what to paste; and no traceback."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runcomfy.cli import app as commands
from runcomfy.cli.__main__ import main
from runcomfy.sandbox import Sandbox
from tests.runcomfy.cli.command_line import ROOT, CommandLine

IMAGE = str(ROOT / "deployments" / "demo.jpg")
NOWHERE = "http://127.0.0.1:9"
KEY = "0123456789ab"


@dataclass(frozen=True)
class Case:
    """A command that cannot succeed."""

    name: str
    words: tuple[str, ...]
    code: int
    said: tuple[str, ...]
    environment: dict[str, str | None] = field(default_factory=dict)
    bucket: bool = True
    """Whether it is given the test's bucket."""


def image(name: str, file: str, *said: str, code: int = 2) -> Case:
    return Case(name, ("image-to-video", file, "a boat"), code, (*said, "Nothing was paid for."))


def text(
    name: str, *options: str, code: int, said: tuple[str, ...], bucket: bool = True, **changed: str | None
) -> Case:
    return Case(name, ("text-to-video", "rain", *options), code, said, changed, bucket)


BEFORE_PAYING = [
    image("no such file", "nofile.jpg", "There is no file nofile.jpg"),
    image("a folder", "FOLDER", "is a folder"),
    image("a text named .png", "FOLDER/text.png", "not an image"),
    image("an empty file", "FOLDER/empty.png", "empty"),
    image("a cut image", "FOLDER/cut.jpg", "damaged or cut"),
    image("a file that may not be named so", "file://elsewhere/x.png", "file:///"),
    image("a URL of no use", "ftp://example.com/x.png", "cannot be read from ftp:"),
    image("a URL of this machine", f"{NOWHERE}/x.png", "private address"),
    image("no such object", "s3://images/no-such-object.png", "There is no object"),
    image("an object without a key", "s3://images", "s3://bucket/key"),
    text("a wrong setting", "--num-frames", "3", code=2, said=("--num-frames: ",)),
    text("two wrong settings", "--num-frames", "3", "--seed", "x", code=2, said=("--num-frames: ", "--seed: ")),
    text("an unknown option", "--frames", "81", code=2, said=("--frames", "Try --help")),
    text("a deadline of nothing", "--queue-timeout-seconds", "0", code=2, said=("--queue-timeout-seconds",)),
    Case("an empty prompt", ("text-to-video", ""), 2, ("prompt",)),
    Case("no prompt", ("text-to-video",), 2, ("PROMPT",)),
    Case("an unknown command", ("make-video",), 2, ("make-video",), bucket=False),
    text("no bucket", code=2, said=("--bucket",), bucket=False),
    text("an empty bucket", code=3, said=("No bucket is named",), bucket=False, RUNCOMFY_BUCKET=""),
    text("a variation of another encoding", "--variation", "caf\udce9", code=2, said=("caf\\xe9", "not valid Unicode")),
    text("a bucket that is a URL", "--bucket", "https://x/y", code=3, said=("--bucket takes",), bucket=False),
    text("a bucket without a name", "--bucket", "s3:///x", code=3, said=("--bucket takes",), bucket=False),
    text("no token", code=3, said=("RUNCOMFY_API_TOKEN", "Nothing was paid for."), RUNCOMFY_API_TOKEN=None),
    text(
        "a short token", code=3, said=("too short to be one", "Nothing was sent or paid for."), RUNCOMFY_API_TOKEN="abc"
    ),
    text("a refused token", code=4, said=("RUNCOMFY_API_TOKEN", "paid for: No."), RUNCOMFY_API_TOKEN="wrong-token"),
    text("no base URL", code=3, said=("http",), RUNCOMFY_BASE_URL="model-api"),
    text("no host", code=3, said=("RUNCOMFY_OUTPUT_HOSTS",), RUNCOMFY_OUTPUT_HOSTS="https://x/*"),
    text("no such journal", "--journal", "nowhere", code=3, said=("journal is 'bucket'",)),
    text("an unknown field of a key", "--archive-key", "{x}", code=3, said=("--archive-key",)),
    text(
        "a folder of another purpose",
        "--archive-key",
        "journal/{request_id}-{index}.{ext}",
        code=3,
        said=("other things",),
    ),
    text("a service that is away", code=11, said=("could not be reached", "paid for: No."), RUNCOMFY_BASE_URL=NOWHERE),
    text("a store that is away", code=12, said=("paid for: Not by this run",), AWS_ENDPOINT_URL_S3=NOWHERE),
    text("no such bucket", "--bucket", "no-such-bucket", code=12, said=("no such bucket",), bucket=False),
    text("a wrong key", code=12, said=("paid for: Not by this run",), AWS_SECRET_ACCESS_KEY="wrong"),
    Case("no manifest", ("batch", "no.csv"), 2, ("no.csv does not exist", "Nothing was paid for.")),
    Case("a manifest by no name", ("batch", IMAGE), 2, ("not have the extension of a manifest",)),
    Case("a bad manifest", ("batch", "FOLDER/bad.csv"), 2, ("nothing was paid for", "line 3: num_frames")),
    Case("a budget without a price", ("batch", "FOLDER/good.csv", "--budget-usd", "1"), 3, ("usd_per_video",)),
    Case("none at once", ("batch", "FOLDER/bad.csv", "--at-once", "0"), 2, ("--at-once",)),
    Case("no folder of an inbox", ("inbox", "images"), 3, ("s3://",)),
    Case("an unknown model", ("fetch", "x", "--model", "sora"), 2, ("--model",)),
    Case("a request without a model", ("fetch", "x"), 2, ("--model", "prefect-runcomfy fetch x")),
    Case("an unknown request", ("status", "no-such-request"), 10, ("does not know",), bucket=False),
    Case("an unknown generation", ("journal", "show", KEY), 3, (KEY,)),
    Case("a key that is too short", ("journal", "show", "01"), 3, ("eight",)),
    Case("a state that there is not", ("journal", "list", "--state", "lost"), 2, ("--state",)),
    Case("no person to ask", ("journal", "release", KEY), 3, (KEY,)),
    Case("a journal of no process", ("journal", "list", "--journal", "none"), 3, ("nothing to show",)),
    Case("nothing to reconcile", ("reconcile", "--journal", "none"), 3, ("nothing to reconcile",)),
]


PAID_OR_NOT = re.compile(r"nothing was[^.]* paid for|paid for:", re.IGNORECASE)
PATIENT = ("a service that is away", "a store that is away")  # they are retried for half a minute


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case.name in PATIENT else ()) for case in BEFORE_PAYING],
    ids=[case.name for case in BEFORE_PAYING],
)
def test_an_error_before_paying_takes_three_lines_at_most(
    command_line: CommandLine, sandbox: Sandbox, tmp_path: Path, case: Case
) -> None:
    """With the exit code that it has for scripts; stdout is empty, and nothing is submitted."""
    (tmp_path / "text.png").write_text("This is no image.")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.jpg").write_bytes((ROOT / "deployments" / "demo.jpg").read_bytes()[:5000])
    (tmp_path / "bad.csv").write_text("prompt,num_frames\nrain,81\nsnow,3\n")
    (tmp_path / "good.csv").write_text("prompt\nrain\n")
    words = [word.replace("FOLDER", str(tmp_path)) for word in case.words]
    where = ("--bucket", command_line.bucket) if case.bucket else ()

    done = command_line.run(*words, *where, code=case.code, **case.environment)

    lines = [line for line in done.stderr.splitlines() if not line[:2].isdecimal()]  # without the log
    assert 1 <= len(lines) <= 3, done.stderr
    assert len(PAID_OR_NOT.findall(" ".join(lines))) <= 1, done.stderr  # said once, if at all
    for words_of_it in case.said:
        assert words_of_it in done.stderr
    assert (done.stdout, "Traceback" in done.stderr) == ("", False)
    assert sandbox.books().submissions_accepted == 0


@pytest.mark.parametrize(
    ("fault", "options", "code", "paid", "command"),
    [
        ("stuck_running", ("--run-timeout-seconds", "0.5"), 6, "It may be", "fetch {id} --model text-to-video"),
        ("stuck_in_queue", ("--queue-timeout-seconds", "0.5"), 7, "Not known", None),
        ("failed", (), 8, "Yes, RunComfy says 0.25 USD", None),
        ("lost_answer", (), 9, "Perhaps", "journal adopt {key} REQUEST_ID"),
        pytest.param(
            "truncated",
            (),
            13,
            "Yes, and the video was made",
            "fetch {id} --model text-to-video",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_error_after_paying_says_so_and_what_to_paste(
    command_line: CommandLine, sandbox: Sandbox, fault: str, options: tuple[str, ...], code: int, paid: str,
    command: str | None,
) -> None:  # fmt: skip
    """The whole command, with the bucket, on a line of its own."""
    rate = {"rate": 1.0} if fault == "truncated" else {}
    sandbox.inject(fault, **({"endpoint": "submit"} if fault == "lost_answer" else {}), **rate)

    done = command_line.run("text-to-video", "rain", "--bucket", command_line.bucket, *options, code=code)

    assert f"  paid for: {paid}" in done.stderr and "Traceback" not in done.stderr
    if command is not None:
        (request,) = sandbox.books().requests
        (line,) = [
            line
            for line in done.stderr.splitlines()
            if line.startswith(f"    prefect-runcomfy {command.partition('{')[0]}")
        ]
        words = line.split()
        assert words[-2:] == ["--bucket", command_line.bucket]
        if "{id}" in command:
            told = f"prefect-runcomfy {command.format(id=request.id)} --bucket {command_line.bucket}"
            assert line.strip() == told


def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And where to find out more; `--verbose` shows the traceback, at any position."""

    def broken() -> None:
        raise LookupError("a key that\nis not there")

    monkeypatch.setattr(commands.environment, "client", broken)

    assert main(["status", "x"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "LookupError: a key that is not there",
        "  This is a fault of the program: run it again with --verbose for the traceback.",
    ]
    assert main(["status", "--verbose", "x"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("Traceback") and "LookupError" in said.err and "run it again" not in said.err
    assert main(["--verbose", "status", "x", "--json"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("Traceback") and '"exit_code": 1' in said.out


def test_an_error_of_ours_has_its_traceback_with_verbose_only(
    command_line: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    """And all its facts."""
    words = ("balance",)
    changed = {"RUNCOMFY_API_TOKEN": "wrong-token"}

    quiet = command_line.run(*words, code=4, **changed).stderr
    loud = command_line.run(*words, "--verbose", code=4, **changed).stderr

    assert "Traceback" not in quiet and "error code: " not in quiet
    assert loud.count("Traceback") >= 1 and "  error code: 400004" in loud
    assert "wrong-token" not in loud
