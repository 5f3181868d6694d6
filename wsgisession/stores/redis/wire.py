"""How `RedisStore` reaches its servers: redis-py's connections, pooled here, each call within one deadline.

redis-py bounds each ``recv`` and not the call, so that an answer that dribbles is waited for without end, and its
client costs more than the command. So its connections alone are used (TLS, authentication, the protocol), on a socket
that knows the deadline of the call. Only a cluster is left to redis-py's own client, on the same connections.
"""

# mypy: disallow-untyped-calls=False
# (redis-py has types, but not for the calls of its connections)

from __future__ import annotations

import hashlib
import queue
import re
import select
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import Any, Literal

import hiredis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import (
    AbstractConnection,
    BlockingConnectionPool,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry

from ...errors import StoreError
from .url import Address, RedisURL

_FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError)

_deadline: ContextVar[float] = ContextVar("deadline")

_COMPLAINTS = {
    ("OOM", "OutOfMemory"): "is out of memory: raise its maxmemory, or let it evict (maxmemory-policy volatile-ttl)",
    ("READONLY", "ReadOnly"): "is a read-only replica: name the master in the store's URL, or its Sentinels",
    ("LOADING", "BusyLoading"): "is still loading its data: try again shortly",
    ("CLUSTERDOWN", "ClusterDown", "SlotNotCovered", "slots are not covered"): (
        "has slots without a master: see CLUSTER INFO on its nodes"
    ),
    ("NOPERM", "NoPermission"): "forbids a command or a key to the store's user: extend its ACL",
    ("NOAUTH", "WRONGPASS", "Authentication"): "refuses the user or the password: correct them in the store's URL",
    ("max number of clients",): "takes no more connections: raise its maxclients, or lower the store's max_connections",
    ("No connection available",): "has all the store's connections in use: raise its max_connections",
    ("DB index is out of range",): "has no database of this number: correct that in the store's URL",
    ("No Sentinel knows",): "has no master by the name of its service: correct that in the store's URL",
}


_REFUSALS = {"NOSCRIPT": exceptions.NoScriptError, "READONLY": exceptions.ReadOnlyError}
_NOTHING_YET: Any = object()


class Script:
    """A Lua script, and the name under which a server caches it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Call:
    """A context in which all is done by a deadline, and nothing of the driver's is raised but as a cause.

    :raises StoreError: where the server cannot be reached, takes too long, or refuses.
    """

    def __init__(self, server: str, seconds: float) -> None:
        self._server = server
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token = _deadline.set(monotonic() + self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        _deadline.reset(self._token)
        if error is not None and isinstance(error, _FAILURES):
            raise StoreError(f"{self._server} {_complaint(error, self._seconds)}") from error
        return False


def _complaint(error: Exception, seconds: float) -> str:
    if isinstance(error.__cause__, _FAILURES):
        error = error.__cause__
    text = f"{type(error).__name__} {error}"
    for signs, complaint in _COMPLAINTS.items():
        if any(sign in text for sign in signs):
            return complaint
    if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
        return f"has not answered within {seconds:g} s: see whether it or the network hangs, or raise the timeout"
    if isinstance(error, exceptions.ResponseError):
        code = re.search(r"(?:^| -)([A-Z]{3,}) ", str(error))  # alone, for what follows may be a key
        return f"refuses with {code[1] if code else 'an error'}: see the error that caused this one"
    return "cannot be reached: see that it runs, and that the store's URL names it"


def _left() -> float:
    left = _deadline.get() - monotonic()
    if left <= 0:
        raise TimeoutError("the time for the call is over")
    return left


class _Socket:
    """A socket on which every wait ends with the call, however many there are."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._armed = -1.0
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float) -> None:
        self._armed = seconds
        self._sock.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        self._arm()
        self._sock.sendall(data)

    def recv(self, size: int, flags: int = 0) -> Any:
        self._arm()
        return self._sock.recv(size, flags)

    def recv_into(self, buffer: bytearray) -> Any:
        self._arm()
        return self._sock.recv_into(buffer)

    def _arm(self) -> None:
        # A system call, left out where the last one is right to 2 %. With 0, redis-py looks and does not wait.
        left = _left()
        if self._armed and abs(left - self._armed) > 0.02 * left:
            self.settimeout(left)

    def has_input(self) -> bool:
        """Tell whether there is something to read: between two calls, the end of the connection or a stray answer."""
        return bool(self._poll.poll(0) if self._poll is not None else select.select([self._sock], [], [], 0)[0])


