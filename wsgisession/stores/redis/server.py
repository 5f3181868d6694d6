"""One Redis server, or the one that the Sentinels call the master at the time: `Server`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from redis import exceptions

from ..pool import Fault, Pool
from .connection import FAILURES, Address, Command, Connection, Endpoint, FullError
from .scripts import Script

Connect = Callable[[float], Connection]


class NotConfirmedError(Exception):
    """Too few replicas have confirmed a command, which the server has done.

    :param reply: what the server answered to the command.
    """

    def __init__(self, confirmed: int, reply: Any) -> None:
        super().__init__(f"{confirmed} replicas have confirmed it")
        self.confirmed, self.reply = confirmed, reply


class Client:
    """What a store does with its server or servers. All deadlines are of `time.monotonic`."""

    def execute(
        self, command: Command, deadline: float, *, key: bytes = b"", repeat: bool = True, replicas: int = 0
    ) -> Any:
        """Run a command, and return the reply.

        :param key: the key that the command is about; in a cluster it decides the server.
        :param repeat: whether to run it twice does the same as to run it once. If not, and the answer is lost, it is
            run again anyway, but a second reply of None is not believed.
        :param replicas: how many must confirm what the command wrote, if it replies with anything but None.
        :raises NotConfirmedError: where they are fewer.
        """
        raise NotImplementedError

    def execute_many(self, commands: Sequence[tuple[bytes, Command]], deadline: float) -> list[Any]:
        """Run commands, each with its key, in one round trip, and return the replies, errors among them."""
        raise NotImplementedError

    def evaluate(
        self,
        script: Script,
        key: bytes,
        arguments: Sequence[Any],
        deadline: float,
        *,
        repeat: bool = True,
        replicas: int = 0,
    ) -> Any:
        """Run a script on a key."""
        rest = (1, key, *arguments)
        try:
            return self.execute(("EVALSHA", script.sha, *rest), deadline, key=key, repeat=repeat, replicas=replicas)
        except exceptions.NoScriptError:
            return self.execute(("EVAL", script.text, *rest), deadline, key=key, repeat=repeat, replicas=replicas)

    def evaluate_many(self, script: Script, calls: Sequence[tuple[bytes, Sequence[Any]]], deadline: float) -> list[Any]:
        """Run a script on several keys, each with its arguments, in one round trip, and return the replies."""
        commands = [(key, ("EVALSHA", script.sha, 1, key, *arguments)) for key, arguments in calls]
        replies = self.execute_many(commands, deadline)
        for number, reply in enumerate(replies):
            if isinstance(reply, exceptions.NoScriptError):
                key, arguments = calls[number]
                replies[number] = self.evaluate(script, key, arguments, deadline)
            elif isinstance(reply, Exception):
                raise reply
        return replies

    def masters(self, deadline: float) -> list[Any]:
        """Return what `ask` is to be given, in turn."""
        raise NotImplementedError

    def ask(self, master: Any, command: Command, deadline: float) -> Any:
        """Run a command that has no key."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection; those in use as they come back."""
        raise NotImplementedError


class _Driver:
    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def close(self, connection: Connection) -> None:
        connection.close()

    def is_alive(self, connection: Connection) -> bool:
        return connection.fileno() >= 0 and not connection.has_input()

    def is_full(self, error: Exception) -> bool:
        return isinstance(error, FullError)

    def fault(self, error: Exception, connection: Connection) -> Fault:
        if isinstance(error, exceptions.ResponseError):
            # A replica has done nothing. Where it was the master, the next connection leads to the new one.
            return Fault.MISPLACED if is_read_only(error) else Fault.NONE
        return Fault.NONE if isinstance(error, NotConfirmedError) else Fault.LOST


def is_read_only(error: Exception) -> bool:
    """Tell whether a server said that it is a replica; of a script, old ones say so in the middle of the text."""
    return isinstance(error, exceptions.ReadOnlyError) or "READONLY" in str(error)


