"""`prefect-runcomfy` as a process of its own: what it prints, where, and the exit code that it ends with."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from runcomfy import errors
from runcomfy.cli.output import EXIT_CODES
from runcomfy.models import TEXT_TO_VIDEO
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.runcomfy.cli.command_line import ROOT, CommandLine, one_object
from tests.runcomfy.journal.making import accepted_elsewhere

IMAGE = str(ROOT / "deployments" / "demo.jpg")
NOWHERE = "http://127.0.0.1:9"


def exists(object_store: ObjectStore, uri: str) -> bool:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    return bool(client.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"))


# What it makes


def test_an_image_and_settings_become_a_video_and_a_readable_summary(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore
) -> None:
    """Each URI is whole, on a line of its own, so that it can be copied; the log is not on stdout."""
    settings = [
        "--resolution",
        "480p",
        "--num-frames",
        "90",
        "--frames-per-second",
        "24",
        "--seed",
        "7",
        "--no-enable-prompt-expansion",
    ]
    others = ["--num-inference-steps", "30", "--enable-safety-checker"]

    done = command_line.run("image-to-video", IMAGE, "a boat", "--bucket", command_line.bucket, *settings, *others)

    (request,) = sandbox.books().requests
    assert {name: value for name, value in request.inputs.items() if name not in ("prompt", "image_url")} == {
        "resolution": "480p",
        "num_frames": 90,
        "frames_per_second": 24,
        "seed": 7,
        "enable_prompt_expansion": False,
        "num_inference_steps": 30,
        "enable_safety_checker": True,
    }
    shown = dict(line.strip().split("  ", 1) for line in done.stdout.splitlines() if "  " in line.strip())
    assert shown["request id"].strip() == request.id
    video, provenance = shown["video"].strip(), shown["provenance"].strip()
    assert video == f"{command_line.bucket}/wan-ai/wan-2-1/image-to-video/{request.id}-0.mp4"
    assert exists(object_store, video)
    assert exists(object_store, provenance)
    assert "90 frames" in shown["size"]
    assert f"Request {request.id} was accepted" in done.stderr
    assert "accepted" not in done.stdout


def test_a_prompt_and_settings_become_a_video_and_one_json_object(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore
) -> None:
    """With `--json` a script can read stdout as it is, and archives where `--archive-key` says."""
    settings = [
        "--resolution",
        "580p",
        "--aspect-ratio",
        "9:16",
        "--num-frames",
        "97",
        "--frames-per-second",
        "10",
        "--seed",
        "3",
    ]

    done = command_line.text_to_video(*settings, "--archive-key", "{prompt}/{request_id}-{index}.{ext}", "--json")

    (request,) = sandbox.books().requests
    printed = one_object(done)
    (video,) = printed["videos"]
    assert printed["request_id"] == request.id
    assert video["uri"] == f"{command_line.bucket}/rain/{request.id}-0.mp4"
    assert (video["media"]["frames"], video["media"]["frames_per_second"]) == (97, 10.0)
    assert exists(object_store, video["uri"])
    assert request.inputs == {
        "prompt": "rain",
        "resolution": "580p",
        "aspect_ratio": "9:16",
        "num_frames": 97,
        "frames_per_second": 10,
        "seed": 3,
        "enable_prompt_expansion": True,
    }
    assert f"Archived {video['uri']}" in done.stderr


def test_a_finished_request_is_fetched_by_its_id(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore
) -> None:
    """Nothing is submitted for it."""
    request_id = accepted_elsewhere(sandbox)
    sandbox.wait_for_end(request_id)

    done = command_line.run("fetch", request_id, "--model", "text-to-video", "--bucket", command_line.bucket, "--json")

    (video,) = one_object(done)["videos"]
    assert video["uri"] == f"{command_line.bucket}/{TEXT_TO_VIDEO}/{request_id}-0.mp4"
    assert exists(object_store, video["uri"])
    assert sandbox.books().submissions_accepted == 1


def test_a_requests_state_is_shown(command_line: CommandLine, sandbox: Sandbox) -> None:
    """Where it is while it waits; how it ended, and what it cost, afterwards; the same for a person and a script."""
    sandbox.hold()
    request_id = accepted_elsewhere(sandbox)
    waiting = one_object(command_line.run("status", request_id, "--json"))
    sandbox.release()
    sandbox.wait_for_end(request_id)

    ended = one_object(command_line.run("status", request_id, "--json"))
    shown = command_line.run("status", request_id).stdout

    assert (waiting["state"], waiting["cost_usd"]) == ("in_queue", None)
    assert (ended["state"], ended["outputs"], ended["cost_usd"]) == ("succeeded", 1, 0.25)
    assert request_id in shown
    assert "succeeded" in shown
    assert "None" not in shown


def test_a_queued_request_is_cancelled(command_line: CommandLine, sandbox: Sandbox) -> None:
    """And one that cannot be cancelled any more ends with the exit code of a request that may be billed."""
    sandbox.hold()
    request_id = accepted_elsewhere(sandbox)
    sandbox.release()
    sandbox.wait_for_end(request_id)
    sandbox.hold()
    queued = accepted_elsewhere(sandbox)

    cancelled = one_object(command_line.run("cancel", queued, "--json"))
    refused = command_line.run("cancel", request_id, code=6)

    assert cancelled == {"request_id": queued, "outcome": "cancelled"}
    assert sandbox.books().cancelled == 1
    assert "cannot be cancelled any more" in refused.stderr


def test_the_balance_is_shown(command_line: CommandLine, sandbox: Sandbox) -> None:
    """As a number in USD."""
    assert one_object(command_line.run("balance", "--json")) == {"balance_usd": sandbox.books().balance_usd}
    assert (
        "balance usd  1000.0"
        in command_line.run("balance", RUNCOMFY_API_TOKEN=None, RUNCOMFY_TOKEN=sandbox.token).stdout
    )


# What it says about itself


@pytest.mark.parametrize(("command", "schema"), [("image-to-video", "image"), ("text-to-video", "text")])
def test_help_lists_every_setting(command_line: CommandLine, command: str, schema: str) -> None:
    """Each property of the model's published schema is an argument or an option."""
    contract = json.loads((ROOT / f"tests/contract/wan-2-1-{schema}-to-video.input.json").read_text(encoding="utf-8"))

    shown = command_line.run(command, "--help").stdout

    options = {f"--{name.replace('_', '-')}" for name in contract["properties"]} - {"--prompt", "--image-url"}
    assert {option for option in options if option not in shown} == set()
    assert "PROMPT" in shown


