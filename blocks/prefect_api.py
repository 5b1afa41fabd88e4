"""What a person is told where Prefect's API does not answer, or refuses: which address, which setting, what to do.

Prefect's own errors for that are a hundred lines of the libraries below it, and name neither.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

from runcomfy.connecting import NoConnection, address_of, causes, no_connection
from runcomfy.errors import ConfigurationError, InvalidInput, RunComfyError
from runcomfy.redaction import strip_query

__all__ = ["LoadedInWords", "checked_api_url", "in_words", "refused", "trouble", "unusable_api"]

_NOTHING = "Nothing was started or paid for."
_PERHAPS = (
    "What was submitted before that goes on, and is in the journal: run the same again to collect it, which costs "
    "nothing more."
)
_TEMPORARY = "Timed out while attempting to connect to ephemeral"  # Prefect 3.8 and 3.9, `SubprocessASGIServer.start`
_AWAY = "Failed to reach API at"  # the same versions, `PrefectClient.raise_for_api_version_mismatch`


def checked_api_url() -> str:
    """Return the address of the Prefect server that this process is configured to use.

    Raises:
        ConfigurationError: there is none, or it is no URL.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise ConfigurationError("No Prefect server: set PREFECT_API_URL, such as http://127.0.0.1:4200/api.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("PREFECT_API_URL is no address: give one such as http://127.0.0.1:4200/api.")
    return str(url)


@contextmanager
def in_words(outcome: str = _PERHAPS) -> Iterator[None]:
    """Raise an error of ours, without Prefect's traceback, if Prefect's API does not answer or refuses in the body.

    Args:
        outcome: What became of what was done before; said unless it was to start a flow run.

    Raises:
        ConfigurationError: it does not answer, or not as Prefect's API does.
        InvalidInput: it refuses what it was given, such as parameters that are too large.
    """
    try:
        yield
    except (httpx.TransportError, httpx.HTTPStatusError, RuntimeError) as error:
        said = trouble(error, outcome)
        if said is None:
            raise
        raise said from None


def trouble(error: BaseException, outcome: str = _PERHAPS) -> RunComfyError | None:
    """Return what an error of Prefect's client means; `None` if it is not about Prefect's API.

    Args:
        error: What was raised.
        outcome: What became of what was done before; said unless it was to start a flow run.
    """
    api = str(PREFECT_API_URL.value() or "")
    if isinstance(error, PrefectHTTPStatusError | httpx.HTTPStatusError):
        return _refusal(error, api, outcome)
    if isinstance(error, httpx.TransportError):
        return _away(error, api, outcome)
    if isinstance(error, RuntimeError) and str(error).startswith(_TEMPORARY):
        seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        return ConfigurationError(
            f"PREFECT_API_URL is not set, and the temporary server that Prefect starts then was not ready within "
            f"{seconds} s. {_NOTHING} Start a server of your own (`prefect server start`) and set PREFECT_API_URL, or "
            "give it longer: PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=90."
        )
    if isinstance(error, RuntimeError) and str(error).startswith(_AWAY):
        for cause in causes(error):
            if isinstance(cause, httpx.HTTPError):
                return trouble(cause, _NOTHING)
        return unusable_api(*_not_prefect(address_of(api)), _NOTHING)
    return None


def refused(host: str, status: int) -> NoConnection:
    """Return what an answer of Prefect's API with an error, or with something that is not its JSON, means.

    Args:
        host: Host and port.
        status: The HTTP status.
    """
    if status in (401, 403):
        found = f"The Prefect server at {host} refuses the key ({status})."
        return NoConnection(found, "Check PREFECT_API_KEY or PREFECT_API_AUTH_STRING.")
    if status >= 500:
        found = f"The Prefect server at {host}, or a proxy before it, fails with {status}."
        return NoConnection(found, "Try again in a minute; if it stays so, look at the server's log.")
    return _not_prefect(host, status)


def _not_prefect(host: str, status: int | None = None) -> NoConnection:
    answers = f"answers with {status}, and not as" if status else "does not answer as"
    return NoConnection(
        f"{host} {answers} Prefect's API does.", "Check PREFECT_API_URL; it ends with /api. Is a proxy in between?"
    )


def unusable_api(found: str, advice: str, outcome: str = "", http_status: int | None = None) -> ConfigurationError:
    """Return the error for an API that does not answer, or not as it should.

    Args:
        found: What was seen.
        advice: What to do.
        outcome: What became of what was done before, if anything was.
        http_status: What it answered with.
    """
    address = strip_query(str(PREFECT_API_URL.value() or ""))
    setting = "" if "PREFECT_API" in advice else f"Its address is PREFECT_API_URL: {address} now."
    said = " ".join(filter(None, ("Prefect's API cannot be used.", found, advice, setting, outcome)))
    return ConfigurationError(said, http_status=http_status)


def _away(error: httpx.TransportError, api: str, outcome: str) -> RunComfyError | None:
    request = _request(error)
    url = str(request.url) if request is not None else api
    if not api or urlsplit(url).netloc.rpartition("@")[2] != urlsplit(api).netloc.rpartition("@")[2]:
        return None  # another host, or a temporary server that is gone
    said = _NOTHING if _starts_a_run(request) else outcome
    return unusable_api(*no_connection(error, address_of(api)), said)


def _refusal(error: httpx.HTTPStatusError, api: str, outcome: str) -> RunComfyError | None:
    status, said = error.response.status_code, _NOTHING if _starts_a_run(error.request) else outcome
    if status == 422:
        return InvalidInput(
            f"Prefect's server refuses this. {_named(error.response)} {said}".rstrip(), http_status=status
        )
    if status in (401, 403) or status >= 500:
        host = address_of(api or str(error.request.url))
        return unusable_api(*refused(host, status), said, status)
    return None


def _named(response: httpx.Response) -> str:
    """Return what Prefect names in a 422, without the values, which are long."""
    try:
        found: Any = response.json().get("exception_detail")
        named = [
            f"{'.'.join(str(part) for part in each['loc'] if part != 'body')}: "
            f"{each['msg'].removeprefix('Value error, ').rstrip('.')}."
            for each in found
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return "It does not say why."
    said = " ".join(named)[:1000]
    if "bytes when serialized" in said:  # PREFECT_SERVER_API_MAX_PARAMETER_SIZE, 512 KiB by default
        said += (
            " Give shorter texts; many prompts belong into a manifest. The limit is the server's: "
            "PREFECT_SERVER_API_MAX_PARAMETER_SIZE."
        )
    return said


def _request(error: httpx.TransportError) -> httpx.Request | None:
    try:
        return error.request
    except RuntimeError:  # httpx has not set it
        return None


def _starts_a_run(request: httpx.Request | None) -> bool:
    return request is not None and request.method == "POST" and request.url.path.endswith(("/flow_runs/", "/flows/"))


class LoadedInWords:
    """What a block inherits before `Block`: to load it where Prefect's API is away ends in words; see `in_words`."""

    @classmethod
    async def aload(cls, *args: Any, **kwargs: Any) -> Self:
        """Load a stored block by its name; as `prefect.blocks.core.Block.aload`."""
        with in_words(""):
            return await super().aload(*args, **kwargs)  # type: ignore[misc, no-any-return]  # that of `Block`

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a stored block by its name; as `prefect.blocks.core.Block.load`, which is awaited in a coroutine."""
        with in_words(""):
            found = super().load(*args, **kwargs)  # type: ignore[misc]  # that of `Block`
        return _awaited(found) if inspect.isawaitable(found) else found


async def _awaited(loading: Awaitable[Any]) -> Any:
    with in_words(""):
        return await loading
