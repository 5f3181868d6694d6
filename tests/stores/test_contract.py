"""The store contract, on every store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.conftest import with_options
from wsgisession.stores import Store, open_store
from wsgisession.testing import SharedStoreContract, StoreContract

TIMEOUT = 0.3


class StoreOfURL:
    """The fixtures of a store that a URL opens. The class says the URL's fixture."""

    url_fixture: str

    @pytest.fixture
    def url(self, request) -> str:
        return request.getfixturevalue(self.url_fixture)

    @pytest.fixture
    def store(self, url) -> Iterator[Store]:
        with closing(open_store(url)) as store:
            yield store


class SharedStore(StoreOfURL, SharedStoreContract):
    @pytest.fixture
    def other_store(self, url) -> Iterator[Store]:
        with closing(open_store(url)) as store:
            yield store


class NetworkStore(SharedStore):
    password = "open-sesame"

    @pytest.fixture
    def unreachable_store(self, url, tcp_proxy) -> Iterator[tuple[Store, float]]:
        proxy = tcp_proxy(url)
        proxy.stall = True
        parts = urlsplit(proxy.url)
        here = parts.netloc.rpartition("@")[2]
        named = parts._replace(netloc=f"ali-baba:{self.password}@{here}").geturl()
        with closing(open_store(with_options(named, timeout=str(TIMEOUT)))) as store:
            yield store, TIMEOUT


class TestMemoryStore(StoreOfURL, StoreContract):
    url_fixture = "memory_url"


class TestSQLiteStore(SharedStore):
    url_fixture = "sqlite_url"

    @pytest.fixture
    def unreachable_store(self, url, sqlite_url) -> Iterator[tuple[Store, float]]:
        with closing(sqlite3.connect(urlsplit(url).path, isolation_level=None)) as other:
            for statement in ("PRAGMA locking_mode = EXCLUSIVE", "CREATE TABLE held (x)", "BEGIN EXCLUSIVE"):
                other.execute(statement).fetchall()
            with closing(open_store(with_options(sqlite_url, timeout=str(TIMEOUT)))) as store:
                yield store, TIMEOUT


class TestRedisStore(NetworkStore):
    url_fixture = "redis_url"


class TestPostgreSQLStore(NetworkStore):
    url_fixture = "postgresql_url"


class TestMongoDBStore(NetworkStore):
    url_fixture = "mongodb_url"
