"""`Lifecycle`: one session on its way from the cookie to the record and back: found, written, moved, ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .content import EMPTY, Content
from .cookies import CookieOptions
from .decisions import Write
from .errors import ConfigurationError, SessionGone, StoreError
from .events import Events
from .merge import adopt, merge
from .records import Loaded, Records
from .session import Origin, SessionCookie, State, Superseded, Visit
from .signing import IDSigner

T = TypeVar("T")

_ID_BYTES = 32
_MOST_CLASHES = 8


class Lifecycle:
    """What sessions ask of their manager.

    :param find_cookies: returns the values of our cookie in a Cookie header.
    """

    def __init__(
        self,
        records: Records,
        signer: IDSigner,
        *,
        find_cookies: Callable[[str], Iterable[str]],
        name: str,
        cookie: CookieOptions,
        user_keys: tuple[str, ...],
        events: Events,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        genid: Callable[[Any], str] | None,
    ) -> None:
        self._records, self._signer, self._events = records, signer, events
        self._codec = records.codec
        self._find_cookies, self._name, self._cookie = find_cookies, name, cookie
        self._clock, self._random, self._genid = clock, random, genid
        self._user_keys = user_keys

    @property
    def user_keys(self) -> tuple[str, ...]:
        """The keys under which a user may stand, ours first."""
        return self._user_keys

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    def find(self, visit: Visit) -> State:
        """Find the session of a request: the first cookie that verifies and still has its record."""
        verified: list[str] = []
        origin = Origin.NEW
        for value in self._find_cookies(visit[0]):
            session_id = self._verified(value)
            if session_id is None:
                origin = Origin.FORGED
                continue
            handle = self._signer.handle(session_id)
            if handle in verified:
                continue
            verified.append(handle)
            loaded = self._records.load(handle, restart=True)
            if loaded is not None:
                return self.loaded_state(loaded, handle, session_id=session_id, visit=visit)
            self._events.emit("rejected", handle, reason="unknown")
        state = self._new_state(Origin.UNKNOWN if verified else origin, visit)
        state.verified = verified
        return state

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

    def is_changed(self, state: State) -> bool:
        """Tell whether the data differ from what the record holds."""
        return self.changed_text(state) is not None

    def new_cookie(self, state: State) -> SessionCookie:
        """Return the session's own cookie settings."""
        own = state.content.cookie or {}
        return SessionCookie(
            self.cookie_of(own), own, check=lambda options: options.check_name(self._name), now=self._clock
        )

    def expiry(self, state: State) -> float:
        """Return when the session ends unless it is used, in seconds since the epoch."""
        record = state.record
        idle = (
            record.expires_at if record is not None else self._clock() + self._records.ttl(self._content(state, None))
        )
        return float(min(idle, self._records.deadline(state.content)))

    def save(self, state: State) -> None:
        """Write the session now; a record that a new ID takes over from stays until the response leaves."""
        text = self.changed_text(state)
        if state.record is None:
            self._create(state, text)
        else:
            self.replace(state, text)

    def reload(self, state: State) -> None:
        """Read the session again; unsaved changes are dropped.

        :raises SessionGone: where the record has ended.
        """
        if state.record is None and not state.superseded:
            fresh = self._new_state(state.origin, state.visit)
            state.content, state.data, state.cookie = fresh.content, fresh.data, None
            return
        handle = state.handle if state.record is not None else state.superseded[-1].handle
        assert handle is not None
        loaded = self._records.load(handle, restart=False)
        if loaded is None:
            raise SessionGone("the session cannot be loaded again: it was destroyed, revoked or expired")
        if state.record is not None:
            state.record = loaded.record
        else:
            state.superseded[-1] = Superseded(handle, loaded.record, loaded.content)
        state.content, state.data, state.cookie, state.exposed = loaded.content, loaded.data, None, False

    def touch(self, state: State) -> None:
        """Restart the idle timeout in the store."""
        if state.record is not None and self._records.touch(self._handle(state), state.content):
            self._events.emit("touched", state.handle)

    def destroy(self, state: State) -> None:
        """End the session's records, and make the state that of a new session."""
        known = [state.handle] if state.record is not None else state.verified
        known_to_client = state.origin in (Origin.LOADED, Origin.UNKNOWN)
        for handle in [*known, *(old.handle for old in state.superseded)]:
            assert handle is not None
            if self._records.end(handle):
                state.ended = state.ended or known_to_client
                self._events.emit("destroyed", handle)
        origin = Origin.FORGED if state.origin is Origin.FORGED else Origin.NEW
        fresh = self._new_state(origin, state.visit)
        fresh.accessed, fresh.ended, fresh.clear_site_data = state.accessed, state.ended, state.clear_site_data
        for name in State.__slots__:
            setattr(state, name, getattr(fresh, name))

    def transact(self, state: State, function: Callable[[], T]) -> T:
        """Apply the function and write, again from fresh data where another writer came between.

        :raises SessionGone: where the record has ended.
        """
        while True:
            before = self._codec.dump(state.data)
            try:
                result = function()
            except BaseException:
                adopt(state.data, self._codec.parse(before))
                raise
            if self._written(state):
                return result
            theirs = self._records.load(self._handle(state), restart=False)
            if theirs is None:
                raise SessionGone("the session was destroyed, revoked or expired before the transaction was written")
            base = self._codec.parse(state.content.data)
            adopt(state.data, merge(base, self._codec.parse(before), theirs.data))
            state.record, state.content = theirs.record, theirs.content

    def write(self, state: State, write: Write, text: bytes | None) -> None:
        """Do to the store what was decided.

        :param text: the changed data, or None where they did not change.
        :raises SessionGone: where the record has ended meanwhile.
        """
        if write is Write.REPLACE:
            self.replace(state, text)
        elif write is Write.CREATE:
            if state.record is None:
                self._create(state, text)
            elif text is not None:
                self.replace(state, text)
            while state.superseded:
                self._end_superseded(state, state.superseded[0])
                del state.superseded[0]
            state.moved = state.authenticated = False

    def _create(self, state: State, text: bytes | None) -> None:
        content = self._content(state, text)
        for _ in range(_MOST_CLASHES):
            if state.handle is None:
                self.mint(state)
            assert state.handle is not None
            created = self._records.create(state.handle, content, state.data)
            if created is not None:
                state.record, state.content, state.unsent = created.record, content, True
                self._events.emit("regenerated" if state.moved else "created", state.handle)
                return
            state.handle = None
        raise StoreError(f"{_MOST_CLASHES} new session IDs in a row were taken; check genid or random")

    def replace(self, state: State, text: bytes | None) -> None:
        """Write over the record that was read, merged with what others wrote meanwhile.

        :raises SessionGone: where it has ended.
        """
        mine = Loaded(state.record, self._content(state, text), state.data)
        stored = self._records.replace(self._handle(state), Loaded(state.record, state.content, {}), mine)
        self._adopt(state, stored)
        self._events.emit("saved", state.handle)

    def _written(self, state: State) -> bool:
        """Write the state once; False where another writer came between, or the record has ended."""
        text = self.changed_text(state)
        if state.record is None:
            self._create(state, text)
        elif text is not None or state.cookie_changed:
            mine = Loaded(state.record, self._content(state, text), state.data)
            stored = self._records.try_replace(self._handle(state), Loaded(state.record, state.content, {}), mine)
            if stored is None:
                return False
            self._adopt(state, stored)
            self._events.emit("saved", state.handle)
        return True

    def _adopt(self, state: State, stored: Loaded) -> None:
        state.record, state.content = stored.record, stored.content
        if stored.data is not state.data:
            adopt(state.data, stored.data)
        if state.cookie is not None:
            state.cookie.changed = False

    def _end_superseded(self, state: State, old: Superseded) -> None:
        """End the record that the new ID takes over from, with what others wrote to it since carried over.

        :raises SessionGone: where it has ended already; then the new record ends too, unless this is a login.
        """
        base = Loaded(old.record, old.content, {})
        while not self._ended(state, old.handle, base.record.version if state.keeps_data else None):
            theirs = self._records.load(old.handle, restart=False)
            if theirs is None and not self._records.end(old.handle):
                self._outlive(state, base)
                return
            if theirs is None:
                return
            mine = Loaded(state.record, state.content, state.data)
            try:
                settled = self._records.settled(old.handle, base, mine, theirs=theirs)
            except BaseException:
                self._take_back(state)
                raise
            self._adopt(state, self._records.replace(self._handle(state), mine, settled))
            base = theirs

    def _ended(self, state: State, handle: str, version: Any) -> bool:
        """Delete the old record. Where the store's answer is lost, look: exactly one ID may stay usable."""
        try:
            return self._records.end(handle, version=version)
        except StoreError:
            with contextlib.suppress(StoreError):
                if self._records.load(handle, restart=False) is None:
                    return True
            self._take_back(state)
            raise

    def _outlive(self, state: State, base: Loaded) -> None:
        """Decide what becomes of a new ID whose old session was ended by somebody else."""
        if not state.authenticated:
            self._take_back(state)
            raise SessionGone("the session was destroyed, revoked or expired while this request ran")
        data = merge(self._codec.parse(base.content.data), state.data, {})
        content = self._content(state, self._codec.dump(data))
        mine = Loaded(state.record, content, data)
        self._adopt(state, self._records.replace(self._handle(state), Loaded(state.record, state.content, {}), mine))

    def _take_back(self, state: State) -> None:
        self._records.forget(self._handle(state))
        state.record, state.unsent = None, False

    def _handle(self, state: State) -> str:
        assert state.handle is not None
        return state.handle

    # Inside.

    def _verified(self, value: str) -> str | None:
        if not self._signer.has_shape(value):
            self._events.emit("rejected", reason="malformed")
            return None
        session_id = self._signer.unsign(value)
        if session_id is None:
            self._events.emit("rejected", reason="bad signature")
        return session_id

    def loaded_state(
        self, loaded: Loaded, handle: str, *, session_id: str | None = None, visit: Visit | None = None
    ) -> State:
        """Return the state of a session whose record was read; without a visit where it was opened by its handle."""
        state = State(Origin.LOADED, loaded.content, loaded.data, visit)
        state.record, state.handle, state.session_id = loaded.record, handle, session_id
        self._events.emit("loaded", handle)
        return state

    def _new_state(self, origin: Origin, visit: Visit | None) -> State:
        return State(origin, Content(EMPTY, self._clock()), {}, visit)

    def changed_text(self, state: State) -> bytes | None:
        """Return the data as text where they differ from what the record holds."""
        if not state.exposed:
            return None
        text = self._codec.dump(state.data)
        return None if self._codec.same(text, state.content.data) else text

    def _content(self, state: State, text: bytes | None) -> Content:
        own = state.content.cookie if state.cookie is None else state.cookie.own or None
        content = state.content
        return Content(content.data if text is None else text, content.created_at, content.authenticated_at, own)

    def cookie_of(self, own: dict[str, Any] | None) -> CookieOptions:
        """Return the cookie settings of a session: the manager's of today, and its own."""
        if not own:
            return self._cookie
        values = {name: getattr(self._cookie, name) for name in CookieOptions.__dataclass_fields__}
        return CookieOptions(**{**values, **{name: value for name, value in own.items() if name in values}})
