"""Sessions in Redis or Valkey, on one server, behind Sentinels, or in a cluster: `RedisStore`.

Needs Redis 6.2 or later, or any Valkey, and redis-py with hiredis; how the servers are reached is in `redis_wire`.

A session is one string under ``{prefix}{handle}``: a header in ASCII, then the data. Each user has a sorted set of
handles besides, under ``sess-user:{user}`` where the prefix is ``sess:``. Whether a record is live is for its header to
say, by the caller's clock; that the server lets keys expire only cleans up.

=========== ============================================================================================
``S1``      the mark of this layout; a value without it is another program's, and is left alone
13 digits   when the record expires, in milliseconds since the epoch
8 letters   its version, random, so that a later record under the same handle has another
digits;     its ttl in milliseconds
digits;     the length of the user's name in bytes; nothing for nobody's
13 digits   with a user: until when the user's set holds the handle, which is never before the record expires
the user    of that length
=========== ============================================================================================
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..base import (
    PAGE,
    Deleted,
    Page,
    PerProcess,
    Record,
    Store,
    StoreURL,
    delete_each,
    page_of,
    restart_is_due,
    seconds,
)
from ..findings import Finding
from .diagnosis import diagnose
from .scripts import CREATE, DELETE, DELETE_USER, FIND_USER, INDEX, REPLACE, RESTART
from .url import RedisURL
from .wire import Call, Script, client_of

_PAGE = 50  # of records up to 1 MiB: what `scan` holds in memory at once
_DIGITS = b"%013d"  # of a time in milliseconds
_LAST = 10**13 - 1  # the year 2286
_HEADER = re.compile(rb"S1(\d{13})([\w-]{8})(\d+);(\d*);")


class RedisStore(Store):
    """Keep each record under a key of its own, and let the server expire it.

    Every verb is one command and one round trip, but in a cluster, where a user's set is on another server: the set is
    written first and the record then, so that no failure leaves a live record out. `scan` is many commands.

    The server may be told to evict (``volatile-ttl`` is best), but what it evicts is gone: a session, or a user's set,
    and with that the sessions in it from `find_user` and `delete_user`.

    :param url: with the parameters of the connections: ``max_connections`` (50 for each process), ``ssl`` (for
        Sentinels and clusters), ``sentinel_username`` and ``sentinel_password``, and some of redis-py's own, such as
        ``client_name`` and ``ssl_ca_certs``.
    :param prefix: stands before each handle. A user on the server needs the right to what begins with it, and to
        ``sess-user:*`` where it is ``sess:``, otherwise to the prefix followed by ``#user:*``.
    :param timeout: seconds for a whole call: waiting for a connection, connecting, asking and reading the answer.
        `scan` may take that long for each page. Looking up a name takes the system's own time.
    :raises ConfigurationError: for a URL or parameter that cannot be right.
    """

    def __init__(self, url: str, *, prefix: str = "sess:", timeout: float = 2.0) -> None:
        parsed = RedisURL.of(StoreURL(url))
        self._server = parsed.shown
        self._timeout = timeout
        self._prefix = prefix.encode()
        self._sets = (f"{prefix[:-1]}-user:" if prefix.endswith(":") else f"{prefix}#user:").encode()
        self._is_cluster = parsed.is_cluster
        self._sets_in_reach = b"" if self._is_cluster else self._sets  # of a script that runs where the session is
        self._client = PerProcess(client_of(parsed))

    @classmethod
    def from_url(cls, url: StoreURL) -> RedisStore:
        """Make the store of a URL; parameters that are not its own are those of the connections."""
        prefix = url.option("prefix", "sess:", str)
        timeout = url.option("timeout", 2.0, seconds)
        return cls(url.driver_url(), prefix=prefix, timeout=timeout)

    def __repr__(self) -> str:
        return f"<RedisStore {self._server} prefix={self._prefix.decode()!r}>"

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and where that is due restart it with a second command."""
        time = _time(now)
        with self._call():
            (value,) = self._client().execute("MGET", self._key(handle))  # None where it is no string
            record = _live_record(value, time)
            if record is None or not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
                return record
            reply = self._restart(handle, time)
        if isinstance(reply, list):
            return _record(reply[0])
        return None if reply is None else _record(reply, restarted=time)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where there is none, or an expired record."""
        with self._call():
            return self._write(CREATE, handle, record, now=now)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where the header still has the version."""
        with self._call():
            return self._write(REPLACE, handle, record, str(record.version), now=now)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Rewrite the header of a live record."""
        with self._call():
            return self._restart(handle, _time(now), ttl=b"%d" % _milliseconds(ttl)) is not None

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live record, or only one of this version, and take it out of its user's set."""
        with self._call():
            owner = self._delete(handle, _time(now), version="" if version is None else str(version))
            if owner and self._is_cluster:
                self._client().execute("ZREM", self._sets + owner[1:], handle)
            return owner is not None

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read what the user's set names, and take out what is no longer there."""
        user, time = _text(user_id), _time(now)
        with self._call():
            if self._is_cluster:
                handles = self._indexed(user, time)
                values = self._client().get_many([self._prefix + handle for handle in handles])
            else:
                found = self._evaluate(FIND_USER, self._sets + user, _DIGITS % time, self._prefix, user)
                handles, values = found[::2], found[1::2]
        found = _live_records(handles, values, time)
        return page_of([pair for pair in found if pair[1].user_id == user_id], after=after, limit=limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete what the user's set names, in one step; in a cluster one after the other."""
        if after is not None:
            return delete_each(self, user_id, now=now, keep=keep, after=after, limit=limit)
        user, time = _text(user_id), _time(now)
        with self._call():
            if self._is_cluster:
                return Deleted(self._delete_each(user, time, keep=keep))
            arguments = (_DIGITS % time, self._prefix, user, keep or "")
            handles = self._evaluate(DELETE_USER, self._sets + user, *arguments, repeatable=False)
        return Deleted([handle.decode() for handle in handles])

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Walk over the keys, and read a page of records at a time.

        A record may come twice where the server moves its table meanwhile.
        """
        for keys in self._pages():
            with self._call():
                values = self._client().get_many(keys)
            yield from _live_records([key[len(self._prefix) :] for key in keys], values, _time(now))

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Return 0: the server expires by itself."""
        return 0

    def close(self) -> None:
        """Close the connections of this process."""
        if client := self._client.take():
            client.close()

    def _call(self) -> Call:
        return Call(self._server, self._timeout)

    def _key(self, handle: str) -> bytes:
        return self._prefix + handle.encode()

    def _evaluate(self, script: Script, key: bytes, *arguments: Any, repeatable: bool = True) -> Any:
        return self._client().evaluate(script, key, *arguments, repeatable=repeatable)

    def _write(self, script: Script, handle: str, record: Record, *arguments: str, now: float) -> Record | None:
        version, time, ttl = secrets.token_urlsafe(6), _time(now), _milliseconds(record.ttl)
        expires, user = min(time + ttl, _LAST), () if record.user_id is None else (_text(record.user_id),)
        if user and self._is_cluster:
            self._evaluate(INDEX, self._sets + user[0], _DIGITS % time, handle, ttl)
        value = _packed(record, version, expires=expires)
        common = (_DIGITS % time, self._sets_in_reach, handle, value, ttl)
        if not self._evaluate(script, self._key(handle), *common, *arguments, *user):
            return None
        return Record(record.data, record.ttl, record.user_id, version, expires / 1000)

    def _restart(self, handle: str, time: int, *, ttl: bytes = b"") -> bytes | list[bytes] | None:
        """Return the value as it was, alone in a list where it stays so; empty in place of it where a ttl is given."""
        key, arguments = self._key(handle), (_DIGITS % time, self._sets_in_reach, handle, ttl)
        reply: bytes | list[bytes] | None = self._evaluate(RESTART, key, *arguments, b"")
        if isinstance(reply, list) and len(reply) > 1:
            _, holder, ttl_of_set = reply
            self._evaluate(INDEX, self._sets + holder[1:], _DIGITS % time, handle, ttl_of_set)
            reply = self._evaluate(RESTART, key, *arguments, holder)
        return reply

    def _delete(self, handle: str, time: int, *, version: str = "", holder: bytes = b"") -> bytes | None:
        """Return whose record it was, empty for nobody's; None where there was none."""
        arguments = (_DIGITS % time, self._sets_in_reach, handle, version, holder)
        owner: bytes | None = self._evaluate(DELETE, self._key(handle), *arguments, repeatable=False)
        return owner

    def _indexed(self, user: bytes, time: int) -> list[bytes]:
        handles: list[bytes] = self._client().execute("ZRANGEBYSCORE", self._sets + user, f"({time}", "+inf")
        return handles

    def _delete_each(self, user: bytes, time: int, *, keep: str | None) -> list[str]:
        deleted = []
        for handle in (found.decode() for found in self._indexed(user, time)):
            if handle != keep and self._delete(handle, time, holder=b"=" + user) is not None:
                self._client().execute("ZREM", self._sets + user, handle)
                deleted.append(handle)
        return deleted

    def _pages(self) -> Iterator[list[bytes]]:
        pattern = self._pattern
        with self._call():
            masters = self._client().masters()
        for master in masters:
            cursor: int | None = None
            while cursor != 0:
                with self._call():
                    cursor, keys = self._client().scan(master, cursor or 0, pattern=pattern)
                unique = list(dict.fromkeys(keys))
                yield from (unique[first : first + _PAGE] for first in range(0, len(unique), _PAGE))

    @property
    def _pattern(self) -> bytes:
        return re.sub(rb"([*?\[\]\\])", rb"\\\1", self._prefix) + b"*"

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look at each master: its role, memory and clock, and whether the sessions are in another database."""
        with self._call():
            client = self._client()
            masters = [partial(client.ask, master) for master in client.masters()]
            return [each for ask in masters for each in diagnose(ask, pattern=self._pattern, now=now)]


def _time(now: float) -> int:
    time = round(now * 1000)
    return time if 0 <= time <= _LAST else min(max(time, 0), _LAST)


def _milliseconds(ttl: float) -> int:
    return max(round(ttl * 1000), 1)


def _text(user_id: str) -> bytes:
    return user_id.encode("utf-8", "surrogatepass")


def _packed(record: Record, version: str, *, expires: int) -> bytes:
    ttl = _milliseconds(record.ttl)
    head = b"S1%013d%b%d;" % (expires, version.encode(), ttl)
    if record.user_id is None:
        return b"%b;%b" % (head, record.data)
    user, indexed = _text(record.user_id), min(expires + ttl, _LAST)
    return b"%b%d;%013d%b%b" % (head, len(user), indexed, user, record.data)


def _record(value: bytes, *, restarted: int | None = None) -> Record | None:
    """Return what a value holds, as a restart at that time leaves it; None where it is not ours."""
    header = _HEADER.match(value)
    if header is None:
        return None
    expires, version, digits, size = header.groups()
    start, user, ttl = header.end(), None, int(digits)
    if size:
        end = start + 13 + int(size)
        user, start = value[start + 13 : end].decode("utf-8", "surrogatepass"), end
    expires = int(expires) if restarted is None else min(restarted + ttl, _LAST)
    return Record(value[start:], ttl / 1000, user, version.decode(), expires / 1000)


def _live_record(value: bytes | None, time: int) -> Record | None:
    record = None if value is None else _record(value)
    return record if record is not None and round(record.expires_at * 1000) > time else None


def _live_records(handles: list[bytes], values: list[bytes | None], time: int) -> Iterator[tuple[str, Record]]:
    for handle, value in zip(handles, values, strict=True):
        if record := _live_record(value, time):
            yield handle.decode(), record
