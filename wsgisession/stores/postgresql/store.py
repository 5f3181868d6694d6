"""Sessions in a PostgreSQL table that connect-pg-simple can share: `PostgreSQLStore`. Needs PostgreSQL 11 or later."""

# ruff: noqa: S608 - the only text put into SQL is the quoted name of the table

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from time import monotonic
from typing import Any

from ...errors import StoreError
from ..base import (
    PAGE,
    Deleted,
    Page,
    PerProcess,
    Record,
    Store,
    StoreURL,
    delete_each,
    identifier,
    page_of,
    positive,
    seconds,
)
from ..findings import Finding
from . import diagnosis
from .libpq import AllBusyError, ConnDict, PGresult, Pool, Value, errors, number, parsed

_INCOMPLETE = (errors.UndefinedTable, errors.UndefinedColumn)
_PAGE = 50  # of records up to 1 MiB: what `scan` holds in memory at once
_BATCH = 1000  # rows that one statement of `purge` locks
# One message, so one transaction: whoever comes second waits, and finds everything there.
PREPARING = "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(7309453046518837614);"
_PREPARE_SECONDS = 60.0  # an index on a table that is full already takes longer than a request may


class PostgreSQLStore(Store):
    """Keep records as rows of one table, created at the first use where it is missing.

    The table is connect-pg-simple's (``sid``, ``sess``, ``expire``) with three nullable columns more, added to a table
    that is there already. ``expires_at``, in seconds since the epoch, says when a record expires; ``expire``, a wall
    clock in the time zone of the connection, is written for connect-pg-simple and for the index that `purge` reads.
    Rows without ``expires_at`` are another program's: absent for this store, and never deleted or replaced by it.

    A record's version is its text: `replace` compares a digest, so that any writer's change is noticed.

    :param conninfo: a URL or connection string of libpq.
    :param schema: where the table is; None for the first of the ``search_path``.
    :param timeout: seconds for a whole call: waiting for a connection, connecting, asking and reading the answer.
        `scan` and `purge` may take that long for each page or batch, and `prepare` a minute.
    :param max_connections: how many connections each process opens at most.
    :param parameters: connection parameters of libpq, over those in ``conninfo``.
    :raises ConfigurationError: where libpq cannot read ``conninfo``, or does not know a parameter.
    """

    def __init__(
        self,
        conninfo: str,
        /,
        *,
        table: str = "session",
        schema: str | None = None,
        timeout: float = 2.0,
        max_connections: int = 10,
        **parameters: str,
    ) -> None:
        params = parsed(conninfo, **parameters)
        self._server = _shown(params)
        self._table, self._schema = table, schema
        self._sql = Statements(table, schema)
        self._timeout = timeout
        self._max_connections = max_connections
        self._pool = PerProcess(lambda: Pool(params, size=max_connections, statement_timeout=timeout))

    @classmethod
    def from_url(cls, url: StoreURL) -> PostgreSQLStore:
        """Make the store of a ``postgresql://`` URL; parameters that are not its own are libpq's."""
        table = url.option("table", "session", identifier)
        schema = url.option("schema", None, identifier)
        timeout = url.option("timeout", 2.0, seconds)
        max_connections = url.option("max_connections", 10, positive)
        location = f"postgresql://{url.location}"
        return cls(location, table=table, schema=schema, timeout=timeout, max_connections=max_connections, **url.rest)

    def __repr__(self) -> str:
        return f"<PostgreSQLStore {self._server} table={self._table!r}>"

    @property
    def ddl(self) -> str:
        """The statements that create the table and its indexes, safe to repeat, for a role that may run them."""
        return self._sql.ddl

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and restart it in the same statement where that is due."""
        if touch_after is None:
            result = self._run(self._sql.read, handle, now, repeatable=True)
        else:
            result = self._run(self._sql.load, handle, now, touch_after, repeatable=True)
        return _record(result, 0) if result.ntuples else None

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Insert a row, or take over an expired one."""
        new = _written(record, now)
        result = self._run(self._sql.create, handle, new.data, new.expires_at, new.ttl, new.user_id, now)
        return new if result.command_tuples else None

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Update the row whose text still has the digest of ``record.version``."""
        new = _written(record, now)
        old = digest_of(record.version)
        result = self._run(self._sql.replace, handle, new.data, new.expires_at, new.ttl, new.user_id, now, old)
        return new if result.command_tuples else None

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Update the expiry of a live row."""
        return bool(self._run(self._sql.touch, handle, now, now + ttl, ttl).command_tuples)

    def delete(self, handle: str, *, now: float, version: object = None) -> bool:
        """Delete a live row, or only one whose text has the digest of ``version``."""
        old = None if version is None else digest_of(version)
        return bool(self._run(self._sql.delete, handle, now, old).command_tuples)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a user's live rows by their index."""
        return page_of(
            _records(self._run(self._sql.find_user, user_id, now, repeatable=True)), after=after, limit=limit
        )

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete a user's live rows in one statement."""
        if after is not None:
            return delete_each(self, user_id, now=now, keep=keep, after=after, limit=limit)
        result = self._run(self._sql.delete_user, user_id, now, keep)
        return Deleted([_text(result, row, 0) for row in range(result.ntuples)])

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Read page after page in the order of the primary key, without a transaction around them."""
        after = ""
        while page := _records(self._run(self._sql.scan, after, now, _PAGE, repeatable=True)):
            yield from page
            after = page[-1][0]

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Delete expired rows in batches, passing over those that another purge, or a writer, holds.

        A row written by a connection of another time zone goes as late as the two clocks differ, and never early.
        """
        purged = 0
        while limit is None or purged < limit:
            size = _BATCH if limit is None else min(_BATCH, limit - purged)
            deleted = self._run(self._sql.purge, now, size).command_tuples or 0
            purged += deleted
            if deleted < size:
                break
        return purged

    def prepare(self) -> None:
        """Create the table and its indexes, or add what they lack.

        :raises StoreError: also where the role may not do so and something is missing.
        """
        deadline = monotonic() + max(_PREPARE_SECONDS, self._timeout)
        try:
            self._pool().run_script(self._sql.prepare, deadline)
        except errors.InsufficientPrivilege as error:
            if not self._is_prepared(deadline):
                raise self._failure(error) from error
        except (errors.Error, OSError) as error:
            raise self._failure(error) from error

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look at the server's role and clock, and at the table: its columns, its indexes, its time zones."""
        table, server = self._sql.table, self._run(diagnosis.SERVER)
        found = self._run(diagnosis.COLUMNS, table)
        indexed = {_text(found, row, 0): bool(number(found.get_value(row, 1))) for row in range(found.ntuples)}
        findings = [
            *diagnosis.of_server(bool(number(server.get_value(0, 0))), number(server.get_value(0, 1)), now=now),
            *diagnosis.of_columns(indexed, table=table),
        ]
        if {"expire", "expires_at"} <= indexed.keys():
            strays = number(self._run(diagnosis.strays(table)).get_value(0, 0))
            findings.extend(diagnosis.of_strays(strays, table=table))
        return findings

    def close(self) -> None:
        """Close this process's connections, those in use as soon as their call is over."""
        pool = self._pool.take()
        if pool is not None:
            pool.close()

    def _run(self, statement: bytes, *values: Value, repeatable: bool = False) -> PGresult:
        deadline = monotonic() + self._timeout
        try:
            try:
                return self._pool().execute(statement, values, deadline)
            except _INCOMPLETE:
                self._pool().run_script(self._sql.prepare, deadline)
            except errors.OperationalError:
                if not repeatable:
                    raise
            return self._pool().execute(statement, values, deadline)
        except (errors.Error, OSError) as error:
            raise self._failure(error) from error

    def _is_prepared(self, deadline: float) -> bool:
        try:
            self._pool().execute(self._sql.read, ("", 0.0), deadline)
        except (errors.Error, OSError):
            return False
        return True

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"the session store {self._server} {self._what_failed(error)}")

    def _what_failed(self, error: Exception) -> str:
        match error:
            case AllBusyError():
                return f"had all {self._max_connections} connections in use for too long: raise max_connections"
            case TimeoutError() | errors.QueryCanceled():
                return f"did not answer in time: look at its load and the network, or raise timeout={self._timeout:g}"
            case errors.InsufficientPrivilege():
                fact = f"gives this role no right to use the table {self._table!r}, or to create it where it is missing"
                return f"{fact}: run `wsgisession init URL` as its owner, and grant this role the rights to the rows"
            case errors.InvalidSchemaName():
                return "has no such schema: create it, or name another in the store's URL"
            case errors.ReadOnlySqlTransaction():
                return "is read-only: name the primary, or add target_session_attrs=read-write to the store's URL"
            case errors.OperationalError(sqlstate=None) | OSError():
                return "cannot be reached, or refused the connection: check that it runs, and the store's URL"
        return f"refused the command ({type(error).__name__}): see the log of the server"


