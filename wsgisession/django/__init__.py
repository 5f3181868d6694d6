"""Django's session engine on this library's stores, and its session middleware for an app in `SessionMiddleware`.

``SESSION_ENGINE = "wsgisession.django"`` with ``WSGISESSION = {"store": "redis://..."}``: the options of
`SessionManager` may be in there that Django has no setting for. Django writes the cookie, and its value is the bare
session key; the store holds only its digest, so a copy of the store cannot be used to log in.

``"wsgisession.django.Sessions"`` in ``INSTALLED_APPS`` lets ``manage.py check`` look at the settings; without it they
are looked at when the first request comes.
"""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from .checks import check_settings
from .engine import SessionStore
from .guards import require_device_proof
from .middleware import EnvironSession, SessionMiddleware
from .settings import get_manager

__all__ = [
    "EnvironSession",
    "SessionMiddleware",
    "SessionStore",
    "Sessions",
    "check_settings",
    "get_manager",
    "require_device_proof",
]


class Sessions(AppConfig):
    """The app to name in ``INSTALLED_APPS``, for the system checks."""

    name = "wsgisession.django"
    label = "wsgisession"
    verbose_name = "Server-side sessions"

    def ready(self) -> None:
        """Register the system checks."""
        register(check_settings)
