"""Sessions in PostgreSQL as connect-pg-simple keeps them, so that Express reads and writes them too."""

# ruff: noqa: S608 - the only text put into SQL is the quoted name of the table, and quoted keys

from __future__ import annotations

import math
from typing import Any

from ..base import PAGE, Deleted, Page, Reader, Record, Store
from .libpq import PGresult, Value, number
from .statements import DIGEST, IS_TEXT, STORED, Statements, bounded, index_name, literal, qualified
from .store import PostgreSQLStore, digest_of, text_of

_UNREADABLE = "md5('')"  # the user of rows whose JSON the server cannot look into


class ExpressPostgreSQLStore(PostgreSQLStore):
    """Keep records as rows of connect-pg-simple's table, and of nothing more.

    ``expire`` alone says when a record expires. It is a wall clock in the time zone of the connection, which must be
    the one that Node.js connects with: for both it is the server's, unless another one is set.

    A record's version is its text: `replace` compares a digest, so any writer's change is detected. Users are found
    by an index over the JSON, in rows that only Express has written too. Such rows do not say in which order the users
    logged in: a page begins with the session that was used last.

    :param native: whose connections are used.
    :param reader: says what the text of a record does not say to a server.
    """

    def __init__(self, native: Store, reader: Reader) -> None:
        vars(self).update(vars(native))
        self._reader = reader
        self._sql = self._complete = _ExpressStatements(self._table, self._schema, reader.user_keys)

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and restart it with a second statement if that is due."""
        if "\0" in handle:  # which PostgreSQL's text cannot hold
            return None
        return super().load(handle, now=now, touch_after=touch_after)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Update the expiry of a live row."""
        return bool(self._run("touch", handle, now, _expiry(ttl, now)).result.command_tuples)

    def delete(self, handle: str, *, now: float, version: object = None) -> bool:
        """Delete a live row, or only this version of it."""
        return "\0" not in handle and super().delete(handle, now=now, version=version)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a page of a user's rows by their index."""
        page = super().find_user(user_id, now=now, after=after or (math.inf, ""), limit=limit)
        return Page([(handle, record) for handle, record in page.records if record.user_id == user_id], page.after)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Find some of a user's live rows, and delete them as they were found."""
        found: dict[str, Record] = {}
        while not found:
            page = self.find_user(user_id, now=now, after=after, limit=limit)
            found, after = {handle: record for handle, record in page.records if handle != keep}, page.after
            if after is None:
                break
        if not found:
            return Deleted([])
        digests = _array(digest_of(record.version) for record in found.values())
        deleted = self._run("delete_found", _array(found), now, digests).result
        handles = [text_of(deleted, row, 0) for row in range(deleted.ntuples)]
        return Deleted(handles, more=after is not None or len(handles) < len(found))

    # Reading the rows of this table.

    _position_column = 1

    def _row(self, handle: str, new: Record) -> tuple[Value, ...]:
        return handle, new.data, new.expires_at

    def _is_login(self, new: Record) -> bool:
        return False  # the table has no order of logins

    def _record(self, result: PGresult, row: int) -> Record:
        data, expires_at = result.get_value(row, 0) or b"", number(result.get_value(row, 1))
        ttl, user_id = self._reader.glance(data)
        return Record(data, ttl, user_id, data, expires_at)

    def _expiry(self, ttl: float, now: float) -> float:
        return _expiry(ttl, now)

    def _order(self, result: PGresult, row: int, column: int, user_id: str | None) -> int:
        return 0


def _expiry(ttl: float, now: float) -> float:
    return float(math.ceil(now + ttl))


def _array(texts: Any) -> str:
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