class Statements:
    """The SQL for one table. Values are bound in binary form, and every number as a float8."""

    def __init__(self, table: str, schema: str | None) -> None:
        name = quoted(table) if schema is None else f"{quoted(schema)}.{quoted(table)}"
        row = "sess, ttl, user_id, expires_at"
        digest = "sha256(convert_to(sess::text, 'UTF8'))"

        self.table = name
        self.read = f"SELECT {row} FROM {name} WHERE sid = $1 AND expires_at > $2::float8".encode()
        self.load = f"""
            WITH restarted AS (
                UPDATE {name} SET expires_at = $2 + ttl, expire = to_timestamp($2 + ttl)
                WHERE sid = $1 AND expires_at > $2::float8 AND $2 - (expires_at - ttl) >= $3::float8 * ttl
                RETURNING {row}
            )
            SELECT {row} FROM restarted
            UNION ALL
            SELECT {row} FROM {name}
            WHERE sid = $1 AND expires_at > $2 AND NOT EXISTS (SELECT FROM restarted)
        """.encode()
        self.create = f"""
            INSERT INTO {name} (sid, sess, expire, expires_at, ttl, user_id)
            VALUES ($1, $2, to_timestamp($3::float8), $3, $4::float8, $5)
            ON CONFLICT (sid) DO UPDATE
            SET sess = EXCLUDED.sess, expire = EXCLUDED.expire, expires_at = EXCLUDED.expires_at,
                ttl = EXCLUDED.ttl, user_id = EXCLUDED.user_id
            WHERE {name}.expires_at <= $6::float8
        """.encode()
        self.replace = f"""
            UPDATE {name}
            SET sess = $2, expire = to_timestamp($3::float8), expires_at = $3, ttl = $4::float8, user_id = $5
            WHERE sid = $1 AND expires_at > $6::float8 AND {digest} = $7::bytea
        """.encode()
        self.touch = f"""
            UPDATE {name} SET expire = to_timestamp($3::float8), expires_at = $3, ttl = $4::float8
            WHERE sid = $1 AND expires_at > $2::float8
        """.encode()
        self.delete = f"""
            DELETE FROM {name}
            WHERE sid = $1 AND expires_at > $2::float8 AND ($3::bytea IS NULL OR {digest} = $3)
        """.encode()
        self.find_user = f"SELECT {row}, sid FROM {name} WHERE user_id = $1 AND expires_at > $2::float8".encode()
        self.delete_user = f"""
            DELETE FROM {name}
            WHERE user_id = $1 AND expires_at > $2::float8 AND sid IS DISTINCT FROM $3::text
            RETURNING sid
        """.encode()
        self.scan = f"""
            SELECT {row}, sid FROM {name} WHERE sid > $1 AND expires_at > $2::float8 ORDER BY sid LIMIT $3::float8::int
        """.encode()
        self.purge = f"""
            DELETE FROM {name} WHERE ctid = ANY (ARRAY (
                SELECT ctid FROM {name} WHERE expire <= to_timestamp($1::float8) AND expires_at <= $1
                ORDER BY expire LIMIT $2::float8::int FOR UPDATE SKIP LOCKED
            ))
        """.encode()
        self.ddl = f"""\
CREATE TABLE IF NOT EXISTS {name} (
    sid varchar NOT NULL PRIMARY KEY,
    sess json NOT NULL,
    expire timestamp(6) NOT NULL
);
ALTER TABLE {name}
    ADD COLUMN IF NOT EXISTS expires_at double precision,
    ADD COLUMN IF NOT EXISTS ttl double precision,
    ADD COLUMN IF NOT EXISTS user_id text;
CREATE INDEX IF NOT EXISTS {index_name(table, "expire")} ON {name} (expire);
CREATE INDEX IF NOT EXISTS {index_name(table, "user_id")} ON {name} (user_id) WHERE user_id IS NOT NULL;
"""
        self.prepare = f"{PREPARING}\n{self.ddl}".encode()