def test_help_lists_every_exit_code(command_line: CommandLine) -> None:
    """Each on a line of its own."""
    lines = [line.split(maxsplit=1) for line in command_line.run("--help").stdout.splitlines()]

    listed = {int(words[0]) for words in lines if len(words) == 2 and words[0].isdecimal()}
    assert listed == {0, 1, 130, 143} | {code for _, code, _ in EXIT_CODES}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["image-to-video", "--help"], ["balance"], ["status", "x"], ["cancel", "x"]],
    ids=" ".join,
)
def test_commands_that_need_no_prefect_do_not_load_it(command_line: CommandLine, arguments: list[str]) -> None:
    """Loading it takes seconds."""
    loaded = command_line.modules(*arguments)

    assert "runcomfy" in loaded
    assert "prefect" not in loaded


# What it ends with


def test_2_for_settings_that_the_model_does_not_take(command_line: CommandLine, sandbox: Sandbox) -> None:
    """Every violation is named as the option that it was given with, for a person and for a script."""
    wrong = ["--num-frames", "101", "--frames-per-second", "99", "--seed", "lucky", "--resolution", "4k"]

    done = command_line.text_to_video(*wrong, code=2)
    printed = one_object(command_line.text_to_video(*wrong, "--json", code=2))

    for option in ("--num-frames", "--frames-per-second", "--seed", "--resolution"):
        assert f"{option}: " in done.stderr
        assert f"{option}: " in printed["message"]
    assert done.stdout == ""
    assert (printed["error"], printed["exit_code"], len(printed["violations"])) == ("InvalidInput", 2, 4)
    assert sandbox.books().submissions_received == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["text-to-video", "rain"], "--bucket"),
        (["text-to-video", "rain", "--bucket", "videos", "--num-frame", "81"], "--num-frame"),
        (["text-to-video", "--bucket", "videos"], "PROMPT"),
        (["text-to-video", "rain", "--bucket", "videos", "--aspect-ratio", "1:1"], "--aspect-ratio"),
        (["text-to-video", "rain", "--bucket", "videos", "--queue-timeout-seconds", "0"], "--queue-timeout-seconds"),
        (["text-to-video", "rain", "--bucket", "videos", "--run-timeout-seconds", "nan"], "--run-timeout-seconds"),
        (["fetch", "x", "--model", "sora", "--bucket", "videos"], "--model"),
        (["make-video"], "make-video"),
    ],
)
def test_2_for_a_command_that_cannot_be_understood(command_line: CommandLine, arguments: list[str], named: str) -> None:
    """What is wrong is named, and there is no traceback."""
    done = command_line.run(*arguments, code=2)

    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "changed", "named"),
    [
        ([], {"RUNCOMFY_API_TOKEN": None}, "RUNCOMFY_API_TOKEN"),
        (["--bucket", "https://example.com/videos"], {}, "--bucket"),
        (["--bucket", "s3://"], {}, "--bucket"),
        (["--archive-key", "{nonsense}"], {}, "--archive-key: The key template"),
        (["--archive-key", "journal/{request_id}-{index}.{ext}"], {}, "kept for other things"),
    ],
)
def test_3_for_a_setting_that_is_missing_or_wrong(
    command_line: CommandLine, arguments: list[str], changed: dict[str, str | None], named: str
) -> None:
    """The setting is named, and there is no traceback."""
    done = command_line.text_to_video(*arguments, code=3, **changed)

    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_3_without_a_token_also_where_no_flow_runs(command_line: CommandLine) -> None:
    """The same sentence, from the commands that need no Prefect."""
    assert "RUNCOMFY_API_TOKEN" in command_line.run("balance", code=3, RUNCOMFY_API_TOKEN=None).stderr


