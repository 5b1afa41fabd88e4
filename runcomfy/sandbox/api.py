"""The calls of the Model API as plain functions: what each one does, and the JSON that it answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runcomfy.errors import ConfigurationError
from runcomfy.redaction import strip_query
from runcomfy.sandbox.fault_registry import DueFault, FaultOrder, FaultRegistry, directives_of, order_from_text, text_of
from runcomfy.sandbox.job_queue import Job, JobQueue
from runcomfy.sandbox.ledger import Counters, RequestEntry, RequestLedger
from runcomfy.sandbox.models import Model, catalogue
from runcomfy.sandbox.render import Recipe
from runcomfy.sandbox.renderer import Renderer, outputs_of, seconds_of
from runcomfy.sandbox.settings import SandboxSettings

__all__ = ["Api", "Refusal"]

_INVALID = 422000  # made up: no code is documented for inputs that break the schema
_STATUS_WORDS = {"queued": "in_queue", "running": "in_progress", "cancelled": "cancelled"}

_MOST_LISTED = 500
_MOST_OUTPUTS = 9

Json = dict[str, Any]


class Refusal(Exception):
    """The service says no, as it does: an HTTP status, an error code, a message."""

    def __init__(self, http_status: int, error_code: int, message: str) -> None:
        super().__init__(message)
        self.http_status, self.error_code, self.message = http_status, error_code, message


@dataclass
class Api:
    """The state of one sandbox. It is touched from one event loop only."""

    settings: SandboxSettings
    directory: Path
    url: str
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.fault_registry = FaultRegistry(self.settings.seed)
        for text in self.settings.faults:
            self.fault_registry.add(order_from_text(text))
        self.catalogue = catalogue(self.settings.models)
        self.renderer = Renderer(self.directory, self.settings.tiny_videos, self._image_fetched)
        self.queue = JobQueue(self.settings, self._produce, self._ended)
        self.balance_usd = self.settings.opening_balance_usd
        self._last_second: deque[float] = deque()

    def count_poll(self) -> None:
        """Count a read of status or result."""
        last, now = self._last_second, time.monotonic()
        last.append(now)
        while last[0] <= now - 1:
            last.popleft()
        self.counters.polls += 1
        self.counters.busiest_second = max(self.counters.busiest_second, len(last))

    def submit(self, model_id: str, inputs: Any, own: Sequence[DueFault], directives: str = "") -> tuple[Json, Job]:
        """Check, charge and queue.

        Args:
            model_id: The model.
            inputs: The body.
            own: The faults that its texts ask for.
            directives: More directives, from a header.

        Raises:
            Refusal: The model, the inputs, a directive or the balance will not do. Nothing was charged.
        """
        model = self._known(model_id)
        if not isinstance(inputs, dict):
            raise Refusal(422, _INVALID, "The body must be a JSON object with the model's inputs.")
        texts = text_of(inputs, directives)
        inputs = model.with_defaults(inputs)
        if wrong := model.violations(inputs):
            raise Refusal(422, _INVALID, "; ".join(wrong))
        try:
            options, _ = directives_of(texts)
        except ConfigurationError as error:
            raise Refusal(422, _INVALID, str(error)) from None
        price_usd = self._price_usd(inputs)
        if self.balance_usd < price_usd:
            raise Refusal(400, 400002, "The account has no balance.")
        self.balance_usd -= price_usd
        self.counters.usd_charged += price_usd
        self.counters.submissions_accepted += 1
        job = Job(model, inputs, options, [*own, *self.fault_registry.assign()])
        self.queue.accept(job)
        return self._links(job, "status", "result", "cancel"), job

    def find(self, request_id: str) -> Job:
        """Return a request, or refuse as for one that is unknown or expired."""
        job = self.queue.jobs.get(request_id)
        lifetime = self.settings.request_expiry_seconds
        if job is None or (
            job.finished_at is not None
            and lifetime is not None
            and datetime.now(UTC) - job.finished_at >= timedelta(seconds=lifetime)
        ):
            raise Refusal(404, 404001, "The request is unknown or has expired.")
        return job

    def status(self, job: Job) -> Json:
        """Return the state of a request; a failed one is `completed` like any other."""
        answer: Json = {"status": _STATUS_WORDS.get(job.state, "completed"), **self._links(job, "status", "result")}
        return answer | ({"queue_position": self.queue.position(job)} if job.state == "queued" else {})

    def result(self, job: Job, *, include_cost: bool) -> Json:
        """Return the outcome of a request."""
        answer: Json = {
            "request_id": job.request_id,
            "status": _STATUS_WORDS.get(job.state, job.state),
            "created_at": job.created_at.isoformat(),
        }
        if job.finished_at is not None:
            answer["finished_at"] = job.finished_at.isoformat()
        if job.state == "succeeded":
            answer["output"] = _output(job)
        if job.state == "failed":
            answer["error"] = job.error
        if include_cost and job.finished:
            answer["cost"] = self._price_usd(job.inputs)
        return answer

    def cancel(self, job: Job) -> Json:
        """Cancel what is still queued."""
        outcome = "cancelled" if self.queue.cancel(job) else "not_cancellable"
        status = _STATUS_WORDS.get(job.state, "completed")
        return {"request_id": job.request_id, "status": status, "outcome": outcome}

    def models(self, query: Mapping[str, str]) -> Json:
        """List the catalogue, filtered by `search`, `category` and `kind`, from `offset` on, `limit` at most.

        Raises:
            Refusal: `limit` is not from 1 to 500, or `offset` is below 0.
        """
        limit, offset = _whole_number(query, "limit", 100, 1, _MOST_LISTED), _whole_number(query, "offset", 0, 0, None)
        found = [
            self.model(model_id, include_schema=query.get("include_schema", "").lower() in ("true", "1"))
            for model_id, model in self.catalogue.items()
            if query.get("search", "").strip().lower() in f"{model_id} {model.entry['display_name']}".lower()
            and query.get("category", "").strip() in ("", *model.entry["categories"])
            and query.get("kind", "").strip() in ("", model.entry["kind"])
        ]
        return {"models": found[offset : offset + limit], "total": len(found)}

    def categories(self) -> Json:
        """List the categories of the catalogue."""
        return {"categories": sorted({each for model in self.catalogue.values() for each in model.entry["categories"]})}

    def model(self, model_id: str, *, include_schema: bool = True) -> Json:
        """Describe one model of the catalogue."""
        model = self._known(model_id)
        unit = self.settings.price_unit
        entry = model.entry | {
            "base_price_usd": self.settings.price_usd,
            "price_unit": unit,
            "pricing_note": f"Made up by the sandbox: {self.settings.price_usd:g} USD for each {unit} of video."
            if unit == "second"
            else f"Made up by the sandbox: {self.settings.price_usd:g} USD for each request.",
        }
        return entry if include_schema else {name: fact for name, fact in entry.items() if name != "input_schema"}

    def _known(self, model_id: str) -> Model:
        if (model := self.catalogue.get(model_id)) is None:
            raise Refusal(400, 400001, f"There is no model {model_id!r}.")
        return model

    def _price_usd(self, inputs: Json) -> float:
        """Return what a request is charged."""
        if self.settings.price_unit == "output":
            return self.settings.price_usd
        return round(self.settings.price_usd * seconds_of(inputs), 6)

    def balance(self) -> Json:
        """Return the account's balance."""
        microdollars = round(self.balance_usd * 1_000_000)
        return {"balance_usd": microdollars / 1_000_000, "balance_microdollars": microdollars, "currency": "USD"}

    def dress(self, endpoint: str, payload: Any, job: Job | None, own: Sequence[DueFault]) -> Any:
        """Apply the faults that change a right answer's body, then replace `$1` and the like by real URLs."""
        state = payload.get("status")
        drawn = self.fault_registry.draw(
            endpoint, own, lambda fault: fault.kind == "body" and state in fault.effect.get("only", (state,))
        )
        for due in drawn:
            self.counters.faults_struck += 1
            effect = due.fault.effect
            payload = {name: fact for name, fact in payload.items() if name not in effect.get("drop", ())}
            payload |= effect.get("set", {})
            if "status" in payload:
                payload["status"] = effect.get("words", {}).get(payload["status"], payload["status"])
        return self._filled(payload, job) if job is not None else payload

    def order(self, order: FaultOrder) -> None:
        """Activate a fault, for all requests or for one.

        Raises:
            ConfigurationError: The order does not fit the catalogue, or the request is unknown.
        """
        if order.request_id is None:
            self.fault_registry.add(order)
        elif job := self.queue.jobs.get(order.request_id):
            due = DueFault.from_order(order, self.settings.seed)
            job.faults.append(due.lasting() if due.fault.scope == "request" else due)
        else:
            raise ConfigurationError(f"There is no request {order.request_id!r} to put a fault on.")

    def books(self) -> RequestLedger:
        """Return the counters and the requests as they are now."""
        entries = tuple(
            RequestEntry(
                id=job.request_id,
                model=job.model.entry["model_id"],
                state=job.state,
                inputs=_without_signature(job),
                created_at=job.created_at,
                started_at=job.started_at,
                finished_at=job.finished_at,
            )
            for job in self.queue.jobs.values()
        )
        return RequestLedger(**self.counters.model_dump(), balance_usd=self.balance_usd, requests=entries)

    def reset(self) -> None:
        """Empty everything but the faults of the settings; what was rendered is kept, as it is the same again."""
        self.counters = Counters()
        self._last_second.clear()
        self.balance_usd = self.settings.opening_balance_usd
        self.queue.reset()
        self.fault_registry.due = []
        for text in self.settings.faults:
            self.fault_registry.add(order_from_text(text))

    async def _produce(self, job: Job) -> Recipe:
        recipe = await self.renderer.recipe(job.inputs, job.model)
        if job.outcome("error") is None:
            await self.renderer.output(recipe)
        return recipe

    def close(self) -> None:
        """Stop everything, and wait for the threads that render."""
        self.queue.reset()
        self.renderer.stop()

    def _ended(self, job: Job) -> None:
        setattr(self.counters, job.state, getattr(self.counters, job.state) + 1)

    def _image_fetched(self) -> None:
        self.counters.image_fetches += 1

    def _links(self, job: Job, *calls: str) -> Json:
        base = f"{self.url}/v1/requests/{job.request_id}"
        return {"request_id": job.request_id, **{f"{call}_url": f"{base}/{call}" for call in calls}}

    def _filled(self, value: Any, job: Job) -> Any:
        """Replace `$1` … by URLs of outputs, `$inputs` and `$image_url` by what was submitted."""
        if isinstance(value, dict):
            return {name: self._filled(fact, job) for name, fact in value.items()}
        if isinstance(value, list):
            return [self._filled(fact, job) for fact in value]
        if not isinstance(value, str) or "$" not in value:
            return value
        if value == "$inputs":
            return job.inputs
        outputs = f"{self.url}/outputs/{job.request_id}"
        made = "video" if job.recipe is None else job.recipe.makes
        form = "mp4" if job.recipe is None else job.recipe.form
        scheme, _, rest = f"{outputs}/{made}-1.{form}".partition(":")
        urls = {f"${number}": f"{outputs}/{made}-{number}.{form}" for number in range(1, _MOST_OUTPUTS + 1)}
        urls |= {"$CAPITALS": f"{scheme.upper()}:{rest}"}
        image = next((job.inputs[name] for name in job.model.kind.media if name in job.inputs), "(no image)")
        urls |= {"$image_url": str(image), "$image": f"{outputs}/image-1.png"}
        for name, url in urls.items():
            value = value.replace(name, url)
        return value


def _output(job: Job) -> Json:
    """Return the output as the service would: one file by its kind, several as a list."""
    makes, count = job.model.makes, outputs_of(job.inputs)
    if count == 1:
        return {makes: "$1"}
    return {f"{makes}s": [f"${number}" for number in range(1, count + 1)]}


def _without_signature(job: Job) -> Json:
    def stripped(value: Any) -> Any:
        return [strip_query(each) for each in value] if isinstance(value, list) else strip_query(value)

    return {name: stripped(fact) if name in job.model.kind.media else fact for name, fact in job.inputs.items()}


def _whole_number(query: Mapping[str, str], name: str, usual: int, least: int, most: int | None) -> int:
    try:
        number = int(query.get(name, usual))
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        bounds = f"from {least} to {most}" if most is not None else f"{least} or more"
        raise Refusal(422, _INVALID, f"{name} must be a whole number, {bounds}.")
    return number
