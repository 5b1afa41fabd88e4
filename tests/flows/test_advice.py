"""Each page, list and error offers the same commands for the same facts, and all of them can be pasted."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest

from blocks import MediaStore
from runcomfy import errors
from runcomfy.api.refusals import ANOTHER_ACCOUNT
from runcomfy.catalogue.rows import row_of_entry
from runcomfy.cli.app import app
from runcomfy.cli.journal_output import print_entry
from runcomfy.cli.journal_view import view
from runcomfy.errors import RunComfyError, UncertainSubmission
from runcomfy.interruption.shutdown import shutdown
from runcomfy.journal import OPEN, Entry, EntryState, Finding, MemoryJournalStore, Versioned, release
from runcomfy.journal.advice import Advice, Command, Who, advise, advise_on_error
from runcomfy.journal.claim import claim
from runcomfy.journal.record import state_after
from runcomfy.journal.situation import Situation
from runcomfy.report.waiting import waiting
from runcomfy.storage.commands import StoreOptions
from tasks.pages.journal import decision
from tasks.pages.markdown import advised, store_options
from tests.runcomfy.journal.making import Later, journal_at, spec_for

S = EntryState
SERVICE = "https://runcomfy.example"
SIGNED = "https://files.example/a.mp4?X-Amz-Signature=deadbeef01"
STORES = {
    "usual": MediaStore(bucket="videos", prefix="clips"),
    "elsewhere": MediaStore(
        bucket="videos", journal="s3://other/journal dir", archive_key="videos(1)/{request_id}-{index}.{ext}"
    ),
    "in memory": MediaStore(bucket="videos", prefix="clips", journal="none"),
}
WITHOUT_REQUEST = (S.INTENT, S.REFUSED)
ENDS: tuple[RunComfyError | None, ...] = (
    None,
    errors.RunTimeout("it takes so long"),
    errors.NoOutput("no file"),
    errors.DownloadError("it broke"),
    errors.HostNotAllowed("another host"),
    errors.ArchiveConflict("another file"),
    errors.RequestNotFound("another account's", error_code=ANOTHER_ACCOUNT),
    errors.StoreUnavailable("busy"),
    errors.AuthenticationError("a token"),
)
ENTRIES = [
    (state, request_id, error)
    for state, request_id in itertools.product(S, (None, "4bfcb582-4bbf"))
    for error in (ENDS if state is S.DETACHED else ENDS[:1])
    if (request_id is None if state in WITHOUT_REQUEST else request_id or state is S.UNCERTAIN)
]
COMMAND = re.compile(r"prefect-runcomfy [^`\n]+")
every_entry = pytest.mark.parametrize(
    ("state", "request_id", "error"), ENTRIES, ids=lambda value: type(value).__name__ if value is None else str(value)
)
every_store = pytest.mark.parametrize("store", STORES.values(), ids=STORES)


def entry_of(state: EntryState, request_id: str | None = None, error: RunComfyError | None = None) -> Entry:
    """Return an entry in a state, as an error has led to it."""
    first = spec_for(SERVICE, store="s3://videos/clips/").intent("worker-1")
    if state is S.INTENT:
        return first
    return first.moved(state, worker="worker-1", request_id=request_id, reason="It was so.", error=error)


def shells(advice: Advice) -> list[str]:
    return [command.shell for command in advice.commands]


def parsed(command: str) -> object:
    """Parse a command as the command line does: a wrong option or a missing one is an error."""
    words = shlex.split(command)
    assert words[0] == "prefect-runcomfy"
    return app.parse_args(words[1:], print_error=False, exit_on_error=False)[1]


@every_store
@every_entry
def test_a_list_the_pages_and_the_report_offer_the_same(
    state: EntryState,
    request_id: str | None,
    error: RunComfyError | None,
    store: MediaStore,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`journal list`, `journal show`, the pages of `reconcile` and of the operations, and the report."""
    entry, options = entry_of(state, request_id, error), store_options(store)
    expected = advise(Situation.of(entry), options)

    (item,) = view([Versioned(entry, "tag", 0.0)], options)
    listed = item.described()
    print_entry(item, as_json=False)
    shown = capsys.readouterr().out
    page = decision(Finding(entry), store)

    assert [command["shell"] for command in listed["commands"]] == shells(expected)
    assert COMMAND.findall(listed["what_now"]) == COMMAND.findall(shown) == shells(expected)
    assert COMMAND.findall(page) == shells(expected)
    for waits in waiting([row_of_entry(entry, prompts=True)], options):
        assert (shells(waits.advice), waits.advice.who) == (shells(expected), expected.who)
        assert waits.advice.paid == expected.paid
    assert expected.paid in shown and expected.paid in page and expected.paid == listed["paid_for"]
    assert listed["needs_person"] is (expected.who is not Who.NOBODY)


