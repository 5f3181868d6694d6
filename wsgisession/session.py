"""`Session`: a lazy mapping that knows what changed and what the app asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, MutableMapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar, overload

import msgspec

from ._core.content import Content, Loaded, containers
from .errors import HeadersSentError, SessionError, SessionGone

T = TypeVar("T")

Visit = tuple[str, object]
"""A request, as far as a session needs it: its Cookie header, and the environ for whoever makes IDs."""

IMMUTABLE = frozenset({str, int, float, bool, type(None), bytes})
_THE_END = 253_402_300_799.0  # of the year 9999, in seconds: the last that a datetime can be


class Origin(Enum):
    """Where a session comes from."""

    NEW = "no cookie came"
    LOADED = "its cookie verified, and its record is there"
    UNKNOWN = "its cookie verified, but its record is gone"
    FORGED = "a cookie came, but none that verifies"


class State:
    """What is known of a session once it was touched: the manager's side of a `Session`.

    :ivar visit: the request, or None for a session opened by its handle.
    :ivar client: the IP address and user agent to keep with the record, or None.
    :ivar user: the user ID and the user that was loaded for it, or None.
    :ivar content: what the record held when it was last read or written; changes are measured against it.
    :ivar data: the live mapping.
    :ivar containers: the dicts and lists in the data that came from the store, by their identity; known from when the
        app first got hold of one, or put one of its own beside them.
    :ivar exposed: whether the app wrote to the mapping, or holds something in it that it can change.
    :ivar destroyed: whether the app ended the session; what it writes afterwards is a new one.
    :ivar ended: whether that ended a record which the browser has a cookie of.
    :ivar arrived_as: whose session the store knew this to be when it was found; None for nobody's.
    :ivar granted: the keys that a login has set, which count as changed also where they are what they were.
    :ivar superseded: the records that end when the new ID leaves.
    :ivar renewing: whether the ID is due for renewal.
    :ivar resend: whether the browser may not have the cookie of this ID yet.
    :ivar verified: the handles of the cookies that verified, while no record was found for any.
    :ivar unsent: whether a record was created in this request whose cookie has not left yet.
    """

    record: Any = None
    arrived_as: str | None = None
    session_id: str | None = None
    handle: str | None = None
    client: tuple[str, str] | None = None
    user: tuple[Any, Any] | None = None
    cookie: SessionCookie | None = None
    superseded: tuple[Loaded, ...] = ()
    verified: tuple[str, ...] = ()
    granted: frozenset[str] = frozenset()
    accessed = exposed = destroyed = ended = clear_site_data = False
    moved = authenticated = renewing = resend = unsent = False
    keeps_data = True

    def __init__(self, origin: Origin, content: Content, data: dict[str, Any], visit: Visit | None) -> None:
        self.origin, self.visit = origin, visit
        self.content, self.data = content, data
        self.containers: dict[int, Any] = {}

    def become(self, other: State) -> None:
        """Take over all that another state is."""
        self.__dict__ = other.__dict__

    def expose(self) -> None:
        """Note that the app may change the data from here on, in ways that nobody tells."""
        self.exposed = True
        if not self.containers:
            self.containers = containers(self.data)

    @property
    def is_only_read(self) -> bool:
        """Whether the app did nothing but read, and nothing else is due: what most requests do."""
        return self.origin is not Origin.FORGED and not (
            self.exposed
            or self.cookie
            or self.moved
            or self.ended
            or self.renewing
            or self.resend
            or self.unsent
            or self.clear_site_data
            or (self.record is not None and self.record.user_id != self.arrived_as)
        )

    @property
    def cookie_changed(self) -> bool:
        """Whether the app changed this session's own cookie settings."""
        return self.cookie is not None and self.cookie.changed

    def leave_unwritten(self) -> None:
        """Forget that anything changed: what was is not written at the end of the body either."""
        self.exposed, self.cookie = False, None


