"""PostgreSQL connections on which every wait ends at a deadline: `Pool`. The only room that knows psycopg.

The driver is used at the level of ``psycopg.pq``, libpq's own calls: its cursors have no deadline, and cost more than
a read does. Values and results are in binary form, and every number is a float8.

A connection is opened with start-up options (a ``statement_timeout``, so that the server gives up when the client
does). A pooler that refuses those, or that loses prepared statements, as PgBouncer may in transaction mode, is noticed
and served without them.
"""

from __future__ import annotations

import hashlib
import os
import select
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

import psycopg
from psycopg import errors, pq
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_attempts, conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn, PGresult

from ...errors import ConfigurationError

__all__ = ["AllBusyError", "ConnDict", "PGresult", "Pool", "Value", "errors", "number", "parsed"]

Value = str | bytes | float | None

# Raised before anything was done: the pooler has changed the server, someone sent DISCARD, a column has a new type.
_NOT_PREPARED = (errors.InvalidSqlStatementName, errors.FeatureNotSupported)
_SUCCESSES = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_CONNECTED, _IDLE = pq.ConnStatus.OK, pq.TransactionStatus.IDLE
_BINARY = pq.Format.BINARY
_DOUBLE = struct.Struct("!d")


class AllBusyError(TimeoutError):
    """No connection of the pool came free in time."""


class Pool:
    """The connections of one process: opened when needed, and the last one given back is the next one taken.

    Not psycopg_pool's, which connects in threads of its own: neither the deadline of the call nor the reason of a
    refusal gets through to there and back.

    :param size: how many connections there are at most.
    :param statement_timeout: seconds after which the server shall give a statement up.
    """

    def __init__(self, params: ConnDict, *, size: int, statement_timeout: float) -> None:
        self._params = params
        self._limited_params: ConnDict | None = _limited(params, statement_timeout)
        self._slots = threading.Semaphore(size)
        self._idle: list[_Connection] = []
        self._closed = False

    def execute(self, statement: bytes, values: Sequence[Value], deadline: float) -> PGresult:
        """Execute one statement, prepared on each connection at its first use, in a transaction of its own.

        :raises psycopg.Error: where the server cannot be reached or refuses; without the values of a row in its text.
        :raises TimeoutError: where the deadline (of `time.monotonic`) has passed.
        """
        connection = self._take(deadline)
        try:
            return connection.execute(statement, values, deadline)
        finally:
            self._give_back(connection)

    def run_script(self, script: bytes, deadline: float) -> None:
        """Execute several statements as one transaction. Raises what `execute` does."""
        connection = self._take(deadline)
        try:
            connection.run_script(script, deadline)
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close the idle connections now, and those in use as they are given back."""
        self._closed = True
        while connection := self._pop():
            connection.close()

    def _take(self, deadline: float) -> _Connection:
        if not self._slots.acquire(timeout=max(deadline - monotonic(), 0)):
            raise AllBusyError("no connection came free in time")
        try:
            return self._take_idle() or self._open(deadline)
        except BaseException:
            self._slots.release()
            raise

    def _give_back(self, connection: _Connection) -> None:
        if connection.is_usable and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        self._slots.release()

    def _take_idle(self) -> _Connection | None:
        while (connection := self._pop()) and connection.is_stale:
            connection.close()
        return connection

    def _pop(self) -> _Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _open(self, deadline: float) -> _Connection:
        if self._limited_params is not None:
            try:
                return _Connection(self._limited_params, deadline)
            except psycopg.OperationalError as error:
                if "startup parameter" not in str(error):
                    raise
                self._limited_params = None  # a pooler that takes no options
        return _Connection(self._params, deadline)


class _Connection:
    """A connection of libpq's, on which every wait ends at a deadline. After a failure in mid-air it is not usable."""

    def __init__(self, params: ConnDict, deadline: float) -> None:
        self._pgconn = _connected(params, deadline)
        self._names: dict[bytes, bytes] = {}

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and nothing is under way on it."""
        return self._pgconn.status == _CONNECTED and self._pgconn.transaction_status == _IDLE

    @property
    def is_stale(self) -> bool:
        """Whether the server has spoken unasked, as it does when it ends a connection."""
        return _is_ready(self._pgconn.socket, 0)

    def close(self) -> None:
        self._pgconn.finish()

    def execute(self, statement: bytes, values: Sequence[Value], deadline: float) -> PGresult:
        encoded = [_encoded(value) for value in values]
        formats = [_BINARY] * len(encoded)
        name = self._names.get(statement)
        if name is None:
            name = self._names[statement] = self._prepare(statement, deadline)
        if name:
            try:
                self._pgconn.send_query_prepared(name, encoded, formats, _BINARY)
                return self._result(deadline)
            except _NOT_PREPARED:
                self._names[statement] = b""  # from now on it is sent whole
        self._pgconn.send_query_params(statement, encoded, None, formats, _BINARY)
        return self._result(deadline)

    def run_script(self, script: bytes, deadline: float) -> None:
        self._pgconn.send_query(script)
        self._result(deadline)

    def _prepare(self, statement: bytes, deadline: float) -> bytes:
        # Named by its text: behind a pooler, another client's statement of this name can only be the same one.
        name = b"wsgisession_" + hashlib.sha256(statement).hexdigest()[:32].encode()
        with suppress(errors.DuplicatePreparedStatement):
            self._pgconn.send_prepare(name, statement)
            self._result(deadline)
        return name

    def _result(self, deadline: float) -> PGresult:
        pgconn = self._pgconn
        while pgconn.flush():
            _wait(pgconn.socket, deadline, write=True)
            pgconn.consume_input()
        last = None
        while True:
            while pgconn.is_busy():
                _wait(pgconn.socket, deadline)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            last = result
        if last is None or last.status not in _SUCCESSES:
            raise _server_error(last)
        return last


def _connected(params: ConnDict, deadline: float) -> PGconn:
    # libpq leaves a host that does not answer only after whole seconds, so each gets its share of what is left.
    attempts = conninfo_attempts(params)
    for left in range(len(attempts), 1, -1):
        now = monotonic()
        with suppress(psycopg.OperationalError, TimeoutError):
            return _connected_to(attempts[-left], now + (deadline - now) / left)
    return _connected_to(attempts[-1], deadline)


def _connected_to(params: ConnDict, deadline: float) -> PGconn:
    pgconn = pq.PGconn.connect_start(make_conninfo("", **params).encode())
    try:
        while (status := pgconn.connect_poll()) != pq.PollingStatus.OK:
            if status == pq.PollingStatus.FAILED:
                raise psycopg.OperationalError(pgconn.error_message.decode(errors="replace"))
            _wait(pgconn.socket, deadline, write=status == pq.PollingStatus.WRITING)
    except BaseException:
        pgconn.finish()
        raise
    pgconn.nonblocking = 1
    return pgconn


def _wait(fileno: int, deadline: float, *, write: bool = False) -> None:
    remaining = deadline - monotonic()
    if remaining <= 0 or not _is_ready(fileno, remaining, write=write):
        raise TimeoutError("the server did not answer in time")


def _is_ready(fileno: int, timeout: float, *, write: bool = False) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return any(select.select([fileno], [fileno] if write else [], [], timeout))
    poll = select.poll()
    poll.register(fileno, select.POLLIN | select.POLLOUT if write else select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _server_error(result: PGresult | None) -> psycopg.Error:
    """Return the server's error without its DETAIL, where it quotes the values of a row."""
    if result is None:
        return psycopg.OperationalError("the connection was lost")
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    kind: type[psycopg.Error] = psycopg.OperationalError
    if state is not None:
        try:
            kind = errors.lookup(state.decode())
        except KeyError:
            kind = psycopg.DatabaseError
    return kind(message.decode(errors="replace"))


