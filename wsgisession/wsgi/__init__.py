"""The middleware for any WSGI app, and its guards."""

from .middleware import SessionMiddleware

__all__ = ["SessionMiddleware"]
