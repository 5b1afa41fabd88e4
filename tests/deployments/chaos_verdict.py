"""What is right and what is wrong at the end: by the service's ledger, the bucket, the journal, and Prefect's API."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import av

from runcomfy.journal import BucketJournalStore, Entry, EntryState, Journal
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.ledger import RequestEntry
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.deployments.chaos_api import FINAL, Api, moment
from tests.deployments.chaos_orders import Order, Orders

__all__ = ["BUCKET", "PREFIX", "Verdict", "judge"]

BUCKET, PREFIX = "videos", "archive"
_UPKEEP = frozenset({"reconcile", "catalogue", "report"})
_UPKEEP_TAKES = timedelta(minutes=3)
_REQUEST = re.compile(r"/([0-9a-f-]{36})-\d+\.mp4$")


@dataclass
class Verdict:
    """How every order ended, and what is wrong."""

    ends: dict[int, str]
    wrong: list[str]
    runs: list[dict[str, Any]]
    deployments: Mapping[str, str]
    uncertain: int
    notes: list[str] = field(default_factory=list)

    def named(self, deployment: str) -> list[dict[str, Any]]:
        """Return the runs of a deployment."""
        return [run for run in self.runs if self.deployments.get(run["deployment_id"]) == deployment]

    def table(self, orders: Sequence[Order]) -> Counter[tuple[str, str]]:
        """Count orders by how they came and how they ended."""
        return Counter((order.kind, self.ends[order.number]) for order in orders)


def judge(api: Api, orders: Orders, sandbox: Sandbox, store: ObjectStore, *, decode: bool) -> Verdict:
    """Check everything.

    Args:
        api: Prefect's server.
        orders: The orders.
        sandbox: The service and its ledger.
        store: The S3 server.
        decode: Whether each video is also decoded.
    """
    runs, deployments = api.runs(), api.deployments()
    orders.find_runs(runs)
    by_id = {run["id"]: run for run in runs}
    requests: dict[str, list[RequestEntry]] = defaultdict(list)
    for request in sandbox.books().requests:
        requests[request.inputs["prompt"]].append(request)
    files = _files(store)
    entries = {entry.inputs["prompt"]: entry for entry in asyncio.run(_entries(store))}
    told: list[str] = []
    ends: dict[int, str] = {}
    for order in orders.all:
        became = [_became(prompt, requests[prompt], files, entries.get(prompt), told) for prompt in order.prompts]
        ends[order.number] = _end(order, by_id.get(order.run_id or ""), became, told)
    told += [f"paid twice: {prompt!r}, {len(found)} requests" for prompt, found in requests.items() if len(found) > 1]
    ordered = {prompt for order in orders.all for prompt in order.prompts}
    told += [f"paid for, and nobody ordered it: {prompt!r}" for prompt in requests.keys() - ordered]
    told += _unfinished(runs, deployments)
    told += _held(api, runs)
    told += _strangely_cancelled(runs, deployments, orders)
    if decode:
        told += _unplayable(store, files)
    uncertain = sum(entry.state is EntryState.UNCERTAIN for entry in entries.values())
    return Verdict(ends, told, runs, deployments, uncertain)


def _became(
    prompt: str, requests: Sequence[RequestEntry], files: Mapping[str, list[str]], entry: Entry | None, told: list[str]
) -> str:
    """Return how one generation ended, and record what is wrong with it."""
    state = entry.state if entry else None
    for request in requests:
        keys = files.get(request.id, [])
        if len(keys) > 1:
            told.append(f"archived {len(keys)} times: {keys}")
        if request.state == "succeeded" and not keys and state is not EntryState.UNCERTAIN:
            told.append(f"paid for, and not in the bucket: request {request.id} (journal: {state}), {prompt!r}")
        if request.state in ("queued", "running"):
            told.append(f"still {request.state} at the service: {prompt!r}")
    if any(files.get(request.id) for request in requests):
        return "archived"
    if state is EntryState.UNCERTAIN:
        return "uncertain"
    if state is EntryState.FAILED and any(request.state == "failed" for request in requests):
        return "failed"
    if state is EntryState.CANCELLED or (not requests and state is None):
        return "cancelled" if requests else "never paid"
    return f"left {state}"


def _end(order: Order, run: dict[str, Any] | None, became: Sequence[str], told: list[str]) -> str:
    """Return how an order ended, and record an end that must not be."""
    state = f"{run['state_name']}, {run['run_count']} attempts, {run['state']['message']}" if run else "no flow run"
    if order.cancelled and set(became) == {"archived"} and run and run["state_type"] == "CANCELLED":
        return "cancelled by a person, too late"
    if set(became) == {"archived"}:
        return "archived" if run and run["state_type"] == "COMPLETED" else "archived, run not completed"
    if order.cancelled:
        if any(one.startswith("left") for one in became):
            told.append(f"order {order.number} ({order.kind}) was cancelled and is {', '.join(became)}: {state}")
        return "cancelled by a person"
    # A batch pays for nothing more if its first rows are uncertain; the person who decides about them runs it again.
    allowed = {"archived", "uncertain"} | ({"never paid"} if order.kind.startswith("batch") else set())
    if "uncertain" in became and set(became) <= allowed:
        return "uncertain"
    if order.told_to_fail and set(became) == {"failed"}:
        return "failed by the service"
    told.append(f"order {order.number} ({order.kind}, run {order.run_id}) is {', '.join(became)}: {state}")
    return f"wrong: {run['state_name'] if run else 'no flow run'}"


def _unfinished(runs: Sequence[dict[str, Any]], deployments: Mapping[str, str]) -> Iterator[str]:
    """Yield runs that have not ended, except those that a schedule created for later, and young ones of upkeep."""
    now = datetime.now(UTC)
    for run in runs:
        name = deployments.get(run["deployment_id"], "?")
        due = moment(run["next_scheduled_start_time"] or run["expected_start_time"])
        if run["state_type"] in FINAL or (name in _UPKEEP and due > now - _UPKEEP_TAKES):
            continue
        if run["auto_scheduled"] and run["state_name"] == "Scheduled" and due > now:
            continue
        since = (now - moment(run["state"]["timestamp"])).total_seconds()
        yield f"not at an end: {name} run {run['id']} is {run['state_name']} for {since:.0f} s"


def _held(api: Api, runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield limits whose slots are taken while nothing runs."""
    busy = [run for run in runs if run["state_type"] in ("RUNNING", "PENDING", "CANCELLING")]
    if not busy:
        yield from (f"nothing runs, and {slots} slots of {name} are held" for name, slots in api.held())


