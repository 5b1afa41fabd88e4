"""Why a connection failed, in words: name, certificate, refusal, no answer."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from runcomfy.doctor.findings import Diagnosis, broken

__all__ = ["no_connection"]

_TIMEOUTS = (TimeoutError, httpx.TimeoutException, ConnectTimeoutError, ReadTimeoutError)


def no_connection(error: BaseException, host: str) -> Diagnosis:
    """Name the reason for which a host could not be reached.

    Args:
        error: What httpx or boto3 raised.
        host: The host, with its port where it has one.
    """
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return broken(
                f"The certificate of {host} is not accepted: {cause.verify_message or cause.reason}.",
                "Give the server a certificate that is valid for this name, or trust its authority here "
                "(SSL_CERT_FILE, AWS_CA_BUNDLE).",
            )
        if isinstance(cause, ssl.SSLError):
            return broken(
                f"{host} does not speak TLS as this machine does ({cause.reason or 'handshake failed'}).",
                "Check https or http in the URL, and its port.",
            )
        if isinstance(cause, socket.gaierror):
            return broken(f"The name of {host} is not known (DNS).", "Check the spelling, and this machine's DNS.")
        if isinstance(cause, ConnectionRefusedError):
            return broken(f"Nothing listens at {host}: the connection was refused.", "Check address and port.")
    if any(isinstance(cause, _TIMEOUTS) for cause in chain):
        return broken(f"{host} did not answer in time.", "Check the network, and any proxy or firewall.")
    return broken(f"No connection to {host} ({type(error).__name__}).", "Check the network and the address.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it; libraries keep that in different places."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        found = pending.pop()
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        kwargs = getattr(found, "kwargs", None)
        inner = kwargs.get("error") if isinstance(kwargs, dict) else None
        pending += [found.__cause__, found.__context__, getattr(found, "reason", None), inner]
