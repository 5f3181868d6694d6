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
from ..errors import SessionError, SessionGone, StoreError
from ..session import Session
from ..wsgi.environ import KEY, RETRY_AFTER, UNAVAILABLE
from .engine import SessionStore, has_passed
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
        """Give the session a new ID and no data, and write it now."""
        self._get_session().regenerate(keep_data=False)
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
            raise UpdateError from None

    def load(self) -> dict[str, Any]:
        """Read the session again, and return its data; unsaved changes are dropped."""
        try:
            self.session.reload()
        except SessionGone:
            return {}
        return dict(self.session)

    def delete(self, session_key: str | None = None) -> None:
        """End the session now.

        :raises SessionError: for the key of another session.
        """
        if session_key is not None and session_key != self.session_key:
            raise SessionError("request.session ends itself only; end another with the manager's revoke(handle)")
        self.session.destroy()

    def exists(self, session_key: str | None) -> bool:
        """Tell whether this is the key of this session, and it has a record."""
        return session_key is not None and session_key == self.session_key


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
            del request.session  # so that Django touches neither the store nor the cookie any more
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
        visit.rules = Rules(ends_emptied=True, lifetime=None if session.get_expire_at_browser_close() else age)
