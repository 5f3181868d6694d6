"""What a store has once in each process: `PerProcess`, and one pool of connections for all stores: `Pool`.

A store gives the pool a `Driver`, which knows how to open and close its connections, and hands each call over::

    pool = PerProcess(lambda: Pool(MyDriver(...), max_connections=10, max_idle=60.0))

    pool().run(lambda connection, deadline: connection.ask(b"...", deadline), monotonic() + 2.0)

`Pool.run` takes a connection, calls the function, and gives the connection back. If the connection turns out to be
dead or to lead to a server that is no longer the primary, it continues with a fresh one within the same deadline, where
that is safe. `Pool.lend` lends a connection for several steps, without a second try.

The last connection given back is the first one taken, so that a pool shrinks after a burst: what was not used for
``max_idle`` seconds is closed at the next call, and never used again. No thread runs in the background, and no lock is
held while a connection is opened or used.
"""

from __future__ import annotations

import enum
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
C = TypeVar("C")

MAX_IDLE = 60.0
"""How many seconds a connection may be idle, by default. Many firewalls forget one after a few minutes."""

_FIRST_TRY = 0.6  # of the time that is left: the rest is for a second try, if the connection turns out to be dead
_FULL_PAUSE = 0.1  # seconds between two attempts to get another connection of a server that has none left


class Fault(enum.Enum):
    """What an error says about the connection on which it happened."""

    NONE = "the server has answered, and the connection is in order"
    LOST = "the connection is lost: nobody knows whether the server has done what it was asked to"
    MISPLACED = "the server has done nothing, because it is no longer the primary"


class Driver(Protocol[C]):
    """What a pool must know about the connections of one kind of server. A connection is any hashable object."""

    def connect(self, deadline: float) -> C:
        """Open a connection, or raise the driver's error, before the deadline (of `time.monotonic`)."""

    def close(self, connection: C) -> None:
        """Close a connection, in whatever state it is, without waiting and without raising anything."""

    def is_alive(self, connection: C) -> bool:
        """Tell, without asking the server, whether an idle connection can be used: open, and nothing arrived on it."""

    def is_full(self, error: Exception) -> bool:
        """Tell whether `connect` raised this because the server has no free slot for another connection."""

    def fault(self, error: Exception, connection: C) -> Fault:
        """Tell what an error that a call raised says about its connection."""


class AllBusyError(TimeoutError):
    """No connection of the pool came free in time."""


class _Waiter(Generic[C]):
    """A call that waits for a connection, or for a slot for a new one."""

    def __init__(self) -> None:
        self.connection: C | None = None
        self._event = threading.Event()

    def wake(self, connection: C | None) -> None:
        self.connection = connection
        self._event.set()

    def wait(self, seconds: float | None) -> None:
        self._event.wait(seconds)


