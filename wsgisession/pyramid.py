"""Pyramid's sessions on the environ's session: ``config.include("wsgisession.pyramid")`` in a wrapped app."""

from __future__ import annotations

import secrets
from typing import Any, cast

from pyramid.config import Configurator
from pyramid.interfaces import ISession, ISessionFactory
from pyramid.request import Request
from zope.interface import implementer, provider

from .session import Session
from .wsgi.environ import get_session

_CSRF_KEY = "_csrft_"
_FLASH = "_f_"


@implementer(ISession)
class PyramidSession(Session):
    """The environ's `Session` with the methods of Pyramid's ``ISession``."""

    __slots__ = ()

    @property
    def created(self) -> int:
        """When the session began, in seconds since the epoch."""
        return int(self.created_at.timestamp())

    @property
    def new(self) -> bool:
        """Whether there was no record when the request came."""
        return self.is_new

    def changed(self) -> None:
        """Do nothing: nested changes are detected."""

    def invalidate(self) -> None:
        """End the session as `destroy` does; writing afterwards starts a new one."""
        self.destroy()

    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Add a message to a queue, which waits in the session until it is popped."""
        waiting = self.setdefault(_FLASH + queue, [])
        if allow_duplicate or msg not in waiting:
            waiting.append(msg)

    def pop_flash(self, queue: str = "") -> list[Any]:
        """Return the messages of a queue, and remove them."""
        return cast("list[Any]", self.pop(_FLASH + queue, []))

    def peek_flash(self, queue: str = "") -> list[Any]:
        """Return the messages of a queue, which stay."""
        return cast("list[Any]", self.get(_FLASH + queue, []))

    def new_csrf_token(self) -> str:
        """Store a new CSRF token, and return it."""
        token = self[_CSRF_KEY] = secrets.token_hex(20)
        return token

    def get_csrf_token(self) -> str:
        """Return the CSRF token; a session without one gets one."""
        token = self.get(_CSRF_KEY)
        return self.new_csrf_token() if token is None else cast("str", token)


@provider(ISessionFactory)
def session_factory(request: Request) -> PyramidSession:
    """Return the session of a request, of which nothing is read yet.

    :raises SessionError: if the app is not wrapped in `SessionMiddleware`.
    """
    return PyramidSession(get_session(request.environ)._visit)


def includeme(config: Configurator) -> None:
    """Let ``config.include("wsgisession.pyramid")`` set the session factory."""
    config.set_session_factory(session_factory)


__all__ = ["PyramidSession", "includeme", "session_factory"]
