"""The session engine: Django's verbs on records."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils.dateparse import parse_datetime

from .._core.content import EMPTY, Content, Loaded
from .._core.events import logger
from ..errors import SerializationError, SessionGone
from ..session import IMMUTABLE, Origin, State
from .carry_over import old_session
from .settings import get_manager

_OLD_KEY_IS_ANSWERED_FOR = 300.0


class SessionStore(SessionBase):
    """Django's verbs on records. Two requests never lose each other's work; a session that ended stays ended."""

    _session_key: str | None
    _state: State | None = None

    def load(self) -> dict[str, Any]:
        """Read the session, which counts as activity; without a live record it is empty and has no key."""
        state = self._found(self.session_key) or self._carried_over()
        if state is None or has_passed(state.data.get("_session_expiry")):
            self._session_key = None
            return {}
        self._state = state
        return state.data

    # Django hands out the data as they are, which is noted; a look at one value that nobody can change is not.

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_session(no_load)
        if self._state is not None:
            self._state.expose()
        return data

    _session = property(_get_session)

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        data: dict[str, Any] = await super()._aget_session(no_load)
        if self._state is not None:
            self._state.expose()
        return data

    def __getitem__(self, key: str) -> Any:
        data = super()._get_session()
        return data[key] if type(data[key]) in IMMUTABLE else self._session[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of the key, or the default."""
        if key not in super()._get_session():
            return default
        return self[key]

    def __contains__(self, key: object) -> bool:
        return key in super()._get_session()

    def exists(self, session_key: str | None) -> bool:
        """Tell whether there is a live record under the key."""
        handle = handle_of(session_key)
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
        data = super()._get_session(no_load=must_create)
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
        key = self.session_key if session_key is None else session_key
        old = old_session(key)
        if old is not None:
            old.end()
            key = _key_after(old.key)
        handle = handle_of(key)
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
        new.moved, new.containers = True, old.containers
        new.superseded = (Loaded(old.handle, old.record, old.content, {}),)
        try:
            get_manager().lifecycle.end_superseded(new)
        except SessionGone:
            raise UpdateError from None
        self._session_cache = new.data
        assert data is new.data

    async def acycle_key(self) -> None:
        """Do what `cycle_key` does, which is more than Django's own would."""
        await sync_to_async(self.cycle_key)()

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
        handle = handle_of(self.session_key)
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

    def _carried_over(self) -> State | None:
        """Take over the session that Django's own engine has under this key; the response carries the new key.

        Requests that came beside the first with the old key are answered a little longer.
        """
        old = old_session(self.session_key)
        if old is None:
            return None
        self._session_key = _key_after(old.key)
        try:
            old.hand_over(self._take)
        except SerializationError as error:  # an old session is no reason for an error page
            logger.warning("a session could not be carried over: %s", error)
            return None
        state = self._found(self.session_key)
        if state is None or get_manager().lifecycle.now() > state.content.created_at + _OLD_KEY_IS_ANSWERED_FOR:
            return None
        self.modified = True
        return state

    def _take(self, data: dict[str, Any]) -> None:
        # Taken where a request that failed has rolled back what it did to the database: then it is this session.
        with contextlib.suppress(CreateError):
            self._create(data, self.get_expiry_age(expiry=data.get("_session_expiry")))

    @staticmethod
    def _found(session_key: str | None) -> State | None:
        handle = handle_of(session_key)
        if handle is None:
            return None
        loaded = get_manager().records.load(handle, restart=True, presented=True)
        return None if loaded is None else get_manager().lifecycle.loaded_state(loaded)


def handle_of(session_key: str | None) -> str | None:
    """Return the handle for a key that has the shape of one of ours, else None: nothing else reaches the store."""
    signer = get_manager().signer
    return signer.handle(session_key) if session_key and signer.accepts(session_key) else None


def _key_after(old_key: str) -> str:
    """Return the key that follows one of Django's own: only who has that and the secret can make it."""
    return get_manager().signer.renewed_id(old_key, "django")


def has_passed(expiry: Any) -> bool:
    """Whether a fixed date that `set_expiry` was given lies in the past; reading does not extend it."""
    at = parse_datetime(expiry) if isinstance(expiry, str) else expiry
    return isinstance(at, datetime) and at <= datetime.now(at.tzinfo)
