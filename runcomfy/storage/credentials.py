"""What is wrong with credentials, and how long they are valid: a signed URL ends with those that signed it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from datetime import timedelta
from typing import Any

from botocore.credentials import RefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)

from runcomfy.errors import ConfigurationError

__all__ = ["LONGEST_SIGNATURE", "CredentialLife", "credential_trouble"]

LONGEST_SIGNATURE = timedelta(days=7)

_MAKING = ("botocore.credentials", "botocore.tokens")
_OURS = "there are no usable credentials"
_MOST_CHARACTERS = 300
_PROGRAM = "custom-process"  # botocore's name for `credential_process`


def credential_trouble(error: BaseException) -> str | None:
    """Return what is wrong with the credentials and what to do, if that is why boto3 raised this; else `None`.

    Nothing that a program of the user printed is in it: it may be the keys.
    """
    facts: dict[str, Any] = getattr(error, "kwargs", {})
    match error:
        case ProfileNotFound():
            return (
                f"{_OURS}: there is no AWS profile “{facts.get('profile')}” on this machine. "
                "`aws configure list-profiles` lists them; set AWS_PROFILE, or the profile of the credentials block."
            )
        case SSOError() | LoginError() | TokenRetrievalError() | NoAuthTokenError():
            return (
                f"{_OURS}: the AWS sign-in has ended, or was never made on this machine. Sign in with `aws sso login` "
                "(with `--profile` for a profile), or use keys or a role where nobody can sign in."
            )
        case InfiniteLoopConfigError():
            return f"{_OURS}: in ~/.aws/config, profiles name each other without end (source_profile). Correct them."
        case ConfigParseError() | ConfigNotFound() | InvalidConfigError():
            return f"{_OURS}: AWS's configuration files (~/.aws) cannot be used. {error}"
        case RefreshWithMFAUnsupportedError():
            return f"{_OURS}: the session of an MFA code has ended. Sign in again, or use keys or a role without one."
        case NoCredentialsError() | PartialCredentialsError():
            return f"{_OURS}. Give the store keys, a profile or a role."
        case CredentialRetrievalError() if facts.get("provider") != _PROGRAM:
            return f"{_OURS}: they could not be obtained from {facts.get('provider')}. Check the profile that names it."
        case ConnectionError() | HTTPClientError():
            return None
    if not isinstance(error, CredentialRetrievalError) and not (within := _frames(error)).intersection(_MAKING):
        return None
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        return (
            f"{_OURS}: AWS refuses {error.operation_name} ({code}). Check the role that the profile or the environment "
            "names, who may assume it, and the keys that ask for it."
        )
    if isinstance(error, CredentialRetrievalError) or "ProcessProvider" in within:
        return (
            f"{_OURS}: the program that `credential_process` names in ~/.aws/config is missing, failed, or printed "
            "something else than credentials. Run it by hand to see why."
        )
    file = getattr(error, "filename", None)
    why = f"there is no file {file}" if isinstance(error, FileNotFoundError) and file else type(error).__name__
    return (
        f"{_OURS}: what the environment or the profile says of them cannot be used "
        f"({str(error)[:_MOST_CHARACTERS] if isinstance(error, BotoCoreError) else why}). Look for AWS_… variables, "
        "and at the profile and the files that it names."
    )


def _frames(error: BaseException) -> set[str]:
    """Return the modules, and the classes of the objects, that an error has passed."""
    names: set[str] = set()
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        names.add(str(frame.f_globals.get("__name__")))
        names.add(type(frame.f_locals.get("self")).__name__)
        trace = trace.tb_next
    return names


class CredentialLife:
    """The remaining life of a session's credentials; thread-safe.

    Args:
        credentials: What `boto3.Session.get_credentials` returned.
    """

    def __init__(self, credentials: object | None) -> None:
        # Any, because the one private attribute below is not in botocore's types.
        self._refreshable: Any = credentials if isinstance(credentials, RefreshableCredentials) else None
        self._lock = threading.Lock()

    def outlast(self, seconds: int) -> None:
        """Refresh credentials that end within this time; raise `ConfigurationError` if they still do after that."""
        credentials = self._refreshable
        if credentials is None:
            return
        with self._lock:
            credentials.get_frozen_credentials()
            if credentials.refresh_needed(refresh_in=seconds):
                # botocore refreshes a few minutes before the end, and has no public way to ask for it sooner.
                usual = credentials._advisory_refresh_timeout
                credentials._advisory_refresh_timeout = seconds
                try:
                    credentials.get_frozen_credentials()
                finally:
                    credentials._advisory_refresh_timeout = usual
        if credentials.refresh_needed(refresh_in=seconds):
            raise ConfigurationError(
                f"The credentials end before a URL that lives for {timedelta(seconds=seconds)}. Use keys or a role "
                "whose sessions last longer, or shorten the lifetime."
            )

    def remaining(self) -> timedelta | None:
        """Return what is left, in whole seconds; None where no end within seven days is known."""
        credentials = self._refreshable
        if credentials is None:
            return None
        credentials.get_frozen_credentials()
        # The expiry is private; the question "does it end within n seconds?" is not.
        within = range(int(LONGEST_SIGNATURE.total_seconds()) + 2)
        first = bisect_left(within, True, key=lambda seconds: credentials.refresh_needed(refresh_in=seconds))
        return None if first == len(within) else timedelta(seconds=max(first - 1, 0))
