"""The PostgreSQL store behind the real PgBouncer, in each of its modes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest

from tests import servers
from tests.conftest import with_options
from tests.pgbouncer import PgBouncer
from wsgisession.stores import Reader, Record, Store, in_layout_of_express, open_store

NOW = 1_800_000_000.0
MODES = ["session", "transaction", "statement"]
EXPRESS = b'{"cookie":{"originalMaxAge":60000},"user_id":"7","n":%d}'


@pytest.fixture(scope="module")
def server() -> Iterator[servers.PostgreSQL]:
    server = servers.PostgreSQL().start()
    yield server
    server.stop()


@contextmanager
def pooler(server: servers.PostgreSQL, *settings: str) -> Iterator[PgBouncer]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS session")
    pooler = PgBouncer(server, *settings)
    try:
        yield pooler.start()
    finally:
        pooler.stop()


def opened(pooler: PgBouncer, layout: str, **options: str) -> Store:
    store = open_store(with_options(pooler.url, **options))
    if layout == "express":
        return in_layout_of_express(store, Reader(lambda data: (60.0, "7"), ("user_id",)))
    return store


def use(store: Store, handle: str) -> None:
    """Call every verb."""
    data = EXPRESS % 1
    made = store.create(handle, Record(data, 60.0, "7"), now=NOW)
    assert made is not None
    assert store.load(handle, now=NOW + 30, touch_after=0.05).data == data
    changed = store.replace(handle, Record(EXPRESS % 2, 60.0, "7", made.version, order=made.order), now=NOW)
    assert changed is not None
    assert store.replace(handle, Record(data, 60.0, "7", made.version), now=NOW) is None
    assert store.touch(handle, ttl=60, now=NOW)
    assert handle in [each for each, _ in store.find_user("7", now=NOW).records]
    assert handle in [each for each, _ in store.scan(now=NOW)]
    assert store.delete(handle, now=NOW, version=changed.version)
    assert store.purge(now=NOW) == 0


@pytest.mark.parametrize("layout", ["native", "express"])
@pytest.mark.parametrize("prepared", ["prepare=true", "prepare=false", "pooler keeps no account"])
@pytest.mark.parametrize("mode", MODES)
def test_every_verb_works_from_the_first_use_without_a_table(server, mode, prepared, layout):
    account = "0" if prepared.startswith("pooler") else "100"
    options = {"prepare": "false"} if prepared == "prepare=false" else {}
    size = 20 if mode == "session" else 3  # in session mode, each of our connections has one of the server's
    settings = (f"pool_mode={mode}", f"max_prepared_statements={account}", f"default_pool_size={size}")
    with pooler(server, *settings) as bouncer:
        with closing(opened(bouncer, layout, **options)) as store:
            assert store.load("first", now=NOW, touch_after=0.05) is None
            use(store, "first")
        # Two clients at once, whose statements the pooler sends to whichever server connection is free.
        stores = [opened(bouncer, layout, **options) for _ in range(2)]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda number: use(stores[number % 2], f"s{number}"), range(30)))
        for store in stores:
            store.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_table_that_is_dropped_under_a_store_is_created_again(server, mode):
    with pooler(server, f"pool_mode={mode}") as bouncer, closing(opened(bouncer, "native")) as store:
        for _ in range(2):
            use(store, "s")
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("DROP TABLE session")
        assert store.load("s", now=NOW, touch_after=0.05) is None


def all_at_once(store: Store, *, threads: int = 24, calls: int = 5) -> None:
    start = threading.Barrier(threads)

    def visit(_: int) -> None:
        start.wait()
        for _ in range(calls):
            assert store.load("s", now=NOW, touch_after=0.05) is not None

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(visit, range(threads)))


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(lambda server: pooler(server, "pool_mode=transaction", "max_client_conn=4"), id="clients"),
        pytest.param(lambda server: pooler(server, "pool_mode=transaction", "default_pool_size=1"), id="servers"),
    ],
)
def test_where_the_pooler_has_no_room_for_more_connections_calls_wait(server, limit: Callable):
    with limit(server) as bouncer, closing(opened(bouncer, "native", max_connections="10", timeout="10")) as store:
        store.create("s", Record(EXPRESS % 1, 60.0, None), now=NOW)
        all_at_once(store)


def test_where_the_server_behind_the_pooler_has_no_room_calls_wait(start_server):
    small = start_server(servers.PostgreSQL, "max_connections=6", "superuser_reserved_connections=2")
    with psycopg.connect(small.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE web LOGIN; GRANT ALL ON SCHEMA public TO web")
    with pooler(small, "pool_mode=transaction", "default_pool_size=20") as bouncer:
        (bouncer.folder / "users").write_text('"postgres" ""\n"web" ""\n')
        bouncer.kill()
        bouncer.start()
        url = with_options(bouncer.url.replace("postgres@", "web@"), max_connections="12", timeout="10")
        with closing(open_store(url)) as store:
            store.create("s", Record(EXPRESS % 1, 60.0, None), now=NOW)
            all_at_once(store)
