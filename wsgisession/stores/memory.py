"""`MemoryStore`: sessions in this process, for development, tests and single-process servers."""

from __future__ import annotations

import bisect
import heapq
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigurationError
from .base import PAGE, Deleted, Page, PerProcess, Record, Store, StoreURL, positive, restart_is_due
from .findings import Finding

_SWEPT_AT_ONCE = 8


class MemoryStore(Store):
    """Sessions in this process: gone when it ends, unseen by any other, at most ``max_sessions`` of them.

    Every new session removes a few expired ones; where there are none and the store is full, it takes the place of the
    least recently used.

    :raises ConfigurationError: where ``max_sessions`` is not positive.
    """

    shared = False

    def __init__(self, max_sessions: int = 100_000) -> None:
        if max_sessions < 1:
            raise ConfigurationError(f"max_sessions must be at least 1, not {max_sessions}")
        self._max_sessions = max_sessions
        self._records: OrderedDict[str, Record] = OrderedDict()  # the least recently used first
        self._logins: dict[str, list[tuple[int, str]]] = {}  # of each user, order and handle, sorted
        # A heap. A record has an entry no later than its expiry, and may have more; a handle may have no record any
        # more. A read that extends a record leaves the heap alone: its entry moves when its time comes.
        self._due: list[tuple[float, str]] = []
        self._versions = itertools.count(1)  # versions
        self._lock = PerProcess(threading.Lock)  # held by another thread at a fork, it would stay so in the child

    def __repr__(self) -> str:
        return f"<MemoryStore of at most {self._max_sessions} sessions>"

    @classmethod
    def from_url(cls, url: StoreURL) -> MemoryStore:
        """Make the store of ``memory://?max_sessions=N``.

        :raises ConfigurationError: for a location, or any other parameter.
        """
        if url.location.strip("/"):
            raise ConfigurationError(
                "a memory store has no location; write memory://, or sqlite:///path/to.db for a file"
            )
        store = cls(url.option("max_sessions", 100_000, positive))
        url.refuse_rest("max_sessions")
        return store

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and restart it if that is due."""
        with self._lock():
            record = self._live(handle, now)
            if record is None:
                return None
            self._records.move_to_end(handle)
            if restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
                record = self._records[handle] = _restarted(record, record.ttl, now)
            return record

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Store a record where there is none."""
        with self._lock():
            if self._live(handle, now) is not None:
                return None
            return self._put(handle, record, now)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the record of this version."""
        with self._lock():
            current = self._live(handle, now)
            if current is None or current.version != record.version:
                return None
            return self._put(handle, record, now)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Restart a record with this ttl."""
        with self._lock():
            record = self._live(handle, now)
            if record is None:
                return False
            self._records.move_to_end(handle)
            self._records[handle] = _restarted(record, ttl, now)
            self._expect(handle, now + ttl, before=record.expires_at)
            return True

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a record."""
        with self._lock():
            record = self._live(handle, now)
            if record is None or version not in (None, record.version):
                return False
            self._remove(handle)
            return True

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Return a page of a user's records."""
        with self._lock():
            positions, more = self._page(user_id, after, limit)
            found = [(handle, self._live(handle, now)) for _, handle in positions]
        records = [(handle, record) for handle, record in found if record is not None]
        return Page(records, positions[-1] if more else None)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete a page of a user's records."""
        with self._lock():
            positions, more = self._page(user_id, after, limit if keep is None else limit + 1)
            handles = [handle for _, handle in positions if handle != keep]
            handles, more = handles[:limit], more or len(handles) > limit
            live = [handle for handle in handles if self._live(handle, now) is not None]
            for handle in live:
                self._remove(handle)
        return Deleted(live, more)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Iterate over what was there when it began and still is."""
        with self._lock():
            handles = list(self._records)
        for handle in handles:
            record = self._records.get(handle)
            if record is not None and record.expires_at > now:
                yield handle, record

    def count(self, *, now: float, expired: bool = False) -> int | None:
        """Count the records; expired ones that are still held count as live."""
        return None if expired else len(self._records)

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Remove expired records, one at a time, so that nobody waits for all of them."""
        removed = 0
        while limit is None or removed < limit:
            with self._lock():
                if not self._due or self._due[0][0] > now:
                    break
                removed += self._sweep_next(now)
        return removed

    def diagnose(self, *, now: float) -> list[Finding]:
        """Say that nobody else sees these sessions."""
        cure = 'take a store that processes share, such as "sqlite:///sessions.db", where there is more than one'
        return [Finding("warning", "memory:// keeps sessions in one process, and this one sees no other's", cure)]

    def close(self) -> None:
        """Do nothing: there are no connections, and the records stay."""

    # The following methods are called with the lock held.

    def _live(self, handle: str, now: float) -> Record | None:
        record = self._records.get(handle)
        if record is not None and record.expires_at <= now:
            self._remove(handle)
            return None
        return record

    def _page(self, user_id: str, after: Any, limit: int) -> tuple[list[tuple[int, str]], bool]:
        """Return order and handle of a user's latest logins before a position, and whether there are earlier ones."""
        logins = self._logins.get(user_id, [])
        end = len(logins) if after is None else bisect.bisect_left(logins, after)
        start = max(end - limit, 0)
        return logins[start:end][::-1], start > 0

    def _put(self, handle: str, record: Record, now: float) -> Record:
        expires_at, version = now + record.ttl, next(self._versions)
        order = 0 if record.user_id is None else record.order or self._next_order(record.user_id)
        stored = Record(record.data, record.ttl, record.user_id, version, expires_at, order)
        old = self._records.get(handle)
        if old is None:
            self._make_room(now)
        elif (old.user_id, old.order) != (record.user_id, order):
            self._forget_login(handle, old)
        # First the index, then the record: a fork in between leaves no record that the index does not know.
        if record.user_id is not None and (old is None or (old.user_id, old.order) != (record.user_id, order)):
            bisect.insort(self._logins.setdefault(record.user_id, []), (order, handle))
        self._records[handle] = stored
        self._records.move_to_end(handle)
        self._expect(handle, expires_at, before=None if old is None else old.expires_at)
        return stored

    def _next_order(self, user_id: str) -> int:
        latest, _ = self._logins[user_id][-1] if user_id in self._logins else (0, "")
        return max(time.time_ns() // 1000, latest + 1)

    def _remove(self, handle: str) -> None:
        self._forget_login(handle, self._records.pop(handle))

    def _forget_login(self, handle: str, record: Record) -> None:
        if record.user_id is None:
            return
        logins, login = self._logins.get(record.user_id, []), (record.order, handle)
        at = bisect.bisect_left(logins, login)
        if logins[at : at + 1] == [login]:
            del logins[at]
        if not logins:
            self._logins.pop(record.user_id, None)

    def _make_room(self, now: float) -> None:
        for _ in range(_SWEPT_AT_ONCE):
            if not self._due or self._due[0][0] > now:
                break
            self._sweep_next(now)
        if len(self._records) >= self._max_sessions:
            self._remove(next(iter(self._records)))

    def _sweep_next(self, now: float) -> int:
        """Take the first entry off the heap; return how many records went with it: one or none."""
        _, handle = heapq.heappop(self._due)
        record = self._records.get(handle)
        if record is None:
            return 0
        if record.expires_at > now:
            heapq.heappush(self._due, (record.expires_at, handle))
            return 0
        self._remove(handle)
        return 1

    def _expect(self, handle: str, expires_at: float, *, before: float | None) -> None:
        """See to it that the heap has an entry for the record in time, and not many that lead nowhere."""
        if before is not None and before <= expires_at:
            return
        heapq.heappush(self._due, (expires_at, handle))
        if len(self._due) > 2 * len(self._records) + 64:
            self._due = [(record.expires_at, handle) for handle, record in self._records.items()]
            heapq.heapify(self._due)


def _restarted(record: Record, ttl: float, now: float) -> Record:
    return Record(record.data, ttl, record.user_id, record.version, now + ttl, record.order)


__all__ = ["MemoryStore"]
