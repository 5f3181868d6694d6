"""Each cause of a failure has its own message, with the fix and the first line of what the driver said."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import psycopg
import pytest
from werkzeug.test import Client

from tests import servers
from tests.conftest import with_options
from wsgisession import SessionMiddleware, get_session
from wsgisession.errors import ConfigurationError, StoreError
from wsgisession.stores import Record, WriteRefused, open_store
from wsgisession.stores.postgresql.causes import Limits, what_failed

NOW = 1_800_000_000.0
PASSWORD = "open-sesame"
HBA = """
host all postgres  127.0.0.1/32 trust
host all ali       127.0.0.1/32 scram-sha-256
host all limited   127.0.0.1/32 trust
host all nobody_   127.0.0.1/32 trust
"""


@pytest.fixture(scope="module")
def server() -> Iterator[servers.PostgreSQL]:
    """A server that lets some in, some with a password, and others not at all."""
    server = servers.PostgreSQL().start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE ali LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE baba LOGIN")
        connection.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")
        (server.data / "pg_hba.conf").write_text(HBA)
        connection.execute("SELECT pg_reload_conf()")
    yield server
    server.stop()


REFUSALS = {
    "wrong password": ("ali:wrong-pass@{place}/postgres", "correct them in the store's URL", "password authentication"),
    "no password": ("ali@{place}/postgres", "add it to the store's URL, or set PGPASSWORD", "no password supplied"),
    "missing database": ("postgres@{place}/shop", "create it with createdb", 'database "shop" does not exist'),
    "missing user": ("nobody_@{place}/postgres", "create it with createuser", 'role "nobody_" does not exist'),
    "missing entry": ("baba@{place}/postgres", "add an entry to its pg_hba.conf", "no pg_hba.conf entry for host"),
    "too many": ("limited@{place}/postgres", "raise max_connections of the server", "too many connections for role"),
    "no TLS": ("postgres@{place}/postgres?sslmode=require", "check sslmode", "does not support SSL"),
    "nobody there": ("postgres@127.0.0.1:1/postgres", "check that the server runs, and host and port", "refused"),
    "no such host": ("postgres@nowhere.invalid/postgres", "correct the host in the store's URL", "[Errno -"),
    "no socket": ("postgres@%2Fnowhere/postgres", "has no socket at that path", "No such file or directory"),
}


@pytest.mark.parametrize(("url", "cure", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_connection_says_why_and_what_to_do(server, url, cure, said):
    place = f"127.0.0.1:{server.port}"
    store = open_store(with_options(f"postgresql://{url.format(place=place)}", timeout="0.5"))
    with closing(store), pytest.raises(StoreError) as caught:
        store.load("a", now=NOW, touch_after=None)
    message = str(caught.value)
    assert cure in message
    assert said in message.rpartition(" (")[2] or said in message[message.index(": ") :]
    assert message.endswith(")")
    assert "\n" not in message
    assert "wrong-pass" not in message


def test_no_two_causes_share_a_message(server):
    messages = set()
    for url, *_ in REFUSALS.values():
        store = open_store(with_options(f"postgresql://{url.format(place=f'127.0.0.1:{server.port}')}", timeout="0.3"))
        with closing(store), pytest.raises(StoreError) as caught:
            store.load("a", now=NOW, touch_after=None)
        messages.add(str(caught.value).partition("/postgres ")[2].partition(":")[0])
    assert len(messages) >= len(REFUSALS) - 1  # one of them has another database in its URL


@pytest.mark.parametrize("cause", ["missing database", "wrong password"])
def test_doctor_and_the_log_of_an_app_that_answers_503_say_the_same(server, cause, caplog):
    url, cure, said = REFUSALS[cause]
    url = f"postgresql://{url.format(place=f'127.0.0.1:{server.port}')}"
    done = subprocess.run([sys.executable, "-m", "wsgisession", "doctor", url], capture_output=True, text=True)
    assert done.returncode == 1
    assert cure in done.stdout + done.stderr
    assert said in done.stdout + done.stderr

    def app(environ, start_response):
        get_session(environ)["n"] = 1
        start_response("200 OK", [])
        return [b""]

    wrapped = SessionMiddleware(app, secret="for the tests, and long enough", store=url, on_store_error="unavailable")
    with caplog.at_level(logging.ERROR):
        assert Client(wrapped).get("/").status_code == 503
    assert cure in caplog.text
    assert said in caplog.text


LIMITS = Limits("session", 2.0, 10)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (psycopg.errors.DiskFull("could not extend file"), "has a full disk: free some space"),
        (psycopg.errors.LockNotAvailable("canceling statement"), "has a long transaction that holds the table"),
        (psycopg.errors.UndefinedTable('relation "session" does not exist'), "has no table 'session'"),
        (psycopg.errors.AdminShutdown("terminating connection"), "is shutting down or starting"),
        (psycopg.errors.InvalidColumnReference("there is no unique"), "ALTER TABLE session ADD PRIMARY KEY (sid)"),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), "has no connection left"),
        (psycopg.OperationalError("FATAL:  no more connections allowed (max_client_conn)"), "has no connection left"),
        (psycopg.OperationalError('FATAL:  no such database: "shop"'), "has no such database"),
        (psycopg.OperationalError('root certificate file "/root.crt" does not exist'), "cannot be reached with TLS"),
        (psycopg.OperationalError('server certificate for "db" does not match host name "x"'), "reached with TLS"),
        (psycopg.OperationalError("SSL error: certificate verify failed"), "cannot be reached with TLS"),
        (psycopg.OperationalError("server closed the connection"), "broke the connection off"),
        (psycopg.errors.SyntaxError("at or near"), "refused the command (SyntaxError)"),
    ],
)
def test_what_the_server_says_later_has_its_own_message_too(error, sentence):
    message = what_failed(error, LIMITS)
    assert sentence in message
    assert message.endswith(f"({error})")


def test_only_the_first_line_of_the_driver_is_reported():
    said = "connection failed: FATAL:  no pg_hba.conf entry\nconnection failed: again\n\tIs the server running?"
    message = what_failed(psycopg.OperationalError(said), LIMITS)
    assert message.endswith("(connection failed: FATAL:  no pg_hba.conf entry)")


@pytest.mark.parametrize("password", ["pa?ss", "pa#ss", "pa/ss", "pa@ss", "12?34", "a:b?c", "%zz", "?", "p&a=ss?x=y"])
@pytest.mark.parametrize("escaped", [False, True])
def test_no_part_of_a_password_is_ever_shown(password, escaped):
    written = quote(password, safe="") if escaped else password
    url = f"postgresql://me:{written}@127.0.0.1:1/db?timeout=0.2"
    texts = []
    try:
        store = open_store(url)
        texts.append(repr(store))
        with pytest.raises(StoreError) as caught:
            store.load("a", now=NOW, touch_after=None)
        texts += [str(caught.value), str(caught.value.__cause__)]
    except ConfigurationError as error:
        texts += [str(error), str(error.__cause__)]
    for text in texts:
        assert "me:" not in text
        for part in {password, written, "ss", "a:b", "zz"}:
            assert f"{part}@" not in text
            assert f":{part}" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hush@one:5433,two:5434,three/app", "postgresql://one:5433,two:5434,three/app"),
        ("postgresql://one,two:6000/app?target_session_attrs=read-write", "postgresql://one,two:6000/app"),
        ("postgresql://[::1]:5433,[fe80::1]/app", "postgresql://[::1]:5433,[fe80::1]/app"),
        ("postgresql:///app?host=one,two&port=5433,5434", "postgresql://one:5433,two:5434/app"),
        ("postgresql:///app?host=one,two&port=5433", "postgresql://one:5433,two:5433/app"),
        ("postgresql:///app?host=/run/postgresql", "postgresql:///run/postgresql/app"),
        ("postgres://me:hush@db/app", "postgresql://db/app"),
        ("postgresql+psycopg://me:hush@db/app", "postgresql://db/app"),
        ("postgresql+psycopg2://me:hush@db/app", "postgresql://db/app"),
    ],
)
def test_messages_name_the_servers_of_the_url_and_no_secret(url, shown):
    assert repr(open_store(url)) == f"<PostgreSQLStore {shown} table='session'>"


def test_of_several_hosts_the_one_that_answers_is_used(server):
    url = f"postgresql://postgres@127.0.0.1:1,127.0.0.1:{server.port}/postgres?schema=public&table=hosts"
    with closing(open_store(url)) as store:
        assert store.create("a", Record(b"{}", 60.0), now=NOW)


def test_a_read_only_server_is_read_and_refuses_writes_with_the_fix(postgresql_url, caplog):
    with closing(open_store(postgresql_url)) as store:
        stored = store.create("a", Record(b"{}", 60.0, "7"), now=NOW)
    read_only = with_options(postgresql_url, options="-c default_transaction_read_only=on")
    with closing(open_store(read_only)) as store, caplog.at_level(logging.WARNING):
        assert [store.load("a", now=NOW + 30, touch_after=0.05) for _ in range(3)] == [stored] * 3
        assert store.find_user("7", now=NOW).records == [("a", stored)]
        assert len(caplog.records) == 1
        for write in (
            lambda: store.create("b", Record(b"{}", 60.0), now=NOW),
            lambda: store.touch("a", ttl=60, now=NOW),
            lambda: store.delete("a", now=NOW),
        ):
            with pytest.raises(WriteRefused, match="is read-only: name the primary"):
                write()
