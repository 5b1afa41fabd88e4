"""Which faults are due: ordered from outside, written into prompts, drawn by the calls that they strike."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import ConfigurationError
from runcomfy.sandbox.faults import ENDPOINTS, FAULTS, Fault

__all__ = [
    "DueFault",
    "FaultOrder",
    "FaultRegistry",
    "RequestOptions",
    "directives_of",
    "order_from_text",
    "plain_prompt",
    "text_of",
]

_DIRECTIVE = re.compile(r"\[sandbox:([^\]]*)\]", re.IGNORECASE)


class FaultOrder(BaseModel):
    """A fault that is wanted: where, and how often (`times` calls, or a share of them); once if neither is said.

    Fields beside those named here are the fault's own parameters. With `request_id` it belongs to that request.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    fault: str
    endpoint: str | None = None
    times: int | None = Field(default=None, ge=1)
    rate: float | None = Field(default=None, ge=0, le=1)
    request_id: str | None = None


@dataclass
class DueFault:
    """A fault in force; it counts down how often it may strike still (`None`: as often as its rate says)."""

    fault: Fault
    endpoints: tuple[str, ...]
    parameters: dict[str, Any]
    times: int | None
    rate: float
    draws: random.Random

    @classmethod
    def from_order(cls, order: FaultOrder, seed: int = 0) -> DueFault:
        """Check an order against the catalogue.

        Raises:
            ConfigurationError: There is no such fault, it cannot strike there, or it has no such parameter.
        """
        fault = FAULTS.get(order.fault)
        if fault is None:
            raise ConfigurationError(
                f"There is no fault {order.fault!r}; `python -m runcomfy.sandbox faults` lists them."
            )
        if order.endpoint is not None and order.endpoint not in fault.endpoints:
            raise ConfigurationError(
                f"The fault {fault.name} strikes {', '.join(fault.endpoints)}, not {order.endpoint}."
            )
        given = order.model_extra or {}
        if unknown := sorted(given.keys() - fault.parameters.keys()):
            known = ", ".join(sorted(fault.parameters)) or "none"
            raise ConfigurationError(f"The fault {fault.name} has no parameter {unknown[0]!r}; it has: {known}.")
        for name, value in given.items():
            if (kind := _kind(fault.parameters[name])) != _kind(value):
                raise ConfigurationError(f"The parameter {name} of the fault {fault.name} is a {kind}, not {value!r}.")
        times = order.times if order.times is not None or order.rate is not None else 1
        return cls(
            fault=fault,
            endpoints=(order.endpoint,) if order.endpoint else fault.endpoints,
            parameters=dict(fault.parameters) | given,
            times=times,
            rate=1.0 if order.rate is None else order.rate,
            draws=random.Random(f"{seed}:{fault.name}:{order.endpoint}"),  # noqa: S311 - repeatable on purpose
        )

    def strikes(self) -> bool:
        """Draw once, and count it."""
        if self.times == 0 or self.draws.random() >= self.rate:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def lasting(self) -> DueFault:
        """Return the same fault as the lasting property of one request."""
        return DueFault(self.fault, self.endpoints, self.parameters, None, 1.0, self.draws)


@dataclass
class FaultRegistry:
    """The faults that are due for all requests."""

    seed: int = 0
    due: list[DueFault] = field(default_factory=list)

    def add(self, order: FaultOrder) -> None:
        """Put a fault in force, or raise ConfigurationError."""
        self.due.append(DueFault.from_order(order, self.seed))

    def draw(self, endpoint: str, own: Sequence[DueFault], matches: Callable[[Fault], bool]) -> Iterator[DueFault]:
        """Yield the faults that strike this call, the request's own ones first; each counts when it is yielded."""
        for due in [*own, *(due for due in self.due if due.fault.scope == "call")]:
            if endpoint in due.endpoints and matches(due.fault) and due.strikes():
                yield due

    def assign(self) -> list[DueFault]:
        """Draw the faults that a request which is just accepted has to live with."""
        return [due.lasting() for due in self.due if due.fault.scope == "request" and due.strikes()]


def order_from_text(text: str) -> FaultOrder:
    """Read `NAME[:ENDPOINT][=RATE]`, as the command line has it; without a rate it strikes always."""
    where, _, rate = text.partition("=")
    name, _, endpoint = where.partition(":")
    try:
        return FaultOrder(fault=name, endpoint=endpoint or None, rate=float(rate) if rate else 1.0)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is not of the form NAME[:ENDPOINT][=RATE], with a rate from 0 to 1."
        ) from None


class RequestOptions(BaseModel):
    """What a prompt's directive asks of its own request; `None` is as the sandbox is set."""

    model_config = ConfigDict(extra="forbid")

    queue_seconds: float | None = Field(default=None, ge=0)
    run_seconds: float | None = Field(default=None, ge=0)
    output_bytes: int | None = Field(default=None, ge=0)


def text_of(inputs: Any, more: str = "") -> str:
    """Return all texts among the inputs, in which directives may stand."""
    texts = inputs.values() if isinstance(inputs, dict) else ()
    return " ".join([*(text for text in texts if isinstance(text, str)), more])


def directives_of(prompt: str) -> tuple[RequestOptions, list[DueFault]]:
    """Read the directives `[sandbox: KEY=VALUE[:PARAMETER=VALUE…] …]` out of a prompt.

    A key is an endpoint (or `fault`, for wherever the fault may strike), and its value is a fault; or it is a field of
    `RequestOptions`.

    Raises:
        ConfigurationError: A directive cannot be understood. A typing error must not pass for a fault that never came.
    """
    settings: dict[str, Any] = {}
    faults: list[DueFault] = []
    for word in " ".join(_DIRECTIVE.findall(prompt)).replace(",", " ").split():
        first, *rest = (part.partition("=") for part in re.split(r":(?=[a-z_]+=)", word))
        key, _, value = first
        if key in ("fault", *ENDPOINTS):
            parameters = {name: _value(text) for name, _, text in rest}
            parameters |= {"fault": value, "endpoint": None if key == "fault" else key}
            try:
                due = DueFault.from_order(FaultOrder(**parameters))
            except ValueError:
                raise ConfigurationError(f"The sandbox directive {word!r} has a value that does not fit.") from None
            faults.append(due.lasting() if due.fault.scope == "request" else due)
        else:
            settings[key] = _value(value)
    try:
        return RequestOptions(**settings), faults
    except ValueError:
        raise ConfigurationError(f"The sandbox does not understand the directive {' '.join(settings)!r}.") from None


def plain_prompt(prompt: str) -> str:
    """Return a prompt without its directives."""
    return " ".join(_DIRECTIVE.sub("", prompt).split())


def _kind(value: Any) -> str:
    return {bool: "true or false", dict: "table", list: "list", str: "text"}.get(type(value), "number")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
