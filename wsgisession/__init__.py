"""Server-side sessions for any WSGI app, for Flask and for Django.

The cookie carries a signed ID; all data stay on the server, in the store that a URL names.
"""

from .cookies import CookieOptions
from .environ import get_session
from .errors import (
    ConfigurationError,
    HeadersSentError,
    SerializationError,
    SessionConflict,
    SessionError,
    SessionGone,
    StoreError,
)
from .events import SessionEvent
from .listing import SessionInfo
from .manager import SessionManager
from .session import Session, SessionCookie
from .stores import Store, open_store
from .wsgi import SessionMiddleware

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
