"""What a PostgreSQL server and its table of sessions lack: SQL, and what its answers mean."""

# ruff: noqa: S608 - the only text put into SQL is the quoted name of the table

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from ..findings import Finding, skew
from .libpq import PGresult, Value, number

_SERVER = b"""
    SELECT pg_is_in_recovery()::int::float8, extract(epoch FROM clock_timestamp())::float8,
        getdatabaseencoding()::text, (current_setting('transaction_read_only') = 'on')::int::float8
"""

# Each of our columns that exists, its type, and whether an index begins with it. The one on the user must continue
# with the order of logins, if the table has one.
_COLUMNS = b"""
    SELECT attname::text, (EXISTS (
        SELECT FROM pg_index
        WHERE indrelid = attrelid AND indkey[0] = attnum AND indisvalid AND (attname <> 'sid' OR indisunique)
            AND (attname <> 'user_id' OR coalesce((
                SELECT indkey[1] IS NOT DISTINCT FROM o.attnum
                FROM pg_attribute o WHERE o.attrelid = indrelid AND o.attname = 'login_order'
            ), true))
    ))::int::float8, format_type(atttypid, NULL)
    FROM pg_attribute
    WHERE attrelid = to_regclass($1::text) AND NOT attisdropped
        AND attname IN ('sid', 'sess', 'expire', 'expires_at', 'ttl', 'user_id', 'login_order')
"""
_ESTIMATE = b"SELECT reltuples::float8 FROM pg_class WHERE oid = to_regclass($1::text)"
_EXACT_UP_TO = 1e6
_INDEXED = {
    "sid": "no session can be stored",
    "expire": "purge reads the whole table",
    "user_id": "a user's sessions are looked for in the whole table",
}
_OURS = {"expires_at", "ttl", "user_id"}
_CURE = "run `wsgisession init URL` as the table's owner"


class Ask(Protocol):
    """How to ask the server."""

    def __call__(self, statement: bytes, *values: Value) -> PGresult:
        """Execute a statement and return its result, or raise `StoreError`."""


def columns_of(ask: Ask, table: str) -> dict[str, bool]:
    """Return those of our columns that a table has, and whether an index begins with each; empty without a table."""
    found = ask(_COLUMNS, table)
    rows = range(found.ntuples)
    return {(found.get_value(row, 0) or b"").decode(): bool(number(found.get_value(row, 1))) for row in rows}


def count(ask: Ask, table: str, which: str, now: float) -> int:
    """Count the rows that a condition on ``$1`` selects, or of a large table return how many rows there are at all.

    :param which: the condition, in SQL.
    """
    estimate = number(ask(_ESTIMATE, table).get_value(0, 0))
    if estimate > _EXACT_UP_TO:
        return int(estimate)
    return int(number(ask(f"SELECT count(*)::float8 FROM {table} WHERE {which}".encode(), now).get_value(0, 0)))


def examine(ask: Ask, table: str, *, now: float) -> Iterator[Finding]:
    """Look at the server and at the table, changing nothing."""
    server = ask(_SERVER)
    is_replica, is_read_only = (bool(number(server.get_value(0, column))) for column in (0, 3))
    yield from of_server(is_replica, is_read_only, number(server.get_value(0, 1)), now=now)
    found = ask(_COLUMNS, table)
    names = [(found.get_value(row, 0) or b"").decode() for row in range(found.ntuples)]
    indexed = {name: bool(number(found.get_value(row, 1))) for row, name in enumerate(names)}
    types = {name: (found.get_value(row, 2) or b"").decode() for row, name in enumerate(names)}
    yield from of_columns(indexed, table=table)
    yield from of_text(types.get("sess", "json"), (server.get_value(0, 2) or b"").decode(), table=table)
    if {"expire", "expires_at"} <= indexed.keys():
        yield from of_strays(number(ask(_strays(table)).get_value(0, 0)), table=table)


def _strays(table: str) -> bytes:
    """Return the SQL that counts, among a thousand rows, those written by a connection of another time zone."""
    return f"""
        SELECT count(*)::float8 FROM (SELECT expire, expires_at FROM {table} WHERE expires_at IS NOT NULL LIMIT 1000) s
        WHERE abs(extract(epoch FROM expire - to_timestamp(expires_at)::timestamp)) > 60
    """.encode()


def of_server(is_replica: bool, is_read_only: bool, server_time: float, *, now: float) -> Iterator[Finding]:
    """Judge what the server says of itself."""
    cure = "name the primary, or add target_session_attrs=read-write to the store's URL"
    if is_replica:
        yield Finding("problem", "the server is a replica", cure)
    elif is_read_only:
        yield Finding("problem", "the server is read-only for this role", cure)
    yield from skew(server_time, now=now)


def of_columns(indexed: Mapping[str, bool], *, table: str) -> Iterator[Finding]:
    """Judge which columns are there, and whether each is indexed."""
    if not indexed:  # the caller reports a table that does not exist
        return
    if not indexed.keys() >= _OURS:
        yield Finding("warning", f"the table {table} lacks columns of this store", _CURE)
    elif "login_order" not in indexed:
        fact = f"the table {table} lacks the column login_order, so that max_sessions_per_user ends the sessions that"
        yield Finding("warning", f"{fact} were used least recently, and not the oldest logins", _CURE)
    for column, consequence in _INDEXED.items():
        if not indexed.get(column, True):
            kind = "unique index" if column == "sid" else "index"
            yield Finding("problem", f"the table {table} has no {kind} on {column}, so that {consequence}", _CURE)


def of_text(kind: str, encoding: str, *, table: str) -> Iterator[Finding]:
    """Judge the type of the data and the encoding of the database."""
    if kind == "jsonb":
        fact = f"the column sess of {table} is jsonb, which cannot store NUL in a text"
        cure = f"ALTER TABLE {table} ALTER COLUMN sess TYPE json, if your app stores such texts"
        yield Finding("warning", fact, cure)
    if encoding not in ("UTF8", "SQL_ASCII"):
        fact = f"the database has the encoding {encoding}, so that user IDs with other characters are refused"
        yield Finding("warning", fact, "create the database with ENCODING 'UTF8', if your users have such IDs")


def of_strays(count: float, *, table: str) -> Iterator[Finding]:
    """Judge the number of rows that were written with another time zone."""
    if count:
        fact = f"rows of {table} were written with another time zone, and purge comes early or late to them"
        yield Finding("warning", fact, "give all programs the same one: ALTER ROLE ... SET timezone = 'UTC'")
