"""Guards around any WSGI app: nobody passes who is not logged in, or who lacks the role.

They stand inside `SessionMiddleware`::

    app = SessionMiddleware(protect(app, {"/account": require_user, "/admin": require_role("admin")}), secret=...)
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from werkzeug.http import HTTP_STATUS_CODES

from .access import Roles, Verdict, judge, refuse
from .environ import get_session
from .proof import ProofCheck, proof_check

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Guard = Callable[["WSGIApplication"], "WSGIApplication"]


def require_user(app: WSGIApplication, *, login_url: str | None = None, bound: bool = False) -> WSGIApplication:
    """Let only logged-in users through.

    Others get 401, as JSON or HTML by what they accept; browsers are sent to ``login_url`` where there is one.

    :param bound: let only sessions through that are bound to a device; others get 403.
    """
    return _guarded(app, (), roles="roles", login_url=login_url, proof=proof_check() if bound else None)


def require_device_proof(*, max_age: float | None = None, login_url: str | None = None) -> Guard:
    """Return a guard that lets in users whose session is bound to a device that proved its key lately.

    A browser is sent back to the same page, and proves its key on the way. If it cannot, or the request is not one that
    can be repeated, the answer is 401. A session that is not bound gets 403.

    :param max_age: the longest age of the proof in seconds, at least 10; None for a bound session with any valid proof.
    """
    check = proof_check(max_age)
    return lambda app: _guarded(app, (), roles="roles", login_url=login_url, proof=check)


def require_role(*needed: str, roles: Roles = "roles", login_url: str | None = None) -> Guard:
    """Return a guard that lets users with one of the roles through; others get 401 or 403.

    :param roles: the session's key for them, or a callable of the session that returns them.
    """
    return lambda app: _guarded(app, needed, roles=roles, login_url=login_url)


def protect(app: WSGIApplication, guards: Mapping[str, Guard]) -> WSGIApplication:
    """Put guards in front of parts of an app, by path: ``/admin`` covers ``/admin/users``, not ``/administrator``.

    The longest path that covers a request's is the one that counts. Paths are the app's own, without the part that an
    outer app took off.
    """
    table = sorted(((path.rstrip("/"), guard(app)) for path, guard in guards.items()), key=lambda row: -len(row[0]))

    def protected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        ways = _ways_to_read(environ.get("PATH_INFO", ""))
        inside = (one for prefix, one in table if any(f"{path}/".startswith(f"{prefix}/") for path in ways))
        return next(inside, app)(environ, start_response)

    return protected


def _ways_to_read(path: str) -> set[str]:
    """Return the paths that an app may take this one for: some overlook ``//`` and ``/./``, and some do not."""
    return {path, posixpath.normpath("/" + path.lstrip("/"))}


def _guarded(
    app: WSGIApplication,
    needed: Iterable[str],
    *,
    roles: Roles,
    login_url: str | None,
    proof: ProofCheck | None = None,
) -> WSGIApplication:
    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = get_session(environ)
        verdict = judge(session, needed, roles=roles)
        if verdict is not Verdict.WELCOME:
            refusal = refuse(verdict, environ, login_url=login_url)
        elif proof is None or (lacking := proof(session, environ)) is None:
            return app(environ, start_response)
        else:
            refusal = lacking
        start_response(f"{refusal.status} {HTTP_STATUS_CODES[refusal.status]}", refusal.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [refusal.body]

    return guarded
