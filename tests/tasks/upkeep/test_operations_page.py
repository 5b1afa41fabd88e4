"""The operations page: first what needs a person, bounded, and no text from outside is rendered as Markdown."""

from __future__ import annotations

from dataclasses import replace

from prefect.client.schemas.objects import StateType

from blocks import MediaStore
from runcomfy.journal import Entry, EntryState, Finding
from tasks.upkeep.facts import HeldSlots, RunFacts, WorkerFacts
from tasks.upkeep.healing import Healed, Healing
from tasks.upkeep.judging import Judgement, Liveness, RunAgain, judge_all
from tasks.upkeep.operations_page import headline, operations_page
from tests.runcomfy.journal.making import spec_for
from tests.tasks.upkeep.making import NOW, ago, facts, run

STORE = MediaStore(bucket="videos", prefix="clips")
RUNNING, CRASHED, SCHEDULED = StateType.RUNNING, StateType.CRASHED, StateType.SCHEDULED


def entry(state: EntryState) -> Entry:
    return spec_for("https://runcomfy.example").intent("worker-1").model_copy(update={"state": state})


def healed(*runs: RunFacts, changes: tuple[Healing, ...] = (), workers: tuple[WorkerFacts, ...] = ()) -> Healed:
    known = replace(facts(*runs), workers=workers, waiting=sum(each.state_type is SCHEDULED for each in runs))
    return Healed(known, tuple(judge_all(known, RunAgain())), changes)


def page(found: Healed, findings: list[Finding] | None = None, slots: tuple[HeldSlots, ...] = ()) -> str:
    return operations_page(found, findings or [], slots, STORE)


def test_a_quiet_server_needs_nobody() -> None:
    worker = WorkerFacts("runcomfy", "worker-1", True, ago(10))
    said = page(healed(run(RUNNING, 60, last_heartbeat=ago(20), url="http://prefect/run"), workers=(worker,)))

    assert "**Nothing needs a person, 0 waiting, 1 at work, 0 run again.**" in said
    assert "Needs a person" not in said
    assert "| [rain](http://prefect/run) | text-to-video | Running | 11:59:00 | 11:59:40 |" in said
    assert "| `runcomfy` | `worker-1` | online | 11:59:50 |" in said


def test_a_time_of_another_day_has_its_date() -> None:
    said = page(healed(run(RUNNING, 86_400, last_heartbeat=ago(20))))

    assert "| 2026-11-26 12:00:00 | 11:59:40 |" in said


def test_what_needs_a_person_comes_first_with_its_command() -> None:
    """An order that was given up, and a generation of which it is unknown whether it was paid for."""
    lost = run(CRASHED, 60, crashes=9)
    uncertain = Finding(entry(EntryState.UNCERTAIN))
    found = healed(lost, run(RUNNING, 10))
    said = page(found, [uncertain])

    assert headline(found, [uncertain], ()).startswith("2 need a person")
    assert f"prefect flow-run retry {lost.id}" in said
    assert f"journal adopt {uncertain.entry.generation_key[:12]} REQUEST_ID --bucket s3://videos/clips" in said
    assert said.index("### Needs a person") < said.index("### At work")


def test_an_order_that_was_given_up_is_reported_once() -> None:
    """It was run again before that, too."""
    lost = run(CRASHED, 60, crashes=9, message="out of memory")
    found = healed(lost)
    assert found.facts is not None
    found = replace(found, facts=replace(found.facts, again=(lost,)))

    assert page(found).count("out of memory") == 1
    assert "0 run again" in headline(found, [], ())


