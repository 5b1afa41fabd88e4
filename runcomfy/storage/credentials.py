"""How long credentials are valid: a signed URL ends with the credentials that signed it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from datetime import timedelta
from typing import Any

from botocore.credentials import RefreshableCredentials

from runcomfy.errors import ConfigurationError

__all__ = ["LONGEST_SIGNATURE", "CredentialLife"]

LONGEST_SIGNATURE = timedelta(days=7)


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
