"""Fixtures: a server of each kind for all tests, and on it a separate namespace for each test.

Servers start at their first use and end with the run. One that the environment names is used instead, and left clean:
WSGISESSION_TEST_REDIS_URL, WSGISESSION_TEST_POSTGRESQL_URL, WSGISESSION_TEST_MONGODB_URL. A test that harms a server
starts its own, with `start_server`, or puts a `tcp_proxy` in front of it.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import psycopg
import pymongo
import pytest
import redis
from hypothesis import settings

from tests import servers
from tests.leaks import IDTrap
from tests.programs import Skips
from wsgisession.stores import Store, open_store

RUN = f"wsgisession_test_{secrets.token_hex(4)}"
"""Part of the name of everything that this run creates on a server that others may use too."""

_numbers = itertools.count(1)

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("few", derandomize=True, deadline=None, max_examples=20)
settings.register_profile("long", derandomize=False, deadline=None, max_examples=5000, print_blob=True)
settings.load_profile(os.environ.get("WSGISESSION_TEST_PROFILE", "fixed"))
"""Hypothesis tries the same examples in every run; WSGISESSION_TEST_PROFILE=long tries many others each time, and
"few" is for ``make mutants``."""


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skips(), "wsgisession-skips")


def with_options(url: str, **options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(options)}"


def unavailable(reason: Exception) -> NoReturn:
    """Fail because a server is missing. A developer may ask for a skip instead; CI may not."""
    if os.environ.get("WSGISESSION_TEST_ALLOW_SKIP") and not os.environ.get("CI"):
        raise pytest.skip.Exception(str(reason)) from None
    cure = f"{reason} (WSGISESSION_TEST_ALLOW_SKIP=1 skips its tests)"
    raise pytest.fail.Exception(cure, pytrace=False) from None


def running(kind: Callable[..., Any], *options: str) -> Iterator[Any]:
    try:
        server = kind(*options)
    except servers.ServerUnavailable as reason:
        unavailable(reason)
    try:
        yield server.start()
    finally:
        server.stop()


def given_or_running(name: str, kind: Callable[[], Any]) -> Iterator[Any]:
    url = os.environ.get(f"WSGISESSION_TEST_{name}_URL")
    return running(lambda: servers.GivenServer(url) if url else kind())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Any]:
    for server in given_or_running("REDIS", servers.Redis):
        yield server
        with redis.Redis.from_url(server.url) as client:
            for key in client.scan_iter(f"{RUN}*", count=1000):
                client.delete(key)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    for server in given_or_running("POSTGRESQL", servers.PostgreSQL):
        _run_on_postgresql(server.url, f"CREATE SCHEMA {RUN}")
        yield server
        _run_on_postgresql(server.url, f"SET lock_timeout = '5s'; DROP SCHEMA {RUN} CASCADE")


def _run_on_postgresql(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements)


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[Any]:
    for server in given_or_running("MONGODB", servers.MongoDB):
        yield server
        with pymongo.MongoClient(server.url) as client:
            client.drop_database(RUN)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[servers.RedisCluster]:
    yield from running(servers.RedisCluster)


@pytest.fixture(scope="session")
def redis_sentinel() -> Iterator[servers.RedisSentinel]:
    yield from running(servers.RedisSentinel)


@pytest.fixture
def memory_url() -> str:
    return "memory://"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sessions.db'}"


@pytest.fixture
def redis_url(redis_server: Any) -> str:
    return with_options(redis_server.url, prefix=f"{RUN}:{next(_numbers)}:")


@pytest.fixture
def postgresql_url(postgresql_server: Any) -> str:
    return with_options(postgresql_server.url, schema=RUN, table=f"session_{next(_numbers)}")


@pytest.fixture
def mongodb_url(mongodb_server: Any) -> str:
    url = urlsplit(mongodb_server.url)._replace(path=f"/{RUN}").geturl()
    return with_options(url, collection=f"sessions_{next(_numbers)}")


@pytest.fixture(params=["memory", "sqlite", "redis", "postgresql", "mongodb"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A store of each kind, empty, nobody else's: the test runs once for each."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = open_store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def start_server() -> Iterator[Callable[..., Any]]:
    """Start a server for this test alone: ``start_server(servers.Redis, "--maxclients", "5")``."""
    with ExitStack() as stack:

        def start(kind: Callable[..., Any], *options: str) -> Any:
            server = running(kind, *options)
            stack.callback(server.close)
            return next(server)

        yield start


@pytest.fixture
def tcp_proxy() -> Iterator[Callable[[str], servers.TcpProxy]]:
    """Stand a proxy with faults before the server of a URL: ``proxy = tcp_proxy(redis_url)``, then ``proxy.url``."""
    with ExitStack() as stack:

        def start(target: str) -> servers.TcpProxy:
            proxy = servers.TcpProxy(target)
            stack.callback(proxy.stop)
            return proxy.start()

        yield start


# No session ID is ever told: SECURITY 56.


@pytest.fixture(scope="session")
def trap_of_the_run() -> Iterator[IDTrap]:
    with IDTrap().set() as trap:
        yield trap


@pytest.fixture(autouse=True)
def id_trap(trap_of_the_run: IDTrap) -> Iterator[IDTrap]:
    """Fail the test in which a session ID is logged, or named in an error."""
    trap_of_the_run.take()
    yield trap_of_the_run
    assert trap_of_the_run.take() == [], "a session ID was revealed"