@every_store
@pytest.mark.parametrize("flag", ["abandoned", "stuck", "overdue"])
@every_entry
def test_a_stuck_generation_is_offered_the_same(
    state: EntryState, request_id: str | None, error: RunComfyError | None, flag: str, store: MediaStore
) -> None:
    """An intent whose worker died, in the list; and what only `reconcile` finds out, on its page."""
    entry, options = entry_of(state, request_id, error), store_options(store)
    if flag == "abandoned":
        (item,) = view([Versioned(entry, "tag", 1e6)], options)
        expected = advise(Situation.of(entry, abandoned=state is S.INTENT), options)
        assert item.advice == expected
    else:
        late = flag == "overdue"
        expected = advise(Situation.of(entry, stuck=True, overdue=late), options)
        assert COMMAND.findall(decision(Finding(entry, stuck=True, overdue=late), store)) == shells(expected)

    assert all(parsed(command) for command in shells(expected))
    assert not (expected.who is Who.NOBODY and state in (S.UNCERTAIN, S.EXPIRED))


@every_store
@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RunComfyError)]
)
@pytest.mark.parametrize("named", [True, False], ids=["known", "unknown"])
async def test_the_page_of_a_failed_run_offers_what_the_journal_does(
    kind: type[RunComfyError], named: bool, store: MediaStore
) -> None:
    """For the state that the error leads to; and every command that it offers can be pasted."""
    options, before = store_options(store), entry_of(S.SUBMITTED, "4bfcb582-4bbf")
    error = kind("It was so.", request_id="4bfcb582-4bbf", generation_key=before.generation_key) if named else kind("x")
    state = S.UNCERTAIN if kind is UncertainSubmission else state_after(error)

    advice = advise_on_error(error, options, before.model_id)

    assert COMMAND.findall(advised(advice)) == shells(advice)
    assert all(parsed(command) for command in shells(advice))
    assert "KEY" not in " ".join(shells(advice)).replace("REQUEST_ID", "").split()
    if named and state is not None:
        after = before.moved(state, worker="worker-1", reason="It was so.", error=error)
        assert advice == advise(Situation.of(after), options)
    elif Situation.after(error, None) is None:
        assert advice.commands == ()


@every_entry
async def test_the_journal_accepts_exactly_what_is_offered(
    state: EntryState, request_id: str | None, error: RunComfyError | None
) -> None:
    """In every state, an offered release is accepted, and one that would be refused is not offered."""
    place, entry = MemoryJournalStore(), entry_of(state, request_id, error)
    journal = journal_at(Later(place))
    place.create(f"{entry.generation_key}.json", entry.to_json())
    advice = advise(
        Situation.of(entry, abandoned=state is S.INTENT, stuck=state in OPEN), StoreOptions("s3://videos/clips")
    )

    offered = [command for command in shells(advice) if "journal release" in command]
    adoptable = [command for command in shells(advice) if "journal adopt" in command]

    assert bool(offered) is (state in OPEN or state is S.ERASED)
    if offered:
        assert (await release(journal, entry.generation_key)).state is S.RELEASED
    assert bool(adoptable) is (state in (S.INTENT, S.UNCERTAIN, S.EXPIRED))
    assert all(entry.model_copy(update={"state": state}).may_become(S.SUBMITTED) for _ in adoptable)


