"""Device-bound sessions with Django's engine: what Django's own session middleware cannot do."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, parse_cookie

from .._core.visit import Visit
from ..device.endpoints import Answer, Sought
from ..device.gate import Gate
from .engine import SessionStore, handle_of
from .settings import get_manager


def answer_to(request: HttpRequest) -> HttpResponse | None:
    """Return the response of an endpoint, or the one that lets a browser prove its key; None to continue.

    The session is on the request already.
    """
    gate = Gate(get_manager()._services, seek=_seek)
    session, environ = request.session, request.META
    answer = gate.at_endpoint(environ)
    if answer is None and gate.may_help(environ):
        session._get_session()
        answer = gate.help(environ, session.unproven)
    if answer is None:
        return None
    del request.session  # the request has no part in it, so Django saves and sends nothing
    return _response(answer)


def is_withheld(request: HttpRequest) -> bool:
    """Tell whether a request gets no session cookie, because it came without a proof and nobody logged in."""
    session = request.session
    if not isinstance(session, SessionStore) or session.unproven is None or _is_login(session._visit):
        return False
    devices = get_manager()._services.devices
    return session.is_empty() or devices is None or not devices.may_start_over(request.META)


def add_headers(request: HttpRequest, response: HttpResponseBase) -> None:
    """Offer registration in the response to a login, and drop the second cookie in the response to a logout."""
    session, devices = request.session, get_manager()._services.devices
    if devices is None or not isinstance(session, SessionStore):
        return
    visit = session._visit
    headers: tuple[tuple[str, str], ...] = ()
    if visit is not None and visit.snapshot is not None and _is_login(visit):
        headers = devices.headers_for_login(visit.snapshot.content.device, request.META, handle=visit.snapshot.handle)
    elif _drops_cookie(response):
        headers = devices.headers_for_logout(request.META)
    for name, value in headers:
        if name == "Set-Cookie":
            response.cookies.load(value)
        else:
            response.headers[name] = value


def _is_login(visit: Visit | None) -> bool:
    return visit is not None and visit.takeover is not None and visit.takeover.is_login


def _drops_cookie(response: HttpResponseBase) -> bool:
    morsel = response.cookies.get(settings.SESSION_COOKIE_NAME)
    return morsel is not None and morsel["max-age"] == 0


def _seek(environ: dict[str, Any]) -> Sought:
    """Return the session key of Django's cookie, which is not signed."""
    key = parse_cookie(environ.get("HTTP_COOKIE", "")).get(settings.SESSION_COOKIE_NAME)
    return Sought([key] if key is not None and handle_of(key) is not None else [])


def _response(answer: Answer) -> HttpResponse:
    status, _, reason = answer.status.partition(" ")
    response = HttpResponse(answer.body, status=int(status), reason=reason)
    for name, value in answer.headers:
        if name == "Set-Cookie":
            response.cookies.load(value)
        else:
            response.headers[name] = value
    return response
