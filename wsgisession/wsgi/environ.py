"""Where the session is in a WSGI environ, and what else the adapters take from there."""

from __future__ import annotations

from typing import Any

from ..errors import SessionError
from ..session import Session

KEY = "wsgisession.session"

RETRY_AFTER = "5"
UNAVAILABLE = "Sessions are not available at the moment. Please try again in a few seconds.\n"

Environ = dict[str, Any]


def session_named(environ: Environ, name: str) -> Session | None:
    """Return the session of this cookie name, of those that several middlewares put around the app."""
    session = environ.get(KEY)
    while isinstance(session, Session) and session._visit.services.name != name:
        session = session._visit.enclosing
    return session if isinstance(session, Session) else None


def get_session(environ: Environ, name: str | None = None) -> Session:
    """Return the session of the request.

    :param name: the cookie name of the one you mean, if several middlewares wrap the app; if omitted, the innermost.
    :raises SessionError: if no middleware put one there.
    """
    session = environ.get(KEY) if name is None else session_named(environ, name)
    if not isinstance(session, Session):
        raise SessionError(
            "this request has no session: wrap the app, app = SessionMiddleware(app, secret=...), and check that the"
            " URL is inside the cookie's path and that the session was not set to None"
        )
    return session


def path_of(environ: Environ) -> str:
    """Return the path as the browser sees it, with the part that an outer app took off."""
    return (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")) or "/"
