"""The service as this set-up reaches it: address, token, balance, and where its files may come from."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from runcomfy.api.client import DEFAULT_BASE_URL, RunComfyClient, is_local
from runcomfy.connecting import no_connection
from runcomfy.doctor.clock import ServerClock
from runcomfy.doctor.findings import Diagnosis, broken, ok, refused, warning
from runcomfy.doctor.running import Check
from runcomfy.download.hosts import HostPolicy
from runcomfy.errors import (
    AuthenticationError,
    HostNotAllowed,
    InsufficientBalance,
    RateLimited,
    RequestNotFound,
    ServiceError,
)

__all__ = ["AccountUnderTest", "service_checks"]

_AREA = "RunComfy"
_TOKEN_ADVICE = "Copy the token again from the profile page of your RunComfy account."  # noqa: S105 - a sentence


@dataclass(frozen=True)
class AccountUnderTest:
    """The account that pays, and where it is set.

    Args:
        open_client: Makes a client of the service.
        hosts: Where files may be downloaded from.
        source: Where these settings come from, for a person.
    """

    open_client: Callable[[], RunComfyClient]
    hosts: HostPolicy
    source: str


def service_checks(
    find: Callable[[], Awaitable[AccountUnderTest]], clock: ServerClock, *, needs: tuple[str, ...] = ()
) -> list[Check]:
    """Return the checks of the service; none of them costs anything.

    Args:
        find: Finds the account; a `RunComfyError` that it raises is a finding.
        clock: Records what time the service has.
        needs: Names of the checks that this depends on.
    """
    checks = _ServiceChecks(find, clock)
    return [
        Check(_AREA, "credentials", checks.credentials, needs=needs),
        Check(_AREA, "service", checks.service, needs=("credentials",)),
        Check(_AREA, "token", checks.token, needs=("service",)),
        Check(_AREA, "balance", checks.balance, needs=("token",)),
        Check(_AREA, "output hosts", checks.output_hosts, needs=("credentials",)),
    ]


class _ServiceChecks:
    _account: AccountUnderTest

    def __init__(self, find: Callable[[], Awaitable[AccountUnderTest]], clock: ServerClock) -> None:
        self._find, self._clock = find, clock
        self._token = ok("")

    async def credentials(self) -> Diagnosis:
        """Find the account, and make sure that a client can be made of it."""
        self._account = await self._find()
        async with self._account.open_client():
            return ok(f"from {self._account.source}")

    async def service(self) -> Diagnosis:
        """Ask for a request that does not exist, without the token and then with it: two calls find most problems."""
        async with self._account.open_client() as client:
            parts, request_id = urlsplit(client.base_url), str(uuid.uuid4())
            try:
                async with httpx.AsyncClient(timeout=15) as anonymous:
                    answer = await anonymous.get(f"{client.base_url}/v1/requests/{request_id}/status")
            except httpx.HTTPError as error:
                return broken(*no_connection(error, parts.netloc))
            self._clock.record(parts.netloc, answer.headers.get("Date"))
            try:
                await client.status(request_id)
            except RequestNotFound:
                self._token = ok("accepted")
            except AuthenticationError as error:
                self._token = refused(error, _TOKEN_ADVICE)
            except InsufficientBalance:
                self._token = ok("accepted")
            except RateLimited:
                self._token = warning("The service asks for fewer calls.", "Try again in a minute.")
            except ServiceError as error:
                if error.http_status in (401, 403):  # without RunComfy's code: it, or something on the way to it
                    self._token = refused(error, _TOKEN_ADVICE)
                    return ok(f"{client.base_url} answers")
                if answer.is_success or answer.is_redirect or error.http_status == 404:  # so does any web server
                    return _not_runcomfy(parts.netloc, answer.status_code)
                return refused(error, "Try again later; if it stays, see RunComfy's status page.")
            else:
                return _not_runcomfy(parts.netloc, answer.status_code)
        return ok(f"{client.base_url} answers")

    async def token(self) -> Diagnosis:
        """Report how the service answered the token."""
        return self._token

    async def balance(self) -> Diagnosis:
        """Ask for the balance; what a video costs is not published, so any is enough."""
        try:
            async with self._account.open_client() as client:
                balance = await client.balance_usd()
        except InsufficientBalance as error:
            return refused(error, "Top the account up.")
        except ServiceError as error:
            return warning(
                f"The balance is not known: {error.message}",
                "See RunComfy's dashboard; generations work without it.",
            )
        if balance <= 0:
            return broken(f"{balance:.2f} USD", "Top the account up.")
        return ok(f"{balance:.2f} USD")

    async def output_hosts(self) -> Diagnosis:
        """Check the allow-list: a file that may not be fetched is noticed only after it was paid for."""
        policy = self._account.hosts
        shown = ", ".join(policy.allowed)
        async with self._account.open_client() as client:
            base_url = client.base_url
        local = [host for host in policy.allowed if is_local(f"//{host}")]
        if is_local(base_url):
            try:
                policy.check_url(base_url)
            except HostNotAllowed:
                return broken(
                    f"{shown}: files of the sandbox come from its own address, which is not among them.",
                    f"Add {urlsplit(base_url).netloc} to the output hosts (RUNCOMFY_OUTPUT_HOSTS, or the block).",
                )
            return ok(shown)
        if "*" in policy.allowed:
            return warning(f"{shown}: files may come from any public host.", "Name the hosts, such as *.runcomfy.net.")
        if local:
            return warning(
                f"{shown}: {local[0]} is this machine, and the service is not a sandbox.", f"Remove {local[0]}."
            )
        if base_url == DEFAULT_BASE_URL and "*.runcomfy.net" not in policy.allowed:
            return warning(
                f"{shown}: the files of RunComfy were seen on *.runcomfy.net, which is not among them.",
                "Add *.runcomfy.net, or a video that was paid for may not be fetched.",
            )
        return ok(shown)


def _not_runcomfy(host: str, status: int) -> Diagnosis:
    return broken(
        f"{host} answers with {status}, and not as RunComfy does.",
        "Check the base URL, and proxies that require a login.",
    )