class _ExpressStatements(Statements):
    """The SQL for one table of connect-pg-simple's."""

    columns = ("sid", "sess", "expire")
    indexed = ("sid", "expire")
    is_live = "expire > to_timestamp($1::float8)"
    is_expired = "expire <= to_timestamp($1::float8)"

    def __init__(self, table: str, schema: str | None, user_keys: tuple[str, ...]) -> None:
        name = self.table = qualified(table, schema)
        expiry = "extract(epoch FROM expire::timestamptz)::float8"
        user = f"md5({_user(user_keys)})"
        page = f"SELECT sess, {expiry} AS expires_at, sid::text FROM {name} AS t"

        self.read = (
            f"SELECT sess::text, {expiry} FROM {name} WHERE sid = $1 AND expire > to_timestamp($2::float8)".encode()
        )
        self.create = f"""
            INSERT INTO {name} (sid, sess, expire) VALUES ($1, $2, to_timestamp($3::float8))
            ON CONFLICT (sid) DO UPDATE SET sess = EXCLUDED.sess, expire = EXCLUDED.expire
            WHERE {name}.expire <= to_timestamp($4::float8)
            RETURNING {STORED}
        """.encode()
        self.replace = f"""
            UPDATE {name} SET sess = $2, expire = to_timestamp($3::float8)
            WHERE sid = $1 AND expire > to_timestamp($4::float8) AND {DIGEST} = $5::bytea
            RETURNING {STORED}
        """.encode()
        self.wrote = f"""
            SELECT {STORED} FROM {name} WHERE sid = $1 AND expire = to_timestamp($3::float8) AND {IS_TEXT}
        """.encode()
        self.touch = f"""
            UPDATE {name} SET expire = to_timestamp($3::float8) WHERE sid = $1 AND expire > to_timestamp($2::float8)
        """.encode()
        self.restart = f"""
            UPDATE {name} SET expire = to_timestamp(ceil($2 + $3::float8))
            WHERE sid = $1 AND expire > to_timestamp($2::float8)
            RETURNING {expiry}
        """.encode()
        self.delete = f"""
            DELETE FROM {name}
            WHERE sid = $1 AND expire > to_timestamp($2::float8) AND ($3::bytea IS NULL OR {DIGEST} = $3)
        """.encode()
        self.delete_found = f"""
            DELETE FROM {name}
            WHERE sid = ANY ($1) AND expire > to_timestamp($2::float8) AND {DIGEST} = ANY ($3::bytea[])
            RETURNING sid::text
        """.encode()

        def of(digest: str) -> str:
            position = "(expire, sid) < (to_timestamp($3::float8), $4)"
            order = "ORDER BY t.expire DESC, t.sid DESC LIMIT $5::float8::int"
            return f"({page} WHERE {user} = {digest} AND {position} {order})"

        both = f"{of('md5($1)')} UNION ALL {of(_UNREADABLE)} ORDER BY expires_at DESC, sid DESC"
        self.find_user = bounded(
            f"{both} LIMIT $5::float8::int", "expires_at, sid", order="expires_at DESC, sid DESC"
        ).encode()
        self.scan = bounded(
            f"{page} WHERE sid > $1 ORDER BY t.sid LIMIT $3::float8::int", "expires_at, sid", order="sid"
        ).encode()
        self.purge = f"""
            DELETE FROM {name} WHERE ctid = ANY (ARRAY (
                SELECT ctid FROM {name} WHERE {self.is_expired}
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
CREATE INDEX IF NOT EXISTS {index_name(table, "sessions")} ON {name} ({user}, expire, sid);
"""


def _user(keys: tuple[str, ...]) -> str:
    """Return the SQL for a row's user.

    PostgreSQL's functions for JSON fail for a text that has an escaped NUL or lone surrogate anywhere, or a character
    that the database's encoding lacks, and an index that failed would fail Express's writes: rows with such an escape
    are all found under the empty text. Express writes other characters as they are.
    """
    values = ", ".join(f"sess::json->>{literal(key)}" for key in keys)
    return rf"CASE WHEN sess::text ~* '\\u(0000|0[1-9a-f]|[1-9a-f])' THEN '' ELSE coalesce({values}) END"
