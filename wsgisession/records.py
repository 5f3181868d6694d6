"""Records with their meaning: packed and unpacked, expired by the clock, merged when another writer came between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .codec import Codec
from .content import Content
from .errors import SerializationError, SessionConflict, SessionGone, StoreError
from .events import Events, logger
from .merge import merge
from .session import first_user
from .stores.base import Record, Store
from .timeouts import Timeouts

T = TypeVar("T")

_LONGEST_USER = 1024


class Loaded(NamedTuple):
    """A record that was read or written: as the store has it, unpacked, and decoded."""

    record: Record
    content: Content
    data: dict[str, Any]


class Records:
    """What the manager does to the store, in terms of content instead of bytes."""

    def __init__(
        self,
        store: Store,
        codec: Codec,
        *,
        timeouts: Timeouts,
        events: Events,
        clock: Callable[[], float],
        user_keys: tuple[str, ...],
        on_conflict: str,
    ) -> None:
        self.store, self.codec = store, codec
        self._timeouts, self._events, self._clock = timeouts, events, clock
        self._user_keys, self._on_conflict = user_keys, on_conflict

    def load(self, handle: str, *, restart: bool) -> Loaded | None:
        """Read a live record; an expired or undecodable one is absent, and said so in an event.

        :param restart: whether this is activity of the user, which restarts the idle timeout.
        """
        touch_after = self._timeouts.touch_after if restart else None
        record = self._ask(self.store.load, handle, now=self._clock(), touch_after=touch_after)
        return None if record is None else self.read(handle, record)

    def read(self, handle: str, record: Record) -> Loaded | None:
        """Unpack a record that the store returned, or return None where it is expired or undecodable."""
        try:
            content = self.codec.unpack(record.data, handle=handle)
            data = self.codec.parse(content.data)
        except SerializationError as error:
            logger.warning("the record %s counts as absent: %s", handle, error)
            self._events.emit("rejected", handle, reason="undecodable")
            return None
        if self._clock() >= self.deadline(content):
            self._events.emit("expired", handle)
            return None
        return Loaded(record, content, data)

    def deadline(self, content: Content) -> float:
        """Return when the session ends whatever its activity: the absolute timeout, from the last login if any."""
        return self._timeouts.deadline(content.authenticated_at or content.created_at)

    def create(self, handle: str, content: Content, data: dict[str, Any]) -> Loaded | None:
        """Store new content, or return None where the handle is taken.

        :raises StoreError: with the record taken back as far as the store lets us, for nobody knows its ID.
        """
        record = self._packed(handle, content, data)
        try:
            stored = self._ask(self.store.create, handle, record, now=self._clock())
        except StoreError:
            self.forget(handle)
            raise
        return None if stored is None else Loaded(stored, content, data)

    def replace(self, handle: str, base: Loaded, mine: Loaded) -> Loaded:
        """Store my content over the base that it was made from, by ``on_conflict`` where another writer came between.

        :raises SessionGone: where the record has ended.
        :raises SessionConflict: for ``on_conflict="refuse"``.
        """
        while True:
            stored = self.try_replace(handle, base, mine)
            if stored is not None:
                return stored
            theirs = self.load(handle, restart=False)
            if theirs is None:
                raise SessionGone("the session was destroyed, revoked or expired while this request ran")
            mine = self.settled(handle, base, mine, theirs=theirs)
            base = theirs

    def try_replace(self, handle: str, base: Loaded, mine: Loaded) -> Loaded | None:
        """Store my content over the base, or return None where the record has changed or ended since."""
        record = self._packed(handle, mine.content, mine.data, version=base.record.version)
        stored = self._ask(self.store.replace, handle, record, now=self._clock())
        return None if stored is None else Loaded(stored, mine.content, mine.data)

    def settled(self, handle: str, base: Loaded, mine: Loaded, *, theirs: Loaded) -> Loaded:
        """Return what is to stand where both wrote: by ``on_conflict``, merged, mine, or nothing.

        :raises SessionConflict: for ``on_conflict="refuse"``.
        """
        if self._on_conflict == "refuse":
            raise SessionConflict("another request changed the session while this one ran; load it again and retry")
        if self._on_conflict == "overwrite":
            return mine
        self._events.emit("merged", handle)
        data = merge(self.codec.parse(base.content.data), mine.data, theirs.data)
        times = (mine.content.authenticated_at, theirs.content.authenticated_at)
        content = Content(
            self.codec.dump(data),
            mine.content.created_at,
            max((at for at in times if at is not None), default=None),
            mine.content.cookie if mine.content.cookie != base.content.cookie else theirs.content.cookie,
        )
        return Loaded(theirs.record, content, data)

    def end(self, handle: str, *, version: Any = None) -> bool:
        """Delete a live record, or only this version of it; False where there is none."""
        return self._ask(self.store.delete, handle, now=self._clock(), version=version)

    def forget(self, handle: str) -> None:
        """Delete a record whose ID nobody was told, if the store lets us; else it expires by itself."""
        with contextlib.suppress(StoreError):
            self.store.delete(handle, now=self._clock())

    def touch(self, handle: str, content: Content) -> bool:
        """Restart the idle timeout of a live record; False where there is none."""
        return self._ask(self.store.touch, handle, ttl=self.ttl(content), now=self._clock())

    def ttl(self, content: Content) -> float:
        """Return the idle timeout of a session with these cookie settings of its own."""
        own = content.cookie
        if own is None or "max_age" not in own:
            return self._timeouts.default
        return self._timeouts.ttl(own["max_age"])

    def _packed(self, handle: str, content: Content, data: dict[str, Any], *, version: Any = None) -> Record:
        user_id = first_user(data, self._user_keys)
        return Record(
            self.codec.pack(content, handle=handle),
            self.ttl(content),
            None if user_id is None else user_text(user_id),
            version,
        )

    def _ask(self, verb: Callable[..., T], *args: Any, **options: Any) -> T:
        try:
            return verb(*args, **options)
        except StoreError as error:
            self._events.emit("store_error", detail=str(error))
            raise


def user_text(user_id: Any) -> str:
    """Return the user as text for the index, so that 7 and "7" are one user.

    :raises SerializationError: for text that not every store can hold.
    """
    text = str(user_id)
    if len(text) > _LONGEST_USER or "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise SerializationError(
            f"a user_id must be at most {_LONGEST_USER} characters of text, without NUL and lone surrogates"
        )
    return text