@pytest.mark.parametrize("where", ["s3://videos/clips/journal", "s3://other/journal", "the memory of this process"])
@pytest.mark.parametrize("state", [S.UNCERTAIN, S.EXPIRED])
@pytest.mark.parametrize("request_id", [None, "4bfcb582-4bbf"])
async def test_the_error_of_the_next_run_offers_the_same(where: str, state: EntryState, request_id: str | None) -> None:
    """With the store and the journal that the run has."""
    place, entry = MemoryJournalStore(), entry_of(state, request_id)
    place.where = where
    place.create(f"{entry.generation_key}.json", entry.to_json())

    async def no(*_: str) -> bool:
        return False

    async with shutdown.hold() as hold:
        with pytest.raises(RunComfyError) as caught:
            await claim(journal_at(place), spec_for(SERVICE), prepare=no, known=no, hold=hold)  # type: ignore[arg-type]

    expected = advise(Situation.of(entry), StoreOptions.of(entry.store, where))
    assert COMMAND.findall(caught.value.message) == shells(expected)
    assert all(parsed(command) for command in shells(expected))
    assert all(("--journal" in command) is ("clips/journal" not in where) for command in shells(expected))


def test_a_request_of_two_generations_is_a_question_for_runcomfy() -> None:
    """Fetching it would not help: neither generation is known to have made it."""
    error = errors.ArchiveConflict(
        "Two generations.", request_id="r1", generation_key="a" * 64, other_generation_key="b" * 64
    )

    advice = advise_on_error(error, store_options(STORES["usual"]), None)

    assert advice.who is Who.RUNCOMFY and "twice" in advice.paid
    assert shells(advice) == [
        f"prefect-runcomfy journal {what} {'a' * 12} --bucket s3://videos/clips" for what in ("show", "release")
    ]


def test_a_generation_that_was_limited_too_often_can_be_adopted() -> None:
    """The service refused each time; a person who finds an accepted one in the dashboard can adopt it."""
    options = store_options(STORES["usual"])
    error = errors.StillRateLimited("Six times.", generation_key=entry_of(S.INTENT).generation_key)
    entry = entry_of(S.REFUSED, error=error)

    told = advise_on_error(error, options, entry.model_id)
    known = advise(Situation.of(entry), options)

    assert (told.who, told.paid, told.now, told.commands) == (known.who, known.paid, known.now, known.commands)
    assert told.who is Who.PERSON and "by RunComfy's word" in told.paid and "dashboard" in told.now
    (command,) = shells(told)
    assert (
        command == f"prefect-runcomfy journal adopt {entry.generation_key[:12]} REQUEST_ID --bucket s3://videos/clips"
    )
    assert entry.may_become(S.SUBMITTED)


def test_the_cost_is_reported() -> None:
    """As far as the service has reported it, earlier attempts included."""
    paid = Situation(state=S.FAILED, generation_key="a" * 64, model_id="x/y", cost_usd=0.25, earlier_cost_usd=0.5)
    options = StoreOptions("s3://videos")

    assert advise(paid, options).paid == "Yes, RunComfy says 0.25 USD. Earlier attempts cost 0.5 USD."
    assert advise(Situation(state=S.FAILED, generation_key="a", model_id="x/y"), options).paid.startswith("Not known.")


def test_no_secret_is_shown() -> None:
    """Whatever field the service, or a reason, has put one into."""
    known = Situation(
        state=S.UNCERTAIN, generation_key="a" * 64, model_id="x/y", request_id=SIGNED, reason=f"GET {SIGNED} failed"
    )

    advice = advise(known, StoreOptions("s3://videos"))

    assert "deadbeef01" not in f"{advice} {advice.text} {advised(advice)}"


def test_a_block_of_a_page_holds_one_command() -> None:
    """A block is copied as a whole, and two of these decisions exclude each other."""
    advice = Advice("", Who.PERSON, "", "Look at `that`, *not* at <b>.", (Command("One", "a b"), Command("Two", "c d")))

    assert advised(advice) == (
        "Look at `that`, \\*not\\* at \\<b\\>.\n\nOne:\n\n```console\na b\n```\n\nTwo:\n\n```console\nc d\n```"
    )
