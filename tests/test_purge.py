"""Expired sessions are removed in bounded batches, by several at once, beside writers that go on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from benchmarks.loading import load_sqlite, rows
from tests.conftest import with_options
from wsgisession.stores import Record, Store, open_store
from wsgisession.stores.sqlite.leading import leading
from wsgisession.testing.workbench import in_parallel

COUNT = 5000


def load_postgresql(url: str, loaded: Any) -> None:
    """Fill the test's own table."""
    store = open_store(url)
    store.prepare()
    statement = f"""
        INSERT INTO {store._sql.table} (sid, sess, expire, expires_at, ttl)
        SELECT sid, '{{}}', to_timestamp(at), at, ttl
        FROM unnest(%s::text[], %s::float8[], %s::float8[]) r(sid, ttl, at)
    """
    store.close()
    handles, _, ttls, expiries = map(list, zip(*loaded, strict=True))
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        connection.execute(statement, [handles, ttls, expiries])


LOADERS = {"sqlite": load_sqlite, "postgresql": load_postgresql}


@pytest.fixture(params=LOADERS)
def full_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    url = request.getfixturevalue(f"{request.param}_url")
    LOADERS[request.param](url, rows(COUNT, per_user=None, ttl=1.0, now=time.time() - 100))
    with closing(open_store(url)) as store:
        assert store.create("live", Record(b'{"n":0}', 100.0), now=time.time())
        yield store


def test_two_purgers_at_once_remove_everything_once(full_store):
    removed = in_parallel(lambda _: full_store.purge(now=time.time()), count=2)
    assert sum(removed) == COUNT
    assert full_store.purge(now=time.time()) == 0
    assert [handle for handle, _ in full_store.scan(now=time.time())] == ["live"]


def test_a_writer_continues_next_to_a_purge(full_store):
    purger = threading.Thread(target=full_store.purge, kwargs={"now": time.time()})
    waits = []
    purger.start()
    for number in itertools.count(1):
        began = time.monotonic()
        found = full_store.load("live", now=time.time(), touch_after=None)
        new = Record(b'{"n":%d}' % number, 100.0, version=found.version)
        assert full_store.replace("live", new, now=time.time())
        waits.append(time.monotonic() - began)
        if not purger.is_alive():
            break
    purger.join()
    assert max(waits) < 1.5  # the stores' timeouts are 2 and 5


def test_one_purge_leads_on_sqlite_and_others_leave_it_the_work(tmp_path):
    url = f"sqlite:///{tmp_path}/sessions.db"
    load_sqlite(url, rows(100, per_user=None, ttl=1.0, now=time.time() - 100))
    with closing(open_store(url)) as store:
        with leading(f"{tmp_path}/sessions.db") as is_first:
            assert is_first
            assert store.purge(now=time.time()) == 0
        assert store.purge(now=time.time()) == 100


def test_a_purge_on_postgresql_passes_over_rows_that_another_holds(postgresql_url):
    load_postgresql(postgresql_url, rows(20, per_user=None, ttl=1.0, now=time.time() - 100))
    with closing(open_store(with_options(postgresql_url, timeout="1"))) as store:
        table, url = store._sql.table, postgresql_url.partition("?")[0]
        with psycopg.connect(url) as other:
            other.execute(f"SELECT FROM {table} LIMIT 5 FOR UPDATE")
            assert store.purge(now=time.time()) == 15
        assert store.purge(now=time.time()) == 5


def test_a_purge_on_sqlite_leaves_a_gap_after_each_transaction(sqlite_url, monkeypatch):
    load_sqlite(sqlite_url, rows(1200, per_user=None, ttl=1.0, now=time.time() - 100))
    with closing(open_store(sqlite_url)) as store, closing(open_store(sqlite_url)) as writer:
        pauses = []

        def write_meanwhile(seconds: float) -> None:
            pauses.append(seconds)
            assert writer.create(f"s{len(pauses)}", Record(b"{}", 100.0), now=time.time())

        monkeypatch.setattr("wsgisession.stores.sqlite.store.time.sleep", write_meanwhile)
        assert store.purge(now=time.time()) == 1200
        assert len(pauses) == 2
        assert min(pauses) > 0
