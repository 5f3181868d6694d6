"""Why a call to Redis failed, and what to do about it: `failure`, and `Call`, inside which all is a `StoreError`."""

from __future__ import annotations

import re
import socket
import ssl
from time import monotonic
from types import TracebackType
from typing import Literal

from redis import exceptions

from ...errors import StoreError
from ..base import WriteRefused
from ..pool import AllBusyError
from .connection import FAILURES, FullError

_REFUSES_WRITES = ("OOM", "READONLY", "MISCONF", "NOREPLICAS")

# Texts that an error contains, and their meanings. The first that matches counts.
_CAUSES = (
    ("OOM", "is out of memory: raise its maxmemory, or give the sessions their own server"),
    ("READONLY", "is a read-only replica: name the master in the store's URL, or its Sentinels"),
    ("MISCONF", "cannot save its data to disk, and refuses to write until it can: look at the server's disk and log"),
    ("NOREPLICAS", "has too few replicas, and refuses to write: bring them back, or lower its min-replicas-to-write"),
    ("LOADING", "is still loading its data: try again shortly"),
    ("MASTERDOWN", "is a replica that has lost its master: name the master in the store's URL"),
    ("BUSY ", "is busy with a script of another program: see SCRIPT KILL"),
    ("CLUSTERDOWN", "has slots without a master: see CLUSTER INFO on its nodes"),
    ("CROSSSLOT|MOVED ", "is a cluster: write redis+cluster:// in the store's URL"),
    (
        "NOPERM.*(?i:evalsha|eval|script)|unknown command .?(?i:evalsha|eval)|disabled.*(?i:eval|script)",
        "does not let the store's user run scripts, which it needs: allow EVAL and EVALSHA in the user's ACL, or on "
        "the server",
    ),
    (
        "NOPERM|(?i:no permissions)|ACL failure|The user executing the script can",
        "forbids a command or a key to the store's user: extend the user's ACL, as docs/stores.md shows",
    ),
    ("unknown command", "does not know a command: run Redis 6.2 or later, or Valkey"),
    ("NOAUTH", "asks for a password: add it to the store's URL, as in redis://:password@host, with %XX for signs"),
    (
        "WRONGPASS|invalid password|AUTH",
        "refused the user or the password: correct them in the store's URL, with %XX for special characters",
    ),
    ("DB index is out of range", "has no database of this number: correct that in the store's URL"),
    ("No Sentinel knows", "has no master by the name of its service: correct that in the store's URL"),
    ("cluster support disabled", "is not a cluster: write redis:// in the store's URL"),
)


class Call:
    """A context that gives the deadline of a call. Nothing of the driver's is raised from it but as a cause.

    :raises StoreError: where the server cannot be reached, takes too long, or refuses.
    """

    def __init__(self, server: str, seconds: float, deadline: float | None = None) -> None:
        self._server, self._seconds, self._deadline = server, seconds, deadline

    def __enter__(self) -> float:
        return monotonic() + self._seconds if self._deadline is None else self._deadline

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        if isinstance(error, FAILURES):
            raise failure(self._server, error, seconds=self._seconds) from error
        return False


def failure(server: str, error: BaseException, *, seconds: float) -> StoreError:
    """Return what is to be raised for an error: the server, the cause with its fix, and what the driver said.

    :param seconds: the time that a call has.
    """
    cause = error.__cause__ if isinstance(error.__cause__, FAILURES) else error
    kind = WriteRefused if refuses_to_write(cause) else StoreError
    said = str(cause).strip().partition("\n")[0].partition(", with args beginning")[0] or type(cause).__name__
    return kind(f"{server} {_what_failed(cause, seconds)} ({said})")


def refuses_to_write(error: BaseException) -> bool:
    """Tell whether a server said that it does not write at the time; of a script, old ones say so in the middle."""
    return isinstance(error, exceptions.ResponseError) and code_of(error) in _REFUSES_WRITES


def code_of(error: BaseException) -> str:
    """Return the code of an error reply, also where it happened in a script."""
    text = str(error)
    if text.startswith("ERR "):  # Redis before version 7: ERR Error running script (...): @user_script: 12: -OOM ...
        return next((code for code in _REFUSES_WRITES if f"-{code} " in text), "ERR")
    return text.partition(" ")[0]


def _what_failed(error: BaseException, seconds: float) -> str:
    match error:
        case AllBusyError():
            return f"had all connections of this process in use for {seconds:g} s: raise the store's max_connections"
        case FullError():
            return "takes no more connections: raise its maxclients, or lower the store's max_connections"
        case TimeoutError():
            return f"has not answered within {seconds:g} s: see whether it or the network hangs, or raise the timeout"
        case socket.gaierror():
            return "has a host name that cannot be resolved: correct the host in the store's URL, or look at DNS"
        case ssl.SSLError():
            return (
                "cannot be reached with TLS as it is set up: check ssl_ca_certs and the host name in the store's URL, "
                "and that its port is one for TLS"
            )
        case ConnectionRefusedError():
            return "cannot be reached, nothing listens there: see that it runs, and that the store's URL names it"
        case FileNotFoundError():
            return "cannot be reached: there is no such socket, or no such file as ssl_ca_certs or ssl_certfile names"
        case exceptions.InvalidResponse():
            return (
                "does not answer like a Redis server: see that the store's URL names one, and rediss:// if it has TLS"
            )
        case OSError():
            return "cannot be reached: see that it runs, and that the store's URL names it"
    text = str(error)
    for sign, cause in _CAUSES:
        if re.search(sign, text):
            return cause
    return f"refuses with {code_of(error)}: see what it says"
