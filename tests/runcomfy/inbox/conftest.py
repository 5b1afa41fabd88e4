from __future__ import annotations

from collections.abc import Iterator

import pytest

from runcomfy.storage.store import Store
from tests.runcomfy.inbox.cloud import Cloud, running_cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    with running_cloud() as running:
        yield running


@pytest.fixture
def archive(cloud: Cloud) -> Store:
    """A store with a bucket of its own, where what was handled is recorded."""
    return Store(cloud.bucket(), "archive", session=cloud.session(), endpoint_url=cloud.endpoint_url)
