"""Tables that others made: their types and encodings, those of the version before, and what may not be altered."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import psycopg
import pytest

from wsgisession import SessionManager
from wsgisession.errors import StoreError
from wsgisession.stores import Reader, Record, in_layout_of_express, open_store
from wsgisession.testing.workbench import end_user, sessions_of

NOW = 1_800_000_000.25
SECRET = "for the tests, and long enough"
ODD = {"z": 1, "a": {"b": [1, 2.5, None], "aa": "é\u2028😀"}, "n": 1.0, "user_id": 7}


@pytest.fixture(params=["native", "express"])
def layout(request) -> str:
    return request.param


def made(sql: psycopg.Connection, table: str, *, sess: str = "json", sid: str = "varchar") -> None:
    sql.execute(
        f"CREATE TABLE {table} (sid {sid} NOT NULL PRIMARY KEY, sess {sess} NOT NULL, expire timestamp(6) NOT NULL)"
    )


def test_an_index_of_the_version_before_is_not_enough_and_init_adds_what_is_missing(opened, sql, table):
    store = opened()
    assert store.missing() == [f"the table {store._complete.table}"]
    store.prepare()
    assert store.missing() == []
    sql.execute(f'DROP INDEX "IDX_{table}_logins"; CREATE INDEX "IDX_{table}_user_id" ON {table} (user_id)')
    assert store.missing() == ["the index on user_id"]
    assert "has no index on user_id" in " ".join(map(str, store.diagnose(now=NOW)))
    sql.execute(f"ALTER TABLE {table} DROP COLUMN login_order")
    assert store.missing() == ["the column login_order"]
    store.prepare()
    assert store.missing() == []


# Types


@pytest.mark.parametrize("sid", ["varchar", "text", "varchar(255)", "char(64)"])
@pytest.mark.parametrize("sess", ["json", "jsonb", "text"])
def test_a_table_of_any_text_type_keeps_sessions(postgresql_url, sql, table, layout, sess, sid):
    made(sql, table, sess=sess, sid=sid)
    manager = SessionManager(secret=SECRET, store=postgresql_url, format=layout)
    session = manager.open("", {})
    session.update(ODD)
    cookie = manager.commit(session).set_cookie.partition(";")[0]

    def count(number: int) -> None:
        for _ in range(5):
            other = manager.open(cookie, {})
            other[f"k{number}"] = other.get(f"k{number}", 0) + 1
            manager.commit(other)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))
    session = manager.open(cookie, {})
    assert {key: session[key] for key in ODD} == ODD
    assert [session[f"k{number}"] for number in range(4)] == [5] * 4
    assert [info.user_id for info in manager.sessions_for(7)] == [7]
    assert manager.revoke_user(7) == 1
    assert not manager.open(cookie, {})
    manager.close()


def test_jsonb_keeps_values_and_what_create_returns_is_what_is_stored(opened, sql, table):
    made(sql, table, sess="jsonb")
    store = opened()
    created = store.create("a", Record(b'{"b": 1.0,"a":"\\u00e9"}', 100.0), now=NOW)
    assert json.loads(created.data) == {"a": "é", "b": 1.0}
    assert store.load("a", now=NOW, touch_after=None) == created
    changed = store.replace("a", Record(b'{"n":1}', 100.0, version=created.version), now=NOW)
    assert store.replace("a", Record(b'{"n":2}', 100.0, version=created.version), now=NOW) is None
    assert store.delete("a", now=NOW, version=changed.version)


def test_jsonb_refuses_nul_and_says_what_to_change(opened, sql, table):
    made(sql, table, sess="jsonb")
    store = opened()
    with pytest.raises(StoreError, match="if the column sess of .* is jsonb, make it json or text"):
        store.create("a", Record(b'{"a":"\\u0000"}', 100.0), now=NOW)
    assert store.create("a", Record('{"a":"é"}'.encode(), 100.0), now=NOW)


def test_a_table_with_other_types_is_named_with_the_fix(opened, sql, table):
    made(sql, table, sid="uuid")
    with pytest.raises(StoreError, match="make sid a text or varchar, and sess json, jsonb, or text"):
        opened().create("no-uuid", Record(b"{}", 100.0), now=NOW)


@pytest.fixture
def latin1(postgresql_server) -> Iterator[str]:
    name = f"latin_{secrets.token_hex(4)}"
    url = postgresql_server.url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    yield urlsplit(url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_latin1_database_keeps_every_character_of_a_session(latin1, layout):
    with closing(open_store(latin1)) as store:
        if layout == "express":
            store = in_layout_of_express(store, Reader(lambda _: (60.0, None), ("user_id",)))
        for text in ("é", "€", "😀", "\u2028"):
            for _ in range(2):
                data = json.dumps({"t": text, "cookie": {}}, ensure_ascii=False).encode()
                created = store.create(text.encode().hex(), Record(data, 60.0), now=NOW)
                assert store.load(text.encode().hex(), now=NOW, touch_after=None) == created
                changed = store.replace(
                    text.encode().hex(), Record(created.data[:-1] + b',"n":1}', 60.0, None, created.version), now=NOW
                )
                assert json.loads(changed.data) == {"t": text, "cookie": {}, "n": 1}
                assert store.delete(text.encode().hex(), now=NOW, version=changed.version)


def test_a_latin1_database_that_cannot_hold_a_user_says_what_to_do(latin1):
    with closing(open_store(latin1)) as store:
        assert store.create("a", Record(b"{}", 60.0, "ünï"), now=NOW)
        with pytest.raises(StoreError, match="create the database with ENCODING 'UTF8'"):
            store.create("b", Record(b"{}", 60.0, "😀"), now=NOW)
        assert "has the encoding LATIN1" in " ".join(map(str, store.diagnose(now=NOW)))


# Rights


def test_a_role_with_the_rights_that_the_documentation_names_can_do_everything(opened, sql, table, place, layout):
    owner = opened()
    if layout == "express":
        owner = in_layout_of_express(owner, Reader(lambda _: (100.0, "u"), ("user_id",)))
    owner.prepare()
    role = f"role_{secrets.token_hex(4)}"
    sql.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {place['schema']} TO {role}")
    sql.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
    store = opened(user=role)
    if layout == "express":
        store = in_layout_of_express(store, Reader(lambda _: (100.0, "u"), ("user_id",)))
    store.prepare()
    data = b'{"user_id":"u"}'
    for handle in "abc":
        made = store.create(handle, Record(data, 100.0, "u"), now=NOW)
    assert store.load("a", now=NOW + 50, touch_after=0.05).expires_at >= NOW + 149
    assert store.replace("c", Record(b'{"user_id":"u","n":1}', 100.0, "u", made.version), now=NOW)
    assert store.touch("a", ttl=100, now=NOW)
    assert store.delete("a", now=NOW)
    assert len(sessions_of(store, "u", now=NOW)) == len(list(store.scan(now=NOW))) == store.count(now=NOW) == 2
    assert len(end_user(store, "u", now=NOW)) == 2
    assert store.purge(now=NOW + 1000) == 0
    assert store.exists
    store.diagnose(now=NOW)
    sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


# The order of logins


def test_rows_of_the_version_before_come_after_newer_logins_and_its_workers_keep_working(opened, sql, table):
    made(sql, table)
    sql.execute(f"ALTER TABLE {table} ADD expires_at float8, ADD ttl float8, ADD user_id text")
    insert = (
        f"INSERT INTO {table} (sid, sess, expire, expires_at, ttl, user_id) VALUES (%s, '{{}}', now(), %s, 100, 'u')"
    )
    sql.execute(insert, ["old", NOW + 100])
    store = opened()
    store.create("new", Record(b"{}", 100.0, "u"), now=NOW)
    sql.execute(insert, ["beside", NOW + 100])
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW)] == ["beside", "new", "old"]


def test_a_login_is_later_than_all_others_also_after_the_servers_clock_was_set_back(opened, sql, table):
    store = opened()
    first = store.create("a", Record(b"{}", 100.0, "u"), now=NOW)
    sql.execute(f"UPDATE {table} SET login_order = login_order + 10^12::bigint")
    second = store.create("b", Record(b"{}", 100.0, "u"), now=NOW)
    assert second.order == first.order + 10**12 + 1


def test_a_role_that_may_not_alter_the_table_goes_by_the_last_use_and_doctor_says_so(opened, sql, table, place):
    made(sql, table)
    sql.execute(f"ALTER TABLE {table} ADD expires_at float8, ADD ttl float8, ADD user_id text")
    role = f"role_{secrets.token_hex(4)}"
    sql.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {place['schema']} TO {role}")
    sql.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
    store = opened(user=role)
    for number, now in enumerate([NOW, NOW + 20, NOW + 10]):
        assert store.create(f"s{number}", Record(b"{}", 100.0, "u"), now=now)
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW + 20)] == ["s1", "s2", "s0"]
    store.prepare()
    page = store.find_user("u", now=NOW + 20, limit=1)
    assert store.delete_user("u", now=NOW + 20, after=page.after, limit=1).handles == ["s2"]
    assert "lacks the column login_order" in " ".join(map(str, store.diagnose(now=NOW)))
    opened().prepare()
    store._look_again_at = 0.0  # a minute later
    assert store.create("s3", Record(b"{}", 100.0, "u"), now=NOW).order > 10**15
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW + 20)] == ["s3", "s1", "s0"]
    sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_column_that_cannot_be_added_now_is_done_without_and_holds_nobody_up(opened, sql, connect, table):
    made(sql, table)
    sql.execute(f"ALTER TABLE {table} ADD expires_at float8, ADD ttl float8, ADD user_id text")
    with connect() as other:
        other.execute(f"SELECT FROM {table}")  # a long transaction, such as that of pg_dump
        store = opened(timeout=1)
        assert store.create("a", Record(b"{}", 100.0, "u"), now=NOW)
        assert store.load("a", now=NOW, touch_after=None)


# Many sessions of one user


@pytest.fixture
def many(opened, sql, table, layout):
    """A store with five thousand sessions of a bot."""
    store = opened()
    if layout == "express":
        store = in_layout_of_express(store, Reader(lambda _: (60.0, "bot"), ("user_id",)))
        store.prepare()
        columns, values = "sid, sess, expire", f'\'{{"user_id":"bot"}}\', to_timestamp({NOW} + 60 + n)'
    else:
        store.prepare()
        columns = "sid, sess, expire, expires_at, ttl, user_id, login_order"
        values = f"'{{}}', to_timestamp({NOW} + 60), {NOW} + 60, 60, 'bot', n"
    sql.execute(f"INSERT INTO {table} ({columns}) SELECT 's' || n, {values} FROM generate_series(1, 5000) n")
    sql.execute(f"ANALYZE {table}")
    return store


def test_thousands_of_sessions_are_listed_in_pages_from_the_latest_one(many):
    handles = [handle for handle, _ in sessions_of(many, "bot", now=NOW)]
    assert handles == [f"s{number}" for number in range(5000, 0, -1)]


def test_thousands_of_sessions_are_ended_in_steps_while_others_keep_working(many, postgresql_url):
    page = many.find_user("bot", now=NOW, limit=3)
    kept = [handle for handle, _ in page.records]
    done, visits = threading.Event(), []

    def visit() -> None:
        while not done.is_set():
            visits.append(many.load(kept[0], now=NOW, touch_after=None))

    visitor = threading.Thread(target=visit)
    visitor.start()
    ended: list[str] = []
    while (step := many.delete_user("bot", now=NOW, after=page.after)).more:
        assert len(step.handles) <= 1000
        ended += step.handles
    done.set()
    visitor.join()
    assert len(ended + step.handles) == 4997
    assert [handle for handle, _ in sessions_of(many, "bot", now=NOW)] == kept
    assert all(visits)
    assert sorted(end_user(many, "bot", now=NOW)) == sorted(kept)


def test_a_page_ends_after_some_megabytes_and_the_next_one_continues(opened, sql, table):
    store = opened()
    store.prepare()
    columns = "sid, sess, expire, expires_at, ttl, user_id, login_order"
    megabyte = "(SELECT string_agg(md5(n || '-' || i), '') FROM generate_series(1, 31000) i)"
    sql.execute(
        f"INSERT INTO {table} ({columns}) SELECT 's' || n, to_json({megabyte}), to_timestamp({NOW} + 60), "
        f"{NOW} + 60, 60, 'u', n FROM generate_series(1, 12) n"
    )
    page = store.find_user("u", now=NOW)
    assert 4 <= len(page.records) < 12
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW)] == [f"s{n}" for n in range(12, 0, -1)]
    assert len(list(store.scan(now=NOW))) == 12
