"""How the session cookie is sent: `CookieOptions`."""

from ._core.cookies import CookieOptions

__all__ = ["CookieOptions"]
