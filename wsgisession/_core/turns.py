"""`Turns`: parallel writers of one session take turns once they collided, so that they do not multiply the work."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..stores.base import PerProcess

_LONGEST_WAIT = 2.0  # seconds; then the writer continues without a turn, and nothing is lost
_PAUSE = 0.004  # seconds


class _Waiting:
    __slots__ = ("count", "lock")

    def __init__(self) -> None:
        self.lock, self.count = threading.RLock(), 0


class _Table:
    """The sessions of this process that several writers are writing now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}

    def join(self, handle: str) -> _Waiting:
        with self._lock:
            waiting = self._waiting.setdefault(handle, _Waiting())
            waiting.count += 1
            return waiting

    def leave(self, handle: str, waiting: _Waiting) -> None:
        with self._lock:
            waiting.count -= 1
            if not waiting.count and self._waiting.get(handle) is waiting:
                del self._waiting[handle]


class Turns:
    """Lets the writers of one process that lost a race for a session write one after the other."""

    def __init__(self) -> None:
        self._table = PerProcess(_Table)

    @contextmanager
    def of(self, handle: str) -> Iterator[None]:
        """Wait for a turn to write the session, at most two seconds."""
        table = self._table()
        waiting = table.join(handle)
        try:
            has_turn = waiting.lock.acquire(timeout=_LONGEST_WAIT)
            try:
                yield
            finally:
                if has_turn:
                    waiting.lock.release()
        finally:
            table.leave(handle, waiting)

    @staticmethod
    def pause(tries: int) -> None:
        """Wait a random moment after the second and each later lost race, for writers in other processes."""
        if tries > 1:
            time.sleep(random.uniform(0, _PAUSE * min(tries, 8)))  # noqa: S311 - not for security


__all__ = ["Turns"]
