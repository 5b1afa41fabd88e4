"""The HTTP client of the RunComfy Model API: one method a call, one call a method, no retries.

Its caller decides whether a call is repeated, and honours `Retry-After`: `runcomfy.journal.submit` for the paid call,
`runcomfy.polling` for the status, `runcomfy.api.requests` for a result and a cancel.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import quote, urlsplit

import httpx
from cachetools import LRUCache
from pydantic import SecretStr

from runcomfy.api.connections import Connections, one_connection
from runcomfy.api.outputs import given_urls
from runcomfy.api.rate_limit import RateLimiter
from runcomfy.api.refusals import json_object, read_refusal
from runcomfy.api.responses import (
    Answer,
    Cancellation,
    State,
    Status,
    parse_answer,
    parse_cancellation,
    parse_state,
    parse_status,
)
from runcomfy.connecting import address_of, no_connection
from runcomfy.errors import ConfigurationError, InvalidInput, ServiceError, ServiceUnavailable
from runcomfy.models import ModelInputs
from runcomfy.redaction import redact_loggers
from runcomfy.telemetry.metrics import called

__all__ = ["DEFAULT_BASE_URL", "LINE_SECONDS", "PAID_CALL_SECONDS", "RunComfyClient", "is_local"]

DEFAULT_BASE_URL = "https://model-api.runcomfy.net"
DEFAULT_BALANCE_URL = "https://api.runcomfy.net/prod/v2/balance"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CALLS_AT_ONCE = 100
PAID_CALL_SECONDS = 120.0
"""How long the paid call may take: a late answer is better than an unknown one. The lease of the journal outlives it:
`runcomfy.journal.submit`."""
LINE_SECONDS = PAID_CALL_SECONDS / 4
"""How long the paid call may wait in line before that."""
_CONNECT_SECONDS = 10.0
_MIN_TOKEN_LENGTH = 8  # a token is cut out of every answer, so a short one would cut words out of it
_MAX_SENT = 10_000
_IDLE_SECONDS = 30.0
_PAID_IDLE_SECONDS = 1.0


class RunComfyClient:
    """Call the service; use it as an asynchronous context manager.

    Any number of calls may be made at once: up to 100 are in flight, and the rest wait in line. The paid call has its
    own connections, which are closed after one idle second: a service may close an idle connection just when it is used
    again, and then the outcome of the call is unknown. For the same reason calls do not share a connection (HTTP/2):
    all of them would break at once.

    Args:
        token: The API token; sent to `base_url` (and to `balance_url` by `balance`), and nowhere else.
        base_url: The service, or a sandbox. https, unless it is on this machine.
        balance_url: Where to ask for the balance; RunComfy has it on another host than the models.
        timeout_seconds: How long one call may take to connect, and between two pieces of an answer.
        paid_call_seconds: How long the paid call may take in all, once it has a connection.
        transport: An httpx transport to use, for tests.
        rate_limiter: How often requests may be polled; share one among the clients of an account.

    Raises:
        ConfigurationError: the token or the URL cannot be used.
    """

    def __init__(
        self,
        token: SecretStr | str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        balance_url: str | None = None,
        timeout_seconds: float = 30.0,
        paid_call_seconds: float = PAID_CALL_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        self.base_url = _checked_url(base_url)
        default_balance = (
            DEFAULT_BALANCE_URL if self.base_url == DEFAULT_BASE_URL else f"{self.base_url}/prod/v2/balance"
        )
        self.balance_url = _checked_url(balance_url or default_balance)
        self._token = SecretStr(_checked_token(token))
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}", "Accept": "application/json"}
        trust = _trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))

        def make(idle_seconds: float) -> httpx.AsyncClient:
            limits = one_connection(idle_seconds)
            return httpx.AsyncClient(
                headers=headers, timeout=timeout_seconds, limits=limits, verify=trust, transport=transport
            )

        self.rate_limiter = rate_limiter
        self.paid_call_seconds = paid_call_seconds
        self._timeout_seconds = min(timeout_seconds, LINE_SECONDS)
        self._connect_seconds = min(timeout_seconds, _CONNECT_SECONDS)
        self._sent: LRUCache[str, None] = LRUCache(_MAX_SENT)
        self._connections = Connections(lambda: make(_IDLE_SECONDS), _CALLS_AT_ONCE)
        self._paid_connections = Connections(lambda: make(_PAID_IDLE_SECONDS), _CALLS_AT_ONCE)
        redact_loggers()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds a token, and stays in its process: send the account, and open another client")

    async def __aenter__(self) -> Self:
        """Return the client; it opens connections when it needs them."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        try:
            await self._paid_connections.aclose()
        finally:
            await self._connections.aclose()

    @property
    def is_local(self) -> bool:
        """Whether the service runs on this machine, as a sandbox does."""
        return is_local(self.base_url)

    async def post_submission(self, inputs: ModelInputs, *, within_seconds: float | None = None) -> httpx.Response:
        """Send the one paid call, once, and return whatever the answer is.

        Do not call it: `runcomfy.journal.submit_once` does, and judges the answer.

        Args:
            inputs: What to generate.
            within_seconds: How long it may take, if that is less than `paid_call_seconds`. The wait in line before it
                is limited as well: the lease of a recorded intent must not run out there.

        Raises:
            httpx.HTTPError: it was not answered; `PoolTimeout`: it was not even sent.
            TimeoutError: the answer was not complete in time.
        """
        url, body = f"{self.base_url}/v1/models/{inputs.model_id}", inputs.body()
        seconds = min(self.paid_call_seconds, within_seconds or self.paid_call_seconds)
        timeout = httpx.Timeout(seconds, connect=min(self._connect_seconds, seconds / 4))
        self._sent.update(dict.fromkeys(given_urls(body)))
        with called("submit") as status:
            async with self._paid_connections.one(timeout_seconds=min(self._timeout_seconds, seconds / 4)) as http:
                async with asyncio.timeout(seconds):
                    response = await http.post(url, json=body, timeout=timeout)
            status.append(response.status_code)
        return self._without_token(response)

    def why_unreachable(self, error: BaseException, url: str | None = None) -> str:
        """Return why the service could not be reached, where it was looked for, and which setting says so.

        Args:
            error: What httpx raised.
            url: What was called; by default, the service itself.
        """
        url = url or self.base_url
        found, advice = no_connection(error, address_of(url))
        named = "RunComfy" if self.base_url == DEFAULT_BASE_URL else "The service"
        return (
            f"{named} could not be reached. {found} {advice} Its address is RUNCOMFY_BASE_URL, or the base URL of the "
            f"credentials block: {self.base_url} now."
        )

    async def status(self, request_id: str) -> Status:
        """Ask where a request is.

        Raises:
            ServiceError: the call failed; if it is `retryable`, that says nothing about the request.
        """
        return parse_status(request_id, await self._get_request(request_id, "status"))

    async def result(self, request_id: str) -> Answer:
        """Ask how a request ended, with its cost if that is known yet.

        Raises:
            ServiceError: the call failed; if it is `retryable`, that says nothing about the request.
        """
        body = await self._get_request(request_id, "result", include_cost="true")
        return parse_answer(request_id, body, sent=self._sent)

    async def cancel(self, request_id: str) -> Cancellation:
        """Ask the service to cancel a request; only one in the queue can be. Asking twice does no harm.

        Raises:
            ServiceError: the call failed; the request may or may not be cancelled.
        """
        url = f"{self._request_url(request_id)}/cancel"
        body = await self._call("POST", url, answers=lambda body: "outcome" in body, request_id=request_id)
        return parse_cancellation(request_id, body)

    async def model(self, model_id: str) -> dict[str, Any]:
        """Return the catalogue's entry of a model: its `input_schema`, its price and the like; it costs nothing.

        Raises:
            InvalidInput: the catalogue has no such model.
            ServiceError: the call failed.
        """
        url = f"{self.base_url}/v1/models/{quote(model_id, safe='/')}"
        try:
            body = await self._call("GET", url)
        except ServiceError as error:
            if error.http_status not in (400, 404, 422):
                raise
            body = {}
        if not isinstance(body.get("input_schema"), dict):
            raise InvalidInput(
                f"RunComfy's catalogue has no model {model_id!r}. Copy the id from the model's page; "
                "`prefect-runcomfy models list --search WORD` finds it. Nothing was paid for."
            )
        if body.get("model_id", model_id) != model_id:
            raise ServiceUnavailable(
                f"The catalogue was asked for {model_id}, and answered with another model. Try again later. "
                "Nothing was paid for."
            )
        return {**body, "model_id": model_id}

    async def models(self, *, search: str = "", category: str = "") -> list[dict[str, Any]]:
        """Return the catalogue's entries, without their schemas.

        Args:
            search: A part of the id or the name.
            category: Such as `text-to-video`.

        Raises:
            ServiceError: a call failed.
        """
        found: list[dict[str, Any]] = []
        asked = {name: text for name, text in (("search", search), ("category", category)) if text}
        while True:
            page = await self._call(
                "GET", f"{self.base_url}/v1/models", params={**asked, "limit": "500", "offset": str(len(found))}
            )
            entries = page.get("models")
            new = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
            found += new
            total = page.get("total")
            if not new or not isinstance(total, int) or len(found) >= total:
                return found

    async def balance_usd(self) -> float:
        """Return the account's balance in USD."""
        body = await self._call("GET", self.balance_url)
        try:
            return float(body["balance_usd"])
        except (KeyError, TypeError, ValueError):
            raise ServiceUnavailable("The balance call did not answer with a balance. Try again later.") from None

    def _request_url(self, request_id: str) -> str:
        if not request_id.strip():
            raise InvalidInput(
                "The request id is empty. Give the one that the submission was answered with. Nothing was asked."
            )
        return f"{self.base_url}/v1/requests/{quote(request_id, safe='')}"

    async def _get_request(self, request_id: str, call: str, **params: str) -> dict[str, Any]:
        if self.rate_limiter is not None:
            await self.rate_limiter.acquire()
        url = f"{self._request_url(request_id)}/{call}"
        return await self._call("GET", url, params=params, answers=_has_state, request_id=request_id)

    async def _call(
        self,
        method: str,
        url: str,
        *,
        params: dict[str, str] | None = None,
        answers: Callable[[dict[str, Any]], bool] | None = None,
        request_id: str | None = None,
    ) -> dict[str, Any]:
        """Make a call; if it is about a request, `answers` says whether the body of a 2xx answers it."""
        try:
            with called(urlsplit(url).path.rpartition("/")[2]) as status:
                async with self._connections.one() as http:
                    response, why = await http.request(method, url, params=params or None), ""
                status.append(response.status_code)
        except httpx.HTTPError as error:
            response, why = None, self.why_unreachable(error, url)
        if response is None:  # raised outside the handler, so that no request with its token is attached to the error
            raise ServiceUnavailable(why, request_id=request_id)
        response = self._without_token(response)
        body = json_object(response) or {}
        if response.is_success and answers is not None and answers(body):
            return body
        refusal = read_refusal(response, request_id=request_id)
        if refusal is not None:
            raise refusal
        return body

    def _without_token(self, response: httpx.Response) -> httpx.Response:
        """Cut our own token out of an answer that quotes it, before it can get into an error."""
        token = self._token.get_secret_value().encode()
        if token not in response.content:
            return response
        kept = {name: value for name, value in response.headers.items() if name in ("content-type", "retry-after")}
        content = response.content.replace(token, b"[redacted]")
        return httpx.Response(response.status_code, headers=kept, content=content)