def test_4_for_a_wrong_token(command_line: CommandLine) -> None:
    """The token that was tried is not repeated."""
    done = command_line.run("balance", code=4, RUNCOMFY_API_TOKEN="wrong-5f2a")

    assert "AuthenticationError" in done.stderr
    assert "wrong-5f2a" not in done.stderr


def test_10_for_an_unknown_request(command_line: CommandLine) -> None:
    """As one JSON object on stdout where that was asked for, and nothing else on stderr."""
    done = command_line.run("status", "no-such-request", "--json", code=10)

    assert one_object(done)["error"] == "RequestNotFound"
    assert done.stderr == ""


def test_11_for_a_service_that_cannot_be_reached(command_line: CommandLine) -> None:
    """A read is tried again only by the person who runs the command."""
    assert "could not be reached" in command_line.run("balance", code=11, RUNCOMFY_BASE_URL=NOWHERE).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "options", "changed", "code", "kind"),
    [
        ("", [], {"RUNCOMFY_API_TOKEN": "wrong-token"}, 4, errors.AuthenticationError),
        ("error_400002", [], {}, 5, errors.InsufficientBalance),
        ("stuck_running", ["--run-timeout-seconds", "0.5"], {}, 6, errors.RunTimeout),
        ("stuck_in_queue", ["--queue-timeout-seconds", "0.5"], {}, 7, errors.QueueTimeout),
        ("failed", [], {}, 8, errors.GenerationFailed),
        ("lost_answer", [], {}, 9, errors.UncertainSubmission),
        ("", [], {"RUNCOMFY_BASE_URL": NOWHERE}, 11, errors.SubmissionNotSent),
        ("", ["--bucket", "s3://no-such-bucket/x"], {}, 12, errors.StorageError),
        ("truncated", [], {}, 13, errors.DownloadError),
    ],
)
def test_a_run_that_fails_ends_with_the_code_of_its_error(
    command_line: CommandLine,
    sandbox: Sandbox,
    fault: str,
    options: list[str],
    changed: dict[str, str | None],
    code: int,
    kind: type[errors.RunComfyError],
) -> None:
    """Stdout is one object that names the error, and the request if there is one."""
    if fault in ("error_400002", "lost_answer"):
        sandbox.inject(fault, endpoint="submit")
    elif fault == "truncated":
        sandbox.inject(fault, rate=1.0)
    elif fault:
        sandbox.inject(fault)

    printed = one_object(command_line.text_to_video(*options, "--json", code=code, **changed))

    books = sandbox.books()
    assert (printed["error"], printed["exit_code"]) == (kind.__name__, code)
    assert books.submissions_accepted == (1 if code in (6, 7, 8, 9, 13) else 0)
    if code in (6, 7, 8, 13):
        assert printed["request_id"] == books.requests[0].id
    assert books.cancelled == (1 if code == 7 else 0)


