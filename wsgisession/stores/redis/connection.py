"""One connection to a Redis server, on which every wait ends at a deadline.

A driver that bounds each ``recv`` waits without end for an answer that comes a byte at a time, so the socket is used
here directly, and hiredis packs and parses. Names are looked up by the system, in its own time.
"""

from __future__ import annotations

import select
import socket
import ssl
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import hiredis
from redis import exceptions

Address = tuple[str, int]
Command = tuple[Any, ...]

FAILURES = (exceptions.RedisError, OSError)
"""All that is raised here. An `OSError` means that the connection is lost; a `redis.ResponseError` is an answer."""

_NOTHING_YET: Any = object()
_KINDS = {
    "LOADING": exceptions.BusyLoadingError,
    "MISCONF": exceptions.ResponseError,
    "NOAUTH": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
    "NOSCRIPT": exceptions.NoScriptError,
    "OOM": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "WRONGPASS": exceptions.AuthenticationError,
}


class FullError(OSError):
    """The server has no free slot for another connection."""


def _answer(text: str) -> exceptions.RedisError:
    return _KINDS.get(text.partition(" ")[0], exceptions.ResponseError)(text)


@dataclass(frozen=True)
class Endpoint:
    """How a connection begins: encryption, user, database.

    :param tls: by the names of redis-py; None without TLS.
    :param keepalive: seconds until TCP begins to ask whether the other side is still there.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    client_name: str | None = None
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    keepalive: int = 30

    def connect(self, place: Address | str, deadline: float) -> Connection:
        """Open a connection to a host and port, or to the path of a socket.

        :raises FullError: where the server has no free slot.
        """
        connection = Connection(self._socket(place, deadline))
        try:
            self._begin(connection, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin(self, connection: Connection, deadline: float) -> None:
        for reply in connection.exchange_many(list(self._commands()) or [("PING",)], deadline):
            if not isinstance(reply, exceptions.RedisError) or isinstance(reply, exceptions.NoPermissionError):
                continue
            if "max number of clients" in str(reply):
                raise FullError(str(reply))
            raise reply

    def _commands(self) -> Iterator[Command]:
        if self.username or self.password:
            user = (self.username,) if self.username else ()
            yield ("AUTH", *user, self.password or "")
        if self.client_name:
            yield ("CLIENT", "SETNAME", self.client_name)
        if self.database:
            yield ("SELECT", self.database)

    def _socket(self, place: Address | str, deadline: float) -> Any:
        if isinstance(place, str):
            return _connected(socket.AF_UNIX, place, deadline)
        failure: OSError | None = None
        found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
        for number, (family, _, _, _, address) in enumerate(found):
            share = monotonic() + (deadline - monotonic()) / (len(found) - number)
            try:
                sock = _connected(family, address, share)
            except OSError as error:
                failure = error
                continue
            self._keep_alive(sock)
            return sock if self.tls is None else _encrypted(sock, place[0], self.tls, deadline)
        raise failure or OSError("the name of the server has no address")

    def _keep_alive(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", self.keepalive), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Connection:
    """Sends commands and returns replies, for one call at a time. After a failure in the middle it must be closed."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        # For a store that nobody closes. The garbage collector may reach the socket before a __del__ of ours.
        weakref.finalize(self, sock.close).atexit = False
        self._armed = -1.0
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)
        self._replies = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=_answer, notEnoughData=_NOTHING_YET
        )

    def exchange(self, command: Command, deadline: float) -> Any:
        """Send a command, and return the reply.

        :raises redis.ResponseError: where the reply is an error.
        """
        self._arm(deadline)
        self._sock.sendall(hiredis.pack_command(command))
        reply = self._reply(deadline)
        if isinstance(reply, exceptions.RedisError):
            raise reply
        return reply

    def exchange_many(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send several commands at once, and return the replies, errors among them."""
        self._arm(deadline)
        self._sock.sendall(b"".join([hiredis.pack_command(command) for command in commands]))
        return [self._reply(deadline) for _ in commands]

    def has_input(self) -> bool:
        """Tell whether there is something to read: between two calls, the end of the connection or a stray answer."""
        return bool(self._poll.poll(0) if self._poll is not None else select.select([self._sock], [], [], 0)[0])

    def close(self) -> None:
        """Close it, without waiting."""
        try:
            self._sock.close()
        except OSError:
            return

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 once it is closed."""
        number: int = self._sock.fileno()
        return number

    def _reply(self, deadline: float) -> Any:
        while (reply := self._replies.gets()) is _NOTHING_YET:
            self._arm(deadline)
            data = self._sock.recv(65_536)
            if not data:
                raise ConnectionResetError("the server has closed the connection")
            self._replies.feed(data)
        return reply

    def _arm(self, deadline: float) -> None:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the time for the call is over")
        # A system call, left out where the last one is right to 2 %.
        if abs(left - self._armed) > 0.02 * left:
            self._armed = left
            self._sock.settimeout(left)


def _connected(family: int, address: Any, deadline: float) -> socket.socket:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("the time for the call is over")
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(left)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _encrypted(sock: socket.socket, host: str, tls: Mapping[str, Any], deadline: float) -> ssl.SSLSocket:
    try:
        context = _context(tls)
        sock.settimeout(max(deadline - monotonic(), 0.001))
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


def _context(tls: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.get("ssl_ca_certs"), capath=tls.get("ssl_ca_path"))
    requirement = tls.get("ssl_cert_reqs", "required")
    context.check_hostname = requirement == "required" and tls.get("ssl_check_hostname", True)
    context.verify_mode = {
        "none": ssl.CERT_NONE,
        "optional": ssl.CERT_OPTIONAL,
        "required": ssl.CERT_REQUIRED,
    }[requirement]
    if certificate := tls.get("ssl_certfile"):
        context.load_cert_chain(certificate, tls.get("ssl_keyfile"), tls.get("ssl_password"))
    return context


__all__ = ["FAILURES", "Address", "Command", "Connection", "Endpoint", "FullError"]
