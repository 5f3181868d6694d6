"""`login_required` and `role_required`: who may pass, in Flask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, overload

from flask import Response, abort, after_this_request, current_app, request, url_for
from flask.sessions import NullSession
from flask.typing import ResponseReturnValue

from ..errors import ConfigurationError
from ..session import Session
from ..wsgi.access import Refusal, Roles, Verdict, judge, refuse
from ..wsgi.proof import ProofCheck, proof_check
from .sessions import current

P = ParamSpec("P")
Answer = ResponseReturnValue | Awaitable[ResponseReturnValue]


class Guard(Protocol):
    """Decorates a view, async or not."""

    def __call__(self, view: Callable[P, Answer], /) -> Callable[P, ResponseReturnValue]:
        """Return the guarded view."""
        ...


@overload
def login_required(
    view: Callable[P, Answer], *, login_url: str | None = None, bound: bool = False
) -> Callable[P, ResponseReturnValue]: ...
@overload
def login_required(view: None = None, *, login_url: str | None = None, bound: bool = False) -> Guard: ...
def login_required(view: Any = None, *, login_url: str | None = None, bound: bool = False) -> Any:
    """Admit users who are logged in; others get 401, or are sent to ``login_url`` (a path, or an endpoint's name).

    Used as ``@login_required`` or ``@login_required(login_url="login")``.

    :param bound: admit only sessions that are bound to a device; others get 403.
    """
    guard = _guard((), roles="roles", login_url=login_url, proof=proof_check() if bound else None)
    return guard if view is None else guard(view)


def require_device_proof(*, max_age: float | None = None, login_url: str | None = None) -> Guard:
    """Admit users whose session is bound to a device that proved its key lately.

    A browser is sent back to the same page, and proves its key on the way. If it cannot, or the request is not one that
    can be repeated, the answer is 401. A session that is not bound gets 403.

    :param max_age: the longest age of the proof in seconds, at least 10; None for a bound session with any valid proof.
    """
    return _guard((), roles="roles", login_url=login_url, proof=proof_check(max_age))


def role_required(*needed: str, roles: Roles = "roles", login_url: str | None = None) -> Guard:
    """Admit users who are logged in and have one of the roles; others get 401 or 403.

    :param roles: the session's key for them, or a callable of the session that returns them.
    """
    return _guard(needed, roles=roles, login_url=login_url)


def _guard(needed: tuple[str, ...], *, roles: Roles, login_url: str | None, proof: ProofCheck | None = None) -> Guard:
    def guard(view: Callable[P, Answer]) -> Callable[P, ResponseReturnValue]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            verdict = _verdict(needed, roles)
            if verdict is Verdict.ALLOWED:
                lacking = None if proof is None else proof(current(), request.environ)
                if lacking is not None:
                    return _refused(lacking)
                return current_app.ensure_sync(view)(*args, **kwargs)  # type: ignore[no-any-return]
            page = url_for(login_url) if login_url is not None and "/" not in login_url else login_url
            return _refused(refuse(verdict, request.environ, login_url=page))

        return guarded

    return guard


def _verdict(needed: tuple[str, ...], roles: Roles) -> Verdict:
    mine = current()
    if isinstance(mine, NullSession):  # without a secret nobody can be logged in
        return Verdict.LOGIN_NEEDED
    if not isinstance(mine, Session):
        raise ConfigurationError("login_required and role_required need the sessions of FlaskSessions(app)")
    return judge(mine, needed, roles=roles)


def _refused(refusal: Refusal) -> Response:
    """Answer with the refusal. The app's error handlers can replace a page for people."""
    if not refusal.is_page:
        return Response(refusal.body, refusal.status, refusal.headers)
    after_this_request(_unshared)
    return abort(refusal.status, refusal.sentence)


def _unshared(response: Response) -> Response:
    response.vary.add("Accept")
    response.headers["Cache-Control"] = "no-store"
    return response
