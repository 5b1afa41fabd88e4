"""Read one byte by a signed URL, and explain the answer to the person whose input it is.

One byte by GET, since a URL that is signed for GET refuses HEAD. No error here holds the URL.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from runcomfy.errors import ConfigurationError, StoreUnavailable
from runcomfy.redaction import redact_loggers

__all__ = ["FetchRefusal", "Unreachable", "read_one_byte"]

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_ATTEMPTS = 3
_PASSING = (408, 425, 429)
_SKEW = timedelta(minutes=5)
_MOST_BYTES = 8192
_REGION_CODES = (
    "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "IllegalLocationConstraintException",
    "InvalidRegionName", "PermanentRedirect", "TemporaryRedirect",
)  # fmt: skip
_CLOCK_CODES = (
    "ExpiredPresignRequest", "RequestExpired", "RequestInTheFuture", "RequestNotReadyYet", "RequestTimeTooSkewed",
)  # fmt: skip
_ADDRESS = "Check the public endpoint URL, and proxies that change the Host header or the path."
_CLOCK = "The clock of this machine or of the store is wrong, and a signature holds for its time only. Set it (NTP)."
_POLICY = (
    "The credentials, or a policy of the bucket, do not let it be read by a signed URL: allow s3:GetObject, and look "
    "for conditions on addresses (aws:SourceIp, aws:SourceVpce) or on the age of signatures (s3:signatureAge)."
)
_ADVICE = {
    "AccessDenied": _POLICY,
    "ExpiredToken": "The temporary credentials have ended. Sign in again, or use keys or a role.",
    "InvalidAccessKeyId": f"The server at this address does not know the access key. {_ADDRESS}",
    "InvalidToken": "The session token is wrong or has ended. Sign in again, or use keys or a role.",
    "NoSuchBucket": f"The server at this address has no such bucket. {_ADDRESS}",
    "NoSuchKey": f"The server at this address does not have the file. {_ADDRESS}",
    "SignatureDoesNotMatch": f"The secret key is wrong, or something on the way changes requests. {_ADDRESS}",
}


@dataclass(frozen=True)
class Unreachable:
    """An address that could not be reached from here; whether the service reaches it is unknown."""

    host: str
    error: httpx.TransportError


@dataclass(frozen=True)
class FetchRefusal:
    """An answer that is not the file."""

    host: str
    status: int
    code: str
    location: str
    region: str | None
    skew: timedelta
    expired: bool
    instead: str

    @property
    def is_regional(self) -> bool:
        """Whether it is about the region."""
        return self.region is not None or self.code in _REGION_CODES

    @property
    def is_passing(self) -> bool:
        """Whether it may pass, and says nothing of the URL."""
        return self.status >= 500 or self.status in _PASSING or self.code in ("SlowDown", "RequestTimeout")

    def error(self, region: str | None) -> ConfigurationError | StoreUnavailable:
        """Return it as an error that says what to do, without the URL."""
        said = f"{self.host} answers {self.status} {self.code}".rstrip() + " to a signed URL"
        if self.is_passing:
            return StoreUnavailable(
                f"{said}: the store is busy or broken. Nothing was paid for. Run it again later.",
                http_status=self.status, error_code=self.code or None,
            )  # fmt: skip
        return ConfigurationError(
            f"{said}{self.instead}. The service could not read the input, and nothing was paid for. "
            f"{self._advice(region)}",
            http_status=self.status, error_code=self.code or None,
        )  # fmt: skip

    def _advice(self, region: str | None) -> str:
        if self.code in _CLOCK_CODES or self.expired or abs(self.skew) >= _SKEW:
            minutes = round(abs(self.skew).total_seconds() / 60)
            way = "ahead of" if self.skew > timedelta(0) else "behind"
            return f"{f'This machine is {minutes} minutes {way} the store. ' if minutes else ''}{_CLOCK}"
        if self.is_regional:
            where = f" ({self.region})" if self.region and self.region != region else ""
            return (
                f"The bucket is in another region{where} than the one that is signed for ({region}). Name its region."
            )
        if self.location:
            return f"It redirects to {self.location}, where the signature does not hold. Name the address that serves."
        if self.code:
            return _ADVICE.get(self.code, _ADDRESS)
        return f"What answers there is no S3 server, or a proxy before one. {_ADDRESS}"


def read_one_byte(
    url: str, *, size_bytes: int | None, verify: bool | str, is_own: bool, sleep: Callable[[float], None] = time.sleep
) -> FetchRefusal | Unreachable | None:
    """Return `None` if the URL can be read; blocks, for some seconds where nothing answers.

    Args:
        url: A signed URL.
        size_bytes: The size of the file, to detect a page that something in between answers with instead.
        verify: Which certificates are trusted, in boto3's form.
        is_own: Whether boto3 uses the same address; at another one, a certificate that is not accepted is an error.
        sleep: Waits between the three attempts at a server that fails, in seconds.

    Raises:
        ConfigurationError: It is no address, or its certificate is not accepted.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        outcome = _fetch(url, size_bytes, verify, is_own)
        if not (isinstance(outcome, FetchRefusal) and outcome.is_passing) or attempt == _ATTEMPTS:
            return outcome
        sleep(float(attempt))
    raise AssertionError("unreachable: the last attempt returns")


