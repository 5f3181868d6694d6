"""Records with their meaning: packed and unpacked, expired by the clock, merged when another writer came between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from ..errors import SerializationError, SessionConflict, SessionGone, StoreError
from ..session import first_user
from ..stores.base import Record, Store
from .codec import Codec, is_utf8
from .content import Content, Loaded, Renewed
from .events import Events, logger
from .merge import merge
from .timeouts import Timeouts

T = TypeVar("T")

GONE = "the session was destroyed, revoked or expired while this request ran"

_LONGEST_USER = 1024
_MOST_PASSES = 1000


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

    def load(self, handle: str, *, restart: bool, presented: bool = False) -> Loaded | None:
        """Read a live session, also where its ID was renewed since; an expired or undecodable one is absent.

        :param restart: whether this is activity of the user, which restarts the idle timeout.
        :param presented: whether a client presented its ID: a renewal is followed only as long as the old ID is still
            answered, and an ID without a record is told in an event.
        """
        found = self.find(handle, restart=restart, presented=presented)
        nonces: tuple[str, ...] = ()
        while isinstance(found, Renewed):
            if presented and self._clock() > found.until:
                self._events.emit("rejected", handle, reason="stale")
                return None
            nonces = (*nonces, found.nonce)
            found = self.find(found.handle, restart=restart)
        return found if found is None or not nonces else msgspec.structs.replace(found, nonces=nonces)

    def find(self, handle: str, *, restart: bool, presented: bool = False) -> Loaded | Renewed | None:
        """Read what stands under the handle."""
        touch_after = self._timeouts.touch_after if restart else None
        try:
            record = self.store.load(handle, now=self._clock(), touch_after=touch_after)
        except StoreError as error:
            self._failed(error)
            raise
        if record is not None:
            found = self._read(handle, record)
            if restart and isinstance(found, Loaded) and not self.codec.is_dated(found.content):
                with contextlib.suppress(SerializationError):  # what only Express would store stays without its date
                    return self.try_replace(found, found) or self.find(handle, restart=False)
            return found
        if presented:
            self._events.emit("rejected", handle, reason="unknown")
        return None

    def find_user(self, user_id: Any) -> list[Loaded]:
        """Read the live sessions of a user."""
        texts = self.codec.index_texts(user_text(user_id))
        found = [pair for text in texts for pair in self._of_user(text)]
        read = (self._read(handle, record) for handle, record in found)
        return [one for one in read if isinstance(one, Loaded)]

    def _of_user(self, text: str) -> Iterator[tuple[str, Record]]:
        page = self._ask(self.store.find_user, text, now=self._clock())
        yield from page.records
        while page.after is not None:
            page = self._ask(self.store.find_user, text, now=self._clock(), after=page.after)
            yield from page.records

    def scan(self) -> Iterator[Loaded]:
        """Iterate over all live sessions, holding few of them in memory."""
        for handle, record in self.store.scan(now=self._clock()):
            if isinstance(loaded := self._read(handle, record), Loaded):
                yield loaded

    def end_user(self, user_id: Any, *, keep: str | None) -> set[str]:
        """Delete the sessions of a user, until none is found; return the handles.

        Once is not enough: one that moved to a new ID in the meantime was there under neither.

        :param keep: the handle of the one that stays, also where its ID was renewed since.
        """
        if keep is not None and self._timeouts.renewal is not None:
            kept = self.load(keep, restart=False)
            keep = keep if kept is None else kept.handle
        ended: set[str] = set()
        for text in self.codec.index_texts(user_text(user_id)):
            for _ in range(_MOST_PASSES):
                deleted = self._ask(self.store.delete_user, text, now=self._clock(), keep=keep)
                ended.update(deleted.handles)
                if not deleted.handles and not deleted.more:
                    break
        return ended

    def _read(self, handle: str, record: Record) -> Loaded | Renewed | None:
        try:
            content = self.codec.unpack(record.data, handle=handle)
            if isinstance(content, Renewed):
                return content
            data = self.codec.parse(content.data)
        except SerializationError as error:
            logger.warning("the record %s counts as absent: %s", self._events.shown(handle), error)
            self._events.emit("rejected", handle, reason="undecodable")
            return None
        if self._clock() >= self.deadline(content):
            self._events.emit("expired", handle)
            return None
        return Loaded(handle, record, content, data)

    def began_at(self, content: Content) -> float:
        """Return when the session began, or its user logged in; what says nothing of it began before all others."""
        return (content.authenticated_at or content.created_at) if self.codec.is_dated(content) else 0.0

    def deadline(self, content: Content) -> float:
        """Return when the session ends whatever its activity: the absolute timeout, from the last login if any."""
        return self._timeouts.deadline(content.authenticated_at or content.created_at)

    def create(self, mine: Loaded) -> Loaded | None:
        """Store new content, or return None where the handle is taken.

        :raises StoreError: with the record taken back as far as the store lets us, for nobody knows its ID.
        """
        try:
            stored = self._ask(self.store.create, mine.handle, self._packed(mine), now=self._clock())
        except StoreError:
            self.forget(mine.handle)
            raise
        return None if stored is None else msgspec.structs.replace(mine, record=stored)

    def replace(self, base: Loaded, mine: Loaded) -> Loaded:
        """Store my content over the base that it was made from, by ``on_conflict`` where another writer came between.

        :raises SessionGone: where the record has ended.
        :raises SessionConflict: for ``on_conflict="refuse"``.
        """
        while True:
            stored = self.try_replace(base, mine)
            if stored is not None:
                return stored
            theirs = self.load(base.handle, restart=False)
            if theirs is None:
                raise SessionGone(GONE)
            mine = msgspec.structs.replace(
                self.settled(base, mine, theirs=theirs), nonces=(*base.nonces, *theirs.nonces)
            )
            base = msgspec.structs.replace(theirs, nonces=mine.nonces)

    def try_replace(self, base: Loaded, mine: Loaded) -> Loaded | None:
        """Store my content over the base, or return None where the record has changed or ended since."""
        record = self._packed(mine, version=base.record.version)
        if record.user_id == base.record.user_id:  # the same login of the same user
            record = msgspec.structs.replace(record, order=base.record.order)
        stored = self._ask(self.store.replace, base.handle, record, now=self._clock())
        return None if stored is None else msgspec.structs.replace(mine, record=stored)

    def renew(self, base: Loaded, pointer: Renewed, *, ttl: float) -> bool:
        """Put the way to the new ID where the record was; False where it has changed or ended since."""
        packed = self.codec.pack(pointer, handle=base.handle)
        record = Record(packed, ttl, None, base.record.version)
        return self._ask(self.store.replace, base.handle, record, now=self._clock()) is not None

    def settled(self, base: Loaded, mine: Loaded, *, theirs: Loaded) -> Loaded:
        """Return what is to stand in place of theirs where both wrote: by ``on_conflict``, both merged, or mine.

        :raises SessionConflict: for ``on_conflict="refuse"``.
        """
        if self._on_conflict == "refuse":
            raise SessionConflict("another request changed the session while this one ran; load it again and retry")
        if self._on_conflict == "overwrite":
            return msgspec.structs.replace(mine, handle=theirs.handle)
        self._events.emit("merged", theirs.handle)
        data = merge(self.codec.parse(base.content.data), self.codec.as_stored(mine.data), theirs.data)
        content = msgspec.structs.replace(
            mine.content,
            data=self.codec.dump(data),
            authenticated_at=_later(mine.content.authenticated_at, theirs.content.authenticated_at),
            issued_at=_later(mine.content.issued_at, theirs.content.issued_at),
            cookie=mine.content.cookie if mine.content.cookie != base.content.cookie else theirs.content.cookie,
        )
        return Loaded(theirs.handle, None, content, data)

    def end(self, handle: str, *, version: Any = None) -> bool:
        """Delete a live record, or only this version of it; False where there is none."""
        return self._ask(self.store.delete, handle, now=self._clock(), version=version)

    def end_session(self, handle: str, *, version: Any = None) -> bool:
        """Delete a session for good, also where it was changed meanwhile, or its ID renewed.

        False where it was not there: to have deleted what led to it is not to have ended it.
        """
        if version is not None and self.end(handle, version=version):
            return True
        while (found := self.find(handle, restart=False)) is not None:
            if isinstance(found, Loaded) and self.end(handle, version=found.record.version):
                return True
            if isinstance(found, Renewed):
                self.end(handle)
                handle = found.handle
        return self.end(handle)  # an undecodable record is deleted too

    def end_session_of(self, user_id: Any, handle: str) -> bool:
        """Delete a session for good if it is this user's; whoever's it is where the user is None."""
        if user_id is None:
            return self.end_session(handle)
        while (loaded := self.load(handle, restart=False)) is not None:
            user = first_user(loaded.data, self._user_keys)
            if user is None or user_text(user) != user_text(user_id):
                return False
            if self.end(loaded.handle, version=loaded.record.version):
                return True
        return False

    def forget(self, handle: str) -> None:
        """Delete a record whose ID nobody was told, if the store lets us; else it expires by itself."""
        with contextlib.suppress(StoreError):
            self.store.delete(handle, now=self._clock())

    def touch(self, handle: str, content: Content) -> bool:
        """Restart the idle timeout of a live record; False where there is none."""
        return self._ask(self.store.touch, handle, ttl=self.ttl(content), now=self._clock())

    def is_renewed(self, handle: str) -> bool:
        """Tell whether nothing but the way to a new ID stands under the handle."""
        return isinstance(self.find(handle, restart=False), Renewed)

    def ttl(self, content: Content) -> float:
        """Return the idle timeout of a session with these cookie settings of its own."""
        own = content.cookie
        if own is None or "max_age" not in own:
            return self._timeouts.default
        return self._timeouts.ttl(own["max_age"])

    def _packed(self, mine: Loaded, *, version: Any = None) -> Record:
        user = first_user(mine.data, self._user_keys)
        text = None if user is None else self.codec.index_texts(user_text(user))[0]
        return Record(self.codec.pack(mine.content, handle=mine.handle), self.ttl(mine.content), text, version)

    def _ask(self, verb: Callable[..., T], *args: Any, **options: Any) -> T:
        try:
            return verb(*args, **options)
        except StoreError as error:
            self._failed(error)
            raise

    def _failed(self, error: StoreError) -> None:
        self._events.emit("store_error", detail=str(error))


def _later(one: float | None, other: float | None) -> float | None:
    return max((at for at in (one, other) if at is not None), default=None)


def user_text(user_id: Any) -> str:
    """Return the user as text for the index, so that 7 and "7" are one user.

    :raises SerializationError: for text that not every store can hold.
    """
    text = str(user_id)
    if len(text) > _LONGEST_USER or "\0" in text or not (text.isascii() or is_utf8(text)):
        raise SerializationError(
            f"a user_id must be at most {_LONGEST_USER} characters of text, without NUL and lone surrogates"
        )
    return text
