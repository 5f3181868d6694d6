"""A user's sessions in SQLite, files of an earlier version, and files that cannot be written."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wsgisession.stores import Record
from wsgisession.stores.base import WriteRefused
from wsgisession.stores.sqlite import store as sqlite
from wsgisession.stores.sqlite.store import SQLiteStore
from wsgisession.testing.workbench import create, end_user, peek, sessions_of

NOW = 1_800_000_000.0
EARLIER = (
    "CREATE TABLE session (handle TEXT NOT NULL PRIMARY KEY, user_id TEXT, version INTEGER NOT NULL,"
    " ttl REAL NOT NULL, expires_at REAL NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX session_user_id ON session (user_id) WHERE user_id IS NOT NULL",
    "CREATE INDEX session_expires_at ON session (expires_at)",
)
EARLIER_CREATE = "INSERT INTO session (data, ttl, user_id, version, expires_at, handle) VALUES (?, ?, ?, ?, ?, ?)"


def record(user_id: str | None = "u", *, data: bytes = b"{}", ttl: float = 100.0) -> Record:
    return Record(data, ttl, user_id)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path)) as store:
        yield store


def test_a_file_of_the_version_before_gets_its_column_and_workers_of_that_version_keep_working(store, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        for statement in EARLIER:
            earlier.execute(statement)
        earlier.execute(EARLIER_CREATE, (b"{}", 100.0, "u", 7, NOW + 100, "old"))
        old = peek(store, "old", now=NOW)
        assert (old.version, old.order) == (7, 1)
        create(store, "new", record(), now=NOW)
        earlier.execute(EARLIER_CREATE, (b"{}", 100.0, "u", 7, NOW + 100, "beside"))
        assert [handle for handle, _ in sessions_of(store, "u", now=NOW)] == ["new", "old", "beside"]
    assert store.replace("old", Record(b'{"n":1}', 100.0, "u", 7, order=old.order), now=NOW).order == 1


def test_stores_that_add_the_column_at_once_all_succeed(path):
    with closing(sqlite3.connect(path)) as earlier:
        for statement in EARLIER:
            earlier.execute(statement)
    stores = [SQLiteStore(path) for _ in range(8)]
    threads = [
        threading.Thread(target=create, args=(each, str(n), record()), kwargs={"now": NOW})
        for n, each in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sessions_of(stores[0], "u", now=NOW)) == 8
    for each in stores:
        each.close()


def test_a_page_ends_after_some_megabytes_and_the_next_one_continues(store, monkeypatch):
    monkeypatch.setattr(sqlite, "_MOST_IN_A_PAGE", 1000)
    for number in range(10):
        create(store, f"s{number}", record(data=b'"%s"' % (b"x" * 400)), now=NOW)
    page = store.find_user("u", now=NOW)
    assert [handle for handle, _ in page.records] == ["s9", "s8", "s7"]
    assert len(sessions_of(store, "u", now=NOW)) == 10


def test_ending_thousands_of_sessions_lets_another_writer_in_between(store, path):
    with store._lend() as connection:
        connection.run("BEGIN")
        for number in range(5000):
            connection.run(EARLIER_CREATE, (b"{}", 100.0, "bot", 1, NOW + 100, f"bot{number}"))
        connection.run("COMMIT")
    create(store, "visitor", record("v"), now=NOW)
    done, waits = threading.Event(), []

    def visit() -> None:
        with closing(SQLiteStore(path)) as other:
            while not done.is_set():
                began = time.monotonic()
                assert other.touch("visitor", ttl=100, now=NOW)
                waits.append(time.monotonic() - began)
                time.sleep(0.001)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert len(end_user(store, "bot", now=NOW)) == 5000
    done.set()
    visitor.join()
    assert len(waits) > 20, "the visitor got through between the steps"


def test_a_file_without_space_is_read_and_the_restart_is_skipped_with_one_line(store, caplog):
    create(store, "s", record(data=b'"%s"' % (b"x" * 100)), now=NOW)
    with store._lend() as connection:
        connection.run("PRAGMA max_page_count = 1")
    stored = peek(store, "s", now=NOW)
    with pytest.raises(WriteRefused, match="has no space left on its disk: free some.*is full"):
        create(store, "t", record(data=b'"%s"' % (b"x" * 100_000)), now=NOW)

    def refuse(*_: object) -> int:
        raise store._failed(sqlite3.OperationalError("database or disk is full"))

    change, store._change = store._change, refuse
    with caplog.at_level(logging.WARNING):
        assert [store.load("s", now=NOW + 50, touch_after=0) for _ in range(3)] == [stored] * 3
    assert len(caplog.records) == 1
    assert "skipped the restart of the idle timeout" in caplog.text
    store._change = change
    assert store.load("s", now=NOW + 50, touch_after=0).expires_at == NOW + 150


def test_a_file_that_may_not_be_written_is_read_and_says_so(store, path):
    create(store, "s", record(), now=NOW)
    with store._lend() as connection:
        connection.run("PRAGMA query_only = on")
        refused = None
        try:
            connection.run("DELETE FROM session")
        except sqlite3.OperationalError as error:
            refused = store._failed(error)
        connection.run("PRAGMA query_only = off")
    assert isinstance(refused, WriteRefused)
    assert "is read-only: let this user write to the file" in str(refused)
