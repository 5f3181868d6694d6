"""Django's session engine on this library's stores, and its session middleware for an app in `SessionMiddleware`.

``SESSION_ENGINE = "wsgisession.django"`` with ``WSGISESSION = {"store": "redis://..."}``: any option of
`SessionManager` may stand in there. Django writes the cookie, and its value is the bare session key; the store holds
only its digest, so that whoever reads the store cannot use what is in there.

``"wsgisession.django.Sessions"`` in ``INSTALLED_APPS`` lets ``manage.py check`` look at the settings; without it they
are looked at when the first request comes.
"""

from __future__ import annotations

import hashlib
import threading
from datetime import datetime, timedelta
from inspect import signature
from typing import Any

import msgspec
from django.apps import AppConfig
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.dateparse import parse_datetime

from .content import EMPTY, Content, Loaded
from .environ import KEY, RETRY_AFTER, UNAVAILABLE
from .errors import ConfigurationError, SessionGone, StoreError
from .manager import SessionManager
from .session import Origin, Session, State

_THIRTY_DAYS = timedelta(days=30).total_seconds()
_SETTINGS = ("WSGISESSION", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "SESSION_COOKIE_AGE")

_lock = threading.Lock()
_manager: SessionManager | None = None


def get_manager() -> SessionManager:
    """Return the manager that ``settings.WSGISESSION`` describes: for `sessions_for`, `revoke_user` and the like.

    :raises ConfigurationError: for a setting that cannot be right.
    """
    global _manager  # noqa: PLW0603 - one per process, as Django's settings are
    if _manager is None:
        with _lock:
            if _manager is None:
                _manager = SessionManager(**_options())
    return _manager


def _options() -> dict[str, Any]:
    given = getattr(settings, "WSGISESSION", {})
    if not isinstance(given, dict):
        raise ConfigurationError('WSGISESSION must be a dict, such as {"store": "redis://localhost:6379/0"}')
    unknown = given.keys() - signature(SessionManager).parameters.keys()
    if unknown:
        raise ConfigurationError(f"WSGISESSION has an unknown option {min(map(str, unknown))!r}")
    if given.get("format") == "express":
        raise ConfigurationError(
            "Django's own session middleware sends no cookie that Express can read: wrap the WSGI app in"
            " SessionMiddleware, and name wsgisession.django.SessionMiddleware in MIDDLEWARE"
        )
    if "store" not in given:
        raise ConfigurationError('WSGISESSION needs a store, such as {"store": "redis://localhost:6379/0"}')
    # Django writes the cookie itself: the secret signs nothing here, and may be as short as Django allows.
    secrets = [hashlib.sha256(str(key).encode()).hexdigest() for key in _secrets()]
    absolute = max(_THIRTY_DAYS, settings.SESSION_COOKIE_AGE)
    return {"secret": secrets, "absolute_timeout": absolute, **given}


def _secrets() -> list[str]:
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def _forget(*, setting: str, **_: Any) -> None:
    global _manager  # noqa: PLW0603
    if setting in _SETTINGS and _manager is not None:
        _manager.close()
        _manager = None


setting_changed.connect(_forget, dispatch_uid="wsgisession.django")


