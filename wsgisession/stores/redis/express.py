"""Sessions in Redis or Valkey as connect-redis keeps them, so that Express reads and writes them too.

A session is one string of JSON under ``{prefix}{ID}``, and its time to live is the key's: the server's clock counts,
where `RedisStore` has the caller's. A record's version is its text: `replace` compares it, so that any writer's change
is noticed. Each user has a sorted set of IDs, as with `RedisStore`; a session that Express wrote comes into it when it
is first read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..base import PAGE, Deleted, Page, Reader, Record, Store, delete_each, page_of, restart_is_due
from .store import RedisStore
from .wire import Script

_MOST_REMEMBERED = 10_000
_REMEMBERED_FOR = 60.0  # seconds: another process may take an ID out whose session Express then brings back
_FOR_EVER = -1  # what PTTL says of a key that no one lets expire: connect-redis with disableTTL

# A value of another type is another program's.
_COMMON = """
local function read(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end
"""

_READ = Script(
    _COMMON
    + """
local value = read(KEYS[1])
return value and {value, redis.call('PTTL', KEYS[1])}
"""
)
# The new value, its seconds to live[, the value it replaces]. Where the server's answer to the first attempt was lost,
# only a creation may be tried again: another writer can have made the same of the value that is to be replaced.
_CREATE = Script(
    _COMMON
    + """
local value = read(KEYS[1])
if value then return value == ARGV[1] and 1 or 0 end
return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'NX') and 1 or 0
"""
)
_REPLACE = Script(
    _COMMON
    + """
local value = read(KEYS[1])
if value ~= ARGV[3] then return 0 end
if redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
return 1
"""
)
# The seconds to live.
_RESTART = Script("""
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return left == -2 and 0 or 1
""")
# The value, or nothing.
_DELETE = Script(
    _COMMON
    + """
local value = read(KEYS[1])
if not value or ARGV[1] and value ~= ARGV[1] then return false end
redis.call('DEL', KEYS[1])
return value
"""
)
# Of a user's set: the time, and until when it holds the ID, in milliseconds; the ID.
_INDEX = Script("""
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local span = ARGV[2] - ARGV[1] + 60000  -- clocks differ
if redis.call('PTTL', KEYS[1]) < span then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', span)) end
""")


class ExpressRedisStore(RedisStore):
    """Keep each record as connect-redis does.

    :param native: whose connections are used.
    :param reader: says what the text of a record does not say to a server.
    """

    def __init__(self, native: Store, reader: Reader) -> None:
        vars(self).update(vars(native))
        self._reader = reader
        # Handles and users: when their sets were told, and until when these hold them.
        self._remembered: dict[tuple[str, str], tuple[float, float]] = {}

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and where that is due restart it with a second command."""
        with self._call():
            record = self._read(handle, now)
            if record is None:
                return None
            self._remember(handle, record, now)
            if restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
                self._evaluate(_RESTART, self._key(handle), _seconds(record.ttl))
                return Record(record.data, record.ttl, record.user_id, record.version, now + record.ttl)
        return record

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where there is none."""
        with self._call():
            return self._put(_CREATE, handle, record, now=now)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where the one that was read still stands."""
        with self._call():
            return self._put(_REPLACE, handle, record, record.version, now=now)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Restart the key's time to live."""
        with self._call():
            return bool(self._evaluate(_RESTART, self._key(handle), _seconds(ttl)))

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a string, or only this one, and take it out of its user's set."""
        with self._call():
            return self._end(handle, version)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read what the user's set names, and take out what is no longer there.

        What is another user's now stays in it for as long as it would: the first may come back.
        """
        with self._call():
            read = [(handle, self._read(handle, now)) for handle in self._named(user_id)]
            gone = [handle for handle, record in read if record is None]
            if gone:
                self._client().execute("ZREM", self._set_of(user_id), *gone)
        mine = [(handle, record) for handle, record in read if record and record.user_id == user_id]
        return page_of(mine, after=after, limit=limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete what the user's set names, one after the other, as it was read."""
        return delete_each(self, user_id, now=now, keep=keep, after=after, limit=limit)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Walk over the keys, and read a page of records at a time."""
        for keys in self._pages():
            handles = [key[len(self._prefix) :].decode("utf-8", "replace") for key in keys]
            with self._call():
                page = [(handle, self._read(handle, now)) for handle in handles]
            yield from ((handle, record) for handle, record in page if record is not None)

    def _read(self, handle: str, now: float) -> Record | None:
        reply = self._evaluate(_READ, self._key(handle))
        if reply is None:
            return None
        data, left = reply
        ttl, user_id = self._reader.glance(data)
        return Record(data, ttl, user_id, data, now + (ttl if left == _FOR_EVER else left / 1000))

    def _put(self, script: Script, handle: str, record: Record, *old: bytes, now: float) -> Record | None:
        is_told = self._remember(handle, record, now)
        arguments = (record.data, _seconds(record.ttl), *old)
        if not self._evaluate(script, self._key(handle), *arguments, repeatable=not old):
            return None
        if is_told and record.user_id is not None:  # and again: who read the set meanwhile took out what was not there
            self._index(handle, record.user_id, now, until=now + 2 * record.ttl)
        return Record(record.data, record.ttl, record.user_id, record.data, now + record.ttl)

    def _end(self, handle: str, version: Any) -> bool:
        value = self._evaluate(_DELETE, self._key(handle), *(() if version is None else (version,)), repeatable=False)
        if value is None:
            return False
        _, user_id = self._reader.glance(value)
        if user_id is not None:
            self._remembered.pop((handle, user_id), None)
            self._client().execute("ZREM", self._set_of(user_id), handle)
        return True

    def _remember(self, handle: str, record: Record, now: float) -> bool:
        """Put the record into its user's set, before it is written, and again before the set would let it go.

        False where that was done a moment ago, or it is nobody's.
        """
        if record.user_id is None:
            return False
        told, until = self._remembered.get((handle, record.user_id), (0.0, 0.0))
        if now < told + _REMEMBERED_FOR and now + record.ttl <= until:
            return False
        self._index(handle, record.user_id, now, until=now + 2 * record.ttl)
        return True

    def _index(self, handle: str, user_id: str, now: float, *, until: float) -> None:
        times = (f"{1000 * now:.0f}", f"{1000 * until:.0f}")
        self._evaluate(_INDEX, self._set_of(user_id), *times, handle)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered = {}
        self._remembered[handle, user_id] = now, until

    def _named(self, user_id: str) -> list[str]:
        handles: list[bytes] = self._client().execute("ZRANGE", self._set_of(user_id), 0, -1)
        return [handle.decode() for handle in handles]

    def _set_of(self, user_id: str) -> bytes:
        return self._sets + user_id.encode("utf-8", "surrogatepass")


def _seconds(ttl: float) -> int:
    return max(math.ceil(ttl), 1)