def test_a_run_that_was_ended_and_run_again_names_who_did_it() -> None:
    """It counts as its present state."""
    dead, crashed = run(RUNNING, 3600, last_heartbeat=ago(1000)), run(CRASHED, 60)
    ended = Healing(
        Judgement(dead, Liveness.RUNNING_ZOMBIE, "silent"), True, "Crashed by reconcile (flow run r): silent"
    )
    again = Healing(
        Judgement(crashed, Liveness.AGAIN, "1 of 8", NOW), True, "Run again (1 of 8) by reconcile (flow run r)"
    )
    found = healed(dead, crashed, changes=(ended, again))
    said = page(found)

    assert headline(found, [], ()) == (
        "nothing needs a person, 0 waiting, 0 at work, 1 run again, 1 that nobody worked on ended"
    )
    assert "Crashed by reconcile (flow run r): silent" in said
    assert "- rain, text-to-video, is **AwaitingRetry**: Run again (1 of 8) by reconcile (flow run r)" in said


def test_orders_that_wait_for_a_worker_say_which_to_start() -> None:
    said = page(healed(run(SCHEDULED, 60), workers=(WorkerFacts("runcomfy", "worker-1", False, ago(9000)),)))

    assert "\npython -m deployments.worker --pool runcomfy\n" in said
    assert "**offline**" in said
    assert "**1 needs a person, 1 waiting" in said


def test_crashed_orders_of_a_paused_deployment_are_not_forgotten() -> None:
    known = facts(
        run(CRASHED, 60),
        run(CRASHED, 70),
        run(CRASHED, 80, cancelled=True),
        run(CRASHED, 90, is_child=True),
        paused=True,
    )
    said = page(Healed(known, tuple(judge_all(known, RunAgain()))))

    assert "2 crashed orders of `text-to-video/text-to-video` are run again once it is resumed" in said
    assert "**1 needs a person" in said


def test_crashed_orders_are_not_forgotten_where_running_again_is_turned_off() -> None:
    known = facts(run(CRASHED, 60), run(CRASHED, 70), run(CRASHED, 70, cancelled=True))
    said = page(Healed(known, tuple(judge_all(known, RunAgain(times=0)))))

    assert "2 crashed orders are left as they are: `run_again` of this reconcile has `times` 0." in said
    assert "**1 needs a person" in said


def test_slots_are_shown_against_the_runs_that_are_alive() -> None:
    slots = HeldSlots("runcomfy-generations", limit=20, active=10, held=4, freed=3, lately=1)
    idle = HeldSlots("deployment:batch/batch", limit=2, active=0, held=0)
    said = page(healed(), slots=(slots, idle))

    assert "deployment:batch" not in said

    others = "1 of runs that ended: Prefect frees them within minutes, 3 of nobody: freed, 2 of nobody: looked at again"
    assert f"| `runcomfy-generations` | 20 | 10 | 4 | {others} |" in said
    assert "3 slots freed" in headline(healed(), [], (slots,))


def test_thousands_of_runs_make_no_long_page() -> None:
    """What is not shown is counted."""
    many = [run(RUNNING, 60) for _ in range(3000)] + [run(CRASHED, 60, crashes=9) for _ in range(3000)]
    many += [run(SCHEDULED, 60) for _ in range(3000)]
    uncertain = [Finding(entry(EntryState.UNCERTAIN))] * 3000
    said = page(healed(*many), uncertain)

    assert len(said) < 40_000
    assert said.count("2,975 more are not shown.") == 2
    assert "2,990 more have the tag `needs-a-person`" in said


def test_texts_from_outside_are_shown_as_they_are() -> None:
    """Names of runs are made of prompts, and messages of any text from a machine."""
    evil = "<img src=x onerror=alert(1)> | [a](javascript:b) `c`\n# d"
    said = page(healed(run(RUNNING, 60, name=evil), run(CRASHED, 60, crashes=9, name=evil, message=evil)))

    assert "<img" not in said.replace("\\<img", "")
    assert "\n# d" not in said
    assert all(line.count("|") - line.count("\\|") == 6 for line in said.splitlines() if line.startswith("| "))


def test_the_page_says_what_prefect_did_not_answer() -> None:
    said = page(Healed(None), slots=(HeldSlots("runcomfy-generations", 5, 0, 0),))

    assert "Prefect's API did not tell of the flow runs" in said and "runcomfy-generations" in said
