from __future__ import annotations

import pytest

from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.runcomfy.catalogue.making import Archiving


@pytest.fixture
def archiving(object_store: ObjectStore, prefix: str) -> Archiving:
    """An empty archive with its journal, on a prefix of its own."""
    return Archiving(Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url))
