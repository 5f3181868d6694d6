"""Sessions in a PostgreSQL table that connect-pg-simple can share: `PostgreSQLStore`. Needs PostgreSQL 11 or later."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

from ...errors import StoreError
from ..base import (
    PAGE,
    Deleted,
    Page,
    Record,
    Store,
    StoreURL,
    WriteRefused,
    identifier,
    positive,
    restart_is_due,
    seconds,
)
from ..findings import Finding
from ..pool import AllBusyError
from . import diagnosis
from .causes import Limits, is_refused_write, what_failed
from .libpq import ConnDict, Error, PGresult, Value, errors, number, parsed
from .server import Answer, Server
from .statements import FIRST, Statements

_INCOMPLETE = (errors.UndefinedTable, errors.UndefinedColumn)
_NOT_COMPLETED = (errors.InsufficientPrivilege, errors.LockNotAvailable, errors.ReadOnlySqlTransaction)
_PAGE = 500  # what `scan` reads at once, unless the sessions are large
_BATCH = 500  # rows that one statement of `purge` locks
_PREPARE_SECONDS = 60.0  # an index on a table that is full already takes longer than a request may
_LOCK_SECONDS = 5.0  # for which `prepare` waits for the table, while everybody else waits behind it
_ANOTHER_LOOK = 60.0  # seconds until a missing column is looked for again

_log = logging.getLogger("wsgisession")


class PostgreSQLStore(Store):
    """Keep records as rows of one table, created at the first use where it is missing.

    The table is connect-pg-simple's (``sid``, ``sess``, ``expire``) with four more columns, which are added to a table
    that exists already. ``expires_at``, in seconds since the epoch, says when a record expires; ``expire``, a wall
    clock in the time zone of the connection, is written for connect-pg-simple and for the index that `purge` reads.
    Rows without ``expires_at`` are another program's: absent for this store, and never deleted or replaced by it.
    ``login_order`` is given by the server, in microseconds of its clock and never twice for a user.

    A record's version is its text: `replace` compares a digest, so any writer's change is detected. ``sess`` may be
    json, text, or jsonb, which keeps the values but not their text.

    A call whose answer was lost is sent again on a fresh connection. Every verb can tell whether the first one was
    executed; where another writer's change hides that, the call fails.

    :param conninfo: a URL or connection string of libpq.
    :param schema: where the table is; None for the first of the ``search_path``.
    :param timeout: seconds for a whole call: waiting for a connection, connecting, asking and reading the answer.
        `scan` and `purge` may take that long for each page or batch, and `prepare` a minute.
    :param max_connections: how many connections each process opens at most.
    :param max_idle: seconds after which an idle connection is closed.
    :param prepare: whether statements are prepared on the server. A pooler that loses them is detected anyway.
    :param parameters: connection parameters of libpq, over those in ``conninfo``.
    :raises ConfigurationError: if libpq cannot read ``conninfo``, or does not know a parameter.
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
        max_idle: float = 60.0,
        prepare: bool = True,
        **parameters: str,
    ) -> None:
        params = parsed(conninfo, **parameters)
        self._shown = _shown(params)
        self._table, self._schema = table, schema
        self._complete: Statements = Statements(table, schema)
        self._sql = self._complete
        self._look_again_at = 0.0
        self._timeout = timeout
        self._limits = Limits(table, timeout, max_connections)
        self._escapes = False
        self._warned = False
        self._server = Server(
            params, timeout=timeout, max_connections=max_connections, max_idle=max_idle, prepares=prepare
        )

    @classmethod
    def from_url(cls, url: StoreURL) -> PostgreSQLStore:
        """Make the store of a ``postgresql://`` URL; parameters that are not its own are libpq's."""
        own = {
            "table": url.option("table", "session", identifier),
            "schema": url.option("schema", None, identifier),
            "timeout": url.option("timeout", 2.0, seconds),
            "max_connections": url.option("max_connections", 10, positive),
            "max_idle": url.option("max_idle", 60.0, seconds),
            "prepare": url.option("prepare", True, _boolean),
        }
        return cls(f"postgresql://{url.location}", **own, **url.rest)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<PostgreSQLStore {self._shown} table={self._table!r}>"

    @property
    def ddl(self) -> str:
        """The statements that create the table and its indexes, safe to repeat, for a role that may run them."""
        return self._complete.ddl

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and restart it with a second statement if that is due."""
        found = self._run("read", handle, now).result
        if not found.ntuples:
            return None
        record = self._record(found, 0)
        if not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
            return record
        return self._restarted(handle, record, now)

    def _restarted(self, handle: str, record: Record, now: float) -> Record | None:
        try:
            restarted = self._run("restart", handle, now, record.ttl).result
        except WriteRefused as error:
            self._skip("restart of the idle timeout", error)
            return record
        if not restarted.ntuples:
            return None
        expires_at = number(restarted.get_value(0, 0))
        return Record(record.data, record.ttl, record.user_id, record.version, expires_at, record.order)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Insert a row, or take over an expired one."""
        return self._write("create", handle, record, now)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Update the row whose text still has the digest of ``record.version``."""
        return self._write("replace", handle, record, now, digest_of(record.version))

    def _write(self, verb: str, handle: str, record: Record, now: float, *old: str) -> Record | None:
        new = Record(
            self._stored_as(record.data), record.ttl, record.user_id, None, self._expiry(record.ttl, now), record.order
        )
        try:
            return self._written(verb, handle, new, now, *old)
        except StoreError as error:
            if self._escapes or not isinstance(error.__cause__, errors.UntranslatableCharacter):
                raise
            # The encoding of the database has no such character. JSON can write it as an escape.
            new = Record(_escaped(record.data), new.ttl, new.user_id, None, new.expires_at, new.order)
            written = self._written(verb, handle, new, now, *old)
            self._escapes = True
            return written

    def _written(self, verb: str, handle: str, new: Record, now: float, *old: str) -> Record | None:
        row = self._row(handle, new)
        answer = self._run(f"{verb}_login" if self._is_login(new) else verb, *row, now, *old)
        result = answer.result
        if answer.is_repeated and not result.ntuples:  # perhaps the first one wrote it
            result = self._run("wrote", *row).result
            if old and not result.ntuples:
                raise StoreError(f"the session store {self._shown} lost the answer to a change: try again")
        if not result.ntuples:
            return None
        # The text itself is the version: its digest is taken only where it is needed, at the next replace.
        stored = result.get_value(0, 0) or new.data
        return Record(stored, new.ttl, new.user_id, stored, new.expires_at, self._order(result, 0, 1, new.user_id))

    def _stored_as(self, data: bytes) -> bytes:
        return _escaped(data) if self._escapes and not data.isascii() else data

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Update the expiry of a live row."""
        return bool(self._run("touch", handle, now, now + ttl, ttl).result.command_tuples)

    def delete(self, handle: str, *, now: float, version: object = None) -> bool:
        """Delete a live row, or only one whose text has the digest of ``version``."""
        answer = self._run("delete", handle, now, None if version is None else digest_of(version))
        if answer.is_repeated and not answer.result.command_tuples:  # perhaps the first one deleted it
            return not self._run("read", handle, now).result.ntuples
        return bool(answer.result.command_tuples)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a page of a user's rows by their index."""
        position, handle = after or (FIRST, "")
        return self._page(self._run("find_user", user_id, now, position, handle, float(limit + 1)).result, limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete some of a user's rows in one statement.

        There may be more until a step has found none: what got a new ID during a step comes with the next one.
        """
        position, handle = after or (FIRST, "")
        found = self._run("delete_user", user_id, now, keep, position, handle, float(limit)).result
        handles = [text_of(found, row, 1) for row in range(found.ntuples) if found.get_value(row, 1) is not None]
        return Deleted(handles, more=number(found.get_value(0, 0)) > 0)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Read page after page in the order of the primary key, without a transaction around them."""
        after = ""
        while (rows := self._run("scan", after, now, float(_PAGE)).result).ntuples:
            yield from self._live(rows, rows.ntuples)
            after = text_of(rows, rows.ntuples - 1, -2)

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Delete expired rows in batches, passing over those that another purge, or a writer, holds.

        A row written by a connection of another time zone goes as late as the two clocks differ, and never early.
        """
        purged = 0
        while limit is None or purged < limit:
            size = _BATCH if limit is None else min(_BATCH, limit - purged)
            began = monotonic()
            deleted = self._run("purge", now, float(size)).result.command_tuples or 0
            purged += deleted
            if deleted < size:
                break
            sleep(monotonic() - began)  # the time that this took belongs to others
        return purged

    @property
    def exists(self) -> bool:
        """Whether the table exists."""
        return bool(diagnosis.columns_of(self._ask, self._complete.table))

    def missing(self) -> list[str]:
        """Return the table if it is missing, or else the columns and indexes that it lacks."""
        indexed = diagnosis.columns_of(self._ask, self._complete.table)
        if not indexed:
            return [f"the table {self._complete.table}"]
        lacks = [f"the column {name}" for name in self._complete.columns if name not in indexed]
        return lacks + [f"the index on {name}" for name in self._complete.indexed if not indexed.get(name, False)]

    def count(self, *, now: float, expired: bool = False) -> int | None:
        """Count the rows, or of a large table return about how many there are."""
        which = self._complete.is_expired if expired else self._complete.is_live
        return diagnosis.count(self._ask, self._complete.table, which, now)

    def prepare(self) -> None:
        """Create the table and its indexes, or add what they lack.

        A role that may not add ``login_order`` does without it.

        :raises StoreError: also if the role may not do so and something else is missing.
        """
        try:
            self._make_complete(monotonic() + max(_PREPARE_SECONDS, self._timeout), patience=_LOCK_SECONDS)
        except (Error, OSError) as error:
            raise self._failure(error) from error

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look at the server's role, clock, and encoding, and at the table: its columns, indexes, and time zones."""
        return list(diagnosis.examine(self._ask, self._complete.table, now=now))

    def close(self) -> None:
        """Close this process's connections, those in use as soon as their call is over."""
        self._server.close()

    # Reading the rows of this table. A page has two more columns, the handle and the size of the page.

    _position_column = 2

    def _row(self, handle: str, new: Record) -> tuple[Value, ...]:
        order = 0.0 if new.user_id is None else float(new.order)
        return handle, new.data, new.expires_at, new.ttl, new.user_id, order

    def _is_login(self, new: Record) -> bool:
        return new.user_id is not None and not new.order

    def _record(self, result: PGresult, row: int) -> Record:
        data, user_id = result.get_value(row, 0) or b"", result.get_value(row, 4)
        user = None if user_id is None else user_id.decode()
        expires_at, ttl = number(result.get_value(row, 1)), number(result.get_value(row, 3))
        return Record(data, ttl, user, data, expires_at, self._order(result, row, 2, user))

    def _expiry(self, ttl: float, now: float) -> float:
        return now + ttl

    def _order(self, result: PGresult, row: int, column: int, user_id: str | None) -> int:
        return 0 if user_id is None else int(number(result.get_value(row, column)))

    def _live(self, rows: PGresult, count: int) -> list[tuple[str, Record]]:
        live = (row for row in range(count) if rows.get_value(row, 0) is not None)
        return [(text_of(rows, row, -2), self._record(rows, row)) for row in live]

    def _page(self, rows: PGresult, limit: int) -> Page:
        shown = min(rows.ntuples, limit)
        if not shown or number(rows.get_value(0, rows.nfields - 1)) <= shown:
            return Page(self._live(rows, shown))
        last = shown - 1
        return Page(
            self._live(rows, shown), (number(rows.get_value(last, self._position_column)), text_of(rows, last, -2))
        )

    def _run(self, verb: str, *values: Value) -> Answer:
        """Execute the statement of this name, once the table is there."""
        deadline = monotonic() + self._timeout
        try:
            try:
                return self._server.execute(self._statement(verb), values, deadline)
            except _INCOMPLETE:
                self._make_complete(deadline, patience=self._timeout / 2)
            return self._server.execute(self._statement(verb), values, deadline)
        except (Error, OSError) as error:
            raise self._failure(error) from error

    def _ask(self, statement: bytes, *values: Value) -> PGresult:
        try:
            return self._server.execute(statement, values, monotonic() + self._timeout).result
        except (Error, OSError) as error:
            raise self._failure(error) from error

    def _statement(self, verb: str) -> bytes:
        if self._sql is not self._complete and monotonic() > self._look_again_at:
            self._sql = self._complete
        statement: bytes = getattr(self._sql, verb)
        return statement

    def _make_complete(self, deadline: float, *, patience: float) -> None:
        try:
            self._server.run_script(self._complete.prepare(patience=patience), deadline)
        except _NOT_COMPLETED:
            if not self._does_without_order(deadline):
                raise
        else:
            self._sql = self._complete

    def _does_without_order(self, deadline: float) -> bool:
        """Tell whether the table can be used as it is, and from now on use it so, until another look."""
        for statements in (self._complete, Statements(self._table, self._schema, ordered=False)):
            try:
                self._server.execute(statements.read, ("", 0.0), deadline)
            except errors.UndefinedColumn:
                continue
            except (Error, OSError):
                return False
            self._sql, self._look_again_at = statements, monotonic() + _ANOTHER_LOOK
            return True
        return False

    def _skip(self, what: str, error: StoreError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("skipped the %s, and others until this process restarts: %s", what, error)

    def _failure(self, error: Exception) -> StoreError:
        if isinstance(error, AllBusyError):
            fact = f"had all {self._limits.max_connections} connections of this process in use for too long"
            return StoreError(f"the session store {self._shown} {fact}: raise max_connections in the store's URL")
        kind = WriteRefused if is_refused_write(error) else StoreError
        return kind(f"the session store {self._shown} {what_failed(error, self._limits)}")


def _shown(params: ConnDict) -> str:
    hosts = str(params.get("host") or params.get("hostaddr") or "").split(",")
    ports = str(params.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    pairs = zip(hosts, ports, strict=False)
    places = ",".join(f"{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}" for host, port in pairs)
    return f"postgresql://{places}/{params.get('dbname') or ''}"


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise ValueError("write true or false")
    return text.lower() in ("true", "1", "yes", "on")


def digest_of(version: object) -> str:
    """Return the digest by which a statement compares a record's text, as a literal of bytea."""
    return rf"\x{hashlib.sha256(version).hexdigest()}" if isinstance(version, bytes) else ""


def _escaped(data: bytes) -> bytes:
    """Return JSON text in ASCII: outside of strings, it has no other characters."""
    text = data.decode().encode("utf-16-be", "surrogatepass")
    units = (int.from_bytes(text[at : at + 2], "big") for at in range(0, len(text), 2))
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in units).encode()


def text_of(result: PGresult, row: int, column: int) -> str:
    """Return a text of a result. Columns are counted from the end if they are negative."""
    return (result.get_value(row, column % result.nfields) or b"").decode()


__all__ = ["PostgreSQLStore"]
