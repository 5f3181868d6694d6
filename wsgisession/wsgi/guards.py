"""Guards around any WSGI app: nobody passes who is not logged in, or who lacks the role.

They stand inside `SessionMiddleware`::

    app = SessionMiddleware(protect(app, {"/account": require_user, "/admin": require_role("admin")}), secret=...)
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

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
    outer app took off. If the app could read the request's path in several ways (``..``, ``//``, ``;``, escapes, upper
    case), the guards of all readings must let the request through. A path with very many readings gets 400.
    """
    table = sorted(((path.rstrip("/"), guard) for path, guard in guards.items()), key=lambda row: -len(row[0]))

    @cache
    def behind(needed: tuple[int, ...]) -> WSGIApplication:
        protected = app
        for number in needed:
            protected = table[number][1](protected)
        return protected

    def protected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        outer = environ.get("SCRIPT_NAME", "")
        readings = readings_of(path) | (readings_of(outer + path) if outer else set())
        if len(readings) >= _MOST_READINGS:
            start_response("400 Bad Request", [("Content-Type", "text/plain")])
            return [b"The path of this request can be read in too many ways.\n"]
        covering = (_covering(table, reading) for reading in readings)
        return behind(tuple(sorted({number for number in covering if number is not None})))(environ, start_response)

    return protected


_CLEAN = re.compile(r"(?:/[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)*/?")
_PARAMETERS = re.compile(r";[^/]*")
_MOST_READINGS = 256


def _covering(table: Sequence[tuple[str, Guard]], path: str) -> int | None:
    """Return the number of the guard with the longest path that covers this one, or None."""
    return next((number for number, (prefix, _) in enumerate(table) if f"{path}/".startswith(f"{prefix}/")), None)


def readings_of(path: str) -> set[str]:
    """Return the paths that some app or framework may take this one for, the path itself included."""
    readings = {path}
    if _CLEAN.fullmatch(path):
        return readings
    new = [path]
    while new and len(readings) < _MOST_READINGS:
        one = new.pop()
        for reading in (
            unquote(one, "latin-1"),
            one.replace("\\", "/"),
            _PARAMETERS.sub("", one),
            posixpath.normpath("/" + one.lstrip("/")),
            re.sub("/{2,}", "/", one),
            one.lower(),
            one.partition("\0")[0],
            "/".join(segment.rstrip(" .") if segment.strip(".") else segment for segment in one.split("/")),
        ):
            if reading not in readings:
                readings.add(reading)
                new.append(reading)
    return readings


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
        if verdict is not Verdict.ALLOWED:
            refusal = refuse(verdict, environ, login_url=login_url)
        elif proof is None or (lacking := proof(session, environ)) is None:
            return app(environ, start_response)
        else:
            refusal = lacking
        start_response(f"{refusal.status} {HTTP_STATUS_CODES[refusal.status]}", refusal.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [refusal.body]

    return guarded
