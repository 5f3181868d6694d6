"""A million records at once, past the library, as its stores would have written them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import psycopg
import redis

from wsgisession import SessionManager
from wsgisession.stores import Record, open_store
from wsgisession.stores.redis.layout import packed

SECRET = "a secret for the benchmarks alone"

Row = tuple[str, str | None, float, float]
"""Handle, user, ttl, and when it expires."""


def data() -> bytes:
    """Return what the library stores for a session of about 250 bytes."""
    manager = SessionManager(secret=SECRET)
    session = manager.open("", None)
    session.login("ada", cart=["x" * 100], csrf="y" * 43)
    manager.commit(session, {"wsgi.url_scheme": "https", "HTTP_HOST": "example.com"})
    (record,) = manager.all_records()
    return record.data


DATA = data()


def rows(count: int, *, per_user: int | None, ttl: float, now: float) -> Iterator[Row]:
    """:param per_user: how many sessions in a row belong to one user; None for sessions without a user."""
    for number in range(count):
        user = None if per_user is None else f"u{number // per_user}"
        yield f"{number * 2654435761 % 2**32:08x}-of-a-handle-of-43-characters-{number:07d}"[:43], user, ttl, now + ttl


def load_postgresql(url: str, loaded: Iterator[Row]) -> None:
    _prepare(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE t (sid text, user_id text, ttl float8, expires_at float8)")
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for row in loaded:
                copy.write_row(row)
        connection.execute(
            "INSERT INTO session (sid, sess, expire, expires_at, ttl, user_id)"
            " SELECT sid, %s::json, to_timestamp(expires_at), expires_at, ttl, user_id FROM t",
            [DATA.decode()],
        )
        connection.execute("DROP TABLE t")
        connection.execute("VACUUM ANALYZE session")


def load_redis(url: str, loaded: Iterator[Row]) -> None:
    with redis.Redis.from_url(url) as client:
        pipeline = client.pipeline(transaction=False)
        for handle, user, ttl, expires_at in loaded:
            name, last = user or "", round((expires_at + ttl) * 1000)
            value = packed(Record(DATA, ttl, name, "A" * 8, expires_at))
            pipeline.set(f"sess:{handle}", value, px=round(ttl * 1000))
            pipeline.zadd(f"sess-user:{name}", {handle: last})
            pipeline.pexpire(f"sess-user:{name}", round(2 * ttl * 1000))
            if len(pipeline) > 10_000:
                pipeline.execute()
        pipeline.execute()


def load_sqlite(url: str, loaded: Iterator[Row]) -> None:
    _prepare(url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.executemany(
            "INSERT INTO session (handle, user_id, ttl, expires_at, version, data) VALUES (?, ?, ?, ?, 1, ?)",
            ((*row, DATA) for row in loaded),
        )
    connection.close()


def _prepare(url: str) -> None:
    store = open_store(url)
    store.prepare()
    store.close()
