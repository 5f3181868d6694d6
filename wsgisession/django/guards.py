"""A decorator for views that ask for a bound session, or for a fresh proof of its device."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse

from ..session import Session
from ..wsgi.access import Verdict, judge, refuse
from ..wsgi.proof import ProofCheck, proof_check
from .engine import SessionStore

View = Callable[..., Any]


def require_device_proof(*, max_age: float | None = None) -> Callable[[View], View]:
    """Let only users through whose session is bound to a device that proved its key lately. For sync and async views.

    A browser is sent back to the same page, and proves its key on the way. If it cannot, or the request is not one that
    can be repeated, the answer is 401. A session that is not bound gets 403, and a visitor who is not logged in 401.

    :param max_age: the longest age of the proof in seconds, at least 10; None for a bound session with any valid proof.
    """
    check = proof_check(max_age)

    def guard(view: View) -> View:
        return wraps(view)(_guarded_async(view, check) if iscoroutinefunction(view) else _guarded(view, check))

    return guard


def _guarded(view: View, check: ProofCheck) -> View:
    def guarded(request: HttpRequest, *args: Any, **options: Any) -> Any:
        refused = _refused(request, check)
        return view(request, *args, **options) if refused is None else refused

    return guarded


def _guarded_async(view: View, check: ProofCheck) -> View:
    async def guarded(request: HttpRequest, *args: Any, **options: Any) -> Any:
        refused = await sync_to_async(_refused)(request, check)
        return await view(request, *args, **options) if refused is None else refused

    return guarded


def _refused(request: HttpRequest, check: ProofCheck) -> HttpResponse | None:
    session = _session_of(request)
    verdict = judge(session)
    refusal = refuse(verdict, request.META) if verdict is not Verdict.ALLOWED else check(session, request.META)
    if refusal is None:
        return None
    response = HttpResponse(refusal.body, status=refusal.status)
    for name, value in refusal.headers:
        if name == "Set-Cookie":
            response.cookies.load(value)
        else:
            response.headers[name] = value
    return response


def _session_of(request: HttpRequest) -> Session:
    session = request.session
    if isinstance(session, SessionStore):
        return Session(session._opened()[0])
    return session.session  # type: ignore[no-any-return]  # of a wrapped app