def _has_state(body: dict[str, Any]) -> bool:
    """Whether a body has the state of a request; then an error in it is part of the answer, and not a refusal."""
    return parse_state(body.get("status")) is not State.UNKNOWN


def is_local(url: str) -> bool:
    """Whether a service runs on this machine, as a sandbox does."""
    return urlsplit(url).hostname in _LOOPBACK


@lru_cache(maxsize=4)
def _trust(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """Return what httpx trusts in this environment; all clients share it, because reading it takes 30 ms."""
    return httpx.create_ssl_context()


def _checked_token(token: SecretStr | str) -> str:
    value = (token.get_secret_value() if isinstance(token, SecretStr) else token).strip()
    if not value:
        raise ConfigurationError(
            "No RunComfy token: set RUNCOMFY_API_TOKEN, or fill in the RunComfy credentials block."
        )
    if len(value) < _MIN_TOKEN_LENGTH:
        raise ConfigurationError(
            "The RunComfy token is too short to be one: copy the whole of it. Nothing was sent or paid for."
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError("The RunComfy token holds a character that no token has: copy it again.")
    return value


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(
            "The RunComfy base URL (RUNCOMFY_BASE_URL) is not a URL: write https://HOST."
        ) from None
    if not host or parts.scheme not in ("https", "http") or parts.query or parts.username:
        raise ConfigurationError("The RunComfy base URL must look like https://host, without user or query.")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ConfigurationError(
            f"The RunComfy base URL must be https: the token would cross the network to {host} in clear."
        )
    return url.strip().rstrip("/")
