"""A million records at once, past the library, as its stores would have written them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import psycopg

from wsgisession.stores import open_store

DATA = b'{"cart":["' + b"x" * 180 + b'"]}'

Row = tuple[str, str | None, float, float]
"""Handle, user, ttl, and when it expires."""


def rows(count: int, *, per_user: int | None, ttl: float, now: float) -> Iterator[Row]:
    """:param per_user: how many sessions in a row are one user's; None for nobody's."""
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