def _strangely_cancelled(
    runs: Sequence[dict[str, Any]], deployments: Mapping[str, str], orders: Orders
) -> Iterator[str]:
    """Yield runs that are Cancelled and were cancelled by nobody.

    Shards of a batch are cancelled with it, and `catalogue` drops runs that are due while it is running.
    """
    ours = {order.run_id for order in orders.all if order.cancelled}
    for run in runs:
        name = deployments.get(run["deployment_id"], "?")
        if run["state_type"] == "CANCELLED" and run["id"] not in ours and name not in ("batch-shard", "catalogue"):
            yield f"cancelled by nobody: {name} run {run['id']}: {run['state']['message']}"


async def _entries(store: ObjectStore) -> list[Entry]:
    place = Store(BUCKET, PREFIX, session=store.session(), endpoint_url=store.endpoint_url)
    return [found.entry async for found in Journal(BucketJournalStore(place)).entries()]


def _files(store: ObjectStore) -> dict[str, list[str]]:
    """Return the keys of the archived videos by their requests."""
    client = store.session().client("s3", endpoint_url=store.endpoint_url)
    found: dict[str, list[str]] = defaultdict(list)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/"):
        for entry in page.get("Contents", []):
            if matched := _REQUEST.search(entry["Key"]):
                found[matched[1]].append(entry["Key"])
    return found


def _unplayable(store: ObjectStore, files: Mapping[str, list[str]]) -> Iterator[str]:
    client = store.session().client("s3", endpoint_url=store.endpoint_url)
    for key in (key for keys in files.values() for key in keys):
        try:
            with av.open(io.BytesIO(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()), "r") as video:
                if next(iter(video.decode(video=0)), None) is None:
                    yield f"no picture in {key}"
        except av.error.FFmpegError as error:
            yield f"cannot be played: {key} ({error})"
