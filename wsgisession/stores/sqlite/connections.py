"""Connections to one SQLite file, each lent to one caller at a time, and never used or closed by a forked process."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..pool import Fault, PerProcess, Pool
from .statements import ADD_ORDER, COLUMNS, INDEXES, TABLE

_PATIENCE_STEP = 0.05  # seconds; a busy_timeout this near is near enough


class Connection(sqlite3.Connection):
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


class Connections:
    """The connections of each process to one file.

    :param timeout: seconds for which a call waits, for a connection and for locks.
    """

    def __init__(self, path: str, *, timeout: float, synchronous: str, max_connections: int, max_idle: float) -> None:
        self._timeout = timeout

        def opened() -> Pool[Connection]:
            pool = Pool(_Driver(path, synchronous=synchronous), max_connections=max_connections, max_idle=max_idle)
            _pools.add(pool)
            return pool

        self._pool = PerProcess(opened)

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend a connection.

        :raises sqlite3.Error: if the file cannot be opened, or a statement fails.
        :raises AllBusyError: if none came free in time.
        """
        deadline = time.monotonic() + self._timeout
        with self._pool().lend(deadline) as connection:
            connection.deadline = deadline
            yield connection

    def close(self) -> None:
        """Close the connections of this process; those in use, as soon as they are given back."""
        pool = self._pool.take()
        if pool is not None:
            pool.close()


class _Driver:
    """What the pool must know about connections to a file."""

    def __init__(self, path: str, *, synchronous: str) -> None:
        self._path, self._synchronous = path, synchronous
        self._process = os.getpid()
        self._open: set[Connection] = set()
        _create_privately(path)
        _every.add(self)
        weakref.finalize(self, _close_all, self._open, self._process)

    def connect(self, deadline: float) -> Connection:
        """Open a connection, and create the table or the column that the file may lack."""
        connection = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False, factory=Connection
        )
        connection.deadline = deadline
        try:
            while not self._is_set_up(connection):
                time.sleep(0.005)
        except BaseException:
            connection.close()
            raise
        self._open.add(connection)
        return connection

    def close(self, connection: Connection) -> None:
        """Close a connection."""
        self._open.discard(connection)
        connection.close()

    def is_alive(self, connection: Connection) -> bool:
        """Tell whether an idle connection can be used: a file does not go away."""
        return True

    def is_full(self, error: Exception) -> bool:
        """Tell whether there are too many connections already: a file has no limit."""
        return False

    def fault(self, error: Exception, connection: Connection) -> Fault:
        """End the transaction that an error has left open."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            return Fault.LOST
        return Fault.NONE

    @property
    def is_inherited(self) -> bool:
        """Whether they are of the process that this one was forked from."""
        return self._process != os.getpid()

    def _is_set_up(self, connection: Connection) -> bool:
        try:
            for statement in ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {self._synchronous}", TABLE):
                connection.run(statement).fetchall()
            if "login_order" not in {name for _, name, *_ in connection.run(COLUMNS).fetchall()}:
                _add_order(connection)
            for statement in INDEXES:
                connection.run(statement).fetchall()
        except sqlite3.OperationalError as error:
            # Refused at once, not after waiting, while another process closes its last connection to the file.
            if "locked" not in str(error) or time.monotonic() >= connection.deadline:
                raise
            return False
        return True


def _add_order(connection: Connection) -> None:
    """Add the column that files of an earlier version lack."""
    try:
        connection.run(ADD_ORDER)
    except sqlite3.OperationalError as error:
        if "duplicate column" not in str(error):  # another process was faster
            raise


def _create_privately(path: str) -> None:
    """Create the file for its owner alone, if there is none; SQLite gives its -wal and -shm the same mode."""
    # Exclusively, and with nobody connecting in the meantime: closing a file drops all of a process's locks on it.
    with _creating(), suppress(FileExistsError):
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _close_all(connections: set[Connection], process: int) -> None:
    if process != os.getpid():  # a server forked without telling Python
        _inherited.append(connections)
        return
    while connections:
        connections.pop().close()


_creating = PerProcess(threading.Lock)
_pools: weakref.WeakSet[Pool[Connection]] = weakref.WeakSet()
_every: weakref.WeakSet[_Driver] = weakref.WeakSet()
_inherited: list[Any] = []


def _before_fork() -> None:
    # A child that opens the file while it has inherited connections to it believes that it holds their locks (SQLite,
    # "How To Corrupt An SQLite Database File", 2.6).
    for pool in list(_pools):
        pool.close_idle()


def _after_fork() -> None:
    # Those that were in use stay as they are: SQLite forbids even to close them here.
    _inherited.extend(driver for driver in _every if driver.is_inherited)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
