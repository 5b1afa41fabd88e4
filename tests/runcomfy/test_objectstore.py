from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.sandbox.objectstore import ObjectStore, running_object_store


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_starts_answers_and_leaves_nothing_running(tmp_path: Path) -> None:
    """The server has the buckets that were asked for, keeps its files in its directory, and ends with the block."""
    with running_object_store(tmp_path / "data", buckets=["one", "two"]) as running:
        client = running.session().client("s3", endpoint_url=running.endpoint_url)
        client.put_object(Bucket="one", Key="a", Body=b"x")

        assert {bucket["Name"] for bucket in client.list_buckets()["Buckets"]} == {"one", "two"}
        with pytest.raises(client.exceptions.NoSuchBucket):
            client.put_object(Bucket="three", Key="a", Body=b"x")

    assert not is_running(running.pid)
    assert (tmp_path / "data" / "server.log").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_it_keeps_its_keys_to_itself(object_store: ObjectStore) -> None:
    """The secret key is not shown where the server is."""
    assert object_store.secret_key not in repr(object_store)


def test_a_server_that_does_not_come_up_is_an_error_with_its_last_words(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    """A port that is taken is an error that ends with what the server itself said."""
    taken = int(object_store.endpoint_url.rpartition(":")[2])

    with (
        pytest.raises(StorageError, match=rf"(?s)did not come up.*{taken}.*not available"),
        running_object_store(tmp_path, port=taken),
    ):
        pass


@pytest.mark.parametrize("port", [0, -1, 55_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    """The server needs a second port 10,000 above the first."""
    with pytest.raises(ConfigurationError), running_object_store(port=port):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed with SIGKILL takes the server along."""
    program = (
        "import sys; from pathlib import Path\n"
        "from runcomfy.sandbox.objectstore import running_object_store\n"
        "with running_object_store(Path(sys.argv[1])) as running:\n"
        "    print(running.pid, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            assert is_running(pid)
            ports = re.findall(r"\.port=(\d+)", Path(f"/proc/{pid}/cmdline").read_text())
        finally:
            parent.send_signal(signal.SIGKILL)
            parent.wait()

    deadline = time.monotonic() + 120
    while is_running(pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not is_running(pid)
    for port in ports:  # no process was left to remove them
        for leftover in Path("/tmp").glob(f"seaweedfs-*-grpc-{int(port) + 10_000}.sock"):
            leftover.unlink()
