"""The connections of the PostgreSQL store: what breaks them, and what a request notices of it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg
import pytest

from tests import servers
from wsgisession.errors import StoreError
from wsgisession.stores import Record
from wsgisession.stores.postgresql import PostgreSQLStore
from wsgisession.stores.postgresql.server import _Driver

NOW = 1_800_000_000.25


def record(data: bytes = b"{}", *, ttl: float = 100.0, user_id: str | None = None, version: object = None) -> Record:
    return Record(data, ttl, user_id, version)


def idle(store: PostgreSQLStore) -> list:
    """Return the idle connections of this process, the one that is used next last."""
    return [connection for connection, _ in store._server._pool()._idle]


def test_a_killed_backend_is_replaced_silently_even_for_a_write(opened, sql, table):
    store = opened(application_name=table)
    store.create("a", record(), now=NOW)
    for verb in (lambda: store.touch("a", ttl=9, now=NOW), lambda: store.load("a", now=NOW, touch_after=0)):
        sql.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", [table])
        assert verb()


@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_an_idle_connection_that_broke_is_replaced_silently(opened, tcp_proxy, url, fault):
    proxy = tcp_proxy(url)
    store = opened(proxy.url)
    store.create("a", record(), now=NOW)
    getattr(proxy, fault)()
    until(lambda: idle(store)[0].is_stale)
    assert store.touch("a", ttl=9, now=NOW)


def test_a_server_that_is_down_is_a_store_error_at_once_and_no_longer_once_it_is_back(opened, tcp_proxy, url):
    proxy = tcp_proxy(url)
    store = opened(proxy.url.replace("postgres@", "postgres:hush-hush@"))
    store.create("a", record(), now=NOW)
    proxy.refuse()
    proxy.drop()
    until(lambda: idle(store)[0].is_stale)
    began = time.monotonic()
    with pytest.raises(StoreError, match=f"127.0.0.1:{proxy.port}/postgres cannot be reached") as caught:
        store.load("a", now=NOW, touch_after=0)
    assert time.monotonic() - began < 1
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert "hush" not in f"{caught.value} {caught.value.__cause__} {store!r}"
    proxy.accept()
    assert store.load("a", now=NOW, touch_after=0)


@pytest.mark.parametrize("fault", [{"stall": True}, {"lose_replies": True}, {"dribble": 0.001}])
@pytest.mark.parametrize("fresh", [True, False], ids=["connecting", "connected"])
def test_a_server_that_hangs_is_a_store_error_within_the_timeout(opened, tcp_proxy, url, fault, fresh):
    opened().create("a", record(b'{"text":"' + b"x" * 1000 + b'"}'), now=NOW)
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=0.4)
    if not fresh:
        store.load("a", now=NOW, touch_after=0)
    for name, value in fault.items():
        setattr(proxy, name, value)
    for verb in (
        lambda: store.load("a", now=NOW, touch_after=0),
        lambda: store.create("a", record(), now=NOW),
    ):
        began = time.monotonic()
        with pytest.raises(StoreError, match="did not answer in time"):
            verb()
        assert time.monotonic() - began < 0.8
    proxy.stall = proxy.lose_replies = proxy.dribble = False
    assert store.load("a", now=NOW, touch_after=0)


def test_an_answer_that_was_cut_off_is_asked_for_again_and_no_change_is_made_twice(opened, tcp_proxy, url):
    proxy = tcp_proxy(url)
    store = opened(proxy.url)
    created = store.create("a", record(b'{"text":"' + b"x" * 1000 + b'"}'), now=NOW)
    verbs = [
        lambda: store.load("a", now=NOW, touch_after=0).data == created.data,
        lambda: store.touch("a", ttl=100, now=NOW),
        lambda: store.create("b", record(user_id="7"), now=NOW) == store.load("b", now=NOW, touch_after=None),
        lambda: store.replace("a", record(b'{"n":1}', version=created.version), now=NOW).data == b'{"n":1}',
        lambda: store.delete("b", now=NOW),
    ]
    for verb in verbs:
        proxy.cut_after = 3  # bytes of the next answer; the next connection is whole again
        assert verb()
    assert store.load("a", now=NOW, touch_after=None).data == b'{"n":1}'


def test_a_change_whose_answer_was_lost_fails_if_another_one_hides_what_became_of_it(opened, tcp_proxy, url):
    proxy = tcp_proxy(url)
    store, other = opened(proxy.url), opened()
    created = store.create("a", record(), now=NOW)
    created = store.replace("a", record(b'{"n":1}', version=created.version), now=NOW)  # prepares the statement
    run = store._server.execute
    changed = []

    def and_another_writer(statement, values, deadline):
        answer = run(statement, values, deadline)
        if answer.is_repeated and not changed:
            changed.append(other.replace("a", record(b'{"n":3}', version=b'{"n":2}'), now=NOW))
        return answer

    store._server.execute = and_another_writer
    proxy.cut_after = 3
    with pytest.raises(StoreError, match="lost the answer to a change"):
        store.replace("a", record(b'{"n":2}', version=created.version), now=NOW)
    assert changed != [None]
    assert store.load("a", now=NOW, touch_after=None).data == b'{"n":3}'


def busy(store: PostgreSQLStore, count: int) -> None:
    """Use so many connections at once, so that they are idle afterwards."""
    held = threading.Barrier(count)

    def hold(connection, _) -> None:
        held.wait(5)

    with ThreadPoolExecutor(count) as threads:
        for each in [threads.submit(store._server._pool().run, hold, time.monotonic() + 5) for _ in range(count)]:
            each.result()
    assert len(idle(store)) == count


@pytest.mark.parametrize("verb", ["read", "write"])
def test_idle_connections_that_a_firewall_has_forgotten_cost_no_request(opened, tcp_proxy, url, verb):
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=1)
    store.create("a", record(b"0"), now=NOW)
    busy(store, 8)
    proxy.freeze()
    for number in range(10):
        seen = store.load("a", now=NOW, touch_after=None) if verb == "read" else None
        assert seen or store.create(f"b{number}", record(), now=NOW)
    assert proxy.accepted == 9, "the first call dropped all idle connections"


def test_a_crowd_on_forgotten_connections_loses_no_update(opened, tcp_proxy, url):
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=2)
    store.create("a", record(b"0"), now=NOW)
    busy(store, 8)
    proxy.freeze()

    def increment(_: int) -> None:
        while True:
            seen = store.load("a", now=NOW, touch_after=0)
            if store.replace("a", record(str(int(seen.data) + 1).encode(), version=seen.version), now=NOW):
                return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(increment, range(8)))
    assert store.load("a", now=NOW, touch_after=0).data == b"8"


@pytest.mark.parametrize("options", [{}, {"target_session_attrs": "read-write"}])
def test_after_a_failover_behind_one_name_every_write_goes_to_the_new_primary(start_server, opened, tcp_proxy, options):
    old, new = (start_server(servers.PostgreSQL) for _ in range(2))
    proxy = tcp_proxy(old.url)
    store = opened(proxy.url, schema="public", **options)
    store.prepare()
    opened(new.url, schema="public").prepare()
    busy(store, 4)
    with psycopg.connect(old.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        until(lambda: connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",))
    proxy.target = "127.0.0.1", new.port
    for number in range(8):
        assert store.create(f"s{number}", record(user_id="7"), now=NOW)
    assert len(opened(new.url, schema="public").find_user("7", now=NOW).records) == 8


def test_where_the_server_has_no_slot_left_calls_wait_for_those_of_this_process(start_server, opened):
    server = start_server(servers.PostgreSQL, "max_connections=6", "superuser_reserved_connections=2")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE web LOGIN; GRANT ALL ON SCHEMA public TO web")
    store = opened(server.url.replace("postgres@", "web@"), schema="public", max_connections=10, timeout=10)
    store.create("a", record(), now=NOW)
    start = threading.Barrier(24)

    def visit(_: int) -> None:
        start.wait()
        for _ in range(10):
            assert store.load("a", now=NOW, touch_after=None)

    with ThreadPoolExecutor(24) as threads:
        list(threads.map(visit, range(24)))


@pytest.mark.parametrize(
    ("said", "is_full"),
    [
        ("FATAL:  désolé, trop de clients sont déjà connectés", True),
        ("ВАЖНО:  извините, уже слишком много клиентов", True),
        ("connection to server at 127.0.0.1 failed: Connection refused", False),
        ("failed to resolve host 'db'", False),
    ],
)
def test_a_refusal_in_any_language_is_waited_out_by_a_process_that_was_let_in_before(said, is_full):
    driver = _Driver({}, timeout=1, prepares=True)
    error = psycopg.OperationalError(said)
    assert not driver.is_full(error), "nobody was let in"
    driver._open = 1
    assert driver.is_full(error) is is_full


def test_a_process_without_a_connection_waits_for_a_slot_of_the_server_and_says_so_in_the_end(start_server, opened):
    server = start_server(servers.PostgreSQL, "max_connections=3", "superuser_reserved_connections=1")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE web LOGIN; GRANT ALL ON SCHEMA public TO web")
    url = server.url.replace("postgres@", "web@")
    others = [psycopg.connect(url) for _ in range(2)]
    store = opened(url, schema="public", timeout=0.5)
    with pytest.raises(StoreError, match=r"has no connection left for this process: .*\(.*reserved.*\)"):
        store.load("a", now=NOW, touch_after=None)
    store = opened(url, schema="public", timeout=10)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(store.create, "a", record(), now=NOW)
        for other in others:
            other.close()
        assert waiting.result(10)


def test_serialization_failures_and_deadlocks_are_repeated(opened):
    store = opened(options=r"-c default_transaction_isolation=serializable", timeout=20)
    store.create("a", record(b"0"), now=NOW)

    def increment(number: int) -> None:
        store.create(f"login{number}", record(user_id="7"), now=NOW)
        while True:
            seen = store.load("a", now=NOW, touch_after=0)
            if store.replace("a", record(str(int(seen.data) + 1).encode(), version=seen.version), now=NOW):
                return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(increment, range(40)))
    assert store.load("a", now=NOW, touch_after=0).data == b"40"


@pytest.mark.parametrize("error", [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected])
def test_what_continues_to_fail_is_repeated_no_longer_than_the_timeout(opened, monkeypatch, error):
    store = opened(timeout=0.3)
    store.prepare()
    tries = []

    def failing(self, *_: object) -> None:
        tries.append(self)
        raise error("could not serialize access")

    monkeypatch.setattr("wsgisession.stores.postgresql.libpq.Connection.execute", failing)
    began = time.monotonic()
    with pytest.raises(StoreError, match="could not serialize access"):
        store.touch("a", ttl=9, now=NOW)
    assert len(tries) > 3
    assert time.monotonic() - began < 1


def test_connections_have_keepalive_and_idle_ones_are_closed(opened, sql, table):
    store = opened(application_name=table, max_idle=0.001)
    store.prepare()
    held = threading.Barrier(5)

    def hold(connection, _) -> int:
        held.wait(5)
        return os.dup(connection._pgconn.socket)

    with ThreadPoolExecutor(5) as threads:
        calls = [threads.submit(store._server._pool().run, hold, time.monotonic() + 5) for _ in range(5)]
        descriptor, *others = [call.result() for call in calls]
    for other in others:
        os.close(other)
    with socket.socket(fileno=descriptor) as copy:
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    time.sleep(0.25)
    store.load("a", now=NOW, touch_after=None)
    until(
        lambda: (
            sql.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [table]).fetchone() == (1,)
        )
    )


def test_a_lock_is_waited_for_no_longer_than_the_timeout_here_and_on_the_server(opened, sql, connect, table):
    store = opened(timeout=0.3, application_name=table)
    store.create("a", record(), now=NOW)
    with connect() as other:
        other.execute(f"LOCK TABLE {table}")
        with pytest.raises(StoreError, match="did not answer in time"):
            store.touch("a", ttl=9, now=NOW)
        active = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{table}' AND state = 'active'"
        until(lambda: sql.execute(active).fetchone() == (0,))
    assert store.touch("a", ttl=9, now=NOW)


def test_a_call_that_finds_no_connection_free_fails_within_the_timeout_and_says_so(opened, connect, table):
    store = opened(timeout=0.3, max_connections=1)
    store.create("a", record(), now=NOW)
    with connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute(f"LOCK TABLE {table}")
        waiting = pool.submit(store.prepare)  # which has a minute
        until(lambda: not idle(store))
        with pytest.raises(StoreError, match="had all 1 connections of this process in use"):
            store.touch("a", ttl=9, now=NOW)
        other.rollback()
        waiting.result(10)
    assert store.touch("a", ttl=9, now=NOW)


def test_threads_share_a_few_connections_and_lose_no_update(opened, sql, table):
    store = opened(max_connections=3, timeout=20, application_name=table)
    store.create("a", record(b"0"), now=NOW)

    def increment(_: int) -> None:
        while True:
            seen = store.load("a", now=NOW, touch_after=0)
            if store.replace("a", record(str(int(seen.data) + 1).encode(), version=seen.version), now=NOW):
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(100)))
    assert store.load("a", now=NOW, touch_after=0).data == b"100"
    used = sql.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [table]).fetchone()
    assert 1 <= used[0] <= 3


def test_a_closed_store_leaves_no_connection_and_opens_again(opened, sql, table):
    store = opened(application_name=table)
    store.create("a", record(), now=NOW)
    store.close()
    until(lambda: not sql.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = %s", [table]).fetchall())
    assert store.load("a", now=NOW, touch_after=0)


def test_a_read_only_server_is_named_as_the_reason(opened):
    opened().prepare()
    with pytest.raises(StoreError, match="is read-only"):
        opened(options="-c default_transaction_read_only=on").create("a", record(), now=NOW)


def test_lost_prepared_statements_cause_no_failure(opened):
    store = opened(max_connections=1)
    store.create("a", record(), now=NOW)
    assert store.touch("a", ttl=100, now=NOW)
    idle(store)[0].run_script(b"DEALLOCATE ALL", time.monotonic() + 5)
    for _ in range(2):
        assert store.touch("a", ttl=100, now=NOW)


def test_a_pooler_that_takes_no_startup_options_is_served_without_them(opened, url):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pooler = threading.Thread(target=refuse_options_once, args=(listener, urlsplit(url)))
        pooler.start()
        store = opened(f"postgresql://postgres@127.0.0.1:{listener.getsockname()[1]}/postgres", sslmode="disable")
        assert store.create("a", record(), now=NOW)
        store.close()
        pooler.join(10)


def refuse_options_once(listener: socket.socket, target) -> None:
    """Do what PgBouncer does: refuse a connection that brings options, pass one on that does not."""
    client, _ = listener.accept()
    with client:
        assert b"options\0" in client.recv(10_000)
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
        client.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)
    client, _ = listener.accept()
    with client, socket.create_connection((target.hostname, target.port)) as server:
        startup = client.recv(10_000)
        assert b"options\0" not in startup
        server.sendall(startup)
        back = threading.Thread(target=pass_on, args=(server, client))
        back.start()
        pass_on(client, server)
        back.join(10)


def pass_on(source: socket.socket, to: socket.socket) -> None:
    while chunk := source.recv(10_000):
        to.sendall(chunk)
    to.shutdown(socket.SHUT_WR)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_store_used_before_a_fork_works_on_in_both_processes(postgresql_url):
    run_python(
        """
        import os
        assert store.create("a", Record(b"{}", 100.0), now=1.0)
        child = os.fork()
        for number in range(50):
            assert store.load("a", now=1.0, touch_after=0).data == b"{}"
            assert store.create(f"{child}.{number}", Record(b"{}", 100.0), now=1.0)
        if child:
            assert os.waitpid(child, 0)[1] == 0
            assert len(list(store.scan(now=1.0))) == 101
            store.close()
        """,
        postgresql_url,
    )


def test_a_waiting_call_lets_other_greenlets_run(postgresql_url):
    pytest.importorskip("gevent")
    run_python(
        """
        import gevent
        store.create("a", Record(b"{}", 100.0), now=1.0)
        beats = []
        def beat():
            while True:
                beats.append(1)
                gevent.sleep(0.01)
        heart = gevent.spawn(beat)
        script = store._server.run_script
        sleepers = [gevent.spawn(script, b"SELECT pg_sleep(0.3)", time.monotonic() + 5) for _ in range(5)]
        began = time.monotonic()
        gevent.joinall(sleepers, raise_error=True)
        assert time.monotonic() - began < 1.2, "one after the other"
        assert len(beats) > 10, len(beats)
        loads = [gevent.spawn(store.load, "a", now=1.0, touch_after=0) for _ in range(50)]
        assert all(each.get() for each in loads)
        """,
        f"{postgresql_url}&timeout=5",
        before="from gevent import monkey; monkey.patch_all()",
    )


def run_python(code: str, url: str, *, before: str = "") -> None:
    lines = [before, "import sys, time", "from wsgisession.stores import Record, open_store"]
    lines += ["store = open_store(sys.argv[1])", *(line[8:] for line in code.splitlines())]
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", "\n".join(lines), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def until(condition: Callable[[], bool], *, seconds: float = 5) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
