"""A new ID takes over from an old one: at `regenerate` and `login`, and when the ID is due for renewal.

The order is always the same: the new record is written, with what others wrote to the old one since; the old one
ends, or becomes the way to the new one; the cookie leaves. So a crash on the way logs nobody out, and the old ID is
dead, or only an alias, before anyone sees the new one. Where the store's answer is lost on the way, exactly one of
the two stays usable.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import ConfigurationError, SessionGone, StoreError
from ..session import State
from .content import Content, Loaded, Renewed
from .events import Events
from .ids import IDSigner
from .merge import adopt, merge
from .records import GONE, Records
from .timeouts import Timeouts

_ID_BYTES = 32
_MOST_CLASHES = 8
_STALE_IS_NOTICED_FOR = 3600.0


class Succession:
    """Gives sessions their IDs."""

    def __init__(
        self,
        records: Records,
        signer: IDSigner,
        *,
        timeouts: Timeouts,
        events: Events,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        genid: Callable[[Any], str] | None,
    ) -> None:
        self._records, self._signer, self._events = records, signer, events
        self._codec, self._timeouts = records.codec, timeouts
        self._clock, self._random, self._genid = clock, random, genid

    def mint(self, state: State) -> None:
        """Give the state a new ID and handle.

        :raises ConfigurationError: where ``genid`` or ``random`` returned what cannot be an ID.
        """
        if self._genid is None:
            bits = self._random(_ID_BYTES)
            if len(bits) != _ID_BYTES:
                raise ConfigurationError(f"random must return as many bytes as it is asked for ({_ID_BYTES})")
            session_id = self._signer.new_id(bits)
        else:
            session_id = self._genid(None if state.visit is None else state.visit[1])
            if not isinstance(session_id, str) or not self._signer.accepts(session_id):
                raise ConfigurationError("genid must return a str of 16 to 128 characters of A-Z a-z 0-9 _ and -")
        state.session_id, state.handle = session_id, self._signer.handle(session_id)

    def create(self, state: State, content: Content) -> None:
        """Store the session under its new ID, another one where that is taken."""
        for _ in range(_MOST_CLASHES):
            if state.handle is None:
                self.mint(state)
            created = self._records.create(Loaded(handle_of(state), None, content, state.data))
            if created is not None:
                take_over(state, created)
                state.unsent = True
                self._events.emit("regenerated" if state.superseded else "created", state.handle)
                return
            state.handle = None
        raise StoreError(f"{_MOST_CLASHES} new session IDs in a row were taken; check genid or random")

    def end_superseded(self, state: State) -> None:
        """End the records that the new ID takes over from.

        :raises SessionGone: where one has ended already; then the new record ends too, unless this is a login.
        """
        if state.superseded:
            base, *untold = state.superseded  # records that this request made on the way: nobody knows their IDs
            try:
                self._end(state, base)
            finally:
                for made in untold:
                    self._records.forget(made.handle)
            state.superseded = ()
        state.moved = state.authenticated = False
        state.granted = frozenset()

    def _end(self, state: State, base: Loaded) -> None:
        handles = [base.handle]
        try:
            while not self._ended(state, base):
                theirs = self._records.load(base.handle, restart=False)
                if theirs is None:
                    led_nowhere = self._records.is_renewed(base.handle)
                    if not self._records.end(base.handle) or led_nowhere:  # else it was there, but undecodable
                        self._outlive(state, base)
                    return
                if theirs.handle != base.handle:
                    handles.append(theirs.handle)
                self._carry_over(state, base, theirs)
                base = theirs
        except Exception:
            self._take_back(state)
            raise
        for handle in handles[:-1]:  # the old ID was renewed meanwhile: what leads to the record ends with it
            self._records.forget(handle)

    def _ended(self, state: State, base: Loaded) -> bool:
        """Delete the old record. Where the store's answer is lost, look: exactly one ID may stay usable."""
        try:
            if state.keeps_data:
                return self._records.end(base.handle, version=base.record.version)
            return self._records.end_session(base.handle, version=base.record.version)
        except StoreError:
            with contextlib.suppress(StoreError):
                if self._records.load(base.handle, restart=False) is None:
                    return True
            raise

    def _carry_over(self, state: State, base: Loaded, theirs: Loaded) -> None:
        """Put what others wrote to the old record since onto the new one."""
        if not state.keeps_data:
            return
        mine = stored_of(state)
        settled = self._records.settled(self._ungranted(state, base), mine, theirs=self._ungranted(state, theirs))
        take_over(state, self._records.replace(mine, msgspec.structs.replace(settled, handle=mine.handle)))

    def _ungranted(self, state: State, old: Loaded) -> Loaded:
        """Return the old record without what a login has set: it stands alone, whatever was under the same keys."""
        granted = state.granted & state.data.keys()
        if not granted:
            return old
        data = {key: value for key, value in self._codec.parse(old.content.data).items() if key not in granted}
        content = msgspec.structs.replace(old.content, data=self._codec.dump(data))
        return msgspec.structs.replace(old, content=content, data=data)

    def _outlive(self, state: State, base: Loaded) -> None:
        """Decide what becomes of a new ID whose old session was ended by somebody else."""
        if not state.authenticated:
            raise SessionGone(GONE)
        mine = stored_of(state)
        data = merge(self._codec.parse(self._ungranted(state, base).content.data), state.data, {})
        fresh = msgspec.structs.replace(mine.content, data=self._codec.dump(data), created_at=self._clock())
        take_over(state, self._records.replace(mine, Loaded(mine.handle, None, fresh, data)))

    def _take_back(self, state: State) -> None:
        self._records.forget(handle_of(state))
        state.record, state.unsent = None, False

    def renew(self, state: State, content: Content) -> None:
        """Give an active session the ID that follows its ID; the old one leads to it for the grace time.

        :raises SessionGone: where the session has ended.
        """
        base = stored_of(state)
        assert state.session_id is not None
        now = self._clock()
        nonce = secrets.token_urlsafe(12)
        session_id = self._signer.renewed_id(state.session_id, nonce)
        pointer = Renewed(self._signer.handle(session_id), nonce, now + self._timeouts.grace)
        fresh = msgspec.structs.replace(content, issued_at=now)
        created = self._records.create(Loaded(pointer.handle, None, fresh, state.data))
        if created is None:
            raise StoreError("a renewed session ID was taken; check that the secret is one of its own")
        while not self._pointed(base, pointer):
            try:
                theirs = self._records.find(base.handle, restart=False)
                if isinstance(theirs, Loaded):
                    settled = self._records.settled(base, created, theirs=theirs)
                    created = self._records.replace(created, msgspec.structs.replace(settled, handle=pointer.handle))
            except Exception:
                self._records.forget(pointer.handle)
                raise
            if not isinstance(theirs, Loaded):
                self._records.forget(pointer.handle)
                self._follow(state, content, gone=theirs is None)
                return
            base = theirs
        state.session_id, state.renewing, state.resend = session_id, False, True
        take_over(state, created)
        self._events.emit("renewed", state.handle)

    def _pointed(self, base: Loaded, pointer: Renewed) -> bool:
        """Make the old record the way to the new one. Where the store's answer is lost, look."""
        try:
            return self._records.renew(base, pointer, ttl=self._timeouts.grace + _STALE_IS_NOTICED_FOR)
        except StoreError:
            with contextlib.suppress(StoreError):
                found = self._records.find(base.handle, restart=False)
                if found == pointer:
                    return True
                self._records.forget(pointer.handle)
            raise

    def _follow(self, state: State, content: Content, *, gone: bool) -> None:
        """Go where a parallel request has renewed the ID to, with this request's changes."""
        if gone:
            raise SessionGone(GONE)
        base = stored_of(state)  # what these changes were made to, whatever was merged on the way
        mine = Loaded(base.handle, None, content, state.data)
        self.moved_along(state, self._records.replace(base, mine))

    def moved_along(self, state: State, stored: Loaded) -> None:
        """Take over what was stored or read, under the ID that follows ours where it was renewed meanwhile."""
        session_id = state.session_id
        if stored.nonces and session_id is not None:
            for nonce in stored.nonces[:-1]:
                session_id = self._signer.renewed_id(session_id, nonce)
            state.session_id = self._signer.follow(session_id, stored.nonces[-1], handle=stored.handle)
            state.resend, state.renewing = state.session_id is not None, False
        take_over(state, stored)


def handle_of(state: State) -> str:
    """Return the state's handle, which it has."""
    assert state.handle is not None
    return state.handle


def stored_of(state: State) -> Loaded:
    """Return what the store held when the state was last read or written, with the live data."""
    return Loaded(handle_of(state), state.record, state.content, state.data)


def take_over(state: State, stored: Loaded) -> None:
    """Make the state that of what was stored or read; the app's own containers stay part of its data."""
    state.handle, state.record, state.content = stored.handle, stored.record, stored.content
    if stored.data is not state.data:
        adopt(state.data, stored.data, state.containers)
    if state.cookie_changed and state.cookie is not None:
        state.cookie.changed, state.resend = False, True  # the record has it now, and the browser not yet
