"""Fixtures of the Redis tests: stores with a prefix of their own, and a client that looks from outside."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode

import pytest
import redis

from wsgisession.stores import open_store
from wsgisession.stores.redis.store import RedisStore


@pytest.fixture
def client(redis_server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


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
