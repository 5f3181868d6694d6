"""What pymongo's errors mean, and what to do about each."""

from __future__ import annotations

from dataclasses import dataclass

import pymongo.errors

_WRITES_REFUSED = {14031, 371, 100}  # OutOfDiskSpace, UserWritesBlocked, UnsatisfiableWriteConcern
_ATLAS = 8000  # MongoDB Atlas' number for whatever it refuses
_NO_LOGIN = {18, _ATLAS}
_NO_RIGHT = 13
_QUOTA = "quota"
_NO_PRIMARY = "the replica set has no primary: check whether a majority of its members is running"
_UNKNOWN = "a host name is unknown: check the hosts in the store's URL, and the name server"
_REACHING = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate was refused: set tlsCAFile in the store's URL to its "
    "authority, and use the host name that the certificate is for",
    "SSL": "no TLS connection could be made: check whether the server uses TLS, and set tls=true or tls=false",
    "Name or service not known": _UNKNOWN,
    "nodename nor servname": _UNKNOWN,
    "name resolution": "the name server did not answer: check the hosts in the store's URL, and the name server",
    "replica set name": "no member of that replica set answered: check replicaSet in the store's URL",
    "Connection refused": "nothing accepts connections there: start the server, or correct host and port in the URL",
    "connection closed": "the server closed the connection: check whether it needs tls=true, and whether it has too "
    "many connections",
    "No primary": _NO_PRIMARY,
    "No replica set members match": _NO_PRIMARY,
}
_SILENT = "no server answered: check host and port in the store's URL, and the firewalls in between"
_MOST_SHOWN = 300


@dataclass(frozen=True)
class Situation:
    """The circumstances that a message names.

    :param timeout: the seconds that a call may take.
    :param collection: the collection of sessions.
    :param user: whom the URL logs in; empty for nobody.
    """

    timeout: float
    collection: str
    user: str


def explained(error: Exception, situation: Situation) -> str:
    """Return what happened, what to do about it, and the first line of what the driver or the server said."""
    said = first_line(error)
    return f"{_explained(error, situation)}" + (f" ({said})" if said else "")


def _explained(error: Exception, situation: Situation) -> str:
    within = f"within {situation.timeout:g} s"
    match error:
        case pymongo.errors.WaitQueueTimeoutError():
            return f"had all of its connections in use for {situation.timeout:g} s: raise max_connections in its URL"
        case pymongo.errors.ServerSelectionTimeoutError():
            return f"could not be reached {within}: {_unreachable(str(error))}"
        case pymongo.errors.OperationFailure() if refuses_writes(error):
            return "refuses to write: free or add disk space, and check that its replicas are running"
        case pymongo.errors.PyMongoError(timeout=True):
            return f"did not answer {within}: check its load and the network, or raise timeout in its URL"
        case pymongo.errors.OperationFailure(code=code) if code in _NO_LOGIN or _is_login(error):
            who = f"user {situation.user!r}" if situation.user else "user, password"
            return f"refused the login: check {who}, the password, and authSource in its URL"
        case pymongo.errors.OperationFailure(code=code) if code == _NO_RIGHT:
            if not situation.user:
                return "requires a login: write mongodb://user:password@host/database?authSource=admin in its URL"
            return (
                f"does not let user {situation.user!r} use the collection {situation.collection!r}: grant it readWrite"
            )
        case pymongo.errors.NotPrimaryError():
            return "is not the primary: name the members of the replica set in its URL, without directConnection"
        case pymongo.errors.ConfigurationError():
            return "has no address: check its host name, which must have SRV records, and the name server"
        case pymongo.errors.ConnectionFailure():
            return f"cannot be reached: {_unreachable(str(error))}"
    return "refused the command: see the server's log"


def _unreachable(text: str) -> str:
    return next((meaning for sign, meaning in _REACHING.items() if sign in text), _SILENT)


def _is_login(error: pymongo.errors.OperationFailure) -> bool:
    return "authentication failed" in str(error).lower()


def refuses_writes(error: Exception) -> bool:
    """Tell whether the server still reads but does not write."""
    if isinstance(error, pymongo.errors.WriteConcernError):
        return True
    if not isinstance(error, pymongo.errors.OperationFailure):
        return False
    return error.code in _WRITES_REFUSED or (error.code == _ATLAS and _QUOTA in str(error))


def first_line(error: Exception) -> str:
    """Return the first line of an error, without what it quotes of a document and without the driver's own state."""
    if isinstance(error, pymongo.errors.WriteError):
        return f"{type(error).__name__}, code {error.code}"
    text = str(error)
    for rest in (", full error: ", ", Timeout: ", " (configured timeouts: "):
        text = text.partition(rest)[0]
    line = (text.strip().splitlines() or [""])[0]
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}..."


def without_values(error: pymongo.errors.PyMongoError) -> pymongo.errors.PyMongoError:
    """Return the error as a cause that may be logged: errors of a write quote values of the document."""
    if isinstance(error, pymongo.errors.WriteError):
        return pymongo.errors.OperationFailure(first_line(error), error.code)
    return error
