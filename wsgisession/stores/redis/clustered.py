"""Records in a cluster, where a user's set is on another server than the records that it contains.

A new record's handle comes into the set after the record, before anyone gets its ID and before the old ID's record
is deleted. So a walk over a set until it is empty has met every session, and what a set contains without a
record has ended, and leaves it. A crash in between leaves a record whose ID nobody knows.

A record that goes over to another user comes into that user's set before and after, with another score: what
another request read in the meantime, and takes out, is only the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

from ..base import Deleted, Page, Record
from ..pool import PerProcess
from . import layout
from .scripts import ADD, CREATE, DELETE, ORDER, PAGE_OF_SET, REMOVE, REPLACE, RESTART
from .server import Client, NotConfirmedError

_DIGITS = b"%013d"
_AT_ONCE = 100  # records up to 1 MiB that one round trip reads
_SHARE = 0.5  # of the time of a call, after which a step ends and says that more remain


class InCluster:
    """What `RedisStore` does in a cluster.

    :param replicas: how many must confirm a deletion.
    """

    def __init__(self, client: PerProcess[Client], prefix: bytes, sets: bytes, *, replicas: int) -> None:
        self._client, self._prefix, self._sets, self._replicas = client, prefix, sets, replicas

    def create(self, handle: str, new: Record, time: int, deadline: float) -> int | None:
        """Store a record, and return its order; None where there is a live one."""
        ordered = self._ordered(new, time, deadline)
        arguments = (_DIGITS % time, b"", handle, layout.packed(ordered))
        order = self._evaluate(CREATE, self._prefix + handle.encode(), arguments, deadline)
        if order is None or new.user_id is None:
            return None if order is None else 0
        for dead in self._add(layout.text(new.user_id), handle, ordered, time, deadline, is_login=new.order == 0):
            self._clean(layout.text(new.user_id), [dead], deadline)
        return int(order)

    def replace(self, handle: str, new: Record, old: str, time: int, deadline: float) -> int | None:
        """Replace a record of this version, and return the order of the new one; None where there is none."""
        user = None if new.user_id is None else layout.text(new.user_id)
        ordered = self._ordered(new, time, deadline)
        if user is not None and not new.order:
            self._add(user, handle, ordered, time, deadline, before=1)
        arguments = (_DIGITS % time, b"", handle, layout.packed(ordered), old)
        reply = self._evaluate(REPLACE, self._prefix + handle.encode(), arguments, deadline)
        if reply is None:
            return None
        order, owner, is_due = reply
        if user is not None and (is_due or not new.order or owner != b"=" + user):
            self._add(user, handle, ordered, time, deadline)
        if owner and (user is None or owner != b"=" + user):
            self._remove(owner[1:], [handle.encode()], deadline)
        return int(order) if user is not None else 0

    def restart(self, handle: str, time: int, ttl: bytes, deadline: float) -> int | None:
        """Restart a record with this ttl, or its own; return it, or None where there is no record."""
        arguments = (_DIGITS % time, b"", handle, ttl)
        reply = self._evaluate(RESTART, self._prefix + handle.encode(), arguments, deadline)
        if reply is None:
            return None
        owner, given, order = reply
        if owner:
            rest = (_DIGITS % time, handle, order, given, 0)
            self._evaluate(ADD, self._sets + owner[1:], rest, deadline)
        return int(given)

    def delete(self, handle: str, time: int, version: str, deadline: float) -> bool:
        """Delete a record, or only one of this version."""
        owner = self._delete(handle.encode(), time, version, b"", deadline)
        if owner:
            self._remove(owner[1:], [handle.encode()], deadline)
        return owner is not None

    def find_user(self, user: bytes, time: int, after: Any, limit: int, deadline: float) -> Page:
        """Return a page of a user's records; a shorter one where the time does not suffice."""
        until, members = until_of(deadline), self._members(user, after, limit + 1, deadline)
        found: list[tuple[str, Record]] = []
        seen = 0
        while seen < min(len(members), limit) and (seen == 0 or monotonic() < until):
            chunk = members[seen : min(seen + _AT_ONCE, limit)]
            values = self.values([self._prefix + handle for handle, _ in chunk], deadline)
            found += _live_of(user, chunk, values, time)
            self._clean(
                user, [handle for (handle, _), value in zip(chunk, values, strict=True) if value is None], deadline
            )
            seen += len(chunk)
        return Page(found, members[seen - 1][::-1] if seen < len(members) else None)

    def delete_user(self, user: bytes, time: int, keep: str, after: Any, limit: int, deadline: float) -> Deleted:
        """Delete some of a user's records, one after the other, until the limit or the end of the time."""
        until, deleted = until_of(deadline), list[str]()
        lost: NotConfirmedError | None = None
        kept = keep.encode()
        scores = dict(self._members(user, after, limit + 1, deadline))
        members = [handle for handle in scores if handle != kept]
        for first in range(0, len(members), _AT_ONCE):
            chunk = members[first : min(first + _AT_ONCE, limit)]
            if first and monotonic() > until:
                break
            owners, lost = self._delete_each(user, chunk, time, deadline)
            chunk = chunk[: len(owners)]
            ended = [handle for handle, owner in zip(chunk, owners, strict=True) if owner is not None]
            deleted += [handle.decode() for handle in ended]
            self._clean(user, ended, deadline)
            dead = [(self._sets + user, (0, handle, scores[handle])) for handle in chunk if handle not in ended]
            self._client().evaluate_many(REMOVE, dead, deadline)
            if lost is not None:
                break
        more = any(handle != kept for handle, _ in self._members(user, after, 2, deadline))
        if lost is not None:
            raise NotConfirmedError(lost.confirmed, Deleted(deleted, more)) from lost
        return Deleted(deleted, more)

    def _delete_each(
        self, user: bytes, handles: list[bytes], time: int, deadline: float
    ) -> tuple[list[bytes | None], NotConfirmedError | None]:
        """Delete records of a user, and return whose each was: up to one that replicas have not confirmed."""
        if not self._replicas:
            arguments = [(_DIGITS % time, b"", handle, "", b"=" + user) for handle in handles]
            calls = [(self._prefix + handle, each) for handle, each in zip(handles, arguments, strict=True)]
            return self._client().evaluate_many(DELETE, calls, deadline), None
        owners: list[bytes | None] = []
        for handle in handles:
            try:
                owners.append(self._delete(handle, time, "", b"=" + user, deadline))
            except NotConfirmedError as error:
                return [*owners, error.reply], error
        return owners, None

    def values(self, keys: list[bytes], deadline: float) -> list[bytes | None]:
        """Return the values of keys; None where there is none, or no string."""
        replies = self._client().execute_many([(key, ("MGET", key)) for key in keys], deadline)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [value for (value,) in replies]

    # Inside.

    def _ordered(self, new: Record, time: int, deadline: float) -> Record:
        if new.user_id is None or new.order:
            return new
        order = self._evaluate(ORDER, self._sets + layout.text(new.user_id), (_DIGITS % time,), deadline)
        return Record(new.data, new.ttl, new.user_id, new.version, new.expires_at, int(order))

    def _add(
        self,
        user: bytes,
        handle: str,
        new: Record,
        time: int,
        deadline: float,
        *,
        is_login: bool = False,
        before: int = 0,
    ) -> list[bytes]:
        """Put a handle into a set, and return some whose records no longer exist.

        :param before: how much less than the order its score is.
        """
        arguments = (_DIGITS % time, handle, max(new.order - before, 0), layout.span(new.ttl), int(is_login))
        some: list[bytes] = self._evaluate(ADD, self._sets + user, arguments, deadline)
        if not some:
            return []
        values = self.values([self._prefix + member for member in some], deadline)
        return [member for member, value in zip(some, values, strict=True) if value is None]

    def _delete(self, handle: bytes, time: int, version: str, holder: bytes, deadline: float) -> bytes | None:
        """Return '=' and the user of the record, empty if it had none; None if there was no record."""
        arguments = (_DIGITS % time, b"", handle, version, holder)
        key = self._prefix + handle
        owner: bytes | None = self._client().evaluate(
            DELETE, key, arguments, deadline, repeat=False, replicas=self._replicas
        )
        return owner

    def _members(self, user: bytes, after: Any, limit: int, deadline: float) -> list[tuple[bytes, bytes]]:
        return members_of(self._client(), self._sets + user, after, limit, deadline)

    def _clean(self, user: bytes, dead: list[bytes], deadline: float) -> None:
        if dead:
            self._remove(user, dead, deadline)

    def _remove(self, user: bytes, handles: list[bytes], deadline: float) -> None:
        key = self._sets + user
        self._client().execute(("ZREM", key, *handles), deadline, key=key)

    def _evaluate(self, script: Any, key: bytes, arguments: tuple[Any, ...], deadline: float) -> Any:
        return self._client().evaluate(script, key, arguments, deadline)


def _live_of(
    user: bytes, members: list[tuple[bytes, bytes]], values: list[bytes | None], time: int
) -> Iterator[tuple[str, Record]]:
    name = user.decode("utf-8", "surrogatepass")
    for (handle, _), value in zip(members, values, strict=True):
        if (record := layout.live(value, time)) and record.user_id == name:
            yield handle.decode(), record


def members_of(client: Client, set_: bytes, after: Any, limit: int, deadline: float) -> list[tuple[bytes, bytes]]:
    """Return handles and scores of a set, the latest login first.

    :param after: score and handle after which they begin.
    """
    score, handle = after or (b"", b"")
    reply = client.evaluate(PAGE_OF_SET, set_, (0, score, handle, limit), deadline)
    return list(zip(reply[::2], reply[1::2], strict=True))


def until_of(deadline: float) -> float:
    """Return when a step should end that works on one record after the other; it then says that more remain."""
    now = monotonic()
    return now + _SHARE * (deadline - now)
