"""Prefect's API as the chaos script uses it: plain HTTP, retried while the server is away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

__all__ = ["FINAL", "Api", "moment"]

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_PAGE = 200
_PATIENCE_SECONDS = 300


def moment(text: str) -> datetime:
    """Parse a time as the API writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


class Api:
    """A client of one server; safe to use from several threads.

    Args:
        url: Where the API is, such as http://127.0.0.1:4200/api.
        auth: `user:password`, if the server requires it.
    """

    def __init__(self, url: str, auth: str = "") -> None:
        user, _, password = auth.partition(":")
        self._http = httpx.Client(base_url=url, auth=(user, password) if auth else None, timeout=60)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call until the server answers, for five minutes; only for calls that are safe to repeat.

        Raises:
            httpx.HTTPError: it refuses, or stays away.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = self._http.request(method, path, json=body)
                if answer.status_code < 500 and answer.status_code != 429:
                    answer.raise_for_status()
                    return answer.json() if answer.content else None
                trouble: httpx.HTTPError = httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
            except httpx.TransportError as error:
                trouble = error
            if time.monotonic() > deadline:
                raise trouble
            time.sleep(1)

    def deployment(self, name: str) -> str:
        """Return the id of a deployment; here a flow and its deployment have the same name."""
        return str(self.call("GET", f"/deployments/name/{name}/{name}")["id"])

    def deployments(self) -> dict[str, str]:
        """Return the names of all deployments by their ids."""
        return {found["id"]: found["name"] for found in self.call("POST", "/deployments/filter", {"limit": _PAGE})}

    def runs(self, *state_types: str) -> list[dict[str, Any]]:
        """Return all flow runs, or those in these types of state."""
        wanted = {"flow_runs": {"state": {"type": {"any_": list(state_types)}}}} if state_types else {}
        found: dict[str, dict[str, Any]] = {}
        for offset in range(0, 1_000_000, _PAGE):
            page = self.call(
                "POST", "/flow_runs/filter", wanted | {"limit": _PAGE, "offset": offset, "sort": "START_TIME_ASC"}
            )
            found |= {run["id"]: run for run in page}
            if len(page) < _PAGE:
                break
        return list(found.values())

    def states(self, run_id: str) -> list[dict[str, Any]]:
        """Return the states of a run, the earliest first."""
        found = self.call("GET", f"/flow_run_states/?flow_run_id={run_id}")
        return sorted(found, key=lambda state: moment(state["timestamp"]))

    def create_run(self, deployment_id: str, parameters: Mapping[str, Any], key: str, at: datetime | None) -> str:
        """Create a run of a deployment, once for each key; scheduled, if a time is given."""
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": (at or datetime.now(UTC)).isoformat()}}
        body = {"parameters": dict(parameters), "idempotency_key": key, "state": state}
        return str(self.call("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def cancel(self, run_id: str) -> bool:
        """Cancel a run as the button of the UI does; return whether it is cancelled, or will be.

        The server cancels a run without a process at once: it rejects Cancelling, and sets Cancelled instead.
        """
        body = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
        self.call("POST", f"/flow_runs/{run_id}/set_state", body)
        return self.call("GET", f"/flow_runs/{run_id}")["state_type"] in ("CANCELLING", "CANCELLED")

    def emit(self, name: str, event_id: str, resource: str, payload: Mapping[str, Any]) -> None:
        """Send an event; an id that was sent before is the same event."""
        event = {
            "event": name, "id": event_id, "resource": {"prefect.resource.id": resource}, "payload": dict(payload),
            "occurred": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        self.call("POST", "/events", [event])

    def held(self) -> Iterator[tuple[str, int]]:
        """Yield each concurrency limit that has slots taken, and how many."""
        for limit in self.call("POST", "/v2/concurrency_limits/filter", {"limit": _PAGE}):
            if limit["active_slots"]:
                yield limit["name"], limit["active_slots"]

    def events(self, name: str, since: datetime) -> list[dict[str, Any]]:
        """Return the latest events of a name."""
        wanted = {"event": {"name": [name]}, "occurred": {"since": since.isoformat()}}
        return list(self.call("POST", "/events/filter", {"filter": wanted, "limit": 50})["events"])
