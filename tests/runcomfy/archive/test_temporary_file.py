"""Temporary files on a full disk, in a folder without rights, and after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runcomfy.archive.attempt import Archiving
from runcomfy.archive.temporary_file import Room, ScratchFile, check_folder
from runcomfy.download.resume import RetryBudget
from runcomfy.errors import ConfigurationError, TemporaryFileError
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.keys import KeyTemplate
from runcomfy.storage.store import Store
from runcomfy.values import GenerationFacts
from tests.runcomfy.archive.test_archive import HOSTS, Answer, Source, archive, keys, source, video

__all__ = ["source"]

MB = 1_000_000


def nothing() -> None:
    pass


class Disk:
    """A disk of this many bytes, which nothing else uses."""

    def __init__(self, size: int) -> None:
        self.size, self.written = size, 0

    def free(self, folder: str) -> int:
        return self.size - self.written


def test_more_files_than_fit_wait_for_each_other() -> None:
    """Twenty files of 10 MB on a disk of 50 come one after the other, at most three at once, and all of them come."""
    disk, lock, most, now = Disk(50 * MB), threading.Lock(), [0], [0]
    room = Room(disk.free)

    def one(_: int) -> None:
        with room.file(10 * MB, check=nothing) as file:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            for _ in range(10):
                file.write(bytes(MB))
                with lock:
                    disk.written += MB
            with lock:
                now[0] -= 1
                disk.written -= 10 * MB

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))

    assert 1 <= most[0] <= 3


def test_a_file_that_never_fits_is_reported_at_once() -> None:
    """If no other file will free room, the error says how much is needed, where, and what to do."""
    with pytest.raises(TemporaryFileError) as raised, Room(Disk(50 * MB).free).file(60 * MB, check=nothing):
        pass

    assert raised.value.retryable
    said = ("TMPDIR", "50,000,000 bytes free", "76,777,216 bytes", "nothing is lost")
    assert all(part in raised.value.message for part in said)


def test_first_come_first_served() -> None:
    """Small files that keep coming do not keep a large one waiting indefinitely."""
    room, order = Room(Disk(100 * MB).free), []
    holding = room.file(60 * MB, check=nothing)
    holding.__enter__()

    def wait_for(size: int) -> None:
        with room.file(size, check=nothing):
            order.append(size)

    large, small = (threading.Thread(target=wait_for, args=(size,)) for size in (70 * MB, 1 * MB))
    large.start()
    while len(room._waiting) < 1:
        time.sleep(0.01)
    small.start()
    while len(room._waiting) < 2:
        time.sleep(0.01)
    holding.__exit__(None, None, None)
    large.join(10)
    small.join(10)

    assert order == [70 * MB, 1 * MB]


def test_a_cancellation_ends_the_waiting() -> None:
    """One that is cancelled while it waits for room ends at once, and does not block the others."""
    room, stopped = Room(Disk(100 * MB).free), threading.Event()

    class Stopped(Exception):
        pass

    def check() -> None:
        if stopped.is_set():
            raise Stopped

    with room.file(60 * MB, check=nothing), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: room.file(70 * MB, check=check).__enter__())
        stopped.set()
        with pytest.raises(Stopped):
            waiting.result(10)
        with room.file(5 * MB, check=nothing):
            pass


def test_a_disk_that_fills_up_is_reported() -> None:
    """ENOSPC at a write is the same error, whatever the disk reported before."""
    with ScratchFile("/tmp") as file:
        file.file.close()
        file.file = open("/dev/full", "wb", buffering=0)  # type: ignore[assignment]  # noqa: SIM115, PTH123
        with pytest.raises(TemporaryFileError, match="TMPDIR"):
            file.write(b"x" * 100)


@pytest.fixture(params=["missing", "a file", "read-only"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    if request.param == "a file":
        folder.write_bytes(b"")
    elif request.param == "read-only":
        if os.geteuid() == 0:
            pytest.skip("nothing is read-only for root; /proc is, below")
        folder.mkdir(mode=0o500)
    return folder


async def test_a_folder_that_cannot_be_used_loses_nothing(
    source: Source, store: Store, object_store: ObjectStore, unusable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the folder and TMPDIR; once that is fixed, the same call archives the file."""
    source.answer = Answer(video())
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(unusable))
        with pytest.raises(TemporaryFileError) as raised:
            await archive(source, store)
        assert keys(object_store, store) == []

    assert (raised.value.retryable, raised.value.folder) == (True, str(unusable))
    assert "TMPDIR" in raised.value.message
    assert not (await archive(source, store)).already_archived


def test_a_folder_that_cannot_be_used_is_reported_before_paying(
    unusable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would fail every archive is a setting to fix."""
    monkeypatch.setenv("TMPDIR", str(unusable))
    with pytest.raises(ConfigurationError, match="Nothing was paid for"):
        check_folder()


async def test_proc_cannot_be_written_to(source: Source, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can it by root."""
    source.answer = Answer(video())
    monkeypatch.setenv("TMPDIR", "/proc/self")

    with pytest.raises(TemporaryFileError, match="/proc/self"):
        await archive(source, store)


def archiving(source: Source, store: Store, room: Room, request_id: str) -> Archiving:
    facts = GenerationFacts(model_id="m", request_id=request_id)
    return Archiving(source.url, 0, facts, store, HOSTS, KeyTemplate(), None, RetryBudget(), True, room)


async def test_archives_beyond_the_disk_all_come(source: Source, store: Store, object_store: ObjectStore) -> None:
    """Six files of 10 MB where two fit: none fails, none is lost."""
    source.answer = Answer(video(10 * MB))
    room = Room(Disk(45 * MB).free)

    done = await asyncio.gather(
        *(asyncio.to_thread(archiving(source, store, room, f"r-{number}").run) for number in range(6))
    )

    assert [archived.already_archived for archived in done] == [False] * 6
    assert len(keys(object_store, store)) == 18


KILLED = """
import sys
from runcomfy.archive.temporary_file import Room
with Room().file(None, check=lambda: None) as file:
    file.write(b"x" * 5_000_000)
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_kill_leaves_nothing_on_disk(tmp_path: Path) -> None:
    """Neither while the file is written nor after a SIGKILL is there a name in the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        during = list(tmp_path.iterdir())
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    assert (during, list(tmp_path.iterdir())) == ([], [])


@pytest.fixture(params=[True, False], ids=["length", "no length"])
def with_length(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def test_a_disk_that_is_really_full(
    source: Source, store: Store, object_store: ObjectStore, small_disk: Path, monkeypatch: pytest.MonkeyPatch,
    with_length: bool,
) -> None:  # fmt: skip
    """On a disk of 24 MB a file of 30 MB is an error that leaves nothing, and a file of 2 MB comes."""
    monkeypatch.setenv("TMPDIR", str(small_disk))
    source.answer = Answer(video(30 * MB), with_length=with_length)
    with pytest.raises(TemporaryFileError, match="bytes free") as raised:
        await archive(source, store)
    assert (raised.value.retryable, keys(object_store, store)) == (True, [])
    source.answer = Answer(video(2 * MB))
    assert not (await archive(source, store)).already_archived
