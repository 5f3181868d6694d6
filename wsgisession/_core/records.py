"""`Records`: the store in terms of snapshots. Expired by the clock, merged when another writer came between."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from ..errors import SerializationError, SessionConflict, SessionGone, StoreError
from ..stores.base import Record, Store, Unconfirmed, WriteRefused, restart_is_due
from . import binding
from .codec import Codec
from .content import Content, Renewed, Snapshot, Texts, merged_fields
from .events import Events, keep_one_traceback, logger
from .merge import merge_texts
from .timeouts import Timeouts
from .turns import Turns
from .users import is_user, user_text

T = TypeVar("T")

GONE = "the session was destroyed, revoked, or expired while this request ran"

_BATCH = 500
_LONGEST_BEFORE_A_SECOND_CALL = 0.25  # seconds


class Records:
    """Find, create, replace, and end the records of sessions.

    :param on_conflict: "merge", "overwrite", or "refuse" when another writer came between.
    """

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
        self.turns = Turns()

    # Reading.

    def load(self, handle: str, *, restart: bool, presented: bool = False) -> Snapshot | None:
        """Read a live session, following renewals of its ID; an expired or undecodable record is absent.

        :param restart: whether this is activity of the user, which restarts the idle timeout.
        :param presented: whether a client presented the ID: then an old ID counts only during its grace period, and an
            ID without a record is reported as an event.
        """
        found = self.find(handle, restart=restart, presented=presented)
        if not isinstance(found, Renewed):
            return found
        nonces: tuple[str, ...] = ()
        while isinstance(found, Renewed):
            pointer, nonces = found, (*nonces, found.nonce)
            found = self.find(found.handle, restart=restart)
        if found is None:
            return None
        if presented and not self._is_in_grace(pointer, found.content):
            self._events.emit("rejected", handle, reason="stale")
            return None
        return msgspec.structs.replace(found, nonces=nonces)

    def _is_in_grace(self, pointer: Renewed, content: Content) -> bool:
        """Whether an old ID is still accepted: until its successor was presented, and a grace period longer."""
        if not content.presented_at:  # also if only version 0.1 has seen it, which does not note that
            return True
        return self._clock() <= max(content.presented_at + self._timeouts.grace, pointer.until)

    def find(self, handle: str, *, restart: bool, presented: bool = False) -> Snapshot | Renewed | None:
        """Read what is stored under the handle."""
        touch_after, now = self._timeouts.touch_after if restart else None, self._clock()
        try:
            record = self.store.load(handle, now=now, touch_after=touch_after)
        except StoreError as error:
            self._failed(error)
            raise
        if record is None:
            if presented:
                self._events.emit("rejected", handle, reason="unknown")
            return None
        found = self._read(handle, record, now)
        if (
            restart
            and self.codec.may_be_undated
            and isinstance(found, Snapshot)
            and not self.codec.is_dated(found.content)
        ):
            with contextlib.suppress(SerializationError):  # a value that only Express stores: it stays undated
                return self.try_replace(found, found.content) or self.find(handle, restart=False)
        return found

    def _read(self, handle: str, record: Record, now: float) -> Snapshot | Renewed | None:
        try:
            content = self.codec.unpack(record.data, handle=handle)
        except SerializationError as error:
            logger.warning("the record %s counts as absent: %s", self._events.shown(handle), error)
            self._events.emit("rejected", handle, reason="undecodable")
            return None
        if isinstance(content, Renewed):
            return content
        absolute = self._timeouts.absolute
        began = content.authenticated_at or content.created_at
        if absolute is not None and now - began >= absolute and now >= self.deadline(content):
            self._events.emit("expired", handle)
            return None
        if content.device is not None:  # whose proofs leave the time that is left, and so shorten the record's ttl
            record = msgspec.structs.replace(record, ttl=max(record.ttl, self.ttl(content)))
        return Snapshot(handle, record, content)

    def find_user(self, user_id: Any) -> Iterator[Snapshot]:
        """Iterate over the live sessions of a user, in bounded steps."""
        for text in self.codec.index_texts(user_text(user_id)):
            after: Any = None
            while True:
                page = self._ask(self.store.find_user, text, now=self._clock(), after=after, limit=_BATCH)
                for handle, record in page.records:
                    if isinstance(found := self._read(handle, record, self._clock()), Snapshot):
                        yield found
                after = page.after
                if after is None:
                    break

    def scan(self) -> Iterator[Snapshot]:
        """Iterate over all live sessions, holding few of them in memory."""
        for handle, record in self.store.scan(now=self._clock()):
            if isinstance(found := self._read(handle, record, self._clock()), Snapshot):
                yield found

    def is_renewed(self, handle: str) -> bool:
        """Tell whether the handle only leads to a newer ID."""
        return isinstance(self.find(handle, restart=False), Renewed)

    # Writing.

    def create(self, handle: str, content: Content, *, order: int = 0) -> Snapshot | None:
        """Store new content, or return None if the handle is taken.

        :param order: of the user's login, if it was accepted under another handle before; 0 lets the store give one.
        :raises StoreError: after trying to delete the record again, for nobody knows its ID. A store that took long to
            fail is not asked, so that one that hangs costs one timeout; the record expires then.
        """
        started = time.monotonic()
        try:
            stored = self._ask(self.store.create, handle, self._packed(handle, content, order=order), now=self._clock())
        except StoreError:
            if time.monotonic() - started < _LONGEST_BEFORE_A_SECOND_CALL:
                self.forget(handle)
            raise
        return None if stored is None else Snapshot(handle, stored, content)

    def replace(self, base: Snapshot, mine: Content, *, cleared: bool = False) -> Snapshot:
        """Store my content over the base that it was made from, by ``on_conflict`` if another writer came between.

        :param cleared: whether I removed everything, so that their changes are dropped too.
        :raises SessionGone: if the record has ended.
        :raises SessionConflict: for ``on_conflict="refuse"``.
        """
        stored = self.try_replace(base, mine)
        if stored is not None:
            return stored
        with self.turns.of(base.handle):
            return self._replace_after_race(base, mine, cleared=cleared)

    def _replace_after_race(self, base: Snapshot, mine: Content, *, cleared: bool) -> Snapshot:
        """Store my content on top of what another writer stored, again each time that one comes between."""
        nonces, tries = base.nonces, 0
        while True:
            tries += 1
            self.turns.pause(tries)
            theirs = self.load(base.handle, restart=False)
            if theirs is None:
                raise SessionGone(GONE)
            mine = self.settled(base.content, mine, theirs, cleared=cleared)
            nonces, base = (*nonces, *theirs.nonces), theirs
            stored = self.try_replace(base, mine)
            if stored is not None:
                return stored if not nonces else msgspec.structs.replace(stored, nonces=nonces)

    def try_replace(self, base: Snapshot, mine: Content) -> Snapshot | None:
        """Store my content over the base, or return None if the record has changed or ended since."""
        record = self._packed(base.handle, mine, order=base.record.order, version=base.record.version, base=base)
        stored = self._ask(self.store.replace, base.handle, record, now=self._clock())
        return None if stored is None else Snapshot(base.handle, stored, mine, base.nonces)

    def renew(self, base: Snapshot, pointer: Renewed) -> bool:
        """Let the old record lead to the new one; False if it has changed or ended since."""
        packed = self.codec.pack(pointer, handle=base.handle)
        record = Record(packed, self.ttl(base.content) + self._timeouts.grace, None, base.record.version)
        return self._ask(self.store.replace, base.handle, record, now=self._clock()) is not None

    def settled(self, base: Content, mine: Content, theirs: Snapshot, *, cleared: bool = False) -> Content:
        """Return what replaces their content if both wrote: by ``on_conflict``, both merged, or mine.

        :raises SessionConflict: for ``on_conflict="refuse"``.
        """
        device = binding.merged(mine.device, theirs.content.device)
        if device is not None and msgspec.structs.replace(theirs.content, device=base.device) == base:
            return msgspec.structs.replace(mine, device=device)  # the data did not change: a device proved its key
        if self._on_conflict == "refuse":
            raise SessionConflict("another request changed the session while this one ran; load it again and retry")
        if self._on_conflict == "overwrite":
            return msgspec.structs.replace(mine, device=device)
        self._events.emit("merged", theirs.handle)
        return self.merged(base, mine, theirs.content, cleared=cleared)

    def merged(self, base: Content, mine: Content, theirs: Content, *, cleared: bool = False) -> Content:
        """Return what both writers' changes make."""
        texts = mine.texts if cleared else merge_texts(base.texts, mine.texts, theirs.texts, self.codec)
        return merged_fields(base, mine, theirs, texts)

    def amend(self, base: Snapshot, content: Content) -> Snapshot | None:
        """Store content that no activity of the user caused: the time that is left stays as it is.

        The idle timeout in the record is shorter until `restarted` sets it again. None if the record has changed or
        ended since.
        """
        now = self._clock()
        record = self._packed(base.handle, content, order=base.record.order, version=base.record.version, base=base)
        record = msgspec.structs.replace(record, ttl=max(base.record.expires_at - now, 1.0))
        stored = self._ask(self.store.replace, base.handle, record, now=now)
        return None if stored is None else Snapshot(base.handle, stored, content, base.nonces)

    def restarted(self, found: Snapshot) -> Snapshot | None:
        """Restart the idle timeout of a record that was read without doing so, if enough of it has passed.

        A server that refuses writes leaves the record as it is. None if it has ended since.
        """
        now, ttl, record = self._clock(), self.ttl(found.content), found.record
        if not restart_is_due(record.expires_at, ttl, now=now, touch_after=self._timeouts.touch_after):
            return found
        if not binding.is_bound(found.content.device):  # the read that restarts it also repairs the user index
            again = self.load(found.handle, restart=True)
            return again and msgspec.structs.replace(again, nonces=(*found.nonces, *again.nonces))
        try:
            self.touch(found.handle, found.content)
        except WriteRefused:
            return found
        return msgspec.structs.replace(found, record=msgspec.structs.replace(record, ttl=ttl, expires_at=now + ttl))

    def touch(self, handle: str, content: Content) -> bool:
        """Restart the idle timeout of a live record; False if there is none."""
        return self._ask(self.store.touch, handle, ttl=self.ttl(content), now=self._clock())

    # Ending.

    def end(self, handle: str, *, version: Any = None) -> bool:
        """Delete a live record, or only this version of it; False if there is none."""
        return self._ask(self.store.delete, handle, now=self._clock(), version=version)

    def end_session(self, handle: str, *, version: Any = None) -> bool:
        """Delete a session, also if it was changed or its ID renewed in the meantime; False if it was not there."""
        if version is not None and self.end(handle, version=version):
            return True
        while (found := self.find(handle, restart=False)) is not None:
            if isinstance(found, Snapshot) and self.end(handle, version=found.record.version):
                return True
            if isinstance(found, Renewed):
                self.end(handle)
                handle = found.handle
        return self.end(handle)  # an undecodable record is deleted too

    def end_session_of(self, user_id: Any, handle: str) -> bool:
        """Delete a session if it is this user's; anybody's if the user is None."""
        if user_id is None:
            return self.end_session(handle)
        while (found := self.load(handle, restart=False)) is not None:
            if self.user_of(found.content.texts) != user_text(user_id):
                return False
            if self.end(found.handle, version=found.record.version):
                return True
        return False

    def end_user(self, user_id: Any, *, keep: str | None, ended: Callable[[str], object]) -> int:
        """Delete the sessions of a user in bounded steps, until the user's index is empty; return how many.

        A pass that deleted nothing is not enough: a session that got a new ID at that moment was in neither place.

        :param keep: the handle of the session that stays, also if its ID was renewed since.
        :param ended: is called with each handle.
        :raises StoreError: if the store fails or the time runs out, saying how many were ended.
        """
        if keep is not None and self._timeouts.renewal is not None:
            kept = self.load(keep, restart=False)
            keep = keep if kept is None else kept.handle
        count, lost = 0, None
        try:
            for text in self.codec.index_texts(user_text(user_id)):
                more = True
                while more:
                    try:
                        step: Any = self._ask(self.store.delete_user, text, now=self._clock(), keep=keep, limit=_BATCH)
                    except Unconfirmed as error:  # these were ended too
                        step = lost = error
                    for handle in step.handles:
                        ended(handle)
                    count += len(step.handles)
                    more = step.more
        except StoreError as error:
            raise StoreError(f"{count} sessions of the user were ended, and then the store failed: {error}") from error
        if lost is not None:
            raise StoreError(
                f"{count} sessions of the user were ended, but too few replicas confirmed it: {lost}"
            ) from lost
        return count

    def end_oldest(self, user: str, *, most: int, ended: Callable[[str], object]) -> None:
        """Delete the sessions of a user beyond the latest logins, in the order in which the store accepted them.

        :param user: as text.
        :param most: how many sessions stay.
        :param ended: is called with each handle.
        """
        left = most
        for text in self.codec.index_texts(user):
            after: Any = None
            while left:
                page = self.store.find_user(text, now=self._clock(), after=after, limit=left)
                left -= len(page.records)
                after = page.after
                if after is None:
                    break
            else:
                self._end_after(text, after, ended)

    def _end_after(self, text: str, after: Any, ended: Callable[[str], object]) -> None:
        """Delete a user's sessions that follow a page, in bounded steps."""
        more = True
        while more:
            step = self.store.delete_user(text, now=self._clock(), after=after, limit=_BATCH)
            for handle in step.handles:
                ended(handle)
            more = step.more

    def forget(self, handle: str) -> None:
        """Delete a record whose ID nobody knows, if the store can; otherwise it expires."""
        with contextlib.suppress(StoreError):
            self.store.delete(handle, now=self._clock())

    # Reading a record.

    def user_of(self, texts: Texts) -> str | None:
        """Return the text of the session's user, or None for nobody."""
        for key in self._user_keys:
            if key in texts:
                value = self.codec.decode(texts[key])
                if is_user(value):
                    return user_text(value)
        return None

    def owner_of(self, content: Content) -> str | None:
        """Return the text of the user whose data the record has: its user, or its last one."""
        return self.user_of(content.texts) or content.last_user

    def began_at(self, content: Content) -> float:
        """Return when the session began or its user logged in; a record that does not say began before all others."""
        return (
            min(content.authenticated_at or content.created_at, self._clock()) if self.codec.is_dated(content) else 0.0
        )

    def deadline(self, content: Content) -> float:
        """Return when the session ends regardless of activity: the absolute timeout, since the last login if any."""
        since = min(content.authenticated_at or content.created_at, self._clock())
        return self._timeouts.deadline(since, max_age=content.max_age)

    def ttl(self, content: Content) -> float:
        """Return the idle timeout of a session with these cookie settings of its own."""
        own = content.cookie
        if own is None or not ("max_age" in own or "lifetime" in own):
            return self._timeouts.default
        return self._timeouts.ttl(content.max_age)

    def _packed(
        self, handle: str, content: Content, *, order: int, version: Any = None, base: Snapshot | None = None
    ) -> Record:
        user = self.user_of(content.texts)
        text = None if user is None else self.codec.index_texts(user)[0]
        if base is not None and base.record.user_id != text:
            order = 0
        packed = self.codec.pack(content, handle=handle)
        return Record(packed, self.ttl(content), text, version, order=order if text is not None else 0)

    def _ask(self, verb: Callable[..., T], *args: Any, **options: Any) -> T:
        handled = sys.exc_info()[1]
        try:
            return verb(*args, **options)
        except StoreError as error:
            keep_one_traceback(error, handled)
            self._failed(error)
            raise

    def _failed(self, error: StoreError) -> None:
        self._events.emit("store_error", detail=str(error))
