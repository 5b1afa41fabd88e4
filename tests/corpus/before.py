"""`python -m tests.corpus.before REVISION` writes into `before.json` what the code of a revision says of the corpus.

The inputs are made here, and read by that revision's code in a process of its own. 170a08b^ is where it was looked into
what stores, images, URLs and manifests people have (issue 18); later names of modules are not known there.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WITH_IT = ("tests/corpus/stores.py", "tests/runcomfy/storage/imitated.py", "tests/runcomfy/storage/behaviours.py")
LONGEST = 600
MOST_SECONDS = {"urls": 3}
USUALLY, MOST_MEMORY_BYTES = 20, 3_000_000_000
"""For one input: what takes more was not bounded. URLs were connected to, whatever their address."""
Inputs = dict[str, dict[str, Any]]


def inputs() -> Inputs:
    """Return all inputs but the stores, each by its name, as JSON can have them."""
    from tests.corpus import images, manifests, notices, sidecars, urls

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "images": {sample.name: text(sample.data) for sample in images.CORPUS},
        "manifests": {each.name: text(each.data()) for each in manifests.EXAMPLES if not each.slow},
        "urls": {
            each.name: [each.url, each.as_source, each.answer and [*each.answer[:2], text(each.answer[2])]]
            for each in urls.EXAMPLES
        },
        "notices": {each.name: each.body for each in notices.EXAMPLES},
        "sidecars": {each.name: text(each.data) for each in sidecars.EXAMPLES},
    }


def main(revision: str) -> None:
    """Ask that revision, and write down what it says."""
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        packed = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(there, filter="data")
        for path in WITH_IT:
            (there / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, there / path)
        (there / "inputs.json").write_text(json.dumps(inputs()))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(HERE / "before.py")], cwd=there, stdout=subprocess.PIPE, check=True,
            env=os.environ | {"PYTHONPATH": str(there)},
        )  # fmt: skip
    (HERE / "before.json").write_bytes(done.stdout)


def said_there(given: Inputs) -> dict[str, dict[str, str]]:
    """Read the inputs with the code of this process."""
    kinds: dict[str, Callable[[], Iterator[tuple[str, Callable[[], str]]]]] = {
        "images": lambda: images_there(given["images"]), "manifests": lambda: manifests_there(given["manifests"]),
        "urls": lambda: urls_there(given["urls"]), "notices": lambda: notices_there(given["notices"]),
        "sidecars": lambda: sidecars_there(given["sidecars"]), "stores": stores_there,
    }  # fmt: skip
    return {kind: {name: outcome(kind, read) for name, read in readers()} for kind, readers in kinds.items()}


def outcome(kind: str, read: Callable[[], str]) -> str:
    signal.alarm(MOST_SECONDS.get(kind, USUALLY))
    try:
        said = read()
    except Exception as error:
        said = f"refused: {getattr(error, 'message', '') or f'{type(error).__name__}: {error}'}"
    finally:
        signal.alarm(0)
    said = re.sub(r"http://127\.0\.0\.1:\d+", "https://the-server", said.replace(f"{Path.cwd()}/", ""))
    return re.sub(r"\.probe-[0-9a-f]{32}", ".probe-…", " ".join(said.split()))[:LONGEST]


def too_long(*_: object) -> None:
    raise TimeoutError("it did not end in time")


def images_there(given: dict[str, str]) -> Iterator[tuple[str, Callable[[], str]]]:
    from runcomfy.media.images import inspect_image

    for name, data in given.items():
        yield name, lambda data=data: inspect_image(base64.b64decode(data)) and "accepted"  # type: ignore[misc]


def no_store() -> Any:
    import boto3

    from runcomfy.storage.store import Store

    return Store("videos", session=boto3.Session("key", "secret", region_name="eu-west-1"))


def manifests_there(given: dict[str, str]) -> Iterator[tuple[str, Callable[[], str]]]:
    from runcomfy.manifest import read_manifest

    def read(name: str, data: str) -> str:
        path = Path.cwd() / name
        path.write_bytes(base64.b64decode(data))
        manifest = read_manifest(str(path), no_store())
        bad = "; ".join(f"{row.line}: {'; '.join(row.problems)}" for row in manifest.bad)
        return "; ".join(filter(None, (f"{len(manifest.rows)} rows accepted", bad and f"refused: {bad}")))

    for name, data in given.items():
        yield name, lambda name=name, data=data: read(name, data)  # type: ignore[misc]


def urls_there(given: dict[str, Any]) -> Iterator[tuple[str, Callable[[], str]]]:
    import asyncio

    from runcomfy.download.hosts import HostPolicy
    from runcomfy.generation import staging
    from runcomfy.media.images import inspect_image

    def read(url: str, as_source: bool, answer: list[Any] | None) -> str:
        if as_source:
            asyncio.run(staging.stage_image(url, no_store()))
        elif answer is None:
            staging._download(url, HostPolicy(("*",)))  # type: ignore[attr-defined]  # as it was called then
        else:
            with serving(answer) as address:
                inspect_image(staging._download(address + url, HostPolicy(("127.0.0.1",))))  # type: ignore[attr-defined]
        return "accepted"

    for name, (url, as_source, answer) in given.items():
        yield name, lambda url=url, of=as_source, answer=answer: read(url, of, answer)  # type: ignore[misc]


class serving:  # it is used as a function
    """Give one answer to everything."""

    def __init__(self, answer: list[Any]) -> None:
        import http.server
        import threading

        status, headers, body = answer[0], answer[1], base64.b64decode(answer[2])

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def notices_there(given: dict[str, str]) -> Iterator[tuple[str, Callable[[], str]]]:
    from runcomfy.inbox.notices import read_notice

    for name, body in given.items():
        yield name, lambda body=body: f"accepted: {len(read_notice(body))} arrivals"  # type: ignore[misc]


def sidecars_there(given: dict[str, str]) -> Iterator[tuple[str, Callable[[], str]]]:
    from datetime import UTC, datetime

    from runcomfy.inbox import request_spec
    from runcomfy.inbox.images import Found
    from runcomfy.models.orders import read_order

    class Bucket:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, *_: object, **__: object) -> bytes:
            return self.data

    def read(name: str, data: bytes) -> str:
        found = Found(f"in/{name}", "e", len(data), datetime.now(UTC))
        text = request_spec._text(found, "images", Bucket(data))  # type: ignore[attr-defined]  # as it was called then
        values = request_spec._from_json(found, text) if name.endswith("json") else {"prompt": text.strip()}  # type: ignore[attr-defined]
        given = request_spec._given(values)  # type: ignore[attr-defined]
        return f"accepted: {read_order(given | {'image': 's3://images/in/p.png'}, {}).prompt[:40]}"

    for name, data in given.items():
        yield name, lambda name=name, data=data: read(name, base64.b64decode(data))  # type: ignore[misc]


def stores_there() -> Iterator[tuple[str, Callable[[], str]]]:
    from runcomfy.journal import BucketJournalStore
    from runcomfy.sandbox.objectstore import running_object_store
    from tests.corpus.stores import GOOD, REFUSED
    from tests.runcomfy.storage.imitated import imitated_store

    def read(real: Any, behaviour: Any, prefix: str, options: dict[str, Any]) -> str:
        if options:
            return f"refused: there was no setting {', '.join(options)}"
        with imitated_store(real, behaviour) as imitated:
            store = imitated.store("videos", prefix)
            store.check()
            BucketJournalStore(store).check()
            store.put_new(store.key("images/a"), b"image", content_type="image/png")
            assert store.read(store.key("images/a"), limit_bytes=99) == b"image", (
                "it reads other bytes than were written"
            )
        return "accepted"

    with running_object_store() as real:
        for number, (kind, (of, options)) in enumerate(GOOD.items()):
            prefix = f"table-{number}"
            yield kind, lambda of=of, prefix=prefix, options=options: read(real, of(f"{prefix}/"), prefix, options)  # type: ignore[misc]
        for number, (kind, (behaviour, _)) in enumerate(REFUSED.items(), len(GOOD)):
            yield kind, lambda of=behaviour, prefix=f"table-{number}": read(real, of, prefix, {})  # type: ignore[misc]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
        signal.signal(signal.SIGALRM, too_long)
        print(json.dumps(said_there(json.loads(Path("inputs.json").read_text())), indent=1))
