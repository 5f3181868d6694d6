"""`SQLiteStore`: sessions in one file, shared by every process on one machine."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import unquote

from ...errors import ConfigurationError, StoreError
from ..base import (
    PAGE,
    Deleted,
    Page,
    Record,
    Store,
    StoreURL,
    WriteRefused,
    positive,
    restart_is_due,
    seconds,
)
from ..findings import Finding
from ..pool import MAX_IDLE, AllBusyError
from . import diagnosis
from . import statements as sql
from .connections import Connection, Connections
from .leading import leading

_PURGED_AT_ONCE = 500
_ENDED_AT_ONCE = 250
_PAUSE = 2.0  # after such a transaction, in lengths of one: SQLite keeps no queue, so that writers need a gap
_SCANNED_AT_ONCE = 50
_MOST_IN_A_PAGE = 4_000_000  # bytes; a session may have a megabyte, and a page a thousand sessions
_VERSIONS_FROM = 2**52  # a random start, so that a version fits no later record under the same handle
_FIRST = 2**62  # a position before all logins

_log = logging.getLogger("wsgisession")


class SQLiteStore(Store):
    """Sessions in one SQLite file (3.24 or later), which only its owner may read.

    The file is made at the first use. It belongs on a local disk: SQLite's locks do not work over a network.

    :param timeout: how long a call waits for the lock of another writer, or for a connection, in seconds.
    :param synchronous: when SQLite waits for the disk. ``normal`` may lose the last writes in a power cut, never in a
        crash of the application, and never harms the file; ``full`` loses none.
    :param max_connections: how many connections each process opens at most.
    :param max_idle: seconds after which an idle connection is closed.
    :raises ConfigurationError: for a path that is in memory or a value of ``synchronous`` that is not known.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        timeout: float = 5.0,
        *,
        synchronous: str = "normal",
        max_connections: int = 16,
        max_idle: float = MAX_IDLE,
    ) -> None:
        name = os.fspath(path)
        if not name or name == ":memory:" or "\0" in name:
            raise ConfigurationError("an sqlite store needs the path of a file; for sessions in memory use memory://")
        if synchronous not in ("off", "normal", "full", "extra"):
            raise ConfigurationError(f"synchronous must be off, normal, full or extra, not {synchronous!r}")
        self._path = os.path.abspath(name)  # wherever the process goes later
        self._timeout, self._max_connections = timeout, max_connections
        self._skips = False
        self._connections = Connections(
            self._path, timeout=timeout, synchronous=synchronous, max_connections=max_connections, max_idle=max_idle
        )

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path}>"

    @classmethod
    def from_url(cls, url: StoreURL) -> SQLiteStore:
        """Make the store of ``sqlite:///path/to.db?timeout=5&synchronous=normal``.

        :raises ConfigurationError: where there is no path, no such folder, or an unknown parameter.
        """
        if not url.location.startswith("/") or url.location == "/":
            raise ConfigurationError(
                "the sqlite URL names no file; write sqlite:///sessions.db, or sqlite:////var/lib/app/sessions.db"
                " (four slashes) for an absolute path"
            )
        timeout, synchronous = url.option("timeout", 5.0, seconds), url.option("synchronous", "normal", str)
        max_connections = url.option("max_connections", 16, positive)
        max_idle = url.option("max_idle", 60.0, seconds)
        url.refuse_rest("timeout, synchronous, max_connections, and max_idle")
        path = unquote(url.location[1:])
        store = cls(path, timeout, synchronous=synchronous, max_connections=max_connections, max_idle=max_idle)
        folder = os.path.dirname(store._path)
        if not os.path.isdir(folder):
            raise ConfigurationError(f"there is no folder {folder} for the sqlite store; make it, or correct the path")
        if os.path.isdir(store._path):
            raise ConfigurationError(f"{store._path} is a folder; give the sqlite store the path of a file")
        return store

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record: one statement, and a second one if a restart is due."""
        with self._lend() as connection:
            rows = connection.run(sql.LOAD, (handle, now)).fetchall()
        if not rows:
            return None
        record = Record(*rows[0])
        if not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
            return record
        try:
            if not self._change(sql.RESTART, (now, handle, now)):
                return None
        except WriteRefused as error:
            self._skip(error)
            return record
        self._skips = False
        return Record(record.data, record.ttl, record.user_id, record.version, now + record.ttl, record.order)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Store a record where there is none."""
        return self._write(sql.CREATE, handle, record, secrets.randbelow(_VERSIONS_FROM), now, now)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the record of this version."""
        if not isinstance(record.version, int):
            return None
        return self._write(sql.REPLACE, handle, record, record.version + 1, now, now, record.version)

    def _write(self, statement: str, handle: str, new: Record, version: int, now: float, *which: Any) -> Record | None:
        order = 0 if new.user_id is None else new.order
        with self._lend() as connection:
            is_login = new.user_id is not None and not order
            if is_login:
                connection.run("BEGIN IMMEDIATE")
                (order,) = connection.run(sql.NEXT_ORDER, (new.user_id,)).fetchone()
            row = (new.data, new.ttl, new.user_id, version, now + new.ttl, order, handle)
            changed = connection.run(statement, (*row, *which)).rowcount
            if is_login:
                connection.run("COMMIT")
        return Record(new.data, new.ttl, new.user_id, version, now + new.ttl, order) if changed else None

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Restart a record with this ttl."""
        return self._change(sql.TOUCH, (ttl, now + ttl, handle, now)) > 0

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a record."""
        return self._change(sql.DELETE, (handle, now, version, version)) > 0

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a page of a user's records by their index, up to some megabytes."""
        found: list[tuple[str, Record]] = []
        read, position, size = 0, after or (_FIRST, ""), 0
        with (
            self._lend() as connection,
            closing(connection.run(sql.FIND_USER, (user_id, *position, limit + 1))) as rows,
        ):
            for order, handle, *columns in rows:
                if read == limit or size > _MOST_IN_A_PAGE:
                    return Page(found, position)
                read, position, record = read + 1, (order, handle), Record(*columns)
                size += len(record.data)
                if record.expires_at > now:
                    found.append((handle, record))
        return Page(found)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete some of a user's records in one transaction, and give other writers a gap before the next one."""
        size, which = min(limit, _ENDED_AT_ONCE), (user_id, *(after or (_FIRST, "")), keep)
        began = time.monotonic()
        with self._lend() as connection:
            connection.run("BEGIN IMMEDIATE")
            rows = connection.run(sql.STEP_OF_USER, (now, *which, size + 1)).fetchall()
            connection.run(sql.DELETE_USER, (*which, size))
            connection.run("COMMIT")
        more = len(rows) > size
        if more:
            time.sleep(_PAUSE * (time.monotonic() - began))
        return Deleted([handle for handle, is_live in rows[:size] if is_live], more)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Iterate in the order of handles, a page at a time: no transaction is open in between."""
        after = ""
        while page := self._read(sql.SCAN, (after, _SCANNED_AT_ONCE)):
            after = page[-1][0]
            for handle, *columns in page:
                record = Record(*columns)
                if record.expires_at > now:
                    yield handle, record

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Remove expired records, some hundreds in a transaction, with a pause after each in which others write.

        One purge at a time: where another process or thread is at it, this one leaves it to that, and returns 0.
        """
        with leading(self._path) as is_leader:
            return self._purge(now, limit) if is_leader else 0

    def _purge(self, now: float, limit: int | None) -> int:
        removed = 0
        while limit is None or removed < limit:
            batch = _PURGED_AT_ONCE if limit is None else min(_PURGED_AT_ONCE, limit - removed)
            began = time.monotonic()
            count = self._change(sql.PURGE, (now, batch))
            removed += count
            if count < batch:
                break
            time.sleep(_PAUSE * (time.monotonic() - began))
        return removed

    @property
    def exists(self) -> bool:
        """Whether the file exists, with the table of sessions in it."""
        try:
            return diagnosis.has_table(self._path, timeout=self._timeout)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def missing(self) -> list[str]:
        """Return the file if it is missing, or else its table."""
        if self.exists:
            return []
        return [f"the table session in {self._path}" if os.path.exists(self._path) else f"the file {self._path}"]

    def count(self, *, now: float, expired: bool = False) -> int | None:
        """Count by the index on the expiry."""
        with self._lend() as connection:
            (count,) = connection.run(sql.COUNT_EXPIRED if expired else sql.COUNT, (now,)).fetchone()
        return int(count)

    def prepare(self) -> None:
        """Make the file and its table."""
        with self._lend():
            pass

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look at where the file lies, and at its journal."""
        findings = list(diagnosis.of_place(self._path))
        if not findings and self.exists:
            with self._lend() as connection:
                (mode,) = connection.run("PRAGMA journal_mode").fetchone()
            findings.extend(diagnosis.of_journal(mode))
        return findings

    def close(self) -> None:
        """Close the connections of this process; those in use, as soon as they are given back."""
        self._connections.close()

    def _change(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._lend() as connection:
            return connection.run(statement, values).rowcount

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lend() as connection:
            return connection.run(statement, values).fetchall()

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        try:
            with self._connections.lend() as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        text = str(error)
        kind = WriteRefused if "readonly" in text or "is full" in text else StoreError
        return kind(f"the sqlite store {self._path} {self._cause(error)} ({text})")

    def _cause(self, error: Exception) -> str:
        text = str(error)
        if isinstance(error, AllBusyError):
            fact = f"had all {self._max_connections} connections of this process in use for {self._timeout:g} s"
            return f"{fact}: raise max_connections in its URL"
        if "locked" in text or "busy" in text:
            fact = f"was locked by another process for {self._timeout:g} s"
            return f"{fact}: look for a long transaction, or raise timeout in its URL"
        if isinstance(error, OSError) or "unable to open" in text:
            return "cannot be opened: check that its folder exists and that this user may write to it"
        if "readonly" in text:
            return "is read-only: let this user write to the file and its folder"
        if "is full" in text:
            return "has no space left on its disk: free some, for example with `wsgisession purge URL`"
        if "not a database" in text or "malformed" in text:
            return "is not an intact SQLite database: correct its path, or restore or remove the file"
        return "refused the command: see what SQLite said"

    def _skip(self, error: WriteRefused) -> None:
        if not self._skips:
            self._skips = True
            _log.warning("skipped the restart of the idle timeout, and will until it succeeds: %s", error)


__all__ = ["SQLiteStore"]
