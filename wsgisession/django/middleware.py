"""The session middleware, and the environ's session with Django's methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

from .._core.binding import Device
from .._core.ids import SHORT
from .._core.rules import Rules
from .._core.values import Values
from ..errors import SessionGone, StoreError
from ..session import Session
from ..wsgi.environ import KEY, RETRY_AFTER, UNAVAILABLE
from .engine import GONE, SessionStore, has_passed, lifetime_of
from .settings import get_manager


class EnvironSession(SessionBase):
    """The environ's `Session` with Django's methods, where the WSGI app is wrapped in `SessionMiddleware`."""

    _was_looked_at = False

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        session._visit.id_length = SHORT

    @property
    def session_key(self) -> str | None:
        """The session ID, a secret; None for a session without a record."""
        visit = self.session._visit
        visit.open()
        return None if visit.snapshot is None and not visit.has_new_id else self.session.id

    def _get_session(self, no_load: bool = False) -> Session:
        self.accessed = True
        if not self._was_looked_at:
            self._was_looked_at = True
            if has_passed(self.session.get("_session_expiry")):
                self.session.destroy()
        return self.session

    async def _aget_session(self, no_load: bool = False) -> Session:
        return self._get_session() if self._was_looked_at else await sync_to_async(self._get_session)()

    _session = property(_get_session)

    @property
    def device(self) -> Device | None:
        """The device that the session is bound to, with ``device_binding``; None for an unbound session."""
        return self._get_session().device

    @property
    def is_bound(self) -> bool:
        """Whether the session is bound to a device, so that its cookie is worthless elsewhere."""
        return self.device is not None

    def is_empty(self) -> bool:
        """Tell whether there are no data."""
        return self._get_session().is_empty

    def clear(self) -> None:
        """Remove all data."""
        self._get_session().clear()
        self.modified = True

    def flush(self) -> None:
        """End the session; writing afterwards starts a new one."""
        self._get_session().destroy()
        self.modified = True

    async def aflush(self) -> None:
        """Do what `flush` does."""
        await sync_to_async(self.flush)()

    def cycle_key(self) -> None:
        """Give the session a new ID when the response leaves."""
        self._get_session().regenerate()

    async def acycle_key(self) -> None:
        """Do what `cycle_key` does."""
        await sync_to_async(self.cycle_key)()

    def create(self) -> None:
        """Give the session a new ID, and write it now, with what the request has read and written.

        As with Django's engines, a session that the request has not looked at starts empty.
        """
        keep_data = self.session.is_accessed
        self._get_session().regenerate(keep_data=keep_data)
        self.session.save()
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Write the session now, or end it where its expiry has passed.

        :raises UpdateError: where the record has ended.
        """
        if self.get_expiry_age() <= 0:
            self.session.destroy()
            return
        try:
            self.session.save()
        except SessionGone:
            raise UpdateError(GONE) from None

    def load(self) -> dict[str, Any]:
        """Return the data that the store has now; what the request has changed stays as it is."""
        self._get_session()
        visit = self.session._visit
        known = visit.snapshot or (None if visit.takeover is None else visit.takeover.old)
        found = None if known is None else visit.services.records.load(known.handle, restart=False)
        return {} if found is None else dict(Values(visit.services.codec, found.content.texts))

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key now, or this one."""
        own_key = self.session_key
        if session_key in (None, own_key):
            if own_key is not None:
                self.session.destroy()
        elif (handle := self._handle_of(session_key)) is not None:
            self.session._visit.services.records.end_session(handle)

    def exists(self, session_key: str | None) -> bool:
        """Tell whether there is a live record under the key, or will be when the response is sent."""
        handle, visit = self._handle_of(session_key), self.session._visit
        if handle is None:
            return False
        takeover = visit.takeover
        if takeover is not None and visit.has_new_id:
            if handle == takeover.handle:
                return True
            if handle in takeover.created or (takeover.old is not None and handle == takeover.old.handle):
                return False
        return visit.services.records.load(handle, restart=False) is not None

    def _handle_of(self, session_key: str | None) -> str | None:
        signer = self.session._visit.services.signer
        return signer.handle(session_key) if session_key and signer.accepts(session_key) else None


class SessionMiddleware(DjangoSessionMiddleware):
    """Django's session middleware, with the environ's session where the WSGI app is wrapped in `SessionMiddleware`.

    Also for the engine: with ``on_store_error="unavailable"`` it answers 503 where the store fails.
    """

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        """Put the session on the request. With ``device_binding``, answer what a browser asks about its device."""
        outer = request.META.get(KEY)
        if isinstance(outer, Session) and not outer._visit.sealed:
            request.session = EnvironSession(outer)
        else:
            super().process_request(request)
            if isinstance(request.session, SessionStore) and get_manager()._services.devices is not None:
                return _device_answer(request)
        return None

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Write the session, or leave that to the WSGI middleware, with the cookie's life that Django asks for."""
        session = getattr(request, "session", None)
        try:
            if isinstance(session, SessionStore) and get_manager()._services.devices is not None:
                return _with_device(request, response, super().process_response)
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
            del request.session  # so that Django no longer touches the store or the cookie
        return _unavailable(session, exception)


def _device_answer(request: HttpRequest) -> HttpResponseBase | None:
    from .devices import answer_to  # only projects that bind sessions to devices need it

    request.session.cookie_header = request.META.get("HTTP_COOKIE", "")
    try:
        return answer_to(request)
    except StoreError as error:
        return _unavailable(request.session, error)


def _with_device(
    request: HttpRequest, response: HttpResponseBase, save: Callable[[HttpRequest, HttpResponseBase], HttpResponseBase]
) -> HttpResponseBase:
    """Save the session and add the headers about its device, unless the request has no part in a session."""
    from .devices import add_headers, is_withheld

    if is_withheld(request):
        patch_vary_headers(response, ("Cookie",))
        return response
    response = save(request, response)
    add_headers(request, response)
    return response


def _unavailable(session: object, error: StoreError) -> HttpResponse:
    services = session.session._visit.services if isinstance(session, EnvironSession) else get_manager()._services
    if services.on_store_error == "raise":
        raise error
    return HttpResponse(UNAVAILABLE, status=503, content_type="text/plain", headers={"Retry-After": RETRY_AFTER})


def _follow_django(session: EnvironSession) -> None:
    """Do what Django does at this point: end a session whose expiry has passed, and give the others their lifetime."""
    visit = session.session._visit
    if visit.values is None:
        return
    visit.rules = Rules(ends_emptied=True)
    if not visit.values:
        return
    age = session.get_expiry_age()
    if age <= 0:
        session.session.destroy()
    elif visit.is_changed:
        visit.rules = Rules(
            ends_emptied=True, lifetime=None if session.get_expire_at_browser_close() else lifetime_of(age)
        )
