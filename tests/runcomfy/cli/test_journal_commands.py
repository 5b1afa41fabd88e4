"""`journal`: how a person sees what was paid for, and decides about what is uncertain."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from runcomfy.cli.__main__ import main
from runcomfy.cli.journal import StateName
from runcomfy.cli.journal_view import view
from runcomfy.journal import (
    OPEN,
    BucketJournalStore,
    Entry,
    EntryState,
    GenerationSpec,
    Journal,
    JournalStore,
    MemoryJournalStore,
    Versioned,
)
from runcomfy.models import TEXT_TO_VIDEO, TextToVideo
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.commands import StoreOptions
from runcomfy.storage.store import Store
from tests.runcomfy.journal.making import Later, accepted_elsewhere

ROOT = Path(__file__).parents[3]
S = EntryState
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Printed:
    """What a command has printed."""

    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that is all of stdout."""
        assert self.out.count("\n") == 1, self
        return dict(json.loads(self.out))


Command = Callable[..., Printed]


@pytest.fixture
def surroundings(sandbox: Sandbox, object_store: ObjectStore, prefix: str) -> dict[str, str]:
    return {
        "RUNCOMFY_API_TOKEN": sandbox.token,
        "RUNCOMFY_BASE_URL": sandbox.url,
        "RUNCOMFY_OUTPUT_HOSTS": sandbox.host,
        "RUNCOMFY_BUCKET": f"s3://videos/{prefix}",
        "AWS_ENDPOINT_URL_S3": object_store.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "COLUMNS": "80",
    }


