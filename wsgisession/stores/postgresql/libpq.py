"""One PostgreSQL connection on which every wait ends at a deadline: `Connection`. The only module that knows psycopg.

The driver is used at the level of ``psycopg.pq``, libpq's own calls: its cursors have no deadline, and cost more than
a read does. Text is sent and returned as text, every other value in binary form, and every number is a float8.
"""

from __future__ import annotations

import hashlib
import os
import select
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

import psycopg
from psycopg import errors, pq
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_attempts, conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn, PGresult

from ...errors import ConfigurationError

__all__ = [
    "ConnDict",
    "Connection",
    "Error",
    "PGresult",
    "Value",
    "errors",
    "number",
    "parsed",
    "with_limits",
]

Error = psycopg.Error
Value = str | bytes | float | None

# Raised before anything was done: the pooler has changed the server, someone sent DISCARD, a column has a new type.
_NOT_PREPARED = (errors.InvalidSqlStatementName, errors.FeatureNotSupported)
_SUCCESSES = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_CONNECTED, _IDLE = pq.ConnStatus.OK, pq.TransactionStatus.IDLE
_TEXT, _BINARY = pq.Format.TEXT, pq.Format.BINARY
_DOUBLE = struct.Struct("!d")
_KEEPALIVE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
_NO_ANSWER = "the server did not answer in time"
_UNREADABLE = (
    "the URL of the postgresql store cannot be read: write postgresql://user:password@host:5432/database, "
    "with %XX for special characters in the password"
)


class Connection:
    """A libpq connection. After a failure in the middle of a statement, it is no longer usable.

    :param prepares: whether statements are prepared at their first use. A pooler that loses them is detected, and from
        then on the statement is sent whole.
    :raises psycopg.OperationalError: if the server cannot be reached or refuses.
    :raises TimeoutError: if the deadline (of `time.monotonic`) has passed.
    """

    def __init__(self, params: ConnDict, deadline: float, *, prepares: bool = True) -> None:
        self._pgconn = _connected(params, deadline)
        self._is_readable = _readability(self._pgconn.socket)
        self._prepares = prepares
        self._names: dict[bytes, bytes] = {}
        self._refused = 0

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and nothing is under way on it."""
        return self._pgconn.status == _CONNECTED and self._pgconn.transaction_status == _IDLE

    @property
    def is_stale(self) -> bool:
        """Whether the server has sent something unasked, as it does when it ends a connection."""
        return self._is_readable(0)

    def close(self) -> None:
        """Close it."""
        self._pgconn.finish()

    def execute(self, statement: bytes, values: Sequence[Value], deadline: float) -> PGresult:
        """Execute one statement, in its own transaction.

        :raises psycopg.Error: if the server refuses; without the values of a row in its text.
        :raises TimeoutError: if the deadline has passed.
        """
        encoded, formats = _encoded(values)
        name = self._names.get(statement)
        if name is None:
            name = self._prepare(statement, deadline) if self._prepares else b""
            self._names[statement] = name
        if name:
            try:
                self._pgconn.send_query_prepared(name, encoded, formats, _BINARY)
                return self._result(deadline)
            except _NOT_PREPARED:
                self._names[statement] = b""  # from now on it is sent whole
        self._pgconn.send_query_params(statement, encoded, None, formats, _BINARY)
        return self._result(deadline)

    def run_script(self, script: bytes, deadline: float) -> None:
        """Execute several statements as one transaction. Raises what `execute` does."""
        self._pgconn.send_query(script)
        self._result(deadline)

    def _prepare(self, statement: bytes, deadline: float) -> bytes:
        # Named by its text: behind a pooler, another client's statement of this name can only be the same one. And
        # never by a name that was refused before: PgBouncer remembers what it passed on, and closes the connection.
        name = f"wsgisession_{hashlib.sha256(statement).hexdigest()[:32]}_{self._refused}".encode()
        try:
            self._pgconn.send_prepare(name, statement)
            self._result(deadline)
        except errors.DuplicatePreparedStatement:
            pass
        except Error:
            self._refused += 1
            raise
        return name

    def _result(self, deadline: float) -> PGresult:
        pgconn = self._pgconn
        while pgconn.flush():
            _wait(pgconn.socket, deadline, write=True)
            pgconn.consume_input()
        last = None
        while True:
            while pgconn.is_busy():
                remaining = deadline - monotonic()
                if remaining <= 0 or not self._is_readable(remaining):
                    raise TimeoutError(_NO_ANSWER)
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
        raise TimeoutError(_NO_ANSWER)


def _readability(fileno: int) -> Callable[[float], bool]:
    """Return what waits for input on a socket, for this many seconds at most."""
    if not hasattr(select, "poll"):  # Windows
        return lambda timeout: _is_ready(fileno, timeout)
    poll = select.poll()  # made once, for it is used several times in every call
    poll.register(fileno, select.POLLIN)
    return lambda timeout: bool(poll.poll(timeout * 1000))


def _is_ready(fileno: int, timeout: float, *, write: bool = False) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return any(select.select([fileno], [fileno] if write else [], [], timeout))
    poll = select.poll()
    poll.register(fileno, select.POLLIN | select.POLLOUT if write else select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _server_error(result: PGresult | None) -> Error:
    """Return the server's error without its DETAIL, which quotes the values of a row."""
    if result is None:
        return psycopg.OperationalError("the connection was lost")
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    kind: type[Error] = psycopg.OperationalError
    if state is not None:
        try:
            kind = errors.lookup(state.decode())
        except KeyError:
            kind = psycopg.DatabaseError
    return kind(message.decode(errors="replace"))


