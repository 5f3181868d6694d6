"""Sessions in Redis or Valkey as connect-redis keeps them, so that Express reads and writes them too.

A session is one string of JSON under ``{prefix}{ID}``, and its time to live is the key's: the server's clock counts,
where `RedisStore` has the caller's. A record's version is its text: `replace` compares it, so that any writer's change
is detected. Each user has a sorted set of IDs, as with `RedisStore`, whose scores are the order in which the IDs came
into it. A session that Express wrote comes into it when it is written or restarted here; `delete_user` finds the others
by looking at every session.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

from ..base import PAGE, Deleted, Page, Reader, Record, Store, restart_is_due
from . import layout
from .clustered import members_of, until_of
from .scripts import EXPRESS_ADD, EXPRESS_CREATE, EXPRESS_DELETE, EXPRESS_REPLACE, EXPRESS_RESTART, EXPRESS_SEARCH
from .server import NotConfirmedError
from .store import RedisStore

_FOR_EVER = -1  # what PTTL says of a key that no one lets expire: connect-redis with disableTTL
_ABSENT = -2
_AT_ONCE = 100  # records that one round trip reads
_LOOKED_AT = 500  # keys that one step of a search looks at
_FORGOTTEN_AFTER = 30.0  # seconds after which an abandoned search begins anew


class ExpressRedisStore(RedisStore):
    """Keep each record as connect-redis does.

    :param native: whose connections are used.
    :param reader: says what the text of a record does not say to a server.
    """

    def __init__(self, native: Store, reader: Reader) -> None:
        vars(self).update(vars(native))
        self._reader = reader
        self._searches: dict[tuple[int, str], _Search] = {}

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record in one round trip, and where that is due restart it with a second one."""
        with self._call() as deadline:
            (record,) = self._read([handle.encode()], now, deadline)
        if record is None or not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
            return record
        return self._restarted(handle, record, now, deadline)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where there is none."""
        with self._call() as deadline:
            return self._put(EXPRESS_CREATE, handle, record, b"", now, deadline)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where the one that was read is still stored."""
        with self._call() as deadline:
            return self._put(EXPRESS_REPLACE, handle, record, record.version, now, deadline)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Restart the key's time to live."""
        key = self._prefix + handle.encode()
        with self._call() as deadline:
            return bool(self._client().evaluate(EXPRESS_RESTART, key, (0, b"", handle, _seconds(ttl)), deadline))

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Walk over the keys, and read a page of records at a time."""
        for keys in self._pages():
            handles = [key[len(self._prefix) :] for key in keys]
            with self._call() as deadline:
                page = self._read(handles, now, deadline)
            pairs = zip(handles, page, strict=True)
            yield from ((handle.decode("utf-8", "replace"), record) for handle, record in pairs if record is not None)

    # `RedisStore` does this with scripts that know its layout.

    def _restart(self, handle: str, record: Record, now: float, deadline: float) -> float | None:
        here, elsewhere = self._set(record)
        arguments = (layout.milliseconds(now), here, handle, _seconds(record.ttl))
        key = self._prefix + handle.encode()
        if not self._client().evaluate(EXPRESS_RESTART, key, arguments, deadline):
            return None
        self._add(elsewhere, handle, record, now, deadline)
        return record.ttl

    def _delete(self, handle: str, now: float, version: Any, deadline: float) -> bool:
        return self._end(handle, b"" if version is None else version, deadline)

    def _find(self, user_id: str, now: float, after: Any, limit: int, deadline: float) -> Page:
        set_, until = self._sets + layout.text(user_id), until_of(deadline)
        members = members_of(self._client(), set_, after, limit + 1, deadline)
        found: list[tuple[str, Record]] = []
        seen = 0
        while seen < min(len(members), limit) and (seen == 0 or monotonic() < until):
            chunk = members[seen : min(seen + _AT_ONCE, limit)]
            records = self._read([handle for handle, _ in chunk], now, deadline)
            for (handle, score), record in zip(chunk, records, strict=True):
                if record is not None and record.user_id == user_id:
                    found.append((handle.decode(), _with_order(record, score)))
            self._clean(
                set_, [handle for (handle, _), record in zip(chunk, records, strict=True) if not record], deadline
            )
            seen += len(chunk)
        return Page(found, members[seen - 1][::-1] if seen < len(members) else None)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete some of what the user's set contains; when it is empty, look for sessions that Express wrote."""
        with self._call() as deadline:
            try:
                step = self._delete_indexed(user_id, now, keep or "", after, limit, deadline)
                if after is not None or step.handles or step.more:
                    return step if after is not None else Deleted(step.handles, more=True)
                return self._delete_unknown(user_id, now, keep or "", deadline)
            except NotConfirmedError as error:
                raise self._unconfirmed(error, error.reply.handles, more=error.reply.more) from error

    def _delete_indexed(self, user_id: str, now: float, keep: str, after: Any, limit: int, deadline: float) -> Deleted:
        set_, until, kept = self._sets + layout.text(user_id), until_of(deadline), keep.encode()
        members = members_of(self._client(), set_, after, limit + 1, deadline)
        handles = [handle for handle, _ in members if handle != kept][:limit]
        deleted = _Deleting(self, user_id, set_, deadline)
        for first in range(0, len(handles), _AT_ONCE):
            if first and monotonic() > until:
                break
            chunk = handles[first : first + _AT_ONCE]
            deleted.delete(chunk, self._read(chunk, now, deadline))
            if deleted.is_unconfirmed:
                break
        rest = members_of(self._client(), set_, after, 2, deadline)
        return deleted.result(more=any(handle != kept for handle, _ in rest))

    def _delete_unknown(self, user_id: str, now: float, keep: str, deadline: float) -> Deleted:
        """Continue the search for sessions that are in no set, and delete those of the user."""
        search = self._search_of(user_id, deadline)
        until, deleted = until_of(deadline), _Deleting(self, user_id, self._sets + layout.text(user_id), deadline)
        while search.masters and (handles := search.step(self, deadline)) is not None:
            wanted = [handle for handle in handles if handle != keep.encode()]
            deleted.delete(wanted, self._read(wanted, now, deadline))
            if monotonic() > until or deleted.handles:
                break
        if not search.masters:
            self._searches.pop((threading.get_ident(), user_id), None)
        return deleted.result(more=bool(search.masters))

    def _search_of(self, user_id: str, deadline: float) -> _Search:
        """Return the search that this thread is at, or begin one."""
        now, name = monotonic(), (threading.get_ident(), user_id)
        self._searches = {key: each for key, each in self._searches.items() if now < each.used_at + _FORGOTTEN_AFTER}
        if name not in self._searches:
            needle = json.dumps(user_id, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
            self._searches[name] = _Search(needle, self._client().masters(deadline))
        search = self._searches[name]
        search.used_at = now
        return search

    # Records and sets.

    def _read(self, handles: list[bytes], now: float, deadline: float) -> list[Record | None]:
        keys = [self._prefix + handle for handle in handles]
        commands = [(key, command) for key in keys for command in (("MGET", key), ("PTTL", key))]
        replies = self._client().execute_many(commands, deadline)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return [self._record(value, left, now) for (value,), left in pairs]

    def _record(self, data: bytes | None, left: int, now: float) -> Record | None:
        if data is None or left == _ABSENT:
            return None
        ttl, user_id = self._reader.glance(data)
        return Record(data, ttl, user_id, data, now + (ttl if left == _FOR_EVER else left / 1000))

    def _put(self, script: Any, handle: str, record: Record, old: bytes, now: float, deadline: float) -> Record | None:
        here, elsewhere = self._set(record)
        arguments = (layout.milliseconds(now), here, handle, _seconds(record.ttl), record.data, old, self._prefix)
        # Another writer can have made the same of the value that is to be replaced.
        done = self._client().evaluate(script, self._prefix + handle.encode(), arguments, deadline, repeat=not old)
        if not done:
            return None
        self._add(elsewhere, handle, record, now, deadline)
        return Record(record.data, record.ttl, record.user_id, record.data, now + record.ttl)

    def _end(self, handle: str, version: bytes, deadline: float) -> bool:
        value = self._end_value(handle.encode(), version, deadline)
        if value is None:
            return False
        _, user_id = self._reader.glance(value)
        if user_id is not None:
            self._clean(self._sets + layout.text(user_id), [handle.encode()], deadline)
        return True

    def _end_value(self, handle: bytes, version: bytes, deadline: float) -> bytes | None:
        """Delete a record, or only this one, and return its text."""
        key, arguments = self._prefix + handle, (version,)
        value: bytes | None = self._client().evaluate(
            EXPRESS_DELETE, key, arguments, deadline, repeat=False, replicas=self._wait
        )
        return value

    def _set(self, record: Record) -> tuple[bytes, bytes]:
        """Return the set of a record's user, for a script on the record's server, and for one on its own."""
        name = b"" if record.user_id is None else self._sets + layout.text(record.user_id)
        return (b"", name) if self._is_cluster else (name, b"")

    def _add(self, set_: bytes, handle: str, record: Record, now: float, deadline: float) -> None:
        if set_:
            arguments = (layout.milliseconds(now), handle, _seconds(record.ttl))
            self._client().evaluate(EXPRESS_ADD, set_, arguments, deadline)

    def _clean(self, set_: bytes, gone: list[bytes], deadline: float) -> None:
        if gone:
            self._client().execute(("ZREM", set_, *gone), deadline, key=set_)


class _Deleting:
    """One step of deleting a user's sessions, each as it was read."""

    def __init__(self, store: ExpressRedisStore, user_id: str, set_: bytes, deadline: float) -> None:
        self._store, self._user_id, self._set, self._deadline = store, user_id, set_, deadline
        self.handles: list[str] = []
        self._lost: NotConfirmedError | None = None
        self._left = False

    def delete(self, handles: list[bytes], records: list[Record | None]) -> None:
        """Delete those of the user; what is not there, or another user's, leaves the set."""
        pairs = list(zip(handles, records, strict=True))
        mine = [(handle, record) for handle, record in pairs if record is not None and record.user_id == self._user_id]
        gone = set(handles) - {handle for handle, _ in mine}
        for (handle, _), value in zip(mine, self._end(mine), strict=False):  # it stops where replicas do not confirm
            if value is None:
                self._left = True  # it has been written in the meantime
            else:
                gone.add(handle)
                self.handles.append(handle.decode())
        self._store._clean(self._set, list(gone), self._deadline)

    def _end(self, records: list[tuple[bytes, Record]]) -> list[bytes | None]:
        """Delete records as they were read; return what each was, or None if it is another one by now.

        Up to one that replicas have not confirmed: to wait for them takes the time of the call.
        """
        store, client = self._store, self._store._client()
        if not store._wait:
            calls = [(store._prefix + handle, (record.version,)) for handle, record in records]
            return client.evaluate_many(EXPRESS_DELETE, calls, self._deadline)
        values = []
        for handle, record in records:
            try:
                values.append(store._end_value(handle, record.version, self._deadline))
            except NotConfirmedError as error:
                self._lost = error
                return [*values, error.reply]
        return values

    @property
    def is_unconfirmed(self) -> bool:
        """Whether replicas have not confirmed a deletion, so that the time of the call is over."""
        return self._lost is not None

    def result(self, *, more: bool) -> Deleted:
        """Return what was done, unless too few replicas have confirmed it."""
        step = Deleted(self.handles, more or self._left)
        if self._lost is not None:
            raise NotConfirmedError(self._lost.confirmed, step) from self._lost
        return step


class _Search:
    """A walk over all sessions, to find those that mention a user."""

    def __init__(self, needle: bytes, masters: list[Any]) -> None:
        self._needle, self.masters, self._cursor = needle, masters, 0
        self.used_at = monotonic()

    def step(self, store: ExpressRedisStore, deadline: float) -> list[bytes]:
        """Look at some keys, and return the handles of those that may be the user's."""
        master, client = self.masters[0], store._client()
        if store._is_cluster:
            command = ("SCAN", self._cursor, "MATCH", store._pattern, "COUNT", _LOOKED_AT)
            cursor, keys = client.ask(master, command, deadline)
        else:
            arguments = (self._cursor, store._pattern, _LOOKED_AT, self._needle)
            cursor, keys = client.evaluate(EXPRESS_SEARCH, store._prefix, arguments, deadline)
        self._cursor = int(cursor)
        if self._cursor == 0:
            self.masters = self.masters[1:]
        return [key[len(store._prefix) :] for key in keys]


def _with_order(record: Record, score: bytes) -> Record:
    return Record(record.data, record.ttl, record.user_id, record.version, record.expires_at, int(float(score)))


def _seconds(ttl: float) -> int:
    return max(math.ceil(ttl), 1)
