"""Records on one server: each verb is one script, which takes care of the user's set too."""

from __future__ import annotations

from typing import Any

from ..base import Deleted, Page, Record
from ..pool import PerProcess
from . import layout
from .scripts import CREATE, DELETE, DELETE_USER, FIND_USER, REPLACE, RESTART
from .server import Client, NotConfirmedError

_DIGITS = b"%013d"  # of a time in milliseconds
# The most that one script does, because the server answers no other client in the meantime.
_MOST = 250
_BYTES = 1_000_000


class OnOneServer:
    """What `RedisStore` does where records and sets are on the same server.

    :param replicas: how many must confirm a deletion.
    """

    def __init__(self, client: PerProcess[Client], prefix: bytes, sets: bytes, *, replicas: int) -> None:
        self._client, self._prefix, self._sets, self._replicas = client, prefix, sets, replicas

    def create(self, handle: str, new: Record, time: int, deadline: float) -> int | None:
        """Store a record, and return its order; None where there is a live one."""
        arguments = (_DIGITS % time, self._sets, handle, layout.packed(new))
        order: int | None = self._evaluate(CREATE, self._prefix + handle.encode(), arguments, deadline)
        return order

    def replace(self, handle: str, new: Record, old: str, time: int, deadline: float) -> int | None:
        """Replace a record of this version, and return the order of the new one; None where there is none."""
        arguments = (_DIGITS % time, self._sets, handle, layout.packed(new), old)
        reply = self._evaluate(REPLACE, self._prefix + handle.encode(), arguments, deadline)
        return None if reply is None else int(reply[0])

    def restart(self, handle: str, time: int, ttl: bytes, deadline: float) -> int | None:
        """Restart a record with this ttl, or its own; return it, or None where there is no record."""
        arguments = (_DIGITS % time, self._sets, handle, ttl)
        reply = self._evaluate(RESTART, self._prefix + handle.encode(), arguments, deadline)
        return None if reply is None else int(reply[1])

    def delete(self, handle: str, time: int, version: str, deadline: float) -> bool:
        """Delete a record, or only one of this version."""
        arguments = (_DIGITS % time, self._sets, handle, version, b"")
        key = self._prefix + handle.encode()
        reply = self._client().evaluate(DELETE, key, arguments, deadline, repeat=False, replicas=self._replicas)
        return reply is not None

    def find_user(self, user: bytes, time: int, after: Any, limit: int, deadline: float) -> Page:
        """Return a page of a user's records."""
        score, handle = after or (b"", b"")
        arguments = (_DIGITS % time, self._prefix, user, score, handle, min(limit, _MOST), _BYTES)
        found, position = self._evaluate(FIND_USER, self._sets + user, arguments, deadline)
        pairs = zip(found[::2], found[1::2], strict=True)
        records = [(name.decode(), record) for name, value in pairs if (record := layout.unpacked(value))]
        return Page(records, tuple(position) or None)

    def delete_user(self, user: bytes, time: int, keep: str, after: Any, limit: int, deadline: float) -> Deleted:
        """Delete some of a user's records."""
        score, handle = after or (b"", b"")
        arguments = (_DIGITS % time, self._prefix, user, score, handle, min(limit, _MOST), keep)
        key = self._sets + user
        try:
            reply = self._client().evaluate(DELETE_USER, key, arguments, deadline, replicas=self._replicas)
        except NotConfirmedError as error:
            error.reply = _deleted(error.reply)
            raise
        return _deleted(reply)

    def values(self, keys: list[bytes], deadline: float) -> list[bytes | None]:
        """Return the values of keys; None where there is none, or no string."""
        values: list[bytes | None] = self._client().execute(("MGET", *keys), deadline) if keys else []
        return values

    def _evaluate(self, script: Any, key: bytes, arguments: tuple[Any, ...], deadline: float) -> Any:
        return self._client().evaluate(script, key, arguments, deadline)


def _deleted(reply: Any) -> Deleted:
    handles, more = reply
    return Deleted([handle.decode() for handle in handles], bool(more))