class _Bounded(AbstractConnection):
    """Mixed into redis-py's connections: whatever they set as a timeout is what the call has left."""

    wire: _Socket
    socket_timeout = property(lambda self: _left(), lambda self, value: None)
    socket_connect_timeout = socket_timeout

    def _connect(self) -> _Socket:
        self.wire = _Socket(super()._connect())  # type: ignore[safe-super]
        self._replies = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=_refusal, notEnoughData=_NOTHING_YET
        )
        return self.wire

    def exchange(self, command: tuple[Any, ...]) -> Any:
        """Send a command and return the reply: on redis-py's connection, by half of its way there and back."""
        try:
            self.wire.sendall(hiredis.pack_command(command))
            while (reply := self._replies.gets()) is _NOTHING_YET:
                if not (data := self.wire.recv(65_536)):
                    raise ConnectionResetError("the server has closed the connection")
                self._replies.feed(data)
        except OSError as error:
            kind = exceptions.TimeoutError if isinstance(error, TimeoutError) else exceptions.ConnectionError
            raise kind(str(error)) from error
        if isinstance(reply, exceptions.ResponseError):
            raise reply
        return reply


def _refusal(text: str) -> exceptions.ResponseError:
    return _REFUSALS.get(text.partition(" ")[0], exceptions.ResponseError)(text)


class _BoundedTCP(_Bounded, Connection):
    pass


class _BoundedTLS(_Bounded, SSLConnection):
    pass


class _BoundedUnix(_Bounded, UnixDomainSocketConnection):
    pass


class _BoundedPool(BlockingConnectionPool):
    timeout = property(lambda self: _left(), lambda self, value: None)


class _Client:
    def execute(self, *command: Any, repeatable: bool = True) -> Any:
        raise NotImplementedError

    def evaluate(self, script: Script, key: bytes, *arguments: Any, repeatable: bool = True) -> Any:
        """Run a script on a key."""
        rest = (1, key, *arguments)
        try:
            return self.execute("EVALSHA", script.sha, *rest, repeatable=repeatable)
        except exceptions.NoScriptError:
            return self.execute("EVAL", script.text, *rest, repeatable=repeatable)


class Server(_Client):
    """One server, or the one that is the master at the time. Holds no lock while it waits for it.

    :param connect: makes a connection, connected.
    :param limit: how many of them there may be.
    """

    def __init__(self, connect: Callable[[], _Bounded], limit: int) -> None:
        self._connect = connect
        self._idle: list[_Bounded] = []  # the last one used is the first one used again
        self._closed = False
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()  # looked up now, for gevent to have replaced it
        for _ in range(limit):
            self._free.put(None)

    def execute(self, *command: Any, repeatable: bool = True) -> Any:
        """Run a command; on another connection again where the first attempt did nothing, or might as well have.

        :param repeatable: whether to run it twice does the same as to run it once.
        """
        try:
            return self._exchange(command)
        except exceptions.RedisError as error:
            # A replica executes nothing, so that even what must not be repeated may be: on the new master.
            is_replica = isinstance(error, exceptions.ReadOnlyError) or "READONLY" in str(error)
            if not is_replica and not (repeatable and type(error) is exceptions.ConnectionError):
                raise
        self._disconnect_idle()
        return self._exchange(command)

    def masters(self) -> list[None]:
        """Return what `scan` is to be given, in turn."""
        return [None]

    def ask(self, master: None, *command: Any) -> Any:
        """Run a command that has no key."""
        return self.execute(*command)

    def scan(self, master: None, cursor: int, *, pattern: bytes) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and some keys."""
        after, keys = self.execute("SCAN", cursor, "MATCH", pattern, "COUNT", 500)
        return int(after), keys

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of the keys; None where there is none, or no string."""
        values: list[bytes | None] = self.execute("MGET", *keys) if keys else []
        return values

    def close(self) -> None:
        """Close every connection; those in use as they come back."""
        self._closed = True
        self._disconnect_idle()

    def _exchange(self, command: tuple[Any, ...]) -> Any:
        try:
            self._free.get(timeout=_left())
        except queue.Empty:
            raise exceptions.TimeoutError("No connection available") from None
        try:
            return self._exchange_on(self._idle_connection() or self._connect(), command)
        finally:
            self._free.put(None)

    def _exchange_on(self, connection: _Bounded, command: tuple[Any, ...]) -> Any:
        try:
            reply = connection.exchange(command)
        except exceptions.ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:  # an answer that comes late must not be the next call's: also after a gevent.Timeout
            connection.disconnect()
            raise
        self._idle.append(connection)
        if self._closed:
            self._disconnect_idle()
        return reply

    def _idle_connection(self) -> _Bounded | None:
        while connection := self._pop():
            if not connection.wire.has_input():
                return connection
            connection.disconnect()
        return None

    def _disconnect_idle(self) -> None:
        while connection := self._pop():
            connection.disconnect()

    def _pop(self) -> _Bounded | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