@pytest.mark.slow
def test_10_and_6_for_a_request_that_cannot_be_fetched(command_line: CommandLine, sandbox: Sandbox) -> None:
    """Unknown, and not finished yet, are distinguished."""
    sandbox.hold()
    queued = accepted_elsewhere(sandbox)
    rest = ("--model", "text-to-video", "--bucket", command_line.bucket)

    assert "RequestNotFound" in command_line.run("fetch", "no-such-request", *rest, code=10).stderr
    assert "NotFinished" in command_line.run("fetch", queued, *rest, code=6).stderr


@pytest.mark.parametrize("running", [False, True])
def test_130_and_the_state_of_the_request_for_ctrl_c(
    command_line: CommandLine, sandbox: Sandbox, running: bool
) -> None:
    """Stopping the command cancels the request as well; a running one is named, with how to fetch it."""
    sandbox.hold(queue=not running, runs=True)
    with command_line.start("text-to-video", "rain", "--bucket", command_line.bucket) as process:
        deadline = time.monotonic() + 300
        while sandbox.books().polls < 1:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, log = process.communicate(timeout=300)

    books = sandbox.books()
    request_id = books.requests[0].id
    assert process.returncode == 130, log
    assert (books.cancelled, books.submissions_accepted) == (0 if running else 1, 1)
    assert (printed, log.count("Traceback")) == ("", 0)
    *_, told = log.partition("Interrupted. ")
    assert told.startswith(f"Request {request_id} is {'detached' if running else 'cancelled'}.")
    fetch = f"prefect-runcomfy fetch {request_id} --model text-to-video --bucket {command_line.bucket}"
    assert (fetch in told) is running


@pytest.mark.slow
def test_a_batch_that_is_stopped_names_what_stopped_it_and_does_not_advise_to_run_it_again(
    command_line: CommandLine, sandbox: Sandbox, tmp_path: Path
) -> None:
    """By its budget with an exit code of its own; what failed alike is one of those that are incomplete."""
    manifest = tmp_path / "rows.csv"
    manifest.write_text("prompt\n" + "\n".join(f"scene {number}" for number in range(4)))
    words = ("batch", str(manifest), "--bucket", command_line.bucket, "--json")

    done = command_line.run(*words, "--budget-usd", "0.5", "--usd-per-video", "0.25", code=3)
    budget = json.loads((done.stdout or done.stderr).splitlines()[-1])
    assert (budget["error"], budget["stopped_by"]) == ("BudgetReached", "BudgetReached")
    assert (budget["counts"], budget["cost_usd"]) == ({"archived": 2, "not_started": 2}, 0.5)
    assert "again" not in budget["message"]
    assert sandbox.books().usd_charged == 0.5

    sandbox.inject("failed", rate=1.0)
    done = command_line.run(*words, "--stop-after-alike", "1", "--at-once", "1", code=14)
    alike = json.loads((done.stdout or done.stderr).splitlines()[-1])
    assert (alike["error"], alike["stopped_by"]) == ("BatchIncomplete", "CommonCause")
    assert alike["counts"] == {"existing": 2, "failed": 1, "not_started": 1}
    assert "same manifest again" not in alike["message"]


@pytest.mark.slow
def test_14_and_whom_to_ask_for_a_batch_with_uncertain_rows(
    command_line: CommandLine, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Running it again sends nothing more for such a row, so it is not what is advised."""
    sandbox.inject("lost_answer", endpoint="submit", rate=1.0)
    manifest = tmp_path / "rows.csv"
    manifest.write_text("prompt\nrain\n")

    done = command_line.run("batch", str(manifest), "--bucket", command_line.bucket, code=14)

    last = done.stderr.splitlines()[-1]
    assert f"`prefect-runcomfy journal list --bucket {command_line.bucket}`" in last
    assert "again for the rest" not in last
