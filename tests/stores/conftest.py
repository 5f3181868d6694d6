"""Fixtures of the PostgreSQL tests: the test's own table, and stores on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
import pytest

from wsgisession.stores import open_store
from wsgisession.stores.postgresql import PostgreSQLStore


@pytest.fixture
def url(postgresql_url) -> str:
    """The server and database, without the parameters."""
    return postgresql_url.partition("?")[0]


@pytest.fixture
def place(postgresql_url) -> dict[str, str]:
    """The schema and table that are this test's own."""
    return dict(parse_qsl(postgresql_url.partition("?")[2]))


@pytest.fixture
def table(place) -> str:
    return place["table"]


@pytest.fixture
def connect(url, place) -> Callable[[], psycopg.Connection]:
    return lambda: psycopg.connect(url, options=f"-c search_path={place['schema']}")


@pytest.fixture
def sql(connect) -> Iterator[psycopg.Connection]:
    with connect() as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture
def opened(url, place) -> Iterator[Callable[..., PostgreSQLStore]]:
    """Opens stores on the test's own table, and closes them."""
    stores = []

    def make(at: str = url, **parameters: object) -> PostgreSQLStore:
        stores.append(open_store(f"{at}?{urlencode({**place, **parameters}, quote_via=quote)}"))
        return stores[-1]

    yield make
    for store in stores:
        store.close()
