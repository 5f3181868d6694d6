"""Sessions in Redis or Valkey, on one server, behind Sentinels, or in a cluster: `RedisStore`.

Needs Redis 6.2 or later, or any Valkey. A session is one string under ``{prefix}{handle}``, as `layout` describes. Each
user also has a sorted set of handles, under ``sess-user:{user}`` where the prefix is ``sess:``. Whether a record is
live is for its header to say, by the caller's clock; that the server lets keys expire only cleans up.
"""

from __future__ import annotations

import logging
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from time import monotonic
from typing import Any

from ..base import (
    PAGE,
    Deleted,
    Page,
    PerProcess,
    Record,
    Store,
    StoreURL,
    Unconfirmed,
    WriteRefused,
    restart_is_due,
    seconds,
)
from ..findings import Finding
from . import layout
from .clients import client_of
from .clustered import InCluster
from .connection import FAILURES
from .diagnosis import diagnose
from .failures import Call, failure
from .server import Client, NotConfirmedError
from .single import OnOneServer
from .url import RedisURL

logger = logging.getLogger("wsgisession")

_PAGE = 50  # of records up to 1 MiB: what `scan` holds in memory at once
_PAUSE = 1.0  # seconds without a restart after one that the server refused


class RedisStore(Store):
    """Keep each record under its own key, and let the server expire it.

    Every verb is one command and one round trip, but a restart is a second one. In a cluster, where a user's set is on
    another server, a login takes three: the set says the order, then comes the record, and then the set.

    The server must not evict (``noeviction``): what it evicts is gone. If that is a user's set, `find_user` and
    `delete_user` miss the sessions in it, until a read that restarts a session puts it into the set again.

    :param url: with the parameters of the connections: ``max_connections`` (50 for each process; in a cluster, to each
        server), ``max_idle`` (60 seconds), ``ssl`` (for Sentinels and clusters), ``sentinel_username`` and
        ``sentinel_password``, and ``client_name``, ``ssl_ca_certs``, and others by redis-py's names.
    :param prefix: the beginning of each key. A user on the server needs the right to what begins with it, and to
        ``sess-user:*`` where it is ``sess:``, otherwise to the prefix followed by ``#user:*``.
    :param timeout: seconds for a whole call: waiting for a connection, connecting, asking and reading the answer.
        `scan` may take that long for each page. Looking up a name takes the system's own time.
    :param wait: how many replicas must confirm that a session was ended, so that a failover does not bring it back.
    :raises ConfigurationError: for a URL or parameter that cannot be right.
    """

    def __init__(self, url: str, *, prefix: str = "sess:", timeout: float = 2.0, wait: int = 0) -> None:
        parsed = RedisURL.of(StoreURL(url))
        self._server = parsed.shown
        self._timeout, self._wait = timeout, wait
        self._prefix = prefix.encode()
        self._sets = (f"{prefix[:-1]}-user:" if prefix.endswith(":") else f"{prefix}#user:").encode()
        self._is_cluster = parsed.is_cluster
        self._client: PerProcess[Client] = PerProcess(client_of(parsed))
        kind = InCluster if parsed.is_cluster else OnOneServer
        self._records: OnOneServer | InCluster = kind(self._client, self._prefix, self._sets, replicas=wait)
        self._no_restart_before = 0.0
        self._has_refused = False

    @classmethod
    def from_url(cls, url: StoreURL) -> RedisStore:
        """Make the store of a URL; parameters that are not its own are those of the connections."""
        own: dict[str, Any] = {
            "prefix": url.option("prefix", "sess:", str),
            "timeout": url.option("timeout", 2.0, seconds),
            "wait": url.option("wait", 0, _replicas),
        }
        return cls(url.driver_url(), **own)

    def __repr__(self) -> str:
        return f"<RedisStore {self._server} prefix={self._prefix.decode()!r}>"

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record with one command, and where that is due restart it with a second one."""
        deadline = monotonic() + self._timeout
        key = self._prefix + handle.encode()
        try:
            (value,) = self._client().execute(("MGET", key), deadline, key=key)  # None if it is not a string
        except FAILURES as error:
            raise failure(self._server, error, seconds=self._timeout) from error
        record = layout.live(value, layout.milliseconds(now))
        if record is None or not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
            return record
        return self._restarted(handle, record, now, deadline)

    def _restarted(self, handle: str, record: Record, now: float, deadline: float) -> Record | None:
        """Restart a record that was read, unless the server refuses to write at the time."""
        if monotonic() < self._no_restart_before:
            return record
        try:
            with self._call(deadline):
                ttl = self._restart(handle, record, now, deadline)
        except WriteRefused as error:
            self._note_refusal(error)
            return record
        self._has_refused = False
        if ttl is None:
            return None
        expires_at = min(layout.milliseconds(now) + round(ttl * 1000), layout.LAST) / 1000
        return Record(record.data, ttl, record.user_id, record.version, expires_at, record.order)

    def _restart(self, handle: str, record: Record, now: float, deadline: float) -> float | None:
        ttl = self._records.restart(handle, layout.milliseconds(now), b"", deadline)
        return None if ttl is None else ttl / 1000

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where there is none, or an expired record."""
        time = layout.milliseconds(now)
        new = _new(record, time)
        with self._call() as deadline:
            order = self._records.create(handle, new, time, deadline)
        return _ordered(new, order)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Set a string where the header still has the version."""
        time = layout.milliseconds(now)
        new = _new(record, time)
        with self._call() as deadline:
            order = self._records.replace(handle, new, str(record.version), time, deadline)
        return _ordered(new, order)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Rewrite the header of a live record."""
        with self._call() as deadline:
            given = b"%d" % layout.span(ttl)
            return self._records.restart(handle, layout.milliseconds(now), given, deadline) is not None

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live record, or only one of this version, and take it out of its user's set."""
        with self._call() as deadline:
            try:
                return self._delete(handle, now, version, deadline)
            except NotConfirmedError as error:
                raise self._unconfirmed(error, [handle]) from error

    def _delete(self, handle: str, now: float, version: Any, deadline: float) -> bool:
        wanted = "" if version is None else str(version)
        return self._records.delete(handle, layout.milliseconds(now), wanted, deadline)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a page of what the user's set contains, and take out what is no longer there."""
        with self._call() as deadline:
            return self._find(user_id, now, after, limit, deadline)

    def _find(self, user_id: str, now: float, after: Any, limit: int, deadline: float) -> Page:
        return self._records.find_user(layout.text(user_id), layout.milliseconds(now), after, limit, deadline)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete some of what the user's set contains, in one step; in a cluster one after the other."""
        user, time = layout.text(user_id), layout.milliseconds(now)
        with self._call() as deadline:
            try:
                return self._records.delete_user(user, time, keep or "", after, limit, deadline)
            except NotConfirmedError as error:
                handles, more = error.reply
                raise self._unconfirmed(error, handles, more=more) from error

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Walk over the keys, and read a page of records at a time.

        A record may come twice where the server moves its table in the meantime.
        """
        for keys in self._pages():
            with self._call() as deadline:
                values = self._records.values(keys, deadline)
            for key, value in zip(keys, values, strict=True):
                if record := layout.live(value, layout.milliseconds(now)):
                    yield key[len(self._prefix) :].decode(), record

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Return 0: the server deletes expired records."""
        return 0

    def close(self) -> None:
        """Close the connections of this process."""
        if client := self._client.take():
            client.close()

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look at each master: its role, memory and clock, and whether the sessions are in another database."""
        with self._call() as deadline:
            client = self._client()
            return [
                each
                for master in client.masters(deadline)
                for each in diagnose(
                    lambda *command, master=master: client.ask(master, command, deadline),
                    pattern=self._pattern,
                    now=now,
                )
            ]

    def _call(self, deadline: float | None = None) -> Call:
        return Call(self._server, self._timeout, deadline)

    def _note_refusal(self, error: WriteRefused) -> None:
        self._no_restart_before = monotonic() + _PAUSE
        if not self._has_refused:
            self._has_refused = True
            logger.warning("the idle timeout of sessions is not restarted, until the server writes again: %s", error)

    def _unconfirmed(self, error: NotConfirmedError, handles: list[str], *, more: bool = False) -> Unconfirmed:
        fact = f"{self._server} has ended the session, but {error.confirmed} of {self._wait} replicas have confirmed it"
        cure = f"within {self._timeout:g} s: see whether they run, and lower the store's wait if there are not so many"
        return Unconfirmed(f"{fact} {cure}", handles, more=more)

    def _pages(self) -> Iterator[list[bytes]]:
        with self._call() as deadline:
            masters = self._client().masters(deadline)
        for master in masters:
            cursor: int | None = None
            while cursor != 0:
                with self._call() as deadline:
                    command = ("SCAN", cursor or 0, "MATCH", self._pattern, "COUNT", 500)
                    reply, keys = self._client().ask(master, command, deadline)
                cursor, unique = int(reply), list(dict.fromkeys(keys))
                yield from (unique[first : first + _PAGE] for first in range(0, len(unique), _PAGE))

    @property
    def _pattern(self) -> bytes:
        return re.sub(rb"([*?\[\]\\])", rb"\\\1", self._prefix) + b"*"


def _new(record: Record, time: int) -> Record:
    """Return a record as it will be stored: with a version, an expiry, and an order that can be kept."""
    expires = min(time + layout.span(record.ttl), layout.LAST)
    version, order = b64encode(os.urandom(6), b"-_").decode(), layout.order_of(record)
    return Record(record.data, record.ttl, record.user_id, version, expires / 1000, order)


def _ordered(new: Record, order: int | None) -> Record | None:
    if order is None or order == new.order:
        return None if order is None else new
    return Record(new.data, new.ttl, new.user_id, new.version, new.expires_at, order)


def _replicas(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("give a number of replicas, or 0")
    return value