def _fetch(url: str, size_bytes: int | None, verify: bool | str, is_own: bool) -> FetchRefusal | Unreachable | None:
    redact_loggers()
    host = urlsplit(url).netloc.rpartition("@")[2]
    trouble: httpx.TransportError | None = None
    try:
        with _answer(url, verify) as answer:
            return _judged(answer, host, size_bytes)
    except httpx.TransportError as error:
        trouble = error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        pass
    # Raised outside the except clause: the errors of httpx hold the URL, and would become the context of ours.
    if trouble is None or isinstance(trouble, httpx.UnsupportedProtocol):
        raise _unusable(f"{host} is no address that can be read.", _ADDRESS)
    if url.startswith("https:") and _is_untrusted(trouble) and not is_own:
        raise _unusable(
            f"The certificate of {host}, which inputs are signed for, is not accepted here.",
            "Give it one that is valid for this name, or trust its authority here (SSL_CERT_FILE, AWS_CA_BUNDLE).",
        )
    return Unreachable(host, trouble)


@contextmanager
def _answer(url: str, verify: bool | str) -> Iterator[httpx.Response]:
    headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    with (
        httpx.Client(timeout=_TIMEOUT, verify=_trust(verify), follow_redirects=False) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        yield answer


def _trust(verify: bool | str) -> ssl.SSLContext | bool:
    bundle = verify if isinstance(verify, str) else os.environ.get("AWS_CA_BUNDLE") if verify else None
    if not bundle:
        return bool(verify)
    context = httpx.create_ssl_context()
    context.load_verify_locations(bundle)
    return context


def _judged(answer: httpx.Response, host: str, size_bytes: int | None) -> FetchRefusal | None:
    body = b""
    for piece in answer.iter_raw():
        body += piece
        if len(body) >= _MOST_BYTES or answer.is_success:
            break
    said, instead = body[:_MOST_BYTES].decode("utf-8", "replace"), ""
    if answer.status_code in (200, 206) and body:
        size = _size(answer)
        if answer.headers.get("content-type", "").startswith("text/html"):
            instead = ", with a page in place of the file"
        elif size_bytes is None or size is None or size == size_bytes:
            return None
        else:
            instead = f", with {size:,} bytes in place of {size_bytes:,}: that is something else"
    elif answer.is_success:
        instead = ", with nothing"
    code = re.search(r"<Code>(\w+)</Code>", said)
    region = answer.headers.get("x-amz-bucket-region") or next(iter(re.findall(r"<Region>([\w-]+)</Region>", said)), "")
    return FetchRefusal(
        host=host,
        status=answer.status_code,
        code=code[1] if code else "",
        location=(urlsplit(answer.headers.get("location", "")).netloc.rpartition("@")[2]),
        region=region if re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,62}", region) else None,
        skew=_skew(answer),
        expired=answer.status_code == 403 and bool(re.search(r"has expired|not (yet )?valid yet|not yet valid", said)),
        instead=instead,
    )


def _size(answer: httpx.Response) -> int | None:
    whole = answer.headers.get("content-range", "").rpartition("/")[2]
    length = answer.headers.get("content-length", "") if answer.status_code == 200 else ""
    return next((int(text) for text in (whole, length) if text.isdecimal()), None)


def _skew(answer: httpx.Response) -> timedelta:
    """Return how far this machine's clock is ahead of the server's, by its `Date`."""
    try:
        return datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])
    except (KeyError, TypeError, ValueError):
        return timedelta(0)


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unusable(happened: str, advice: str) -> ConfigurationError:
    return ConfigurationError(f"{happened} The service could not read the input, and nothing was paid for. {advice}")
