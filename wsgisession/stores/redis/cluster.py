"""A Redis Cluster: `Cluster` knows which server has which slot, and follows where slots move."""

from __future__ import annotations

import binascii
import time
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

from redis import exceptions

from .connection import FAILURES, Address, Command, Connection
from .server import Client, Server

T = TypeVar("T")

_SLOTS = 16_384
_PAUSE = 0.05  # seconds between two attempts while a slot is between two servers
_MOST_HOPS = 16
_FIRST_TRY = 0.7  # of the time that is left: the rest is to find out whether another server has the slot by now


class Cluster(Client):
    """The servers of a cluster, each with its own pool.

    :param nodes: where to begin; they are asked for the others.
    :param make: makes the pool of one server.
    """

    def __init__(self, nodes: Sequence[Address], make: Callable[[Address], Server]) -> None:
        self._nodes, self._make = list(nodes), make
        self._servers: dict[Address, Server] = {}
        self._masters: list[Address] | None = None  # of each slot

    def execute(
        self, command: Command, deadline: float, *, key: bytes = b"", repeat: bool = True, replicas: int = 0
    ) -> Any:
        """Run a command on the server that has the key."""

        def call(server: Server, until: float) -> Any:
            return server.execute(command, until, repeat=repeat, replicas=replicas)

        return self._follow(key, command, call, deadline, repeat=repeat)

    def execute_many(self, commands: Sequence[tuple[bytes, Command]], deadline: float) -> list[Any]:
        """Run commands in one round trip for each server; what has moved, one by one."""
        replies: list[Any] = [None] * len(commands)
        places: dict[Address, list[int]] = {}
        for number, (key, _) in enumerate(commands):
            places.setdefault(self._address(key, deadline), []).append(number)
        for address, numbers in places.items():
            try:
                found = self._server(address).execute_many([commands[number] for number in numbers], deadline)
            except OSError:
                self._masters = None  # the next call asks whether another server has taken over
                raise
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply
        for number, reply in enumerate(replies):
            if isinstance(reply, exceptions.ResponseError) and _is_redirection(reply):
                key, command = commands[number]
                replies[number] = self.execute(command, deadline, key=key)
        return replies

    def masters(self, deadline: float) -> list[Any]:
        """Return the addresses of all masters."""
        return list(dict.fromkeys(self._load(deadline)))

    def ask(self, master: Any, command: Command, deadline: float) -> Any:
        """Run a command that has no key on a master."""
        return self._server(master).execute(command, deadline)

    def close(self) -> None:
        """Close every connection."""
        for server in list(self._servers.values()):
            server.close()

    # Inside.

    def _follow(
        self, key: bytes, command: Command, call: Callable[[Server, float], T], deadline: float, *, repeat: bool
    ) -> T:
        """Call with the server that has the key, wherever the servers send us."""
        address = self._address(key, deadline)
        for _ in range(_MOST_HOPS):
            try:
                return self._try(address, call, key, deadline, repeat=repeat)
            except exceptions.ResponseError as error:
                kind, *rest = str(error).split(" ")
                if kind == "MOVED":
                    self._masters = None  # others have moved, too
                    address = self._told(rest[1], address)
                elif kind == "ASK":
                    told = self._told(rest[1], address)
                    return _ask_once(self._server(told), command, deadline)  # type: ignore[no-any-return]
                elif _is_redirection(error) and monotonic() + _PAUSE < deadline:
                    time.sleep(_PAUSE)
                    self._masters = None
                    address = self._address(key, deadline)
                else:
                    raise
        raise exceptions.ClusterDownError("CLUSTERDOWN the servers of the cluster send us in circles")

    def _try(
        self, address: Address, call: Callable[[Server, float], T], key: bytes, deadline: float, *, repeat: bool
    ) -> T:
        """Call with a server, and where it cannot be reached with the one that has the slot by now, if any."""
        now = monotonic()
        try:
            return call(self._server(address), now + _FIRST_TRY * (deadline - now))
        except OSError as error:
            self._masters = None
            if not repeat and not isinstance(error, ConnectionRefusedError):
                raise
            other = self._address(key, deadline, last=address)
            if other == address:
                raise
        return call(self._server(other), deadline)

    def _server(self, address: Address) -> Server:
        server = self._servers.get(address)
        return server if server is not None else self._servers.setdefault(address, self._make(address))

    def _address(self, key: bytes, deadline: float, *, last: Address | None = None) -> Address:
        masters = self._masters
        if masters is None:
            masters = self._load(deadline, last=last)
        return masters[slot_of(key)]

    def _load(self, deadline: float, *, last: Address | None = None) -> list[Address]:
        """Ask one server after the other which has which slots; one that hangs takes its share of time only.

        :param last: whom to ask last, because it did not answer.
        """
        known = list(dict.fromkeys([*self._servers, *self._nodes]))
        known.sort(key=lambda address: address == last)
        failure: Exception | None = None
        for number, address in enumerate(known):
            now = monotonic()
            try:
                share = now + (deadline - now) / (len(known) - number)
                reply = self._server(address).execute(("CLUSTER", "SLOTS"), share)
                masters = self._masters = _table(reply, address)
            except FAILURES as error:
                failure = error
                continue
            self._forget({*masters, *self._nodes})
            return masters
        raise failure or exceptions.RedisClusterException("the cluster has no nodes")

    def _forget(self, known: set[Address]) -> None:
        for address in self._servers.keys() - known:
            if (server := self._servers.pop(address, None)) is not None:
                server.close()

    def _told(self, text: str, teller: Address) -> Address:
        host, _, port = text.rpartition(":")
        return host or teller[0], int(port)


def _ask_once(server: Server, command: Command, deadline: float) -> Any:
    """Run a command about a slot that is on its way to this server."""

    def call(connection: Connection, until: float) -> Any:
        _, reply = connection.exchange_many([("ASKING",), command], until)
        if isinstance(reply, exceptions.RedisError):
            raise reply
        return reply

    return server.run(call, deadline)


def slot_of(key: bytes) -> int:
    """Return the slot of a key, by what is in its first braces, if anything."""
    _, opened, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return binascii.crc_hqx(tag if opened and closed and tag else key, 0) % _SLOTS


def _is_redirection(error: Exception) -> bool:
    return str(error).startswith(("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN"))


def _table(reply: Any, teller: Address) -> list[Address]:
    masters: list[Address | None] = [None] * _SLOTS
    for first, last, (host, port, *_), *_ in reply:
        address = ((host or b"").decode() or teller[0], int(port))
        masters[first : last + 1] = [address] * (last + 1 - first)
    if None in masters:
        raise exceptions.ClusterDownError("CLUSTERDOWN slots are not covered by any master")
    return masters  # type: ignore[return-value]
