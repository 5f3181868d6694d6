"""Server-side sessions for any WSGI app, for Flask and for Django.

The cookie carries a signed ID; all data stay on the server, in the store that a URL names.
"""

from ._core.cookies import CookieOptions
from ._core.events import SessionEvent
from ._core.info import SessionInfo
from .errors import (
    ConfigurationError,
    HeadersSentError,
    SerializationError,
    SessionConflict,
    SessionError,
    SessionGone,
    StoreError,
)
from .manager import SessionManager
from .session import Session, SessionCookie
from .stores import Store, open_store
from .wsgi.environ import get_session
from .wsgi.middleware import SessionMiddleware

__all__ = [
    "ConfigurationError",
    "CookieOptions",
    "HeadersSentError",
    "SerializationError",
    "Session",
    "SessionConflict",
    "SessionCookie",
    "SessionError",
    "SessionEvent",
    "SessionGone",
    "SessionInfo",
    "SessionManager",
    "SessionMiddleware",
    "Store",
    "StoreError",
    "get_session",
    "open_store",
]
