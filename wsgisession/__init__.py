"""Server-side sessions for any WSGI app, for Flask and for Django.

The cookie carries a signed ID; all data stay on the server, in the store that a URL names.
"""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .device import DeviceBinding

__all__ = [
    "ConfigurationError",
    "CookieOptions",
    "DeviceBinding",
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


def __getattr__(name: str) -> Any:
    if name == "DeviceBinding":  # imported when it is asked for: most apps bind no sessions
        from .device import DeviceBinding

        return DeviceBinding
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
