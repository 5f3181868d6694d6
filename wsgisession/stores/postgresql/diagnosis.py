"""What a PostgreSQL server and its table of sessions lack: SQL, and what its answers mean."""

# ruff: noqa: S608 - the only text put into SQL is the quoted name of the table

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..findings import Finding, skew

SERVER = b"SELECT pg_is_in_recovery()::int::float8, extract(epoch FROM clock_timestamp())::float8"

# Each column of ours that is there, and whether an index begins with it.
COLUMNS = b"""
    SELECT attname::text, (EXISTS (
        SELECT FROM pg_index
        WHERE indrelid = attrelid AND indkey[0] = attnum AND indisvalid AND (attname <> 'sid' OR indisunique)
    ))::int::float8
    FROM pg_attribute
    WHERE attrelid = to_regclass($1::text) AND NOT attisdropped
        AND attname IN ('sid', 'sess', 'expire', 'expires_at', 'ttl', 'user_id')
"""
_INDEXED = {
    "sid": "no session can be stored",
    "expire": "purge reads the whole table",
    "user_id": "a user's sessions are looked for in the whole table",
}
_CURE = "run `wsgisession init URL` as the table's owner"


def strays(table: str) -> bytes:
    """Return the SQL that counts, among a thousand rows, those written by a connection of another time zone."""
    return f"""
        SELECT count(*)::float8 FROM (SELECT expire, expires_at FROM {table} WHERE expires_at IS NOT NULL LIMIT 1000) s
        WHERE abs(extract(epoch FROM expire - to_timestamp(expires_at)::timestamp)) > 60
    """.encode()


def of_server(is_replica: bool, server_time: float, *, now: float) -> Iterator[Finding]:
    """Judge the answer to `SERVER`."""
    if is_replica:
        cure = "name the primary, or add target_session_attrs=read-write to the store's URL"
        yield Finding("problem", "the server is a replica", cure)
    yield from skew(server_time, now=now)


def of_columns(indexed: Mapping[str, bool], *, table: str) -> Iterator[Finding]:
    """Judge the answer to `COLUMNS`."""
    if not indexed:
        cure = "run `wsgisession init URL`, unless the app's own role may create it at the first use"
        yield Finding("warning", f"the table {table} is missing", cure)
    elif not indexed.keys() >= {"expires_at", "ttl", "user_id"}:
        yield Finding("warning", f"the table {table} lacks columns of this store", _CURE)
    for column, consequence in _INDEXED.items():
        if not indexed.get(column, True):
            kind = "unique index" if column == "sid" else "index"
            yield Finding("problem", f"the table {table} has no {kind} on {column}, so that {consequence}", _CURE)


def of_strays(count: float, *, table: str) -> Iterator[Finding]:
    """Judge the answer to `strays`."""
    if count:
        fact = f"rows of {table} were written with another time zone, and purge comes early or late to them"
        yield Finding("warning", fact, "give all programs the same one: ALTER ROLE ... SET timezone = 'UTC'")
