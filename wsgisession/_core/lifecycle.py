"""`Lifecycle`: one session on its way from the cookie to the record and back: found, written, moved, ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from ..errors import SessionGone
from ..session import Origin, SessionCookie, State, Visit, first_user
from .content import EMPTY, Content, Loaded
from .decisions import Write
from .events import Events
from .ids import IDSigner
from .merge import adopt, merge
from .records import GONE, Records, user_text
from .replies import CookieWriter
from .takeover import Succession, handle_of, stored_of
from .timeouts import Timeouts

T = TypeVar("T")


class Lifecycle:
    """What sessions ask of their manager.

    :param on_store_error: what the adapters do where the store fails: "raise", or "unavailable".
    :param find_cookies: returns the values of our cookie in a Cookie header.
    """

    def __init__(
        self,
        records: Records,
        succession: Succession,
        signer: IDSigner,
        *,
        find_cookies: Callable[[str], Iterable[str]],
        cookies: CookieWriter,
        user_keys: tuple[str, ...],
        user_loader: Callable[[Any], Any] | None,
        timeouts: Timeouts,
        events: Events,
        clock: Callable[[], float],
        on_store_error: str,
    ) -> None:
        self.name, self.on_store_error = cookies.name, on_store_error
        self._records, self._succession, self._signer = records, succession, signer
        self._codec, self._timeouts, self._events = records.codec, timeouts, events
        self._find_cookies, self._cookies = find_cookies, cookies
        self._clock, self._user_keys, self._user_loader = clock, user_keys, user_loader
        self.loads_users = user_loader is not None

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
            loaded = self._records.load(handle, restart=True, presented=True)
            if loaded is not None:
                state = self.loaded_state(loaded, session_id=session_id, visit=visit)
                if state.session_id is not None:
                    return state
        state = self._new_state(Origin.UNKNOWN if verified else origin, visit)
        state.verified = tuple(verified)
        return state

    def mint(self, state: State) -> None:
        """Give the state a new ID and handle."""
        self._succession.mint(state)

    def is_changed(self, state: State) -> bool:
        """Tell whether the data differ from what the record holds."""
        return self.changed_text(state) is not None

    def user(self, state: State) -> Any:
        """Return the user that the app's loader knows under the session's user ID, loaded once per request."""
        user_id = first_user(state.data, self._user_keys)
        if user_id is None or self._user_loader is None:
            return None
        if state.user is None or state.user[0] != user_id:
            state.user = (user_id, self._user_loader(user_id))
        return state.user[1]

    def arrived_as(self, user_id: Any, state: State) -> bool:
        """Tell whether the session was this user's when it was found, by any text that the index may hold."""
        return state.arrived_as in self._codec.index_texts(user_text(user_id))

    def new_cookie(self, state: State) -> SessionCookie:
        """Return the session's own cookie settings."""
        own = state.content.cookie or {}
        name = self._cookies.name
        return SessionCookie(
            self._cookies.options_of(own), own, check=lambda options: options.check_name(name), now=self._clock
        )

    def forsake(self, state: State) -> None:
        """End the records that a new ID was to take over from, where the new one will not be written: as at Express."""
        for old in state.superseded:
            self._records.end_session(old.handle, version=old.record.version)

    def settle_cookie(self, state: State, *, scheme: str, host: str) -> None:
        """Let a new record say whether its cookie is Secure: Node.js has no "auto", and makes its cookie from that."""
        if state.record is not None and not state.unsent:
            return
        cookie = self.new_cookie(state) if state.cookie is None else state.cookie
        if cookie.secure == "auto" and self._cookies.is_secure(cookie.options, scheme, host):
            changed = cookie.changed or state.record is not None
            cookie.set("secure", True)
            state.cookie, cookie.changed = cookie, changed

    def shown(self, handle: str) -> str:
        """Return what may be said of a record in a log or a repr."""
        return self._signer.shown(handle)

    def expiry(self, state: State) -> float:
        """Return when the session ends unless it is used, in seconds since the epoch."""
        if state.record is None:
            idle = self._clock() + self._records.ttl(self._content(state, None))
        else:
            idle = state.record.expires_at
        return float(min(idle, self._records.deadline(state.content)))

    def save(self, state: State) -> None:
        """Write the session now; a record that a new ID takes over from stays until the response leaves."""
        text = self.changed_text(state)
        if state.record is None:
            self._succession.create(state, self._content(state, text))
        else:
            self.replace(state, text)
            self._note_sent_again(state, text)

    def reload(self, state: State) -> None:
        """Read the session again; unsaved changes are dropped.

        :raises SessionGone: where the record has ended.
        """
        if state.record is None and not state.superseded:
            fresh = self._new_state(state.origin, state.visit)
            state.content, state.data, state.cookie = fresh.content, fresh.data, None
            return
        handle = handle_of(state) if state.record is not None else state.superseded[-1].handle
        loaded = self._records.load(handle, restart=False)
        if loaded is None:
            raise SessionGone("the session cannot be loaded again: it was destroyed, revoked or expired")
        state.data, state.cookie, state.exposed, state.containers = loaded.data, None, False, {}
        if state.record is not None:
            self._succession.moved_along(state, loaded)
        else:
            state.superseded, state.content = (*state.superseded[:-1], loaded), loaded.content
            state.authenticated, state.granted = False, frozenset()

    def touch(self, state: State) -> bool:
        """Restart the idle timeout in the store; False where no record is there, or its ID was renewed meanwhile."""
        if state.record is None or not self._records.touch(handle_of(state), state.content):
            return False
        if self._timeouts.renewal is not None and self._records.is_renewed(handle_of(state)):
            return False
        ttl = self._records.ttl(state.content)
        state.record = msgspec.structs.replace(state.record, ttl=ttl, expires_at=self._clock() + ttl)
        self._events.emit("touched", state.handle)
        return True

    def destroy(self, state: State) -> None:
        """End the session's records, and make the state that of a new session."""
        made_here = state.record is not None or bool(state.superseded)
        known_to_client = state.origin is Origin.LOADED or (state.origin is Origin.UNKNOWN and not made_here)
        for handle, version in self._records_of(state):
            if self._records.end_session(handle, version=version):
                state.ended = state.ended or known_to_client
                self._events.emit("destroyed", handle)
        origin = Origin.FORGED if state.origin is Origin.FORGED else Origin.NEW
        fresh = self._new_state(origin, state.visit)
        fresh.accessed, fresh.destroyed = state.accessed, True
        fresh.ended, fresh.clear_site_data = state.ended, state.clear_site_data
        state.become(fresh)

    def transact(self, state: State, function: Callable[[], T]) -> T:
        """Apply the function and write, again from fresh data where another writer came between.

        Where either fails, the data are again what they were.

        :raises SessionGone: where the record has ended.
        """
        while True:
            before = self._codec.dump(state.data)
            try:
                result = function()
                if self._written(state):
                    return result
            except BaseException:
                adopt(state.data, self._codec.parse(before), state.containers)
                raise
            theirs = self._records.load(handle_of(state), restart=False)
            if theirs is None:
                raise SessionGone(GONE)
            base = self._codec.parse(state.content.data)
            merged = merge(base, self._codec.parse(before), theirs.data)
            self._succession.moved_along(state, msgspec.structs.replace(theirs, data=merged))

    def write(self, state: State, write: Write, text: bytes | None) -> None:
        """Do to the store what was decided.

        :param text: the changed data, or None where they did not change.
        :raises SessionGone: where the record has ended meanwhile.
        """
        if write is Write.REPLACE:
            self.replace(state, text)
        elif write is Write.CREATE:
            if state.record is None:
                self._succession.create(state, self._content(state, text))
            elif state.renewing and not state.moved:
                self._succession.renew(state, self._content(state, text))
            elif text is not None or state.cookie_changed or state.client not in (None, state.content.client):
                self.replace(state, text)
            self.end_superseded(state)

    def end_superseded(self, state: State) -> None:
        """End the records that the session's new ID takes over from.

        :raises SessionGone: where one has ended already.
        """
        self._succession.end_superseded(state)

    def replace(self, state: State, text: bytes | None) -> None:
        """Write over the record that was read, merged with what others wrote meanwhile.

        :raises SessionGone: where it has ended.
        """
        base = stored_of(state)
        mine = msgspec.structs.replace(base, record=None, content=self._content(state, text))
        self._succession.moved_along(state, self._records.replace(base, mine))
        self._events.emit("saved", state.handle)

    def _written(self, state: State) -> bool:
        """Write the state once; False where another writer came between, or the record has ended."""
        text = self.changed_text(state)
        if state.record is None:
            self._succession.create(state, self._content(state, text))
        elif text is not None or state.cookie_changed:
            base = stored_of(state)
            stored = self._records.try_replace(
                base, msgspec.structs.replace(base, record=None, content=self._content(state, text))
            )
            if stored is None:
                return False
            self._succession.moved_along(state, stored)
            self._note_sent_again(state, text)
            self._events.emit("saved", state.handle)
        return True

    def _note_sent_again(self, state: State, text: bytes | None) -> None:
        """Let a change that was written already restart the cookie in the browser too, as one written at the end."""
        if text is not None and self._cookies.options_of(state.content.cookie).seconds is not None:
            state.resend = True

    # Inside.

    def _verified(self, value: str) -> str | None:
        if not self._signer.has_shape(value):
            self._events.emit("rejected", reason="malformed")
            return None
        session_id = self._signer.unsign(value)
        if session_id is None:
            self._events.emit("rejected", reason="bad signature")
        return session_id

    def _records_of(self, state: State) -> list[tuple[str, Any]]:
        """Return the handles and versions of all records that stand for the session."""
        superseded = [(old.handle, old.record.version) for old in state.superseded]
        if state.record is not None:
            return [(handle_of(state), state.record.version), *superseded]
        return superseded or [(handle, None) for handle in state.verified]

    def loaded_state(self, loaded: Loaded, *, session_id: str | None = None, visit: Visit | None = None) -> State:
        """Return the state of a session whose record was read; without a visit where it was opened by its handle."""
        state = State(Origin.LOADED, loaded.content, loaded.data, visit)
        state.session_id, state.handle, state.record = session_id, loaded.handle, loaded.record
        state.arrived_as = loaded.record.user_id
        if loaded.nonces:
            self._succession.moved_along(state, loaded)
        state.renewing = session_id is not None and self._is_due(loaded.content)
        self._events.emit("loaded", loaded.handle)
        return state

    def _is_due(self, content: Content) -> bool:
        """Whether the ID was used for long enough."""
        renewal = self._timeouts.renewal
        if renewal is None:
            return False
        return self._clock() - (content.issued_at or content.authenticated_at or content.created_at) >= renewal

    def _new_state(self, origin: Origin, visit: Visit | None) -> State:
        return State(origin, Content(EMPTY, self._clock()), {}, visit)

    def changed_text(self, state: State) -> bytes | None:
        """Return the data as text where they differ from what the record holds."""
        if not state.exposed:
            return None
        text = self._codec.dump(state.data)
        return None if self._codec.same(text, state.content.data) else text

    def _content(self, state: State, text: bytes | None) -> Content:
        """Return what is to be written: the content that was read, with the changed data, cookie and client."""
        content = state.content
        if text is None and state.cookie is None and state.client is None:
            return content
        return msgspec.structs.replace(
            content,
            data=content.data if text is None else text,
            cookie=content.cookie if state.cookie is None else state.cookie.own or None,
            client=state.client or content.client,
        )