def _shown(params: ConnDict) -> str:
    port = f":{params['port']}" if params.get("port") else ""
    return f"postgresql://{params.get('host') or ''}{port}/{params.get('dbname') or ''}"


def quoted(name: str) -> str:
    """Return the name as an identifier of SQL's."""
    return '"' + name.replace('"', '""') + '"'


def index_name(table: str, column: str) -> str:
    """Return the quoted name of an index, within PostgreSQL's limit."""
    name = f"IDX_{table}_{column}"
    if len(name.encode()) > 63:  # PostgreSQL would cut it, and two indexes could then have one name
        name = f"IDX_{hashlib.sha256(table.encode()).hexdigest()[:32]}_{column}"
    return quoted(name)


def digest_of(version: object) -> bytes:
    """Return the digest by which a statement compares a record's text."""
    return hashlib.sha256(version).digest() if isinstance(version, bytes) else b""


def _written(record: Record, now: float) -> Record:
    # The text itself is the version: its digest is taken only where it is needed, at the next replace.
    return Record(record.data, record.ttl, record.user_id, version=record.data, expires_at=now + record.ttl)


def _record(result: PGresult, row: int) -> Record:
    data, ttl, user_id, expires_at = (result.get_value(row, column) for column in range(4))
    user = None if user_id is None else user_id.decode()
    return Record(data or b"", number(ttl), user, version=data, expires_at=number(expires_at))


def _records(result: PGresult) -> list[tuple[str, Record]]:
    return [(_text(result, row, 4), _record(result, row)) for row in range(result.ntuples)]


def _text(result: PGresult, row: int, column: int) -> str:
    return (result.get_value(row, column) or b"").decode()
