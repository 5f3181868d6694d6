"""`SQLiteStore`: sessions in one file, shared by every process on one machine."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote

from ...errors import ConfigurationError, StoreError
from ..base import (
    PAGE,
    Deleted,
    Page,
    PerProcess,
    Record,
    Store,
    StoreURL,
    delete_each,
    page_of,
    restart_is_due,
    seconds,
)
from ..findings import Finding
from . import diagnosis
from .leading import leading

_MOST_IDLE = 16
_PATIENCE_STEP = 0.05  # seconds; a busy_timeout this near is near enough
_PURGED_AT_ONCE = 500
_PAUSE = 2.0  # between two such transactions, in lengths of one: SQLite keeps no queue, so that writers need a gap
_SCANNED_AT_ONCE = 50
_VERSIONS_FROM = 2**52  # a random start, so that a version fits no later record under the same handle

_SCHEMA = (
    # The data comes last: what is before it is read and written without it.
    "CREATE TABLE IF NOT EXISTS session (handle TEXT NOT NULL PRIMARY KEY, user_id TEXT, version INTEGER NOT NULL,"
    " ttl REAL NOT NULL, expires_at REAL NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS session_user_id ON session (user_id) WHERE user_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS session_expires_at ON session (expires_at)",
)
_LOAD = "SELECT data, ttl, user_id, version, expires_at FROM session WHERE handle = ? AND expires_at > ?"
_RESTART = "UPDATE session SET expires_at = ? + ttl WHERE handle = ? AND expires_at > ?"
_CREATE = (
    "INSERT INTO session (data, ttl, user_id, version, expires_at, handle) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (handle) DO UPDATE SET data = excluded.data, ttl = excluded.ttl, user_id = excluded.user_id,"
    " version = excluded.version, expires_at = excluded.expires_at WHERE session.expires_at <= ?"
)
_REPLACE = (
    "UPDATE session SET data = ?, ttl = ?, user_id = ?, version = version + 1, expires_at = ?"
    " WHERE handle = ? AND version = ? AND expires_at > ?"
)
_TOUCH = "UPDATE session SET ttl = ?, expires_at = ? WHERE handle = ? AND expires_at > ?"
_DELETE = "DELETE FROM session WHERE handle = ? AND expires_at > ? AND (? IS NULL OR version = ?)"
_FIND_USER = "SELECT handle, data, ttl, user_id, version, expires_at FROM session WHERE user_id = ? AND expires_at > ?"
_HANDLES_OF_USER = "SELECT handle FROM session WHERE user_id = ? AND expires_at > ? AND handle IS NOT ?"
_DELETE_USER = "DELETE FROM session WHERE user_id = ? AND expires_at > ? AND handle IS NOT ?"
_SCAN = (
    "SELECT handle, data, ttl, user_id, version, expires_at FROM session WHERE handle > ? AND expires_at > ?"
    " ORDER BY handle LIMIT ?"
)
_COUNT = "SELECT count(*) FROM session WHERE expires_at > ?"
_COUNT_EXPIRED = "SELECT count(*) FROM session WHERE expires_at <= ?"
_PURGE = "DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE expires_at <= ? LIMIT ?)"


class SQLiteStore(Store):
    """Sessions in one SQLite file (3.24 or later), which only its owner may read.

    The file is made at the first use. It belongs on a local disk: SQLite's locks do not work over a network.

    :param timeout: how long a call waits for the lock of another writer, in seconds.
    :param synchronous: when SQLite waits for the disk. ``normal`` may lose the last writes in a power cut, never in a
        crash of the application, and never harms the file; ``full`` loses none.
    :raises ConfigurationError: for a path that is in memory or a value of ``synchronous`` that is not known.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 5.0, *, synchronous: str = "normal") -> None:
        name = os.fspath(path)
        if not name or name == ":memory:" or "\0" in name:
            raise ConfigurationError("an sqlite store needs the path of a file; for sessions in memory use memory://")
        if synchronous not in ("off", "normal", "full", "extra"):
            raise ConfigurationError(f"synchronous must be off, normal, full or extra, not {synchronous!r}")
        self._path = os.path.abspath(name)  # wherever the process goes later
        self._timeout = timeout
        self._synchronous = synchronous
        self._connections = PerProcess(self._open)

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
        url.refuse_rest("timeout and synchronous")
        store = cls(unquote(url.location[1:]), timeout, synchronous=synchronous)
        folder = os.path.dirname(store._path)
        if not os.path.isdir(folder):
            raise ConfigurationError(f"there is no folder {folder} for the sqlite store; make it, or correct the path")
        if os.path.isdir(store._path):
            raise ConfigurationError(f"{store._path} is a folder; give the sqlite store the path of a file")
        return store

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record: one statement, and a second one where a restart is due."""
        with self._lend() as connection:
            rows = connection.run(_LOAD, (handle, now)).fetchall()
            if not rows:
                return None
            record = Record(*rows[0])
            if not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
                return record
            if not connection.run(_RESTART, (now, handle, now)).rowcount:
                return None
            return Record(record.data, record.ttl, record.user_id, record.version, now + record.ttl)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Store a record where there is none."""
        new = Record(record.data, record.ttl, record.user_id, secrets.randbelow(_VERSIONS_FROM), now + record.ttl)
        values = (new.data, new.ttl, new.user_id, new.version, new.expires_at, handle, now)
        return new if self._change(_CREATE, values) else None

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the record of this version."""
        if not isinstance(record.version, int):
            return None
        new = Record(record.data, record.ttl, record.user_id, record.version + 1, now + record.ttl)
        values = (new.data, new.ttl, new.user_id, new.expires_at, handle, record.version, now)
        return new if self._change(_REPLACE, values) else None

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Restart a record with this ttl."""
        return self._change(_TOUCH, (ttl, now + ttl, handle, now)) > 0

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a record."""
        return self._change(_DELETE, (handle, now, version, version)) > 0

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Return the records of a user."""
        return page_of(self._select(_FIND_USER, (user_id, now)), after=after, limit=limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete the records of a user, in one transaction."""
        if after is not None:
            return delete_each(self, user_id, now=now, keep=keep, after=after, limit=limit)
        which = (user_id, now, keep)
        with self._lend() as connection:
            connection.run("BEGIN IMMEDIATE")
            handles = [handle for (handle,) in connection.run(_HANDLES_OF_USER, which).fetchall()]
            connection.run(_DELETE_USER, which)
            connection.run("COMMIT")
        return Deleted(handles)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Iterate in the order of handles, a page at a time: no transaction is open meanwhile."""
        after = ""
        while page := self._select(_SCAN, (after, now, _SCANNED_AT_ONCE)):
            yield from page
            after = page[-1][0]

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
            count = self._change(_PURGE, (now, batch))
            removed += count
            if count < batch:
                break
            time.sleep(_PAUSE * (time.monotonic() - began))
        return removed

    @property
    def exists(self) -> bool:
        """Whether the file exists, with the table of sessions in it."""
        try:
            return diagnosis.has_table(self._path)
        except sqlite3.Error as error:
            raise StoreError(f"the sqlite store {self._path} {self._failure(error)}") from error

    def missing(self) -> list[str]:
        """Return the file if it is missing, or else its table."""
        if self.exists:
            return []
        return [f"the table session in {self._path}" if os.path.exists(self._path) else f"the file {self._path}"]

    def count(self, *, now: float, expired: bool = False) -> int | None:
        """Count by the index on the expiry."""
        with self._lend() as connection:
            (count,) = connection.run(_COUNT_EXPIRED if expired else _COUNT, (now,)).fetchone()
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
        connections = self._connections.take()
        if connections is not None:
            connections.close_idle()

    def _open(self) -> _Connections:
        return _Connections(self._path, timeout=self._timeout, synchronous=self._synchronous)

    def _change(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._lend() as connection:
            return connection.run(statement, values).rowcount

    def _select(self, statement: str, values: tuple[Any, ...]) -> list[tuple[str, Record]]:
        with self._lend() as connection:
            rows = connection.run(statement, values).fetchall()
        return [(handle, Record(*columns)) for handle, *columns in rows]

    @contextmanager
    def _lend(self) -> Iterator[_Connection]:
        try:
            with self._connections().lend() as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the sqlite store {self._path} {self._failure(error)}") from error

    def _failure(self, error: Exception) -> str:
        text = str(error)
        if "locked" in text or "busy" in text:
            return (
                f"was locked by another process for {self._timeout:g} s; look for a long transaction, or raise timeout"
            )
        if isinstance(error, OSError) or "unable to open" in text:
            return "cannot be opened; see that its folder exists and that this user may write to it"
        if "readonly" in text:
            return "is read-only; let this user write to the file and its folder"
        return f"refused: {text}"


class _Connection(sqlite3.Connection):
    """A connection whose statements in one call wait for locks no longer than one timeout, all together."""

    deadline = 0.0
    _patience = 0.0

    def run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Execute a statement, waiting for a lock until the deadline."""
        left = max(0.0, self.deadline - time.monotonic())
        if abs(left - self._patience) > _PATIENCE_STEP:
            self.execute(f"PRAGMA busy_timeout = {left * 1000:.0f}").fetchall()
            self._patience = left
        return self.execute(statement, values)


class _Connections:
    """The connections of one process, each lent to one caller at a time; as many as callers at once need."""

    def __init__(self, path: str, *, timeout: float, synchronous: str) -> None:
        self._path, self._timeout, self._synchronous = path, timeout, synchronous
        self._idle: deque[_Connection] = deque()
        self._process = os.getpid()
        _create_privately(path)
        _every.add(self)
        weakref.finalize(self, _close_all, self._idle, self._process)

    @contextmanager
    def lend(self) -> Iterator[_Connection]:
        """Lend a connection. One that an exception went through may be amid a transaction, and is closed."""
        deadline = time.monotonic() + self._timeout
        try:
            connection = self._idle.pop()
            connection.deadline = deadline
        except IndexError:
            connection = self._connect(deadline)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._take_back(connection)

    def close_idle(self) -> None:
        """Close those that nobody is using. The others are closed with this object, by its finalizer."""
        _close_all(self._idle, self._process)

    @property
    def is_inherited(self) -> bool:
        """Whether they are of the process that this one was forked from."""
        return self._process != os.getpid()

    def _take_back(self, connection: _Connection) -> None:
        if len(self._idle) >= _MOST_IDLE:
            connection.close()
        else:
            self._idle.append(connection)

    def _connect(self, deadline: float) -> _Connection:
        connection = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        connection.deadline = deadline
        try:
            while not self._is_set_up(connection):
                time.sleep(0.005)
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_set_up(self, connection: _Connection) -> bool:
        try:
            for statement in ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {self._synchronous}", *_SCHEMA):
                connection.run(statement).fetchall()
        except sqlite3.OperationalError as error:
            # Refused at once, not after waiting, while another process closes its last connection to the file.
            if "locked" not in str(error) or time.monotonic() >= connection.deadline:
                raise
            return False
        return True


def _create_privately(path: str) -> None:
    """Create the file for its owner alone, if there is none; SQLite gives its -wal and -shm the same mode."""
    # Exclusively, and with nobody connecting meanwhile: closing a file drops all of a process's locks on it.
    with _creating(), suppress(FileExistsError):
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _close_all(idle: deque[_Connection], process: int) -> None:
    while idle and process == os.getpid():
        try:
            idle.pop().close()
        except IndexError:  # another thread took the last one
            return


_creating = PerProcess(threading.Lock)
_every: weakref.WeakSet[_Connections] = weakref.WeakSet()
_inherited: list[_Connections] = []


def _before_fork() -> None:
    # A child that opens the file while it has inherited connections to it believes that it holds their locks (SQLite,
    # "How To Corrupt An SQLite Database File", 2.6).
    for connections in list(_every):
        connections.close_idle()


def _after_fork() -> None:
    # What a server forked without telling Python is left as it is: SQLite forbids even to close it here.
    _inherited.extend(connections for connections in _every if connections.is_inherited)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


__all__ = ["SQLiteStore"]
