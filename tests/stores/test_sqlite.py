"""What only the SQLite store promises: a private file, several processes, short locks, no connection left behind."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers import ROOT
from wsgisession.errors import ConfigurationError, StoreError
from wsgisession.stores import Record, open_store
from wsgisession.stores.sqlite import connections
from wsgisession.stores.sqlite import statements as sql
from wsgisession.stores.sqlite import store as sqlite
from wsgisession.stores.sqlite.store import SQLiteStore
from wsgisession.testing.workbench import create, in_fork, in_parallel, numbered, peek

NOW = 1_000_000_000.0


def record(data: bytes = b"{}", *, ttl: float = 100.0, user_id: str | None = None, version: object = None) -> Record:
    return Record(data, ttl, user_id, version)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path, timeout=10)) as store:
        yield store


def python(code: str, *arguments: object, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *options, "-c", textwrap.dedent(code), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def run_together(count: int, path: Path, code: str) -> None:
    """Run the code in processes that start at one moment, each with the ``store`` and its own number, ``me``."""
    start = """
        import sys
        from wsgisession.stores import Record, open_store
        store, me = open_store("sqlite:///" + sys.argv[1]), sys.argv[2]
        print("ready", flush=True)
        sys.stdin.read()
    """
    whole = textwrap.dedent(start) + textwrap.dedent(code)
    processes = [python(whole, path, number, options=("-W", "error")) for number in range(count)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * count
    for process in processes:
        process.stdin.close()
        process.stdin = None
    assert [process.communicate(timeout=60) for process in processes] == [("", "")] * count


def connections_to(path: Path) -> int:
    """Count the open descriptors of the database file itself."""
    links = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
    return sum(link == str(path) for link in links)


def statements_of(store: SQLiteStore, call) -> list[str]:
    """Return the statements that SQLite ran for the call."""
    store.prepare()
    statements: list[str] = []
    ((connection, _),) = store._connections._pool()._idle
    connection.set_trace_callback(statements.append)
    call()
    connection.set_trace_callback(None)
    return [statement for statement in statements if "busy_timeout" not in statement]


# The file


def test_nothing_is_made_before_the_first_use(path):
    SQLiteStore(path)
    open_store(f"sqlite:///{path}")
    assert not path.exists()


def test_the_file_and_its_companions_are_their_owners_alone_whatever_the_umask(store, path):
    before = os.umask(0)
    try:
        create(store, "s")
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"sessions.db": 0o600, "sessions.db-wal": 0o600, "sessions.db-shm": 0o600}


def test_the_mode_of_a_file_that_is_there_stays(store, path):
    path.touch()
    path.chmod(0o640)
    create(store, "s")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_to_a_file_yet_to_be_made_makes_it_private(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    with closing(SQLiteStore(tmp_path / "link.db")) as store:
        create(store, "s")
    assert stat.S_IMODE((tmp_path / "real.db").stat().st_mode) == 0o600


def test_a_relative_path_stays_where_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with closing(open_store("sqlite:///sessions.db")) as store:
        monkeypatch.chdir("/")
        create(store, "s")
    assert (tmp_path / "sessions.db").exists()


def test_a_path_is_percent_decoded(tmp_path):
    with closing(open_store(f"sqlite:///{tmp_path}/a%20b%3Fc%25.db")) as store:
        create(store, "s")
    assert (tmp_path / "a b?c%.db").exists()


def test_a_file_that_is_not_a_database_is_a_store_error_and_is_left_alone(store, path):
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="is not an intact SQLite database: .*file is not a database"):
        peek(store, "s")
    assert path.read_bytes() == b"not a database" * 1000


def test_a_folder_that_is_missing_at_the_first_use_is_a_store_error(tmp_path):
    store = SQLiteStore(tmp_path / "missing" / "sessions.db")
    with pytest.raises(StoreError, match="cannot be opened: check that its folder exists") as caught:
        peek(store, "s")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    (tmp_path / "missing").mkdir()
    assert peek(store, "s") is None
    store.close()


# The URL


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite://", r"names no file; write sqlite:///sessions\.db"),
        ("sqlite:///", r"names no file"),
        ("sqlite://sessions.db", r"names no file"),
        ("sqlite:///:memory:", r"for sessions in memory use memory://"),
        ("sqlite:///a%00b", r"needs the path of a file"),
        ("sqlite:////no/such/folder/s.db", r"there is no folder /no/such/folder"),
        ("sqlite:////usr", r"/usr is a folder"),
        ("sqlite:///s.db?timeout=0", r"timeout='0' cannot be used"),
        ("sqlite:///s.db?synchronous=never", r"synchronous must be off, normal, full or extra, not 'never'"),
        (
            "sqlite:///s.db?mode=ro",
            r"unknown parameter 'mode'; it takes timeout, synchronous, max_connections, and max_idle",
        ),
    ],
)
def test_a_url_that_cannot_be_right_is_refused(url, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        open_store(url)


@pytest.mark.parametrize(("parameter", "level"), [("", 1), ("?synchronous=full", 2), ("?synchronous=off", 0)])
def test_the_url_says_how_safe_a_write_is(sqlite_url, parameter, level):
    with closing(open_store(sqlite_url + parameter)) as store, store._lend() as connection:
        assert connection.run("PRAGMA synchronous").fetchall() == [(level,)]
        assert connection.run("PRAGMA journal_mode").fetchall() == [("wal",)]


# Statements


def test_each_verb_is_one_statement(store):
    version = create(store, "s", record(user_id="u"), now=NOW).version
    calls = [
        lambda: peek(store, "s", now=NOW),
        lambda: store.load("s", now=NOW + 1, touch_after=0.05),
        lambda: store.create("t", record(), now=NOW),
        lambda: store.replace("s", Record(b"{}", 100.0, "u", version, order=1), now=NOW),
        lambda: store.touch("s", ttl=100, now=NOW),
        lambda: store.find_user("u", now=NOW),
        lambda: store.delete("s", now=NOW),
        lambda: store.purge(now=NOW),
    ]
    assert [len(statements_of(store, call)) for call in calls] == [1] * len(calls)
    assert len(statements_of(store, lambda: store.load("t", now=NOW + 50, touch_after=0.05))) == 2
    login = statements_of(store, lambda: store.create("login", record(user_id="u"), now=NOW))
    assert [statement.split()[0] for statement in login] == ["BEGIN", "SELECT", "INSERT", "COMMIT"]


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        (sql.LOAD, ("s", NOW), "sqlite_autoindex_session_1 (handle=?)"),
        (sql.NEXT_ORDER, ("u",), "session_logins (user_id=?)"),
        (sql.FIND_USER, ("u", 9, "s", 10), "session_logins (user_id=? AND (login_order,handle)<(?,?))"),
        (sql.STEP_OF_USER, (NOW, "u", 9, "s", None, 10), "session_logins (user_id=? AND (login_order,handle)<(?,?))"),
        (sql.DELETE_USER, ("u", 9, "s", None, 10), "session_logins (user_id=? AND (login_order,handle)<(?,?))"),
        (sql.PURGE, (NOW, 10), "session_expires_at (expires_at<?)"),
        (sql.SCAN, ("", 10), "sqlite_autoindex_session_1 (handle>?)"),
    ],
)
def test_no_statement_reads_the_whole_table(store, statement, values, index):
    with store._lend() as connection:
        plan = " ".join(row[3] for row in connection.run(f"EXPLAIN QUERY PLAN {statement}", values).fetchall())
    assert index in plan
    assert "TEMP B-TREE" not in plan


def test_a_purge_continues_to_the_last_of_many(store, monkeypatch):
    monkeypatch.setattr(sqlite, "_PURGED_AT_ONCE", 10)
    for number in range(45):
        create(store, f"old{number}", record(ttl=5), now=NOW)
    assert store.purge(now=NOW + 10, limit=15) == 15
    statements = statements_of(store, lambda: store.purge(now=NOW + 10))
    assert len(statements) == 4  # 30 left: three full batches, and one that finds no more
    assert store.purge(now=NOW + 10) == 0


def test_a_scan_holds_no_transaction_between_its_records(store, path):
    for number in range(120):
        create(store, f"s{number:03}", now=NOW)
    scan = store.scan(now=NOW)
    next(scan)
    with closing(sqlite3.connect(path, timeout=0)) as other:
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert len(list(scan)) == 119


# Locks


def test_a_writer_waits_for_another_and_gets_through(store, path):
    create(store, "s", now=NOW)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ("COMMIT",))
        release.start()
        assert store.touch("s", ttl=50, now=NOW) is True
        release.join()


def test_a_writer_gives_up_after_the_timeout_and_says_what_to_do(store, path):
    create(store, "s", now=NOW)
    with closing(SQLiteStore(path, timeout=0.2)) as hasty, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StoreError, match=r"was locked by another process for 0\.2 s: .* raise timeout") as caught:
            hasty.delete_user("u", now=NOW)
        assert 0.15 < time.monotonic() - started < 1
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        other.rollback()
        assert hasty.touch("s", ttl=50, now=NOW) is True


def test_the_statements_of_one_call_share_its_timeout(store, path):
    with store._lend() as connection, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        connection.deadline = started + 0.1  # of the ten seconds, nearly all have passed
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.run("DELETE FROM session")
        assert time.monotonic() - started < 2


def test_readers_do_not_wait_for_a_writer(path):
    with closing(SQLiteStore(path, timeout=0.05)) as store, closing(sqlite3.connect(path)) as other:
        stored = create(store, "s", record(user_id="u"), now=NOW)
        other.execute("BEGIN EXCLUSIVE")
        other.execute("DELETE FROM session")
        assert peek(store, "s", now=NOW) == stored
        assert store.find_user("u", now=NOW).records == [("s", stored)]
        assert list(store.scan(now=NOW)) == [("s", stored)]


def test_an_interrupted_call_leaves_no_lock_behind(store, path):
    with pytest.raises(KeyboardInterrupt), store._lend() as connection:  # noqa: PT012
        connection.run("BEGIN IMMEDIATE")
        raise KeyboardInterrupt
    with closing(SQLiteStore(path, timeout=0.05)) as other:
        create(other, "s", now=NOW)


def test_a_file_that_refuses_to_be_opened_at_once_is_tried_again(store, monkeypatch):
    """SQLite may do so, whatever its busy timeout, while another process closes its last connection to the file."""
    refusals = [sqlite3.OperationalError("database is locked")] * 3
    run = connections.Connection.run

    def refusing(self, *statement):
        if refusals:
            raise refusals.pop()
        return run(self, *statement)

    monkeypatch.setattr(connections.Connection, "run", refusing)
    create(store, "s", now=NOW)
    assert refusals == []


def test_processes_that_come_together_make_one_table(store, path):
    run_together(
        8,
        path,
        """
        for number in range(20):
            assert store.create(f"{me}-{number}", Record(b"{}", 100.0), now=1e9)
    """,
    )
    assert len(list(store.scan(now=NOW))) == 160


@pytest.mark.parametrize("attempt", range(5))
def test_stores_of_one_process_that_come_together_make_one_table(path, attempt):
    def use(number: int) -> bool:
        with closing(SQLiteStore(path)) as store:
            return create(store, f"s{number}", now=NOW) is not None

    assert all(in_parallel(use))
    with closing(SQLiteStore(path)) as store:
        assert len(list(store.scan(now=NOW))) == 16


def test_processes_that_count_together_lose_nothing(store, path):
    create(store, "s", record(b"0"), now=NOW)
    run_together(
        3,
        path,
        """
        for _ in range(200):
            while True:
                old = store.load("s", now=1e9, touch_after=0)
                if store.replace("s", Record(b"%d" % (int(old.data) + 1), 100.0, None, old.version), now=1e9):
                    break
    """,
    )
    assert peek(store, "s", now=NOW).data == b"600"


# Connections


def test_close_leaves_no_connection_of_any_thread(store, path):
    in_parallel(lambda number: create(store, f"s{number}", now=NOW), count=32)
    assert connections_to(path) > 0
    store.close()
    assert connections_to(path) == 0


def test_a_crowd_waits_for_the_connections_of_the_process(path):
    with closing(SQLiteStore(path, max_connections=3)) as store:
        in_parallel(lambda number: create(store, f"s{number}", now=NOW), count=32)
        assert 1 <= connections_to(path) <= 3


def test_a_call_that_finds_no_connection_free_says_so(path):
    too_few = "had all 1 connections of this process in use for 0.05 s"
    with (
        closing(SQLiteStore(path, timeout=0.05, max_connections=1)) as store,
        store._lend(),
        pytest.raises(StoreError, match=too_few),
    ):
        peek(store, "s", now=NOW)


def test_a_connection_in_use_at_close_is_closed_when_it_comes_back(store, path):
    with store._lend() as connection:
        store.close()
        assert connection.run("SELECT 1").fetchall() == [(1,)]
    assert connections_to(path) == 0


def test_a_store_that_nobody_closed_warns_of_nothing(path):
    code = """
        import gc, sys
        from wsgisession.stores import Record, open_store
        for handle in "ab":
            store = open_store("sqlite:///" + sys.argv[1])
            store.create(handle, Record(b"{}", 100.0), now=1e9)
        gc.collect()
    """
    process = python(code, path, options=("-X", "dev", "-W", "error"))
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_a_store_that_nobody_keeps_closes_its_connections(path):
    store = SQLiteStore(path)
    create(store, "s", now=NOW)
    del store
    gc.collect()
    assert connections_to(path) == 0


# Forks


def test_a_worker_outlives_the_closing_of_the_process_that_forked_it(store, path):
    """As under a server that loads the application first: nothing that a worker writes is lost."""
    code = """
        import os, sys
        from wsgisession.stores import Record, open_store
        store = open_store("sqlite:///" + sys.argv[1])
        create = lambda handle: store.create(handle, Record(b"{}", 100.0), now=1e9)
        create("loaded")
        written, tell_written = os.pipe()
        closed, tell_closed = os.pipe()
        if os.fork() == 0:
            create("before")
            os.write(tell_written, b".")
            os.read(closed, 1)
            create("after")
            os._exit(0)
        os.read(written, 1)
        store.close()
        os.write(tell_closed, b".")
        os.wait()
    """
    assert python(code, path).communicate(timeout=60) == ("", "")
    assert sorted(handle for handle, _ in store.scan(now=NOW)) == ["after", "before", "loaded"]


def test_a_connection_in_use_at_a_fork_stays_the_parents(store):
    """Not even closing it is allowed to the child."""
    with store._lend() as connection:
        connection.run("BEGIN IMMEDIATE")
        connection.run("DELETE FROM session")

        def child() -> None:
            assert peek(store, "s", now=NOW) is None
            gc.collect()
            assert connection.in_transaction
            assert [each.is_inherited for each in connections._inherited] == [True]
            store.close()

        in_fork(child)
        connection.run("COMMIT")
    create(store, "s", record(numbered(1)), now=NOW)


def test_works_under_gevent(path):
    code = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, sys
        from wsgisession.stores import Record, open_store
        store = open_store("sqlite:///" + sys.argv[1])
        jobs = [gevent.spawn(store.create, f"s{n}", Record(b"{}", 100.0), now=1e9) for n in range(50)]
        gevent.joinall(jobs, raise_error=True, timeout=30)
        assert len(list(store.scan(now=1e9))) == 50
        store.close()
    """
    process = python(code, path)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
