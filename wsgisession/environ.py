"""What the ways in share: where a session stands in a WSGI environ, and what else is taken from there."""

from __future__ import annotations

from typing import Any

KEY = "wsgisession.session"

RETRY_AFTER = "5"
UNAVAILABLE = "Sessions are not available at the moment. Please try again in a few seconds.\n"

Environ = dict[str, Any]


def key_of(name: str) -> str:
    """Return the environ's key for the session of one cookie name, where several middlewares wrap the app."""
    return f"{KEY}.{name}"


def path_of(environ: Environ) -> str:
    """Return the path as the browser sees it, with the part that an outer app took off."""
    return (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")) or "/"


def request_of(environ: Environ, *, with_client: bool) -> dict[str, Any]:
    """Return what `SessionManager.commit` wants to know of the request."""
    client = (environ.get("REMOTE_ADDR", ""), environ.get("HTTP_USER_AGENT", "")) if with_client else None
    host = environ.get("HTTP_HOST") or environ["SERVER_NAME"]
    return {"scheme": environ["wsgi.url_scheme"], "host": host, "client": client}
