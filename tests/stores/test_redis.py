"""What only the Redis store promises: its keys, its deadline, its connections, Sentinels and clusters."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode

import pytest

from wsgisession.stores import open_store
from wsgisession.stores.redis import RedisStore
from wsgisession.testing import StoreContract


@pytest.fixture
def prefix() -> str:
    return f"wsgisession_test_{secrets.token_hex(4)}:"


@pytest.fixture
def opened(redis_server, prefix) -> Iterator[Callable[..., RedisStore]]:
    """Opens stores with the test's own prefix, and closes them."""
    stores = []

    def make(at: str = redis_server.url, **parameters: object) -> RedisStore:
        query = urlencode({"prefix": prefix, **parameters}, quote_via=quote)
        stores.append(open_store(f"{at}{'&' if '?' in at else '?'}{query}"))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


class TestOneServer(StoreContract):
    password = "hush-hush"

    @pytest.fixture
    def store(self, opened) -> RedisStore:
        return opened(timeout=10)

    @pytest.fixture
    def other_store(self, opened) -> RedisStore:
        return opened(timeout=10)

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[RedisStore, float]:
        return opened(f"redis://me:{self.password}@127.0.0.1:1/0", timeout=1), 1.0


class TestBehindSentinels(TestOneServer):
    @pytest.fixture
    def store(self, opened, redis_sentinel) -> RedisStore:
        return opened(redis_sentinel.url, timeout=10)

    @pytest.fixture
    def other_store(self, opened, redis_sentinel) -> RedisStore:
        return opened(redis_sentinel.url.replace("redis+", "valkey+"), timeout=10)

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[RedisStore, float]:
        return opened(f"redis+sentinel://me:{self.password}@127.0.0.1:1,127.0.0.1:2/mymaster", timeout=1), 1.0


class TestInACluster(TestOneServer):
    @pytest.fixture
    def store(self, opened, redis_cluster) -> RedisStore:
        return opened(redis_cluster.url, timeout=10)

    @pytest.fixture
    def other_store(self, opened, redis_cluster) -> RedisStore:
        return opened(redis_cluster.url.replace("redis+", "valkey+"), timeout=10)

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[RedisStore, float]:
        return opened(f"redis+cluster://me:{self.password}@127.0.0.1:1,127.0.0.1:2", timeout=1), 1.0