class Pool(Generic[C]):
    """The connections of one process to one place. Safe for threads and for gevent; after ``fork`` make another.

    :param max_connections: how many there are at most; a call waits for one that comes free.
    :param max_idle: the seconds after which an idle connection is no longer used, and closed.
    :param clock: for tests, instead of `time.monotonic`, which all deadlines use.
    """

    def __init__(
        self,
        driver: Driver[C],
        *,
        max_connections: int,
        max_idle: float = MAX_IDLE,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._driver, self._max_connections, self._max_idle, self._clock = driver, max_connections, max_idle, clock
        self._idle: deque[tuple[C, float]] = deque()  # and since when; the last one used is the last one here
        self._generation = 0  # a connection of an older one is closed when it comes back
        self._generations: dict[C, int] = {}  # of all that are open
        self._connecting = 0
        self._full_until = 0.0  # the server has no more slots; till then nobody asks for one
        self._closed = False
        self._waiters: deque[_Waiter[C]] = deque()
        self._lock = threading.Lock()  # for what follows the rare steps: connecting, closing, waiting

    def run(self, call: Callable[[C, float], T], deadline: float, *, repeat: bool = True) -> T:
        """Call a function with a connection and a deadline, and return what it returns.

        The first try on a connection that was idle has a part of the time only. If that connection is lost, it and all
        older idle ones are dropped, and there is a second try on a fresh one.

        :param repeat: whether doing it twice does the same as doing it once. If not, a second try is made only where
            the first one cannot have done anything.
        :raises AllBusyError: where no connection came free in time.
        """
        connection, is_fresh = self._take(deadline)
        first_deadline = deadline
        if repeat and not is_fresh:
            now = self._clock()
            first_deadline = now + _FIRST_TRY * (deadline - now)
        try:
            result = call(connection, first_deadline)
        except Exception as error:
            fault = self._settle(connection, error)
            if is_fresh or fault is Fault.NONE or (fault is Fault.LOST and not repeat):
                raise
        except BaseException:  # a gevent.Timeout: an answer that comes late must not be the next call's
            self.drop(connection)
            raise
        else:
            self.give_back(connection)
            return result
        with self.lend(deadline) as connection:
            return call(connection, deadline)

    @contextmanager
    def lend(self, deadline: float) -> Iterator[C]:
        """Lend a connection for several steps. After an exception it is kept only if the driver finds it in order."""
        connection, _ = self._take(deadline)
        try:
            yield connection
        except Exception as error:
            self._settle(connection, error)
            raise
        except BaseException:
            self.drop(connection)
            raise
        self.give_back(connection)

    def give_back(self, connection: C) -> None:
        """Take a connection back that is in order."""
        if self._closed or self._generations.get(connection) != self._generation:
            self.drop(connection)
            return
        if self._waiters and (waiter := self._next_waiter()):
            waiter.wake(connection)
            return
        now = self._clock()
        self._idle.append((connection, now))
        if self._waiters:  # one came while we looked
            self._serve()
        self._close_unused(now - self._max_idle)

    def drop(self, connection: C) -> None:
        """Close a connection, and let a waiting call open another one."""
        self._generations.pop(connection, None)
        self._driver.close(connection)
        if self._waiters and (waiter := self._next_waiter()):
            waiter.wake(None)

    def discard_idle(self) -> None:
        """Close all idle connections now, and those in use when they come back: the server may have been replaced."""
        with self._lock:
            self._generation += 1
        self.close_idle()

    def close_idle(self) -> None:
        """Close all idle connections."""
        while (entry := self._pop()) is not None:
            self.drop(entry[0])

    def close(self) -> None:
        """Close all idle connections now, and those in use when they come back."""
        self._closed = True
        self.close_idle()

    def __len__(self) -> int:
        """Return how many connections are open."""
        return len(self._generations)

    # Inside.

    def _settle(self, connection: C, error: Exception) -> Fault:
        """Do with a connection after an error what has to be done, and return what it was."""
        fault = self._driver.fault(error, connection)
        if fault is Fault.NONE:
            self.give_back(connection)
            return fault
        is_first_failure = self._generations.get(connection) == self._generation
        self.drop(connection)
        if is_first_failure:  # else the idle ones are younger than this one
            self.discard_idle()
        return fault

    def _take(self, deadline: float) -> tuple[C, bool]:
        """Return a connection, and whether it was just opened."""
        if not self._waiters and (connection := self._take_idle()) is not None:
            return connection, False
        refusal: Exception | None = None
        while True:
            if self._reserve():
                try:
                    return self._connect(deadline), True
                except Exception as error:
                    if not self._driver.is_full(error):
                        raise
                    refusal = error
            if (connection := self._wait(deadline)) is not None:
                return connection, False
            if self._clock() >= deadline:
                self._serve()  # what woke this call is of use to the next one
                raise refusal or AllBusyError("no connection came free in time")

    def _take_idle(self) -> C | None:
        while (entry := self._pop()) is not None:
            connection, since = entry
            if self._clock() - since < self._max_idle and self._driver.is_alive(connection):
                return connection
            self.drop(connection)
        return None

    def _pop(self) -> tuple[C, float] | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _reserve(self) -> bool:
        """Tell whether this call may open a connection; then it has a slot."""
        with self._lock:
            if len(self._generations) + self._connecting >= self._max_connections or self._clock() < self._full_until:
                return False
            self._connecting += 1
            return True

    def _connect(self, deadline: float) -> C:
        generation = self._generation
        try:
            connection = self._driver.connect(deadline)
            self._generations[connection] = generation
            return connection
        except Exception as error:
            if self._driver.is_full(error):
                self._full_until = self._clock() + _FULL_PAUSE
            raise
        finally:
            with self._lock:
                self._connecting -= 1
            if self._waiters and self._clock() >= self._full_until and (waiter := self._next_waiter()):
                waiter.wake(None)

    def _wait(self, deadline: float) -> C | None:
        """Wait for a connection, or None once it is worth while to try to open one, or the time is over."""
        waiter: _Waiter[C] = _Waiter()
        self._waiters.append(waiter)
        self._serve()
        now = self._clock()
        until = min(deadline, self._full_until) if self._full_until > now else deadline
        try:
            waiter.wait(max(until - now, 0.0))
        except BaseException:  # a gevent.Timeout
            if (connection := self._leave(waiter)) is not None:
                self.give_back(connection)
            raise
        return self._leave(waiter)

    def _leave(self, waiter: _Waiter[C]) -> C | None:
        """Stop waiting, and return the connection that another thread gave in the meantime."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                return None
        waiter.wait(None)  # the thread that took it off the queue is about to wake it
        return waiter.connection

    def _serve(self) -> None:
        """Give what is idle to those who wait, and wake one of them where there is a slot for a new connection."""
        while self._waiters and (connection := self._take_idle()) is not None:
            waiter = self._next_waiter()
            if waiter is None:
                self._idle.append((connection, self._clock()))
                break
            waiter.wake(connection)
        has_room = len(self._generations) + self._connecting < self._max_connections
        if has_room and self._clock() >= self._full_until and (waiter := self._next_waiter()):
            waiter.wake(None)

    def _next_waiter(self) -> _Waiter[C] | None:
        with self._lock:
            return self._waiters.popleft() if self._waiters else None

    def _close_unused(self, before: float) -> None:
        """Close what nobody has used since then; the longest unused is the first one."""
        try:
            while self._idle[0][1] <= before:
                connection, since = self._idle.popleft()
                if since > before:  # another thread took the one we looked at
                    self._idle.appendleft((connection, since))
                    return
                self.drop(connection)
        except IndexError:
            return


class PerProcess(Generic[T]):
    """Open something once per process, at its first use, so that nothing is shared across ``fork``."""

    def __init__(self, opener: Callable[[], T]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._opened: tuple[int, T] | None = None
        _every.add(self)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it while this process was forked

    def __call__(self) -> T:
        """Return this process's own, opening it if need be."""
        opened = self._opened
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        with self._lock:
            opened = self._opened
            if opened is None or opened[0] != os.getpid():
                opened = self._opened = (os.getpid(), self._opener())
            return opened[1]

    def put(self, new: T) -> T | None:
        """Use another one from now on; return the one that this process used, if any (to be closed)."""
        with self._lock:
            opened, self._opened = self._opened, (os.getpid(), new)
        return opened[1] if opened is not None and opened[0] == os.getpid() else None

    def take(self) -> T | None:
        """Return what this process opened, if anything, and forget it (to be closed)."""
        with self._lock:
            opened, self._opened = self._opened, None
        return opened[1] if opened is not None and opened[0] == os.getpid() else None


_every: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for opened in list(_every):
        opened._renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
