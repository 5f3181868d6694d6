"""Why PostgreSQL failed, and what to do about it: `what_failed`.

libpq gives no SQLSTATE for a refused connection, so these are distinguished by the text, which is English unless the
server's ``lc_messages`` says otherwise. Whatever is not recognized still ends with the driver's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .libpq import Error, errors

_FULL = re.compile(
    "too many clients|remaining connection slots|too many connections|no more connections allowed", re.IGNORECASE
)
_STARTING = re.compile("the database system is (starting up|in recovery mode|not yet accepting)", re.IGNORECASE)

# Texts that a refused connection contains, and their meanings.
_REFUSED = (
    (
        "password authentication failed|authentication failed|auth failed",
        "refused the user or the password: correct them in the store's URL, with %XX for special characters",
    ),
    (
        "no password supplied|empty password",
        "asks for a password: add it to the store's URL, or set PGPASSWORD or a password file",
    ),
    (
        "pg_hba.conf",
        "does not let this user in from here: add an entry to its pg_hba.conf, or use the host, user, and encryption "
        "(sslmode) that it has an entry for",
    ),
    (
        "database .* does not exist|no such database",
        "has no such database: create it with createdb, or correct the name at the end of the store's URL",
    ),
    (
        "role .* does not exist|no such user",
        "has no such user: create it with createuser, or correct the user in the store's URL",
    ),
    (
        "certificate|SSL error|does not support SSL|sslmode|SSL connection",
        "cannot be reached with TLS as it is set up: check sslmode and sslrootcert in the URL, and the host name "
        "in the server's certificate",
    ),
    (
        "translate host name|resolve host|Name or service not known|name resolution",
        "has a host name that cannot be resolved: correct the host in the store's URL, or look at DNS",
    ),
    (
        "No such file or directory",
        "has no socket at that path: check that the server runs on this machine, and the host in the store's URL",
    ),
    (
        "Connection refused",
        "cannot be reached, nothing listens there: check that the server runs, and host and port in the store's URL",
    ),
    (
        "session is read-only|not in hot standby|is not in|read-write",
        "is not the kind of server that target_session_attrs asks for: name the primary in the store's URL",
    ),
)


@dataclass(frozen=True)
class Limits:
    """What a message may have to name.

    :param table: as it is called in the store's URL.
    """

    table: str
    timeout: float
    max_connections: int


def is_full(error: BaseException) -> bool:
    """Tell whether the server, or a pooler before it, had no connection left, or is about to start."""
    return isinstance(error, errors.TooManyConnections) or (
        isinstance(error, Error) and bool(_FULL.search(str(error)) or _STARTING.search(str(error)))
    )


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection broke off, so that nobody knows what became of the statement."""
    if isinstance(error, TimeoutError | OSError):
        return True
    state = getattr(error, "sqlstate", None)
    if not isinstance(error, errors.OperationalError) or state == "57014":
        return False
    return state is None or state.startswith(("08", "57P"))


def is_refused_write(error: BaseException) -> bool:
    """Tell whether the server still reads, but does not write: it is read-only, or its disk is full."""
    return isinstance(error, errors.ReadOnlySqlTransaction | errors.DiskFull)


def what_failed(error: BaseException, limits: Limits) -> str:
    """Return what the server did, what to do about it, and what the driver said, to follow the name of the store."""
    said = first_line(error)
    return f"{_cause(error, limits)}" + (f" ({said})" if said else "")


def first_line(error: BaseException) -> str:
    """Return the first line of what the driver said."""
    return next(_lines(error), "")


def _lines(error: BaseException) -> Iterator[str]:
    return (line.strip() for line in str(error).splitlines() if line.strip())


def _cause(error: BaseException, limits: Limits) -> str:
    table = repr(limits.table)
    if is_full(error):
        return (
            "has no connection left for this process: raise max_connections of the server or its pooler, or lower "
            f"max_connections={limits.max_connections} in the store's URL"
        )
    match error:
        case TimeoutError() | errors.QueryCanceled():
            return f"did not answer in time: look at its load and the network, or raise timeout={limits.timeout:g}"
        case errors.LockNotAvailable():
            return f"has a long transaction that holds the table {table}: end it, or try again later"
        case errors.InsufficientPrivilege():
            return (
                f"gives this role no right to use the table {table}, or to create or complete it: run "
                "`wsgisession init URL` as its owner, and grant this role SELECT, INSERT, UPDATE, and DELETE"
            )
        case errors.InvalidSchemaName():
            return "has no such schema: create it, or name another in the store's URL"
        case errors.UndefinedTable():
            return f"has no table {table}: run `wsgisession init URL`, or give this role the right to create it"
        case errors.ReadOnlySqlTransaction():
            return "is read-only: name the primary, or add target_session_attrs=read-write to the store's URL"
        case errors.DiskFull():
            return "has a full disk: free some space, for example with `wsgisession purge URL`"
        case errors.InvalidColumnReference():
            cure = f"run ALTER TABLE {limits.table} ADD PRIMARY KEY (sid)"
            return f"has a table {table} without a unique index on sid: {cure}"
        case errors.UntranslatableCharacter() | errors.CharacterNotInRepertoire():
            return (
                "cannot store a character of this session: create the database with ENCODING 'UTF8', and if the column "
                f"sess of {table} is jsonb, make it json or text"
            )
        case errors.InvalidTextRepresentation() | errors.InvalidBinaryRepresentation() | errors.DatatypeMismatch():
            cure = "make sid a text or varchar, and sess json, jsonb, or text"
            return f"has a table {table} with types that this store cannot use: {cure}"
        case errors.UndefinedColumn() | errors.UndefinedFunction():
            return f"has a table {table} that is not one of sessions: name another with ?table= in the store's URL"
        case errors.AdminShutdown() | errors.CrashShutdown() | errors.CannotConnectNow():
            return "is shutting down or starting: wait for it, and look at its log"
        case errors.OperationalError(sqlstate=None) | OSError():
            return _why_refused(str(error))
    return f"refused the command ({type(error).__name__}): see the log of the server"


def _why_refused(text: str) -> str:
    for pattern, meaning in _REFUSED:
        if re.search(pattern, text, re.IGNORECASE):
            return meaning
    return "cannot be reached, or broke the connection off: check that it runs, and the store's URL"
