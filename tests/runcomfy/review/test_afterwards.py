"""What a decision means for all else: a batch, a fetch, an erasure at the same time, a check of the bucket."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from runcomfy.cli.__main__ import main
from runcomfy.sandbox import Sandbox
from tests.runcomfy.review.test_review import BLACK, Command, Killed, at_write, command, die, elsewhere

__all__ = ["command"]


@pytest.mark.slow
def test_a_release_outlives_a_fetch_of_what_was_rejected(command: Command, sandbox: Sandbox) -> None:
    """The person has allowed another payment: to look for the old file again does not take that back."""
    key, _, _ = command.made()
    request_id = command.run("journal", "show", key)["request_id"]
    command.run("review", "reject", key)
    command.run("journal", "release", key, "--yes")

    command.run("fetch", request_id, code=16)

    assert command.run("journal", "show", key)["state"] == "released"


@pytest.mark.slow
def test_rejected_rows_stop_no_batch_and_have_no_price(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """They say nothing of the others, and are not to be run again; the summary says what allows another."""
    key, _, _ = command.made()
    command.run("review", "reject", key)
    rows = tmp_path / "rows.csv"
    rows.write_text(f"prompt\n{BLACK}\nsnow\n")

    done = command.run("batch", str(rows), "--stop-after-alike", "1", code=14)
    said = command.said("batch", str(rows), code=14)

    assert (done.get("stopped_by"), done["rejected"], done["archived"]) == (None, 1, 1)
    assert "in results.csv names the command" in said and "same manifest again" not in said
    assert "Price of" not in said


@pytest.mark.slow
def test_what_is_erased_while_it_is_accepted_leaves_nothing(command: Command, sandbox: Sandbox) -> None:
    """Whoever erases it may come before the copy is complete: its provenance holds the prompt."""
    key, name, _ = command.made()

    with at_write(0, lambda: command.run("erase", key, "--yes") and None, of=f"/media/{name}.json"):
        code = main(["review", "accept", key, "--bucket", command.place])

    assert code == 2 and command.files() == {}
    assert command.run("journal", "show", key)["state"] == "erased"


@pytest.mark.slow
def test_what_is_lost_while_it_is_accepted_is_found(command: Command) -> None:
    """Also without a journal; as long as it is on its way, nothing is missing."""
    key, _, aside = command.made()
    with at_write(1, die), suppress(Killed):
        main(["review", "accept", key, "--bucket", command.place])
    assert command.is_sound()

    command.client.delete_object(Bucket=command.bucket, Key=f"media/{aside}")

    with suppress(SystemExit):
        main(["verify", command.place, "--journal", "none", "--json"])
    assert "file_missing" in command.capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_that_are_printed_work_in_a_journal_of_several_archives(command: Command) -> None:
    """An address in another archive is found where the journal has its generation, and nowhere else."""
    one, two = (f"s3://{command.bucket}/{name}" for name in ("one", "two"))
    shared = ("--journal", f"s3://{command.bucket}/shared")
    main(["text-to-video", BLACK, "--on-defect", "set_aside", "--bucket", one, *shared, "--json"])
    (key,) = command.client.list_objects_v2(Bucket=command.bucket, Prefix="one/quarantine/", MaxKeys=1)["Contents"]
    address = f"s3://{command.bucket}/{key['Key']}"

    assert main(["review", "accept", address, "--bucket", two, "--json"]) == 2
    assert "Name its own archive with --bucket" in command.capsys.readouterr().out
    assert main(["review", "reject", address, "--bucket", two, *shared]) == 0
    assert main(["review", "accept", f"S3{address[2:]}", "--bucket", one, *shared]) == 0

    listed = command.client.list_objects_v2(Bucket=command.bucket, Prefix="one/")["Contents"]
    usual = key["Key"].replace("quarantine/", "")
    assert [each["Key"] for each in listed] == [usual, f"{usual}.jpg", f"{usual}.json"]


@pytest.mark.slow
def test_what_was_rejected_before_the_journal_had_it_is_settled(command: Command, sandbox: Sandbox) -> None:
    """Whoever comes next records it, and `reconcile` has nothing to complain of."""
    with at_write(0, die, of=".mp4.json"), suppress(Killed):
        main(["text-to-video", BLACK, "--on-defect", "set_aside", "--bucket", command.place, "--json"])
    (known,) = command.run("journal", "list", "--all")["generations"]
    fetched = ("fetch", known["request_id"], "--model", "text-to-video", "--journal", "none")
    (video,) = command.run(*fetched, "--on-defect", "set_aside")["videos"]
    command.run("review", "reject", video["uri"])

    command.run("reconcile", "--abandoned-after-seconds", "0")

    assert command.run("journal", "show", known["generation_key"])["state"] == "archived"
    assert command.run("text-to-video", BLACK, code=16)["error"] == "OutputRejected"
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
def test_a_decision_reaches_the_journal_though_its_provenance_names_no_generation(
    command: Command, sandbox: Sandbox
) -> None:
    """As where the file was fetched without a journal: the request says whose it is, by key and by address."""
    with at_write(0, die, of="/quarantine/"), suppress(Killed):
        main(["text-to-video", BLACK, "--on-defect", "set_aside", "--bucket", command.place, "--json"])
    (known,) = command.run("journal", "list", "--all")["generations"]
    fetched = ("fetch", known["request_id"], "--model", "text-to-video", "--journal", "none")
    (video,) = command.run(*fetched, "--on-defect", "set_aside")["videos"]
    command.run("text-to-video", BLACK)  # the journal has it from here on

    command.run("review", "reject", video["uri"])
    assert command.run("text-to-video", BLACK, code=16)["error"] == "OutputRejected"
    command.run("review", "accept", known["generation_key"])

    (now,) = command.run("text-to-video", BLACK)["videos"]
    assert now["key"] == video["key"].replace("quarantine/", "", 1) and now["review"]["decision"] == "accepted"
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
def test_files_of_other_people_are_no_trouble(command: Command) -> None:
    """Whatever they have put below `quarantine/`, the list has what is ours."""
    key, _, _ = command.made()
    others = {"a.json": b"[]", "b.json": bytes(17 * 1024 * 1024), "c.mp4.json": b"[" * 100_000, ".json": b"", "d": b""}
    for name, body in others.items():
        command.put(f"quarantine/{name}", body, {})
    command.client.put_object(
        Bucket=command.bucket, Key="media/quarantine/e.json", Body=b"not packed", ContentEncoding="br"
    )

    assert [item["generation"] for item in command.run("review", "list")["files"]] == [key]
    assert "Nothing" in command.run("review", "accept", f"{command.place}/quarantine/b", code=2)["message"]


def test_accepted_after_another_attempt_failed_it_is_not_paid_for_again(command: Command, sandbox: Sandbox) -> None:
    """Rejected, released, tried again in vain: what a person accepts then is what the next run finds."""
    key, _, _ = command.made()
    command.run("review", "reject", key)
    command.run("journal", "release", key, "--yes")
    sandbox.inject("failed", times=1)
    command.run("text-to-video", BLACK, code=8)
    assert command.run("journal", "show", key)["state"] == "failed"

    accepted = command.run("review", "accept", key)
    paid = sandbox.books().submissions_accepted

    (video,) = command.run("text-to-video", BLACK)["videos"]
    assert video["uri"] == accepted["uri"] and sandbox.books().submissions_accepted == paid == 2
    assert command.is_sound()


@pytest.mark.slow
def test_rejected_while_another_worker_archives_it_as_good_it_is_not_in_the_archive(
    command: Command, sandbox: Sandbox
) -> None:
    """Wherever the person comes in between: nobody who lists the archive takes it for a file of it."""
    place = ("--bucket", command.place, "--json")
    for number in (0, 1):
        prompt = f"{number} {BLACK}"
        other = elsewhere("text-to-video", prompt, "--on-defect", "set_aside", *place)

        def reject(prompt: str = prompt) -> None:
            waiting = command.run("review", "list")["files"]
            (video,) = [each["uri"] for each in waiting if each["state"] == "waiting"]
            command.run("review", "reject", video)

        with at_write(0, other, of="/wan-ai/"), at_write(number + 1, reject, of="/media/wan-ai/"):
            assert main(["text-to-video", prompt, "--on-defect", "keep", *place]) == 16

        assert all(name.startswith("quarantine/") for name in command.files()) and command.is_sound()
    assert sandbox.books().submissions_accepted == 2


@pytest.mark.slow
def test_erased_at_any_write_of_a_decision_nothing_is_left(command: Command, sandbox: Sandbox) -> None:
    """Neither of an acceptance nor of a rejection."""
    key, _, _ = command.made()
    snapshot = command.snapshot()
    for verb in ("accept", "reject"):
        number, met = 0, True
        while met:
            command.restore(snapshot)
            with at_write(number, lambda: command.run("erase", key, "--yes") and None) as sent:
                main(["review", verb, key, "--bucket", command.place])
            met = len(sent) > number
            if met:
                assert command.files() == {}, (verb, number, sent)
            number += 1
