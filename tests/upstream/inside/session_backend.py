"""Django's own tests of a session backend, on one backend: ``session_backend.py engine`` or ``... wrapped``.

Without a store, the backend is Django's database. ``engine`` is ours as SESSION_ENGINE, and ``wrapped`` the session of
the environ with Django's methods.
"""

from __future__ import annotations

import os
import sys
import unittest
from collections.abc import Callable
from typing import Any

import django
import recording
from django.conf import settings
from django.test import TestCase
from django.test.runner import DiscoverRunner

STORE = os.environ["UPSTREAM_STORE"]

settings.configure(
    SECRET_KEY="for the tests of Django, and long enough",
    USE_TZ=False,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "sessions_tests"],
    WSGISESSION={"store": STORE},
)
django.setup()


def backend(kind: str) -> Callable[..., Any]:
    """Return what the tests call with a session's key or nothing."""
    if not STORE:
        from django.contrib.sessions.backends.db import SessionStore

        return SessionStore
    if kind == "engine":
        from wsgisession.django import SessionStore as Engine

        return Engine
    return _environ_session()


def _environ_session() -> Callable[..., Any]:
    from wsgisession import SessionManager
    from wsgisession.django import EnvironSession

    manager = SessionManager(secret=settings.SECRET_KEY, store=STORE)

    def opened(key: str | None = None) -> Any:
        cookie = "" if key is None else f"sid={manager._services.signer.sign(key)}"
        return EnvironSession(manager.open(cookie, None))

    return opened


def main(kind: str) -> None:
    """Run the tests, and record."""
    from sessions_tests.tests import SessionTestsMixin

    DiscoverRunner(verbosity=0).setup_databases()
    case = type("Tests", (SessionTestsMixin, TestCase), {"backend": staticmethod(backend(kind))})
    result = unittest.TextTestRunner(verbosity=1).run(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    recording.record(result)


if __name__ == "__main__":
    main(sys.argv[1])
