"""The session engine: Django's verbs on records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils.dateparse import parse_datetime

from .._core import identity, writing
from .._core.binding import Device, Unproven
from .._core.cookies import LONGEST_LIFETIME
from .._core.events import logger
from .._core.ids import SHORT
from .._core.takeover import TakeOver, new_id
from .._core.values import Values
from .._core.visit import Visit
from ..errors import SerializationError, SessionGone
from ..session import Session
from .carry_over import old_session
from .settings import get_manager

_OLD_KEY_IS_ACCEPTED_FOR = 300.0  # seconds

GONE = "the session was deleted, revoked, or has expired since it was loaded; nothing was written"

_CHANGED_BY_WRITING = ("snapshot", "session_id", "takeover", "content", "_owner", "_owner_is_known")


class SessionStore(SessionBase):
    """Django's session engine on this library's stores.

    Two requests never lose each other's work, and a session that ended stays ended.
    """

    _session_key: str | None
    _visit: Visit | None = None

    cookie_header = ""
    """The Cookie header, in which our middleware passes the proof of a device; without it bound sessions are empty."""

    unproven: Unproven | None = None
    """A bound session whose key came without a proof from its device."""

    # The data: Django keeps them in _session_cache, which is the visit's own mapping.

    def load(self) -> Any:
        """Read the session, which counts as activity; without a live record it is empty and has no key."""
        visit = self._found(self.session_key) or self._carried_over()
        if visit is None or visit.values is None or has_passed(visit.values.peek("_session_expiry")):
            self._session_key = None
            visit = self._new_visit()
            self._forget_record()
        if not self._is_loaded:  # otherwise the data that the request works with stay, as with Django's engines
            self._visit = visit
        return visit.values

    @property
    def _is_loaded(self) -> bool:
        return "_session_cache" in self.__dict__

    def _get_session(self, no_load: bool = False) -> Any:
        self.accessed = True
        try:
            return self._session_cache
        except AttributeError:
            is_new = self.session_key is None or no_load
            self._session_cache: Any = self._begin().values if is_new else self.load()
        return self._session_cache

    _session = property(_get_session)

    async def _aget_session(self, no_load: bool = False) -> Any:
        return await sync_to_async(self._get_session)(no_load)

    def _begin(self) -> Visit:
        """Begin as a session without a record."""
        visit = self._visit = self._new_visit()
        return visit

    def _new_visit(self) -> Visit:
        visit = Visit(get_manager()._services, "", id_length=SHORT)
        visit.open()
        return visit

    def _forget_record(self) -> None:
        """Continue without a record, with the data as it is."""
        if self._visit is not None:
            self._visit.snapshot = self._visit.takeover = None

    def _opened(self, *, no_load: bool = False) -> tuple[Visit, Values]:
        """Return the visit, with the data in it, whatever was put into the cache from outside."""
        data = self._get_session(no_load=no_load)
        visit = self._visit or self._begin()
        values = visit.open()
        if data is not values:
            values.clear()
            values.update(data)
            self._session_cache = values
        return visit, values

    @property
    def device(self) -> Device | None:
        """The device that the session is bound to, with ``device_binding``; None for an unbound session."""
        return Session(self._opened()[0]).device

    @property
    def is_bound(self) -> bool:
        """Whether the session is bound to a device, so that its cookie is worthless elsewhere."""
        return self.device is not None

    def clear(self) -> None:
        """Remove all data."""
        self._session.clear()
        self.modified = True

    def flush(self) -> None:
        """End the session and begin an empty one, which has nothing of it."""
        super().flush()
        self._session_cache = self._begin().values

    async def aflush(self) -> None:
        """Do what `flush` does."""
        await sync_to_async(self.flush)()

    def is_empty(self) -> bool:
        """Tell whether there are neither a key nor data.

        If Django saves every session, whether a request used it or not, the key is looked up first: to save a session
        that has ended is an error, and a stale cookie must not cause one.
        """
        if settings.SESSION_SAVE_EVERY_REQUEST and self.session_key is not None:
            self._get_session()
        return bool(super().is_empty())

    def exists(self, session_key: str | None) -> bool:
        """Tell whether there is a live record under the key."""
        handle = handle_of(session_key)
        return handle is not None and get_manager()._services.records.load(handle, restart=False) is not None

    def create(self) -> None:
        """Store the session under a new key, which no other has."""
        before = self._session_key
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            except Exception:
                self._session_key = before  # so that the next attempt says why it fails, and not that a key is unknown
                raise
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Write the session, with what others wrote in the meantime merged in.

        :raises CreateError: if the key is taken, and a new record was asked for.
        :raises UpdateError: if the record has ended.
        """
        if self.session_key is None:
            self.create()
            return
        visit, _ = self._opened(no_load=must_create)
        if self.session_key is None:  # the record was gone when it was loaded
            self._session_key = self._get_new_session_key()
        if self.get_expiry_age() <= 0:
            self.delete()
            return
        self._follow_expiry(visit)
        if must_create:
            self._create(visit)
            return
        if visit.snapshot is None:
            raise UpdateError(GONE)
        self._write(visit)

    def _follow_expiry(self, visit: Visit) -> None:
        """Give the record the lifetime that Django has for the session."""
        lifetime = lifetime_of(self.get_expiry_age())
        if (visit.content.cookie or {}).get("lifetime") != lifetime:
            visit.own_cookie().set_lifetime(lifetime)

    def _write(self, visit: Visit) -> None:
        with _unchanged_on_failure(visit):
            _save(visit)
        self._session_key = visit.session_id

    def _create(self, visit: Visit) -> None:
        """Store the session under its key.

        :raises CreateError: if the key is taken, or does not have the right shape.
        """
        key, handle = self.session_key, handle_of(self.session_key)
        if key is None or handle is None:
            raise CreateError
        with _unchanged_on_failure(visit):
            visit.snapshot, visit.session_id = None, key
            visit.takeover = TakeOver(None, key, handle)
            if not writing.create_exactly(visit):
                raise CreateError

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or this one."""
        key = self.session_key if session_key is None else session_key
        old = old_session(key)
        if old is not None:
            old.end()
            key = _key_after(old.key)
        handle = handle_of(key)
        if handle is not None:
            get_manager()._services.records.end_session(handle)
        if session_key is None:
            self._forget_record()

    def cycle_key(self) -> None:
        """Give the session a new key; what others wrote under the old one in the meantime is carried over.

        :raises UpdateError: if the old record has ended.
        """
        visit, _ = self._opened()
        if visit.snapshot is None:
            self.create()
            return
        self._follow_expiry(visit)
        with _unchanged_on_failure(visit):
            identity.regenerate(visit, keep_data=True)
            _save(visit)
        self._session_key, self.modified = visit.session_id, True

    async def acycle_key(self) -> None:
        """Do what `cycle_key` does, which is more than Django's own would."""
        await sync_to_async(self.cycle_key)()

    @classmethod
    def clear_expired(cls) -> None:
        """Remove expired records from the store."""
        get_manager().purge_expired()

    def _get_new_session_key(self) -> str:
        return new_id(get_manager()._services, None, length=SHORT)

    async def _aget_new_session_key(self) -> str:
        return self._get_new_session_key()

    def _carried_over(self) -> Visit | None:
        """Take over the session that Django's own engine has under this key; the response carries the new key.

        Parallel requests with the old key are accepted a little longer.
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
        visit = self._found(self.session_key)
        if visit is None or visit.services.clock() > visit.content.created_at + _OLD_KEY_IS_ACCEPTED_FOR:
            return None
        self.modified = True
        return visit

    def _take(self, data: dict[str, Any]) -> None:
        # If a failed request rolled back what it did to the database, the record is there already: then it is this one.
        visit = Visit(get_manager()._services, "")
        visit.open().update(data)
        visit.own_cookie().set_lifetime(lifetime_of(self.get_expiry_age(expiry=data.get("_session_expiry"))))
        with contextlib.suppress(CreateError):
            self._create(visit)

    def _found(self, session_key: str | None) -> Visit | None:
        handle = handle_of(session_key)
        if handle is None or session_key is None:
            return None
        services = get_manager()._services
        visit = Visit(services, "", id_length=SHORT)
        found = visit.proven(handle, self.cookie_header)
        self.unproven = visit.unproven
        if found is None:
            return None
        visit.enter(found, session_key)
        return visit


def _save(visit: Visit) -> None:
    """Write the session, and end the record that its new key takes over from.

    The keys that the request assigned before stay known: if another user logs in after that, it is kept.

    :raises UpdateError: if the record has ended.
    """
    assigned = set(visit.open().assigned)
    try:
        writing.save(visit)
        writing.finish_takeover(visit)
    except SessionGone:
        raise UpdateError(GONE) from None
    visit.open().assigned |= assigned.intersection(visit.open())


@contextlib.contextmanager
def _unchanged_on_failure(visit: Visit) -> Iterator[None]:
    """Leave the visit as it was if a write fails, so that the next attempt fails for the same reason, or succeeds."""
    before = {name: getattr(visit, name) for name in _CHANGED_BY_WRITING}
    try:
        yield
    except UpdateError:
        raise
    except Exception:
        for name, value in before.items():
            setattr(visit, name, value)
        raise


def lifetime_of(age: float) -> float:
    """Return the idle timeout for the seconds that Django gives a session: browsers keep no cookie longer than that."""
    return min(age, LONGEST_LIFETIME)


def handle_of(session_key: str | None) -> str | None:
    """Return the handle for a key of the right shape, else None: nothing else reaches the store."""
    signer = get_manager()._services.signer
    return signer.handle(session_key) if session_key and signer.accepts(session_key) else None


def _key_after(old_key: str) -> str:
    """Return the key that follows one of Django's own: only with that and the secret can it be made."""
    return get_manager()._services.signer.renewed_id(old_key, "django", length=SHORT)


def has_passed(expiry: Any) -> bool:
    """Whether a fixed date that `set_expiry` was given lies in the past; reading does not extend it."""
    at = parse_datetime(expiry) if isinstance(expiry, str) else expiry
    return isinstance(at, datetime) and at <= datetime.now(at.tzinfo)