class Keeper(Protocol):
    """What a session asks of its manager."""

    name: str
    on_store_error: str
    loads_users: bool

    @property
    def user_keys(self) -> tuple[str, ...]:
        """The keys under which a user may stand, ours first."""

    def find(self, visit: Visit) -> State:
        """Find the session of a request."""

    def mint(self, state: State) -> None:
        """Give the state a new ID and handle."""

    def is_changed(self, state: State) -> bool:
        """Tell whether the data differ from what the record holds."""

    def user(self, state: State) -> Any:
        """Return the user that the app's loader knows."""

    def arrived_as(self, user_id: Any, state: State) -> bool:
        """Tell whether the session was this user's when it was found."""

    def new_cookie(self, state: State) -> SessionCookie:
        """Return the session's own cookie settings."""

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""

    def shown(self, handle: str) -> str:
        """Return what may be said of a record in a log or a repr."""

    def expiry(self, state: State) -> float:
        """Return when the session ends unless it is used, in seconds since the epoch."""

    def save(self, state: State) -> None:
        """Write the session now."""

    def reload(self, state: State) -> None:
        """Read the session again."""

    def touch(self, state: State) -> bool:
        """Restart the idle timeout in the store; False where no record is there, or its ID was renewed meanwhile."""

    def destroy(self, state: State) -> None:
        """End the record, and make the state that of a new session."""

    def transact(self, state: State, function: Callable[[], T]) -> T:
        """Apply the function to the data and write them, again from fresh data where another writer came between."""