@pytest.fixture
def command(
    surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line in this process."""
    for name in ("RUNCOMFY_TOKEN", "RUNCOMFY_JOURNAL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, code: int = 0) -> Printed:
        capsys.readouterr()
        ended = main(list(arguments))
        printed = Printed(*capsys.readouterr())
        assert ended == code, printed
        return printed

    return run


@dataclass(frozen=True)
class Process:
    """The command line as a process of its own."""

    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0) -> Printed:
        done = subprocess.run(
            [sys.executable, "-m", "runcomfy", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        printed = Printed(done.stdout, done.stderr)
        assert done.returncode == code, (done.returncode, printed)
        return printed

    def modules(self, *commands: list[str]) -> set[str]:
        """The top-level packages that are loaded after these commands, which must all succeed."""
        program = (
            "import json, sys, runcomfy.cli.__main__ as command\n"
            "codes = {command.main(words) for words in json.loads(sys.argv[1])}\n"
            "print(codes == {0}, *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(commands)],
            cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        succeeded, *loaded = done.stderr.splitlines()[-1].split()
        assert succeeded == "True", done.stderr
        return set(loaded)


@pytest.fixture
def process(surroundings: dict[str, str]) -> Process:
    own = ("PREFECT_", "AWS_", "RUNCOMFY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return Process(inherited | surroundings)


@pytest.fixture
def place(object_store: ObjectStore, prefix: str) -> JournalStore:
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    return BucketJournalStore(store)


Step = tuple[EntryState, dict[str, Any]]
SUBMITTED: Step = (S.SUBMITTED, {})
UNCERTAIN: Step = (S.UNCERTAIN, {"reason": "The connection broke. Look for it."})


def written(
    place: JournalStore,
    prompt: str,
    *steps: Step,
    minutes_ago: float = 0,
    model_id: str = TEXT_TO_VIDEO,
    service: str = "x",
) -> Entry:
    """Write an entry that has come this way; its request is named after its prompt."""
    as_it_is = TextToVideo(prompt="x").model_copy(update={"prompt": prompt})  # earlier versions took any text
    entry = GenerationSpec(as_it_is, service).intent("worker-7:4711")
    for state, changes in steps:
        named = {"request_id": f"request-of-{prompt}"} if state is S.SUBMITTED else {}
        if state is S.INTENT:
            entry = entry.begun_again(entry, worker="worker-8:1")
        else:
            entry = entry.moved(state, worker="worker-7:4711", **named | changes)
    ago = timedelta(minutes=minutes_ago)
    history = tuple(event.model_copy(update={"at": event.at - ago}) for event in entry.history)
    entry = entry.model_copy(
        update={"created_at": entry.created_at - ago, "updated_at": entry.updated_at - ago, "history": history}
        | {"model_id": model_id}
    )
    assert asyncio.run(Journal(place).create(entry))
    return entry


def kept(place: JournalStore, key: str) -> Entry:
    return asyncio.run(Journal(place).find(key)).entry


def one_of_each(place: JournalStore) -> dict[EntryState, Entry]:
    """Write a generation in each state, the first one the oldest."""
    ways: dict[EntryState, list[Step]] = {
        S.ARCHIVED: [SUBMITTED, (S.ARCHIVED, {"cost_usd": 0.2})],
        S.SUBMITTED: [SUBMITTED],
        S.DETACHED: [SUBMITTED, (S.DETACHED, {"reason": "The deadline was over."})],
        S.EXPIRED: [SUBMITTED, (S.EXPIRED, {"reason": "The request is unknown."})],
        S.FAILED: [SUBMITTED, (S.FAILED, {"cost_usd": 0.3})],
        S.CANCELLED: [SUBMITTED, (S.CANCELLED, {})],
        S.REFUSED: [(S.REFUSED, {"reason": "There is no balance."})],
        S.UNCERTAIN: [UNCERTAIN],
        S.RELEASED: [UNCERTAIN, (S.RELEASED, {})],
        S.ERASED: [SUBMITTED, (S.CANCELLED, {}), (S.ERASED, {})],
        S.INTENT: [],
    }
    assert set(ways) == set(EntryState)
    return {
        state: written(place, str(state), *steps, minutes_ago=100 - number)
        for number, (state, steps) in enumerate(ways.items())
    }


def lost(command: Command, sandbox: Sandbox, *options: str) -> dict[str, Any]:
    """Let a run of rain lose the answer to its submission, and return its error."""
    sandbox.inject("lost_answer", endpoint="submit", times=1)
    return command("text-to-video", "rain", "--json", *options, code=9).json


# From the lost answer to the video


def test_an_uncertain_submission_is_paid_for_once_listed_and_adopted(
    process: Process, sandbox: Sandbox, place: JournalStore
) -> None:
    """All steps of a person, each a process of its own: exit code 9, the list, the dashboard, the video."""
    sandbox.inject("lost_answer", endpoint="submit", times=1)
    said = process.run("text-to-video", "rain", "--json", code=9).json
    again = process.run("text-to-video", "rain", "--json", code=9).json
    listed = process.run("journal", "list", "--json").json
    (request,) = sandbox.books().requests  # what the dashboard shows
    key = said["generation_key"]

    made = process.run("journal", "adopt", key[:12], request.id, "--json").json

    assert (said["error"], again["error"]) == ("UncertainSubmission", "UncertainSubmission")
    (one,) = listed["generations"]
    assert (one["generation_key"], one["state"], one["needs_person"], one["prompt"]) == (key, "uncertain", True, "rain")
    assert (made["request_id"], made["generation"], len(made["videos"])) == (request.id, key, 1)
    entry = kept(place, key)
    assert entry.archive is not None
    assert (entry.state, entry.cost_usd, entry.archive.videos[0].uri) == (S.ARCHIVED, 0.25, made["videos"][0]["uri"])
    assert process.run("text-to-video", "rain", "--json").json["request_id"] == request.id
    assert sandbox.books().submissions_received == 1


def test_an_adopted_request_is_collected_by_the_next_run(
    command: Command, sandbox: Sandbox, place: JournalStore
) -> None:
    """With `--no-wait` the request id is written down, and nothing else happens."""
    said = lost(command, sandbox)
    (request,) = sandbox.books().requests

    adopted = command("journal", "adopt", said["generation_key"], request.id, "--no-wait", "--json").json

    assert (adopted["state"], adopted["request_id"]) == ("submitted", request.id)
    assert kept(place, said["generation_key"]).archive is None
    assert command("text-to-video", "rain", "--json").json["request_id"] == request.id
    assert sandbox.books().submissions_received == 1


def test_adopting_twice_ends_with_the_same_video(command: Command, sandbox: Sandbox) -> None:
    """What was adopted before is no error, and is not made again."""
    said = lost(command, sandbox)
    (request,) = sandbox.books().requests

    first = command("journal", "adopt", said["generation_key"], request.id, "--json").json
    second = command("journal", "adopt", said["generation_key"], request.id, "--json").json

    assert [video["uri"] for video in first["videos"]] == [video["uri"] for video in second["videos"]]
    assert sandbox.books().downloads == 1


def test_a_released_generation_is_submitted_by_the_next_run(
    command: Command, sandbox: Sandbox, place: JournalStore
) -> None:
    """And not before; the entry remembers both attempts."""
    said = lost(command, sandbox)
    command("text-to-video", "rain", code=9)

    released = command("journal", "release", said["generation_key"][:8], "--yes", "--json").json
    made = command("text-to-video", "rain", "--json").json

    assert (released["generation"], released["state"]) == (said["generation_key"], "released")
    assert sandbox.books().submissions_received == 2
    entry = kept(place, said["generation_key"])
    assert (entry.attempt, entry.request_id, entry.state) == (2, made["request_id"], S.ARCHIVED)
    assert [event.state for event in entry.history][:3] == [S.INTENT, S.UNCERTAIN, S.RELEASED]


def test_pay_again_pays_again(command: Command, sandbox: Sandbox) -> None:
    """`--on-uncertain pay-again` submits what is uncertain a second time, without a release."""
    lost(command, sandbox)

    command("text-to-video", "rain", "--on-uncertain", "pay-again", "--json")

    assert sandbox.books().submissions_accepted == 2


# The list


def test_open_generations_are_listed_and_the_rest_is_counted(command: Command, place: JournalStore) -> None:
    """What needs a person comes first, then the oldest; keys and request ids are whole."""
    entries = one_of_each(place)

    listed = command("journal", "list", "--json").json

    states = [each["state"] for each in listed["generations"]]
    assert states == ["expired", "uncertain", "submitted", "detached", "intent"]
    assert [each["needs_person"] for each in listed["generations"]] == [True, True, False, False, False]
    for each in listed["generations"]:
        entry = entries[EntryState(each["state"])]
        assert (each["generation_key"], each["request_id"]) == (entry.generation_key, entry.request_id)
        assert each["age_seconds"] == pytest.approx((datetime.now(UTC) - entry.created_at).total_seconds(), abs=60)
    rest = set(EntryState) - OPEN
    assert listed["totals"]["not_listed"] == {str(state): 1 for state in EntryState if state in rest}


@pytest.mark.parametrize(
    ("options", "states"),
    [
        (["--all"], set(EntryState)),
        (["--state", "failed"], {S.FAILED}),
        (["--state", "failed", "--state", "intent"], {S.FAILED, S.INTENT}),
    ],
    ids=["all", "one", "two"],
)
def test_other_states_are_listed_if_they_are_named(
    command: Command, place: JournalStore, options: list[str], states: set[EntryState]
) -> None:
    """Each generation is either listed or counted."""
    one_of_each(place)

    listed = command("journal", "list", *options, "--json").json

    assert {each["state"] for each in listed["generations"]} == states
    assert set(listed["totals"]["not_listed"]) == set(EntryState) - states


def test_the_money_at_stake(command: Command, place: JournalStore) -> None:
    """What is known; what is usual for the model, where something may be billed; nothing where nothing was accepted."""
    for number, cost in enumerate((0.1, 0.3, 5.0)):
        written(place, f"done {number}", SUBMITTED, (S.ARCHIVED, {"cost_usd": cost}))
    one_of_each(place)
    written(place, "of another model", SUBMITTED, model_id="other/model")

    listed = command("journal", "list", "--all", "--json").json

    stakes = {each["prompt"]: (each["usd"], each["usd_basis"]) for each in listed["generations"]}
    usual = 0.3  # the median of 0.1, 0.2, 0.3, 0.3 and 5
    assert {stakes[str(state)] for state in OPEN} == {(usual, "estimated")}
    assert stakes["archived"] == (0.2, "known")
    assert stakes["failed"] == (0.3, "known")
    assert stakes["refused"] == (0.0, "known")
    assert stakes["cancelled"] == stakes["released"] == stakes["of another model"] == (None, "unknown")
    totals = listed["totals"]
    assert totals["by_state"]["submitted"] == {
        "generations": 2, "usd_known": 0.0, "usd_estimated": 0.3, "unknown": 1,
    }  # fmt: skip
    assert totals["listed"] == {"generations": 15, "usd_known": 5.9, "usd_estimated": 1.5, "unknown": 4}


def test_a_submission_whose_worker_died_is_shown_as_such() -> None:
    """An abandoned intent needs a person like an uncertain one, also before a run has called it so."""
    fresh, stale = MemoryJournalStore(), MemoryJournalStore()
    written(fresh, "fresh")
    written(stale, "stale", minutes_ago=60)

    async def everything() -> list[Versioned]:
        journals = [Journal(place) for place in (fresh, Later(stale, 3600))]
        return [each for journal in journals for key in await journal.modified() if (each := await journal.read(key))]

    listed = [item.described() for item in view(asyncio.run(everything()), StoreOptions("s3://videos/clips"))]

    assert [(each["prompt"], each["needs_person"]) for each in listed] == [("stale", True), ("fresh", False)]
    assert "worker-7:4711" in listed[0]["reason"]
    assert "journal adopt" in listed[0]["what_now"]


def test_a_pipe_gets_a_whole_line_for_each_generation(command: Command, place: JournalStore) -> None:
    """However narrow the terminal is said to be: no colours, no cut lines."""
    entry = written(place, "rain " * 100, SUBMITTED, (S.DETACHED, {"reason": "It takes so long. " * 20}))
    written(place, "snow", UNCERTAIN)

    lines = command("journal", "list").out.splitlines()

    (line,) = (line for line in lines if entry.generation_key[:12] in line)
    assert str(entry.request_id) in line
    assert "detached" in line
    assert "It takes so long." in line
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("columns", [80, 100, 139, 140, 160, 220])
def test_a_terminal_gets_a_table_that_fits(
    command: Command, place: JournalStore, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """No line is longer than the terminal is wide, and what is copied is on one line."""
    request_id = "4bfcb582-4bbf-4ce7-b7f3-4858f9206df2"
    steps: list[Step] = [(S.SUBMITTED, {"request_id": request_id}), (S.DETACHED, {"reason": "It takes long " * 9})]
    entry = written(place, "rain on a window " * 9, *steps, minutes_ago=60 * 24 * 400)
    written(place, "dear", SUBMITTED, (S.ARCHIVED, {"cost_usd": 123.4567}))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))

    printed = command("journal", "list", "--all").out

    lines = [ESCAPES.sub("", line) for line in printed.splitlines()]
    assert max(map(len, lines)) <= columns
    assert any(request_id in line for line in lines)
    assert any(entry.generation_key[:12] in line and "~123.46" in line for line in lines)


def test_texts_from_outside_cannot_control_the_terminal(command: Command, place: JournalStore) -> None:
    """Neither a prompt nor a service's text can move the cursor, colour the screen or pass for markup."""
    entry = written(place, "\x1b[2Jrain\r[bold]x[/bold]", SUBMITTED, (S.DETACHED, {"reason": "\x1b]0;title\x07 bad"}))

    for printed in (command("journal", "list").out, command("journal", "show", entry.generation_key).out):
        assert not {"\x1b", "\r", "\x07"} & set(printed)
        assert "[bold]x[/bold]" in printed


def test_an_empty_journal_is_reported_as_empty(command: Command) -> None:
    """As a sentence, and as an object with an empty list."""
    assert "empty" in command("journal", "list").out
    assert command("journal", "list", "--json").json["generations"] == []


# One generation


def test_a_generation_is_shown_with_its_files_and_history(
    command: Command, sandbox: Sandbox, place: JournalStore
) -> None:
    """By the digits that the list shows."""
    made = command("text-to-video", "rain", "--seed", "7", "--json").json
    key, (video,) = made["generation"], made["videos"]

    shown = command("journal", "show", key[:12]).out

    for fact in (key, made["request_id"], video["uri"], f"{video['uri']}.json", video["sha256"], "rain", "0.25"):
        assert fact in shown
    history = shown.partition("History")[2].splitlines()[1:]
    assert [line.split()[2] for line in history] == ["intent", "submitted", "archived"]
    assert made["request_id"] in history[1]


def test_a_generation_is_shown_as_json_as_it_is_kept(command: Command, place: JournalStore) -> None:
    """Nothing is added, left out or named otherwise."""
    entry = written(place, "rain", SUBMITTED, (S.DETACHED, {"reason": "The deadline was over."}))

    shown = command("journal", "show", entry.generation_key, "--json").json

    assert shown == json.loads(entry.to_json())


@pytest.mark.parametrize("state", EntryState, ids=str)
def test_a_generation_is_shown_with_what_to_do(command: Command, place: JournalStore, state: EntryState) -> None:
    """In each state; and where it needs a decision, the command for it."""
    entry = one_of_each(place)[state]

    shown = command("journal", "show", entry.generation_key).out
    decides = state in (S.UNCERTAIN, S.EXPIRED)

    assert "what now" in shown and "paid for" in shown
    for decision, here in (("adopt", decides), ("release", decides or state is S.ERASED)):
        assert (f"`prefect-runcomfy journal {decision} {entry.generation_key[:12]}" in shown) is here
    assert ("a person" in shown) is decides


def test_every_state_can_be_named() -> None:
    """The choices of `--state` are those of the journal."""
    assert set(get_args(StateName)) == set(EntryState)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["show", "0123456789ab"], 3, "0123456789ab"),
        (["show", "0123"], 3, "eight"),
        (["show", "no-key-at-all"], 3, "no-key-at-all"),
        (["adopt", "0123456789ab", "REQUEST"], 3, "0123456789ab"),
        (["adopt", "0123456789ab", "no-such-request"], 10, "no-such-request"),
        (["release", "0123456789ab", "--yes"], 3, "0123456789ab"),
        (["list", "--state", "lost"], 2, "lost"),
        (["list", "--journal", "none"], 3, "none"),
        (["list", "--journal", "nonsense"], 3, "nonsense|s3://bucket/prefix"),
        (["list", "--journal", "/srv/journal"], 3, "aws s3 cp /srv/journal"),
        (["list", "--journal", "gs://bucket/journal"], 3, "s3://"),
        (["list", "--bucket", "https://example.com/x"], 3, "--bucket"),
        (["list", "--bucket", "s3://no-such-bucket/x"], 12, "no-such-bucket"),
        (["release"], 2, "KEY"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_refusal_is_reported_with_its_exit_code(
    command: Command, sandbox: Sandbox, arguments: list[str], code: int, named: str
) -> None:
    """As a sentence that names what is wrong, or as one object; there is no traceback."""
    arguments = [accepted_elsewhere(sandbox) if word == "REQUEST" else word for word in arguments]

    said = command("journal", *arguments, code=code)

    assert re.search(named, said.err)
    assert "Traceback" not in said.err
    assert command("journal", *arguments, "--json", code=code).json["exit_code"] == code


def test_only_a_lost_generation_is_adopted(command: Command, sandbox: Sandbox, place: JournalStore) -> None:
    """A generation that has a request, or a video, gets no other one; an unknown request is not adopted."""
    request_id = accepted_elsewhere(sandbox)
    uncertain = written(place, "uncertain", UNCERTAIN, service=sandbox.url)
    busy = [written(place, "submitted", SUBMITTED), written(place, "archived", SUBMITTED, (S.ARCHIVED, {}))]

    command("journal", "adopt", uncertain.generation_key, "no-such-request", code=10)
    for entry in busy:
        command("journal", "adopt", entry.generation_key, request_id, code=3)

    for entry in (uncertain, *busy):
        assert kept(place, entry.generation_key) == entry


def test_an_archived_or_free_generation_is_not_released(command: Command, place: JournalStore) -> None:
    """There is nothing to release."""
    entries = one_of_each(place)

    for state in (S.ARCHIVED, S.FAILED, S.REFUSED, S.CANCELLED, S.INTENT):
        command("journal", "release", entries[state].generation_key, "--yes", code=3)
        assert kept(place, entries[state].generation_key) == entries[state]


def test_an_ambiguous_key_is_refused(command: Command, place: JournalStore) -> None:
    """Rather than to guess which generation is meant."""
    entry = written(place, "rain", UNCERTAIN)
    twin = entry.model_copy(update={"generation_key": entry.generation_key[:20] + "0" * 44})
    assert asyncio.run(Journal(place).create(twin))

    assert "2 generations" in command("journal", "release", entry.generation_key[:12], "--yes", code=3).err
    command("journal", "release", entry.generation_key, "--yes")


# The release is confirmed


def test_nothing_is_released_without_a_person(
    command: Command, place: JournalStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script says `--yes`; without it, and without a terminal, nothing happens."""
    entry = written(place, "rain", UNCERTAIN)

    (tmp_path / "no-terminal").write_text("y\n")
    with (tmp_path / "no-terminal").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        said = command("journal", "release", entry.generation_key, code=2)

    assert "--yes" in said.err
    assert kept(place, entry.generation_key) == entry


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("\x04", 2)], ids="yn- ")
def test_a_person_confirms_a_release(
    command: Command, place: JournalStore, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    """After it was shown which requests may be billed; anything but a yes is a no."""
    entry = written(place, "rain", SUBMITTED, (S.EXPIRED, {}))
    controller, terminal = pty.openpty()
    try:
        os.write(controller, answer.encode())
        with os.fdopen(terminal) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            said = command("journal", "release", entry.generation_key[:12], code=code)
    finally:
        os.close(controller)

    assert str(entry.request_id) in said.err
    assert kept(place, entry.generation_key).state is (S.RELEASED if code == 0 else S.EXPIRED)


# Its environment


def test_the_journal_is_where_the_environment_says(
    command: Command, sandbox: Sandbox, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    """`RUNCOMFY_JOURNAL` replaces `--journal`, for the runs as for the list; another bucket prefix does as well."""
    monkeypatch.setenv("RUNCOMFY_JOURNAL", f"s3://images/{prefix}-first")
    key = command("text-to-video", "rain", "--json").json["generation"]
    elsewhere = f"s3://images/{prefix}-journal"
    other = command("text-to-video", "snow", "--journal", elsewhere, "--json").json["generation"]

    def keys(*options: str) -> list[str]:
        listed = command("journal", "list", "--all", "--json", *options).json["generations"]
        return [each["generation_key"] for each in listed]

    assert keys() == [key]
    assert keys("--journal", elsewhere) == [other]
    assert keys("--journal", "bucket") == []


def test_the_commands_that_only_read_need_no_prefect(process: Process, place: JournalStore, sandbox: Sandbox) -> None:
    """Loading it takes seconds; only the waiting for an adopted request is a flow."""
    entry = written(place, "rain", UNCERTAIN)
    lost = written(place, "snow", UNCERTAIN, service=sandbox.url)
    request_id = accepted_elsewhere(sandbox, "snow")

    loaded = process.modules(
        ["journal", "list"],
        ["journal", "show", entry.generation_key],
        ["journal", "release", entry.generation_key, "--yes"],
        ["journal", "adopt", lost.generation_key, request_id, "--no-wait"],
        ["journal", "adopt", "--help"],
    )

    assert "runcomfy" in loaded
    assert "prefect" not in loaded
