"""Who may pass: the decision that the WSGI guards and Flask's decorators share, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any
from urllib.parse import quote

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from .session import Session

Roles = str | Callable[[Session], Iterable[str] | None]
"""Where a session's roles stand: a key of the session, or a callable that returns them."""


class Verdict(Enum):
    """What a guard says."""

    WELCOME = 200
    WHO_ARE_YOU = 401
    NOT_YOU = 403


SENTENCES = {
    Verdict.WHO_ARE_YOU: "Please log in first.",
    Verdict.NOT_YOU: "You may not see this page.",
}


def judge(session: Session, needed: Iterable[str] = (), *, roles: Roles = "roles") -> Verdict:
    """Decide whether the session's user may pass: there must be one, with one of the roles if any is needed.

    Where the manager has a ``user_loader``, it must know the user still.
    """
    if session.user_id is None or (session.keeper.loads_users and session.user is None):
        return Verdict.WHO_ARE_YOU
    wanted = set(needed)
    if not wanted or wanted & roles_of(session, roles):
        return Verdict.WELCOME
    return Verdict.NOT_YOU


def roles_of(session: Session, roles: Roles) -> set[str]:
    """Return the roles of the session's user; a single one may stand there as text."""
    found: Any = roles(session) if callable(roles) else session.get(roles)
    if isinstance(found, str):
        return {found}
    return set(found or ())


def prefers_json(accept: str) -> bool:
    """Tell whether an Accept header would rather have JSON than a page for people (RFC 9110 section 12.5.1)."""
    wanted = parse_accept_header(accept, MIMEAccept)
    return wanted.best_match(["text/html", "application/json"], default="text/html") == "application/json"


def login_address(login_url: str, path: str, query: str) -> str:
    """Return the address of the login page, with the way back, on this site and never another host, in ``next``.

    :param path: of the request, as WSGI has it: undone from its percent signs, a character for a byte.
    :param query: of the request, as it came.
    """
    back = quote("/" + path.lstrip("/\\"), safe="/", encoding="latin-1") + (f"?{query}" if query else "")
    return f"{login_url}{'&' if '?' in login_url else '?'}next={quote(back)}"