class Session(MutableMapping[str, Any]):
    """One visitor's session: read and written like a dict of JSON-like values.

    Nothing is parsed, verified or fetched before it is first touched. Changes, nested ones included, are written
    before the response's headers leave. Made by a `SessionManager`, never by hand.

    :ivar keeper: the manager's side of all its sessions. For adapters.
    :ivar visit: the Cookie header and the context of the request; None for a session opened by its handle. For
        adapters.
    """

    state: State | None = None
    """The manager's side of the session; None before it was touched. For adapters."""

    is_sealed = False
    """Whether the headers have left, so that a session without a cookie can no longer be written to. For adapters."""

    enclosing: Session | None = None
    """The session of another cookie, whose middleware encloses this one's. For adapters."""

    is_enclosing = False
    """Whether another middleware inside put a session of its own in this one's place. For adapters."""

    def __init__(self, keeper: Keeper, visit: Visit | None) -> None:
        self.keeper, self.visit = keeper, visit

    # The mapping.

    def __getitem__(self, key: str) -> Any:
        state = self._accessed()
        value = state.data[key]
        if type(value) not in IMMUTABLE:
            state.expose()
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        state = self._changing()
        if type(value) not in IMMUTABLE:
            state.expose()  # before the app's own dict or list is in there
        state.data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._changing().data[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of the key, or the default."""
        return self[key] if key in self._accessed().data else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._accessed().data)

    def __len__(self) -> int:
        return len(self._accessed().data)

    def __contains__(self, key: object) -> bool:
        return key in self._accessed().data

    def clear(self) -> None:
        """Remove all data; the ID stays."""
        self._changing().data.clear()

    def __repr__(self) -> str:
        state = self.state
        if state is None:
            return "<Session, not read yet>"
        return f"<Session {self.keeper.shown(state.handle) if state.handle else 'without a record'}>"

    # What it is.

    @property
    def id(self) -> str | None:
        """The session ID, a secret; None where the session was opened by its handle. Never log it: use `handle`."""
        return self._identified().session_id

    @property
    def handle(self) -> str:
        """The record's public name, safe in lists, logs and URLs; it opens nothing.

        But with ``format="express"`` it is the ID, a secret.
        """
        handle = self._identified().handle
        assert handle is not None
        return handle

    @property
    def is_new(self) -> bool:
        """Whether no record was there when the request came."""
        return self._accessed().origin is not Origin.LOADED

    @property
    def is_accessed(self) -> bool:
        """Whether anybody has looked at the session in this request."""
        return self.state is not None and self.state.accessed

    @property
    def is_modified(self) -> bool:
        """Whether the data differ from what the store holds, nested changes included."""
        state = self.state
        return state is not None and (state.moved or self.keeper.is_changed(state))

    @property
    def is_empty(self) -> bool:
        """Whether there are no data."""
        return not self._accessed().data

    @property
    def user_id(self) -> Any:
        """Whose session this is: the first value under the manager's ``user_key``, or None."""
        return first_user(self._accessed().data, self.keeper.user_keys)

    @property
    def user(self) -> Any:
        """What the manager's ``user_loader(user_id)`` returned, loaded once per request, or None."""
        return self.keeper.user(self._accessed())

    @property
    def cookie(self) -> SessionCookie:
        """This session's own cookie settings; a change goes to the client and stays with the record."""
        state = self._accessed()
        if state.cookie is None:
            state.cookie = self.keeper.new_cookie(state)
        return state.cookie

    @property
    def created_at(self) -> datetime:
        """When the session began; `regenerate` does not move it."""
        return as_datetime(self._accessed().content.created_at)

    @property
    def authenticated_at(self) -> datetime | None:
        """When `login` last happened, for step-up checks (ASVS 5.0 7.5.3); None for never."""
        at = self._accessed().content.authenticated_at
        return None if at is None else as_datetime(at)

    @property
    def last_seen_at(self) -> datetime:
        """When the idle timeout was last restarted: now for a new session, else up to ``touch_after`` ago."""
        state = self._accessed()
        return as_datetime(state.content.created_at if state.record is None else last_seen(state.record))

    @property
    def expires_at(self) -> datetime:
        """When the session ends unless it is used: idle since `last_seen_at`, or by the absolute timeout before."""
        return as_datetime(self.keeper.expiry(self._accessed()))

    # What the app can ask for.

    def regenerate(self, *, keep_data: bool = True) -> None:
        """Give the session a new ID, with the data copied over; the old ID is dead before anyone sees the new one.

        The swap is made when the response is about to leave. The absolute timeout does not move.

        :raises HeadersSentError: after the headers left.
        :raises SessionError: for a session opened by its handle: there is no response to carry the new ID.
        """
        state = self._accessed()
        if self.is_sealed:
            raise HeadersSentError("a new session ID needs a cookie, but the headers have left; regenerate earlier")
        if self.visit is None:
            raise SessionError("a session opened by its handle cannot get a new ID: no response would carry it")
        if state.record is not None and state.handle is not None:
            state.superseded = (*state.superseded, Loaded(state.handle, state.record, state.content, {}))
            state.record, state.unsent = None, False
        state.moved = True
        self.keeper.mint(state)
        if not keep_data:
            state.keeps_data, state.cookie = False, None
            state.content = msgspec.structs.replace(state.content, cookie=None)
            self.clear()

    def login(self, user_id: Any, **data: Any) -> None:
        """Regenerate the ID, then set the user and the data (ASVS 5.0 7.2.4). Restarts both timeouts.

        A session that has ended meanwhile does not swallow the login: a new one is started.

        :param user_id: what `user_id` will return; compared as text when a user's sessions are looked up.
        :raises HeadersSentError: after the headers left.
        :raises ValueError: for None.
        """
        if user_id is None:
            raise ValueError("login needs a user; to end a login, call logout")
        self.regenerate()
        state = self._changing()
        state.expose()
        state.authenticated, state.granted = True, frozenset([self.keeper.user_keys[0], *data])
        state.content = msgspec.structs.replace(state.content, authenticated_at=self.keeper.now(), issued_at=None)
        for key in self.keeper.user_keys[1:]:
            state.data.pop(key, None)
        state.data[self.keeper.user_keys[0]] = user_id
        state.data.update(data)

    def destroy(self) -> None:
        """End the session: the record is gone now, and the browser is told to drop the cookie.

        Writing afterwards starts a new session with a new ID.

        :raises StoreError: where the record could not be deleted; the session then goes on.
        """
        self.keeper.destroy(self._accessed())

    def logout(self, *, clear_site_data: bool = False) -> None:
        """End the session as `destroy` does.

        :param clear_site_data: also send ``Clear-Site-Data``, so that the browser forgets caches and storage.
        """
        self.destroy()
        self._accessed().clear_site_data = clear_site_data

    def save(self) -> None:
        """Write the session now; what others changed meanwhile is merged in.

        :raises StoreError: where the store refuses.
        :raises SessionGone: where the record has ended.
        :raises HeadersSentError: for a new session after the headers left.
        """
        self.keeper.save(self._changing())

    def reload(self) -> None:
        """Read the session again from the store; unsaved changes are dropped.

        :raises SessionGone: where the record has ended.
        """
        self.keeper.reload(self._accessed())

    def touch(self) -> None:
        """Restart the idle timeout in the store now."""
        self.keeper.touch(self._accessed())

    def transaction(self, function: Callable[[Session], T]) -> T:
        """Apply ``function(session)`` and write at once, again from fresh data if another writer came between.

        The function may run several times; fifty parallel ``session["n"] += 1`` make fifty.

        :raises SessionGone: where the record has ended.
        """
        return self.keeper.transact(self._changing(), lambda: function(self))

    # Inside.

    def open(self) -> State:
        """Find the session if that was not done yet, and return the manager's side of it. For adapters."""
        state = self.state
        if state is None:
            assert self.visit is not None
            state = self.state = self.keeper.find(self.visit)
        return state

    def _accessed(self) -> State:
        state = self.state
        if state is None:
            state = self.open()
        state.accessed = True
        return state

    def _changing(self) -> State:
        state = self._accessed()
        if state.record is None:
            self._check_startable()
        state.exposed = True
        return state

    def _check_startable(self) -> None:
        """Check that a response can still carry the cookie of a new session."""
        if self.visit is None:
            raise SessionGone("the session has ended, and one opened by its handle cannot start another")
        if self.is_sealed:
            raise HeadersSentError(
                "a new session needs a cookie, but the headers have left; write to the session before the first chunk, "
                "and with Flask's or Django's own sessions before the view returns"
            )

    def _identified(self) -> State:
        state = self._accessed()
        if state.handle is None:
            self.keeper.mint(state)
        return state


class _Setting(Generic[T]):
    """An attribute of `SessionCookie`, checked as in `CookieOptions`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, cookie: None, owner: type) -> _Setting[T]: ...
    @overload
    def __get__(self, cookie: SessionCookie, owner: type) -> T: ...
    def __get__(self, cookie: SessionCookie | None, owner: type) -> T | _Setting[T]:
        if cookie is None:
            return self
        value: T = getattr(cookie.options, self._name)
        return value

    def __set__(self, cookie: SessionCookie, value: T) -> None:
        cookie.set(self._name, value)


class SessionCookie:
    """The cookie settings of one session: the manager's, and what this session has of its own.

    They are those of `CookieOptions`, by the same names, and each can be set.

    :param options: a `CookieOptions`.
    :param own: what differs from the manager's settings, by name.
    :param check: refuses options that do not go with the cookie's name.
    """

    __slots__ = ("_check", "_now", "changed", "options", "own")  # so that a name that is no setting is an error

    max_age: _Setting[float | None] = _Setting()
    path: _Setting[str] = _Setting()
    domain: _Setting[str | None] = _Setting()
    http_only: _Setting[bool] = _Setting()
    same_site: _Setting[str] = _Setting()
    secure: _Setting[bool | str] = _Setting()
    partitioned: _Setting[bool] = _Setting()

    def __init__(
        self, options: Any, own: dict[str, Any], *, check: Callable[[Any], None], now: Callable[[], float]
    ) -> None:
        self.options, self.own = options, dict(own)
        self.changed = False
        self._check, self._now = check, now

    def set(self, name: str, value: Any) -> None:
        """Change one setting.

        :raises ConfigurationError: for what a browser would refuse.
        """
        if isinstance(value, timedelta):
            value = value.total_seconds()
        options = dataclasses.replace(self.options, **{name: value})
        self._check(options)
        self.options = options
        self.own[name] = getattr(options, name)
        self.changed = True

    @property
    def original_max_age(self) -> float | None:
        """The seconds that each use extends the session by: the same as `max_age` (express-session's name)."""
        return self.max_age

    @property
    def expires(self) -> datetime | None:
        """When the browser would drop a cookie that is sent now; None for one that ends with the browser."""
        return None if self.max_age is None else as_datetime(self._now() + self.max_age)

    @expires.setter
    def expires(self, at: datetime | None) -> None:
        self.max_age = None if at is None else at.timestamp() - self._now()

    def __repr__(self) -> str:
        return f"<SessionCookie of its own: {self.own}>"


def first_user(data: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """Return the first value that stands under one of the keys, or None."""
    for key in keys:
        value = data.get(key)
        if value is not None:
            return value
    return None


def last_seen(record: Any) -> float:
    """Return when a record's idle timeout was last restarted."""
    return float(record.expires_at - record.ttl)


def as_datetime(seconds: float) -> datetime:
    """Return the aware datetime of seconds since the epoch; of what is beyond the year 9999, as at Express, its end."""
    return datetime.fromtimestamp(min(seconds, _THE_END), timezone.utc)