def parsed(conninfo: str, /, **parameters: str) -> ConnDict:
    """Return the parameters of a connection string or URL, with others added.

    :raises ConfigurationError: where libpq cannot read it, or does not know a parameter.
    """
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name in sorted(parameters.keys() - known):
        raise ConfigurationError(
            f"postgresql store: unknown parameter {name!r}; "
            "it takes table, schema, timeout, max_connections and the connection parameters of libpq"
        )
    try:
        params = conninfo_to_dict(conninfo, **parameters)
    except psycopg.ProgrammingError:  # whose text may quote the password
        raise ConfigurationError(
            "the URL of the postgresql store cannot be read: write postgresql://user:password@host:5432/database, "
            "with %XX for special characters in the password"
        ) from None
    return {"fallback_application_name": "wsgisession", **params, "client_encoding": "UTF8"}


def _limited(params: ConnDict, statement_timeout: float) -> ConnDict:
    """Add what the promises rest on; options of the operator's own come last, and win."""
    timeout = f"-c statement_timeout={max(1, round(statement_timeout * 1000))}"
    isolation = r"-c default_transaction_isolation=read\ committed"
    own = params.get("options") or os.environ.get("PGOPTIONS", "")
    return {**params, "options": f"{timeout} {isolation} {own}"}


def _encoded(value: Value) -> bytes | None:
    match value:
        case None | bytes():
            return value
        case str():
            return value.encode()
    return _DOUBLE.pack(value)


def number(encoded: bytes | None) -> float:
    """Return the number of a result's float8."""
    value: float = _DOUBLE.unpack(encoded or b"")[0]
    return value
