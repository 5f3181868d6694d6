"""Which visitors a guard lets through, and the responses for the others: for WSGI guards and Flask's decorators."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from enum import Enum
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from ..session import Session
from .environ import Environ, path_of

Roles = str | Callable[[Session], Iterable[str] | None]
"""Where a session's roles stand: a key of the session, or a callable that returns them."""


class Verdict(Enum):
    """What a guard says."""

    ALLOWED = 200
    LOGIN_NEEDED = 401
    FORBIDDEN = 403


_SENTENCES = {
    Verdict.LOGIN_NEEDED: "Please log in first.",
    Verdict.FORBIDDEN: "You may not see this page.",
}


def judge(session: Session, needed: Iterable[str] = (), *, roles: Roles = "roles") -> Verdict:
    """Decide whether the session's user may pass: there must be one, with one of the roles if any is needed.

    Where the manager has a ``user_loader``, it must know the user still.
    """
    if session.user_id is None or (session._visit.services.user_loader is not None and session.user is None):
        return Verdict.LOGIN_NEEDED
    wanted = set(needed)
    if not wanted or wanted & roles_of(session, roles):
        return Verdict.ALLOWED
    return Verdict.FORBIDDEN


def roles_of(session: Session, roles: Roles) -> set[str]:
    """Return the roles of the session's user; a single role may be a str."""
    found: Any = roles(session) if callable(roles) else session.get(roles)
    if isinstance(found, str):
        return {found}
    return set(found or ())


class Refusal(NamedTuple):
    """The response for a visitor who is refused. It must not be cached, because other visitors get another one.

    :param sentence: what it says.
    :param kind: the body's media type.
    :param location: the login page, where the browser is sent there.
    :param more: further headers.
    """

    status: int
    sentence: str
    kind: str
    body: bytes
    location: str | None = None
    more: tuple[tuple[str, str], ...] = ()

    @property
    def is_page(self) -> bool:
        """Whether it is a page for people, which an app may replace with its own."""
        return self.location is None and self.kind.startswith("text/html")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The response's headers."""
        headers = [("Content-Type", self.kind), ("Content-Length", str(len(self.body)))]
        where = [] if self.location is None else [("Location", self.location)]
        return [*headers, *where, ("Vary", "Accept"), ("Cache-Control", "no-store"), *self.more]


def refuse(verdict: Verdict, environ: Environ, *, login_url: str | None = None) -> Refusal:
    """Return the answer: the login page for browsers where there is one, else a status with a JSON object or a page."""
    answer = refusal(verdict.value, _SENTENCES[verdict], environ)
    if verdict is not Verdict.LOGIN_NEEDED or login_url is None or not answer.is_page:
        return answer
    address = login_address(login_url, path_of(environ), environ.get("QUERY_STRING", ""))
    return answer._replace(status=303, body=b"", location=address)


def refusal(status: int, sentence: str, environ: Environ) -> Refusal:
    """Return the answer with this status: a JSON object or a page, by what the client accepts."""
    if prefers_json(environ.get("HTTP_ACCEPT", "")):
        return Refusal(status, sentence, "application/json", json.dumps({"error": sentence}).encode())
    return Refusal(status, sentence, "text/html; charset=utf-8", _PAGE.format(escape(sentence)).encode())


_PAGE = "<!doctype html><title>{0}</title><p>{0}"


def prefers_json(accept: str) -> bool:
    """Tell whether an Accept header would rather have JSON than a page for people (RFC 9110 section 12.5.1)."""
    wanted = parse_accept_header(accept, MIMEAccept)
    return wanted.best_match(["text/html", "application/json"], default="text/html") == "application/json"


def login_address(login_url: str, path: str, query: str) -> str:
    """Return the address of the login page, with the original path in ``next``, never one on another host.

    :param path: of the request, as WSGI has it: undone from its percent signs, a character for a byte.
    :param query: of the request, as it came.
    """
    back = quote("/" + path.lstrip("/\\"), safe="/", encoding="latin-1") + (f"?{query}" if query else "")
    return f"{login_url}{'&' if '?' in login_url else '?'}next={quote(back)}"
