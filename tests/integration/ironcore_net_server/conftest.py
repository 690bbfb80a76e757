from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from apimachinery.store import Store
from tests.support.etcd import etcd_cluster, etcd_store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with etcd_cluster() as cluster, etcd_store(cluster) as store:
        yield store
