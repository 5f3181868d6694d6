"""Sessions in PostgreSQL as connect-pg-simple keeps them, so that Express reads and writes them too."""

# ruff: noqa: S608 - the only text put into SQL is the quoted name of the table, and quoted keys

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..base import PAGE, Deleted, Page, Reader, Record, Store, delete_each, page_of, restart_is_due
from .libpq import PGresult, number
from .store import PREPARING, PostgreSQLStore, Statements, digest_of, index_name, quoted

_PAGE = 50


class ExpressPostgreSQLStore(PostgreSQLStore):
    """Keep records as rows of connect-pg-simple's table, and of nothing more.

    ``expire`` alone says when a record expires. It is a wall clock in the time zone of the connection, which must be
    the one that Node.js connects with: for both it is the server's, unless they are told another.

    A record's version is its text: `replace` compares a digest, so that any writer's change is noticed. Users are found
    by an index over the JSON, in rows that only Express has written too.

    :param native: whose connections are used.
    :param reader: says what the text of a record does not say to a server.
    """

    def __init__(self, native: Store, reader: Reader) -> None:
        vars(self).update(vars(native))
        self._reader = reader
        self._sql = _ExpressStatements(self._table, self._schema, reader.user_keys)

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and where that is due restart it with a second statement."""
        if "\0" in handle:  # which PostgreSQL's text cannot hold
            return None
        result = self._run(self._sql.read, handle, now, repeatable=True)
        if not result.ntuples:
            return None
        record = self._record(result, 0)
        if restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
            expires_at = _expiry(record.ttl, now)
            self._run(self._sql.touch, handle, now, expires_at)
            return Record(record.data, record.ttl, record.user_id, record.version, expires_at)
        return record

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Insert a row, or take over an expired one."""
        new = _written(record, now)
        result = self._run(self._sql.create, handle, new.data, new.expires_at, now)
        return new if result.command_tuples else None

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Update the row whose text still has the digest of ``record.version``."""
        new = _written(record, now)
        result = self._run(self._sql.replace, handle, new.data, new.expires_at, now, digest_of(record.version))
        return new if result.command_tuples else None

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Update the expiry of a live row."""
        return bool(self._run(self._sql.touch, handle, now, _expiry(ttl, now)).command_tuples)

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live row, or only this version of it."""
        return "\0" not in handle and super().delete(handle, now=now, version=version)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a user's live rows by their index."""
        found = self._records(self._run(self._sql.find_user, user_id, now, repeatable=True))
        return page_of([pair for pair in found if pair[1].user_id == user_id], after=after, limit=limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Find a user's live rows, and delete them as they were found."""
        return delete_each(self, user_id, now=now, keep=keep, after=after, limit=limit)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Read page after page in the order of the primary key, without a transaction around them."""
        after = ""
        while page := self._records(self._run(self._sql.scan, after, now, _PAGE, repeatable=True)):
            yield from page
            after = page[-1][0]

    def _record(self, result: PGresult, row: int) -> Record:
        data, expires_at = result.get_value(row, 0) or b"", number(result.get_value(row, 1))
        ttl, user_id = self._reader.glance(data)
        return Record(data, ttl, user_id, data, expires_at)

    def _records(self, result: PGresult) -> list[tuple[str, Record]]:
        rows = range(result.ntuples)
        return [((result.get_value(row, 2) or b"").decode(), self._record(result, row)) for row in rows]


def _expiry(ttl: float, now: float) -> float:
    return float(math.ceil(now + ttl))


def _written(record: Record, now: float) -> Record:
    return Record(record.data, record.ttl, record.user_id, record.data, _expiry(record.ttl, now))


class _ExpressStatements(Statements):
    """The SQL for one table of connect-pg-simple's."""

    def __init__(self, table: str, schema: str | None, user_keys: tuple[str, ...]) -> None:
        name = quoted(table) if schema is None else f"{quoted(schema)}.{quoted(table)}"
        row = "sess::text, extract(epoch FROM expire::timestamptz)::float8, sid"
        digest = "sha256(convert_to(sess::text, 'UTF8'))"
        user = _user(user_keys)

        self.read = f"SELECT {row} FROM {name} WHERE sid = $1 AND expire > to_timestamp($2::float8)".encode()
        self.create = f"""
            INSERT INTO {name} (sid, sess, expire) VALUES ($1, $2, to_timestamp($3::float8))
            ON CONFLICT (sid) DO UPDATE SET sess = EXCLUDED.sess, expire = EXCLUDED.expire
            WHERE {name}.expire <= to_timestamp($4::float8)
        """.encode()
        self.replace = f"""
            UPDATE {name} SET sess = $2, expire = to_timestamp($3::float8)
            WHERE sid = $1 AND expire > to_timestamp($4::float8) AND {digest} = $5::bytea
        """.encode()
        self.touch = f"""
            UPDATE {name} SET expire = to_timestamp($3::float8) WHERE sid = $1 AND expire > to_timestamp($2::float8)
        """.encode()
        self.delete = f"""
            DELETE FROM {name}
            WHERE sid = $1 AND expire > to_timestamp($2::float8) AND ($3::bytea IS NULL OR {digest} = $3)
        """.encode()
        self.find_user = f"""
            SELECT {row} FROM {name} WHERE {user} IN ($1, '') AND expire > to_timestamp($2::float8)
        """.encode()
        self.scan = f"""
            SELECT {row} FROM {name} WHERE sid > $1 AND expire > to_timestamp($2::float8)
            ORDER BY sid LIMIT $3::float8::int
        """.encode()
        self.purge = f"""
            DELETE FROM {name} WHERE ctid = ANY (ARRAY (
                SELECT ctid FROM {name} WHERE expire <= to_timestamp($1::float8)
                ORDER BY expire LIMIT $2::float8::int FOR UPDATE SKIP LOCKED
            ))
        """.encode()
        self.ddl = f"""\
CREATE TABLE IF NOT EXISTS {name} (
    sid varchar NOT NULL PRIMARY KEY,
    sess json NOT NULL,
    expire timestamp(6) NOT NULL
);
CREATE INDEX IF NOT EXISTS {index_name(table, "expire")} ON {name} (expire);
CREATE INDEX IF NOT EXISTS {index_name(table, "user")} ON {name} USING hash (({user}));
"""
        self.prepare = f"{PREPARING}\n{self.ddl}".encode()


def _user(keys: tuple[str, ...]) -> str:
    """Return the SQL for a row's user.

    PostgreSQL's functions for JSON fail for a text with NUL or a lone surrogate anywhere, and an index that failed
    would fail Express's writes: such rows are all found under the empty text. A hash has no limit of length.
    """
    values = ", ".join(f"sess->>'{_escaped(key)}'" for key in keys)
    return rf"CASE WHEN sess::text ~* '\\u(0000|d[89a-f])' THEN '' ELSE coalesce({values}) END"


def _escaped(key: str) -> str:
    return key.replace("'", "''")
