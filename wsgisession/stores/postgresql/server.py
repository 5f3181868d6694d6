"""Calls to a PostgreSQL server that survive what happens to connections: `Server`.

A call is repeated, within its time limit, where that is right: on a fresh connection if the one it used turned out to
be dead or to lead to a server that is no longer the primary, and on any connection if the server asked for it
(serialization failures, deadlocks).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from ..pool import Fault, PerProcess, Pool
from .causes import is_full, is_lost
from .libpq import ConnDict, Connection, Error, PGresult, Value, errors, with_limits

_REPEATED = (errors.SerializationFailure, errors.DeadlockDetected)
_PAUSE = 0.02  # seconds at most before a transaction is repeated: its rival does the same
_NOT_ANSWERED = re.compile("refused|reset|unreachable|closed|host name|resolve|No such file|SSL", re.IGNORECASE)


class Answer(NamedTuple):
    """What the server returned, and whether the call was sent before and nobody knows what became of that."""

    result: PGresult
    is_repeated: bool


class Server:
    """The connections of this process to one server, and how often a call is tried.

    :param timeout: seconds after which the server shall give a statement up.
    :param prepares: whether statements are prepared.
    """

    def __init__(
        self, params: ConnDict, *, timeout: float, max_connections: int, max_idle: float, prepares: bool = True
    ) -> None:
        self._pool = PerProcess(
            lambda: Pool(
                _Driver(params, timeout=timeout, prepares=prepares), max_connections=max_connections, max_idle=max_idle
            )
        )

    def execute(self, statement: bytes, values: Sequence[Value], deadline: float) -> Answer:
        """Execute one statement, in its own transaction.

        :raises psycopg.Error: if the server cannot be reached or refuses; without the values of a row in its text.
        :raises TimeoutError: if the deadline (of `time.monotonic`) has passed.
        """
        tries = _Tries(statement, values)
        while True:
            try:
                return Answer(self._pool().run(tries, deadline), tries.lost > 0)
            except Exception as error:
                if monotonic() >= deadline or not tries.go_on_after(error):
                    raise
            time.sleep(min(random.uniform(0, _PAUSE), max(0.0, deadline - monotonic())))  # noqa: S311

    def run_script(self, script: bytes, deadline: float) -> None:
        """Execute several statements as one transaction. Raises what `execute` does."""
        self._pool().run(lambda connection, until: connection.run_script(script, until), deadline, repeat=False)

    def close(self) -> None:
        """Close this process's connections, those in use as soon as their call is over."""
        pool = self._pool.take()
        if pool is not None:
            pool.close()


class _Tries:
    """The tries of one call. Each of our statements may be sent twice: see `Answer.is_repeated`."""

    def __init__(self, statement: bytes, values: Sequence[Value]) -> None:
        self._statement, self._values = statement, values
        self._made = 0
        self.lost = 0

    def __call__(self, connection: Connection, until: float) -> PGresult:
        self._made += 1
        try:
            return connection.execute(self._statement, self._values, until)
        except Exception as error:
            self.lost += is_lost(error)
            raise

    def go_on_after(self, error: Exception) -> bool:
        """Tell whether the call is worth another try, which the pool did not make."""
        if isinstance(error, _REPEATED):
            return True
        if self._made and is_full(error):  # the pooler had no connection to the server for it
            return True
        # Also a fresh connection may break off, once: the pool tries again only where it had been idle.
        return self._made == 1 and self.lost == 1 and not isinstance(error, TimeoutError)


class _Driver:
    """What the pool must know about connections to PostgreSQL."""

    def __init__(self, params: ConnDict, *, timeout: float, prepares: bool) -> None:
        self._params = params
        self._limited_params: ConnDict | None = with_limits(params, timeout)
        self._prepares = prepares
        self._open = 0

    def connect(self, deadline: float) -> Connection:
        """Open a connection."""
        connection = self._connect(deadline)
        self._open += 1
        return connection

    def close(self, connection: Connection) -> None:
        """Close a connection."""
        self._open -= 1
        connection.close()

    def is_alive(self, connection: Connection) -> bool:
        """Tell whether an idle connection is open and the server has not ended it."""
        return connection.is_usable and not connection.is_stale

    def is_full(self, error: Exception) -> bool:
        """Tell whether the server has no slot left for another connection.

        It says so in its own language. If it let us in before, any refusal is taken for that.
        """
        if is_full(error):
            return True
        answered = isinstance(error, errors.OperationalError) and not _NOT_ANSWERED.search(str(error))
        return answered and self._open > 0

    def fault(self, error: Exception, connection: Connection) -> Fault:
        """Tell what an error says about its connection."""
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return Fault.MISPLACED
        return Fault.LOST if is_lost(error) or not connection.is_usable else Fault.NONE

    def _connect(self, deadline: float) -> Connection:
        if self._limited_params is not None:
            try:
                return Connection(self._limited_params, deadline, prepares=self._prepares)
            except Error as error:
                if "startup parameter" not in str(error):
                    raise
                self._limited_params = None  # a pooler that takes no options
        return Connection(self._params, deadline, prepares=self._prepares)