def parsed(conninfo: str, /, **parameters: str) -> ConnDict:
    """Return the parameters of a connection string or URL, with others added.

    :raises ConfigurationError: if libpq cannot read it, or does not know a parameter.
    """
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name in sorted(parameters.keys() - known):
        raise ConfigurationError(
            f"postgresql store: unknown parameter {name!r}; it takes table, schema, timeout, max_connections, "
            "max_idle, prepare, and the connection parameters of libpq"
        )
    try:
        params = conninfo_to_dict(_readable(conninfo), **parameters)
    except psycopg.ProgrammingError:  # whose text may quote the password
        raise ConfigurationError(_UNREADABLE) from None
    if not all(port.isdigit() for port in str(params.get("port") or "0").split(",") if port):
        raise ConfigurationError(_UNREADABLE)  # which may be a part of the password
    return {"fallback_application_name": "wsgisession", **_KEEPALIVE, **params, "client_encoding": "UTF8"}


def _readable(conninfo: str) -> str:
    """Return the connection string, and a URL with the @ quoted that a password contains.

    :raises ConfigurationError: if a URL has an @ after its hosts: the password contains a / that ends it.
    """
    scheme, is_url, location = conninfo.partition("://")
    if not is_url:
        return conninfo
    authority, slash, path = location.partition("/")
    if "@" in path.partition("?")[0]:
        raise ConfigurationError(_UNREADABLE)
    user, at, hosts = authority.rpartition("@")
    return f"{scheme}://{user.replace('@', '%40')}{at}{hosts}{slash}{path}"


def with_limits(params: ConnDict, statement_timeout: float) -> ConnDict:
    """Add the start-up options that our promises rely on; the operator's own options come last, and win."""
    timeout = f"-c statement_timeout={max(1, round(statement_timeout * 1000))}"
    isolation = r"-c default_transaction_isolation=read\ committed"
    own = params.get("options") or os.environ.get("PGOPTIONS", "")
    return {**params, "options": f"{timeout} {isolation} {own}"}


def _encoded(values: Sequence[Value]) -> tuple[list[bytes | None], list[pq.Format]]:
    encoded: list[bytes | None] = []
    formats = []
    for value in values:
        if isinstance(value, float | int):
            encoded.append(_DOUBLE.pack(value))
            formats.append(_BINARY)
            continue
        data = value.encode() if isinstance(value, str) else value
        encoded.append(data)
        # Text ends at a NUL for libpq. In binary form it does not, and the server refuses it.
        formats.append(_TEXT if data is not None and b"\0" not in data else _BINARY)
    return encoded, formats


def number(encoded: bytes | None) -> float:
    """Return the number of a result's float8."""
    value: float = _DOUBLE.unpack(encoded or b"")[0]
    return value