class Server(Client, Pool[Connection]):
    """The connections to one server. No lock is held while it is waited for.

    :param connect: makes a connection, before a deadline.
    """

    def __init__(self, connect: Connect, *, max_connections: int, max_idle: float) -> None:
        Pool.__init__(self, _Driver(connect), max_connections=max_connections, max_idle=max_idle)

    def execute(
        self, command: Command, deadline: float, *, key: bytes = b"", repeat: bool = True, replicas: int = 0
    ) -> Any:
        """Run a command; again on another connection if the first one was lost."""
        if repeat and not replicas:
            return self.run(lambda connection, until: connection.exchange(command, until), deadline)
        return self.run(_Once(command, deadline, repeat=repeat, replicas=replicas), deadline)

    def execute_many(self, commands: Sequence[tuple[bytes, Command]], deadline: float) -> list[Any]:
        """Run commands, all of which may be repeated, in one round trip."""
        if not commands:
            return []
        only = [command for _, command in commands]
        return self.run(lambda connection, until: connection.exchange_many(only, until), deadline)

    def masters(self, deadline: float) -> list[Any]:
        """Return this one."""
        return [None]

    def ask(self, master: Any, command: Command, deadline: float) -> Any:
        """Run a command that has no key."""
        return self.execute(command, deadline)

    def close(self) -> None:
        """Close every connection; those in use as they come back."""
        Pool.close(self)


class _Once:
    """A command that must not be done twice, or that replicas must confirm."""

    def __init__(self, command: Command, deadline: float, *, repeat: bool, replicas: int) -> None:
        self._command, self._deadline, self._repeat, self._replicas = command, deadline, repeat, replicas
        self._lost: Exception | None = None

    def __call__(self, connection: Connection, until: float) -> Any:
        try:
            reply = connection.exchange(self._command, until)
        except (OSError, exceptions.InvalidResponse) as error:
            self._lost = error
            raise
        if reply is None:
            if self._lost is not None and not self._repeat:  # was it the first attempt that did it?
                raise self._lost
            return None
        if self._replicas and (not isinstance(reply, list) or reply[0]):  # a list begins with what was deleted
            self._confirm(connection, reply)
        return reply

    def _confirm(self, connection: Connection, reply: Any) -> None:
        left = self._deadline - monotonic()
        patience = max(int(800 * left), 1)  # the rest is for the answer, which may come a little late
        try:
            confirmed = connection.exchange(("WAIT", self._replicas, patience), self._deadline)
        except OSError as error:
            connection.close()  # it is given back, and not used again
            raise NotConfirmedError(0, reply) from error
        if confirmed < self._replicas:
            raise NotConfirmedError(confirmed, reply)


class Sentinels:
    """Those who know which server is the master.

    :param service: what they call it.
    :param endpoint: of a connection to a Sentinel.
    """

    def __init__(self, addresses: Sequence[Address], service: str, endpoint: Endpoint) -> None:
        self._addresses, self._service, self._endpoint = list(addresses), service, endpoint

    def master(self, deadline: float) -> Address:
        """Ask one after the other, first the one that knew last time; one that hangs takes its share of time only."""
        failure: Exception | None = None
        for number, address in enumerate(self._addresses):
            now = monotonic()
            try:
                master = self._ask(address, now + (deadline - now) / (len(self._addresses) - number + 1))
            except FAILURES as error:
                failure = error
                continue
            if master is not None:
                self._addresses = [address, *(other for other in self._addresses if other != address)]
                return master
        raise exceptions.ConnectionError("No Sentinel knows a master of this name") from failure

    def _ask(self, address: Address, deadline: float) -> Address | None:
        connection = self._endpoint.connect(address, deadline)
        try:
            reply = connection.exchange(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service), deadline)
        finally:
            connection.close()
        return (reply[0].decode(), int(reply[1])) if reply else None
