"""Tasks are tested with what flows are tested with: the sandbox, a real S3 server, and Prefect's test server."""

from __future__ import annotations

from tests.flows.conftest import account, media_store

__all__ = ["account", "media_store"]
