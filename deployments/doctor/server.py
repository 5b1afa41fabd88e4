"""Whether the Prefect server that this process is configured to use answers, and with which version."""

from __future__ import annotations

import re

import httpx
import prefect
from prefect import get_client
from prefect.client.base import ServerType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from blocks.prefect_api import refused
from runcomfy.connecting import address_of, no_connection
from runcomfy.doctor import Diagnosis, broken, ok, warning

__all__ = ["has_server", "server_answers"]


def has_server() -> bool:
    """Whether this process is configured to use a Prefect server, and not a temporary one."""
    return bool(PREFECT_API_URL.value())


async def server_answers() -> Diagnosis:
    """Ask the server for its version, once, and compare it with this machine's."""
    host = address_of(str(PREFECT_API_URL.value()))
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # or a proxy's 502 takes a minute
        return await _asked(host)


async def _asked(host: str) -> Diagnosis:
    async with get_client() as client:
        try:
            if client.server_type is ServerType.CLOUD:
                await client.read_work_pools(limit=1)
                return ok(f"{host} answers")
            version = await client.api_version()
        except PrefectHTTPStatusError as error:
            return broken(*refused(host, error.response.status_code))
        except httpx.HTTPError as error:
            return broken(*no_connection(error, host))
        except ValueError:  # not JSON
            return broken(*refused(host, 200))
    return _compare(host, str(version), prefect.__version__)


def _compare(host: str, server: str, here: str) -> Diagnosis:
    ours, theirs = ([int(number) for number in re.findall(r"\d+", version)[:2]] for version in (here, server))
    if theirs != ours:
        older = "server" if theirs < ours else "client"
        return warning(
            f"{host} has Prefect {server}, this machine {here}.", f"Bring the {older} to the other's version."
        )
    return ok(f"{host} answers, Prefect {server}")