class Sessions(AppConfig):
    """The app to name in ``INSTALLED_APPS``, for the system checks."""

    name = "wsgisession.django"
    label = "wsgisession"
    verbose_name = "Server-side sessions"

    def ready(self) -> None:
        """Register the system checks."""
        register(check_settings)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Say what is wrong with ``settings.WSGISESSION``."""
    try:
        manager = SessionManager(**_options())
    except ConfigurationError as error:
        return [Error(str(error), hint="See WSGISESSION in your settings.", id="wsgisession.E001")]
    except TypeError as error:
        return [Error(f"WSGISESSION has a value of the wrong type: {error}", id="wsgisession.E002")]
    if not manager.store.shared:
        what = "WSGISESSION uses memory://: each process has sessions of its own, and a restart ends them all."
        return [Warning(what, hint="Use a store that the processes share.", id="wsgisession.W001")]
    return []


class SessionStore(SessionBase):
    """Django's verbs on records. Two requests never lose each other's work; a session that ended stays ended."""

    _session_key: str | None
    _state: State | None = None

    def load(self) -> dict[str, Any]:
        """Read the session, which counts as activity; without a live record it is empty and has no key."""
        state = self._found(self.session_key)
        if state is None or _has_passed(state.data.get("_session_expiry")):
            self._session_key = None
            return {}
        self._state = state
        return state.data

    def exists(self, session_key: str | None) -> bool:
        """Tell whether there is a live record under the key."""
        handle = _handle_of(session_key)
        return handle is not None and get_manager().records.load(handle, restart=False) is not None

    def create(self) -> None:
        """Store the session under a new key, which no other has."""
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Write the session, with what others wrote meanwhile merged in.

        :raises CreateError: where the key is taken, and a new record was asked for.
        :raises UpdateError: where the record has ended.
        """
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)
        age = self.get_expiry_age()
        if age <= 0:
            self.delete()
            return
        if must_create:
            self._create(data, age)
        else:
            self._replace(data, age)

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or this one."""
        handle = _handle_of(self.session_key if session_key is None else session_key)
        if handle is not None:
            get_manager().records.end_session(handle)

    def cycle_key(self) -> None:
        """Give the session a new key; what others wrote under the old one meanwhile is carried over.

        :raises UpdateError: where the old record has ended.
        """
        data, old = self._session, self._state
        self._state = None
        self.create()
        if old is None or self._state is None:
            return
        new: State = self._state
        assert old.handle is not None
        new.moved = True
        new.superseded.append(Loaded(old.handle, old.record, old.content, {}))
        try:
            get_manager().lifecycle.end_superseded(new)
        except SessionGone:
            raise UpdateError from None
        self._session_cache = new.data
        assert data is new.data

    @classmethod
    def clear_expired(cls) -> None:
        """Remove expired records from the store."""
        get_manager().purge_expired()

    def _get_new_session_key(self) -> str:
        manager = get_manager()
        state = State(Origin.NEW, Content(EMPTY, manager.lifecycle.now()), {}, None)
        manager.lifecycle.mint(state)
        assert state.session_id is not None
        return state.session_id

    async def _aget_new_session_key(self) -> str:
        return self._get_new_session_key()

    def _create(self, data: dict[str, Any], age: float) -> None:
        handle = _handle_of(self.session_key)
        if handle is None:
            raise CreateError
        records = get_manager().records
        content = Content(records.codec.dump(data), get_manager().lifecycle.now(), cookie={"max_age": age})
        created = records.create(Loaded(handle, None, content, data))
        if created is None:
            raise CreateError
        self._state = get_manager().lifecycle.loaded_state(created)

    def _replace(self, data: dict[str, Any], age: float) -> None:
        state = self._state or self._found(self.session_key)
        if state is None:
            raise UpdateError
        state.data, state.exposed, self._state = data, True, state
        state.content = msgspec.structs.replace(state.content, cookie={"max_age": age})
        lifecycle = get_manager().lifecycle
        try:
            lifecycle.replace(state, lifecycle.changed_text(state))
        except SessionGone:
            raise UpdateError from None

    @staticmethod
    def _found(session_key: str | None) -> State | None:
        handle = _handle_of(session_key)
        if handle is None:
            return None
        loaded = get_manager().records.load(handle, restart=True, presented=True)
        return None if loaded is None else get_manager().lifecycle.loaded_state(loaded)


def _handle_of(session_key: str | None) -> str | None:
    """Return the handle for a key that has the shape of one of ours, else None: nothing else reaches the store."""
    signer = get_manager().signer
    return signer.handle(session_key) if session_key and signer.accepts(session_key) else None


def _has_passed(expiry: Any) -> bool:
    """Whether a fixed date that `set_expiry` was given lies in the past; reading does not extend it."""
    at = parse_datetime(expiry) if isinstance(expiry, str) else expiry
    return isinstance(at, datetime) and at <= datetime.now(at.tzinfo)


class EnvironSession(SessionBase):
    """The environ's `Session` with Django's methods, where the WSGI app is wrapped in `SessionMiddleware`."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    @property
    def session_key(self) -> str | None:
        """The session ID, a secret; None for a session without a record."""
        return None if self.session.is_new else self.session.id

    def _get_session(self, no_load: bool = False) -> Session:
        self.accessed = True
        return self.session

    async def _aget_session(self, no_load: bool = False) -> Session:
        return self._get_session()

    _session = property(_get_session)

    def is_empty(self) -> bool:
        """Tell whether there are no data."""
        return self.session.is_empty

    def clear(self) -> None:
        """Remove all data."""
        self.session.clear()
        self.accessed = self.modified = True

    def flush(self) -> None:
        """End the session; writing afterwards starts a new one."""
        self.session.destroy()
        self.modified = True

    def cycle_key(self) -> None:
        """Give the session a new ID when the response leaves."""
        self.session.regenerate()

    def create(self) -> None:
        """Give the session a new ID and no data."""
        self.session.regenerate(keep_data=False)
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Write the session now."""
        self.session.save()

    def load(self) -> Session:
        """Return the data."""
        return self.session

    def delete(self, session_key: str | None = None) -> None:
        """End the session now."""
        self.session.destroy()

    def exists(self, session_key: str) -> bool:
        """Tell whether this is a session that has a record."""
        return session_key == self.session_key


class SessionMiddleware(DjangoSessionMiddleware):
    """Django's session middleware, with the environ's session where the WSGI app is wrapped in `SessionMiddleware`.

    Also for the engine: with ``on_store_error="unavailable"`` it answers 503 where the store fails.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Put the session on the request."""
        outer = request.META.get(KEY)
        if isinstance(outer, Session) and not outer.is_sealed:
            request.session = EnvironSession(outer)
        else:
            super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Write the session, or leave that to the WSGI middleware, with the cookie's life that Django asks for."""
        session = getattr(request, "session", None)
        try:
            if not isinstance(session, EnvironSession):
                return super().process_response(request, response)
            if session.accessed:
                _follow_django(session)
        except StoreError as error:
            return _unavailable(session, error)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Answer for a store that failed in a view."""
        if not isinstance(exception, StoreError):
            return None
        session = getattr(request, "session", None)
        if hasattr(request, "session"):
            del request.session  # so that Django touches neither the store nor the cookie any more
        return _unavailable(session, exception)


def _unavailable(session: object, error: StoreError) -> HttpResponse:
    keeper = session.session.keeper if isinstance(session, EnvironSession) else get_manager()
    if keeper.on_store_error == "raise":
        raise error
    return HttpResponse(UNAVAILABLE, status=503, content_type="text/plain", headers={"Retry-After": RETRY_AFTER})


def _follow_django(session: EnvironSession) -> None:
    state = session.session.state
    if state is None:
        return
    if state.origin is Origin.LOADED and not state.data and session.session.is_modified:
        session.session.destroy()
        return
    if not state.data:
        return
    age = None if session.get_expire_at_browser_close() else session.get_expiry_age()
    own = state.content.cookie or {}
    if session.session.is_modified and ("max_age" not in own or own["max_age"] != age):
        session.session.cookie.max_age = age