class Cluster(_Client):
    """A cluster, in the hands of redis-py's client: it knows the slots, and follows where they move.

    :param nodes: where to begin; the others are asked for.
    :param options: of the connections.
    """

    def __init__(self, nodes: Sequence[Address], options: dict[str, Any]) -> None:
        (host, port), *others = nodes
        self._client: Any = RedisCluster(
            startup_nodes=[ClusterNode(*node) for node in others],
            url=f"redis://{host}:{port}",  # with hosts alone, it would not take the class of the connections
            connection_pool_class=_BoundedPool,
            retry=Retry(NoBackoff(), 0),
            **options,
        )

    def execute(self, *command: Any, repeatable: bool = True) -> Any:
        """Run a command; on another connection again where the first attempt did nothing, or might as well have.

        :param repeatable: whether to run it twice does the same as to run it once.
        """
        try:
            return self._client.execute_command(*command)
        except (exceptions.ClusterDownError, exceptions.ConnectionError) as error:
            if not repeatable or isinstance(error, exceptions.AuthenticationError):
                raise
        return self._client.execute_command(*command)

    def masters(self) -> list[Any]:
        """Return what `scan` is to be given, in turn."""
        return list(self._client.get_primaries())

    def ask(self, master: Any, *command: Any) -> Any:
        """Run a command that has no key on a master."""
        return self._client.execute_command(*command, target_nodes=master)

    def scan(self, master: Any, cursor: int, *, pattern: bytes) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and some keys of a master."""
        command = ("SCAN", cursor, "MATCH", pattern, "COUNT", 500)
        cursors, keys = self._client.execute_command(*command, target_nodes=master)
        return int(*cursors.values()), keys

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of the keys; None where there is none, or no string."""
        values: list[bytes | None] = self._client.mget_nonatomic(keys) if keys else []
        return values

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


class _Sentinels:
    def __init__(self, addresses: Sequence[Address], service: str, connect: Callable[..., _Bounded]) -> None:
        self._addresses = list(addresses)
        self._service = service
        self._connect = connect

    def master(self) -> Address:
        """Ask one after the other, first the one that knew last time; one that hangs takes its share of time only."""
        failure: Exception | None = None
        for number, address in enumerate(self._addresses):
            token = _deadline.set(monotonic() + _left() / (len(self._addresses) - number + 1))
            try:
                master = self._ask(address)
            except _FAILURES as error:
                failure = error
                continue
            finally:
                _deadline.reset(token)
            if master is not None:
                self._addresses = [address, *(other for other in self._addresses if other != address)]
                return master
        raise exceptions.ConnectionError("No Sentinel knows a master of this name") from failure

    def _ask(self, address: Address) -> Address | None:
        host, port = address
        connection = self._connect(host=host, port=port)
        try:
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            reply = connection.read_response()
        finally:
            connection.disconnect()
        return (reply[0].decode(), int(reply[1])) if reply else None


def client_of(url: RedisURL) -> Callable[[], Server | Cluster]:
    """Return what opens the client that a URL asks for. Only that of a cluster connects: it asks for the nodes."""
    if url.socket is not None:
        connect = _connector(_BoundedUnix, {**url.options, "path": url.socket})
        return lambda: Server(connect, url.max_connections)
    kind: type[Any] = _BoundedTLS if url.is_tls else _BoundedTCP
    if url.is_cluster:
        more = {"connection_class": kind, "max_connections": url.max_connections}
        return lambda: Cluster(url.addresses, {**_FIXED, **url.options, **more})
    connect = _connector(kind, url.options)
    if url.service is None:
        ((host, port),) = url.addresses
        return lambda: Server(lambda: connect(host=host, port=port), url.max_connections)
    sentinels = _Sentinels(url.addresses, url.service, connect=_connector(kind, url.sentinel_options))

    def connect_to_master() -> _Bounded:
        host, port = sentinels.master()
        return connect(host=host, port=port)

    return lambda: Server(connect_to_master, url.max_connections)


_FIXED = {"protocol": 2}  # the third needs another round trip to begin with


def _connector(kind: type[Any], options: Mapping[str, Any]) -> Callable[..., _Bounded]:
    def connect(**address: Any) -> _Bounded:
        connection: _Bounded = kind(**address, **_FIXED, **options)
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    return connect
