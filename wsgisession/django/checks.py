"""System checks: what is wrong with the settings, said before the first request comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from .._core.cookies import LONGEST_LIFETIME, CookieOptions
from ..errors import ConfigurationError
from ..manager import SessionManager
from .engine import SessionStore
from .middleware import SessionMiddleware
from .settings import manager_options, misplaced_option

_HINT = "See WSGISESSION in your settings."


def check_settings(**_: Any) -> list[CheckMessage]:
    """Say what is wrong with ``settings.WSGISESSION``, and with the session cookie that Django writes."""
    if not _is_ours(f"{settings.SESSION_ENGINE}.SessionStore", SessionStore):
        return list(_unused())
    return [*_wrong_options(), *_wrong_cookie()]


def _unused() -> Iterator[CheckMessage]:
    if hasattr(settings, "WSGISESSION"):
        what = f"WSGISESSION is set, but nobody reads it: the session engine is {settings.SESSION_ENGINE}."
        yield Warning(what, hint='Set SESSION_ENGINE = "wsgisession.django".', id="wsgisession.W002")


def _wrong_options() -> Iterator[CheckMessage]:
    try:
        misplaced = misplaced_option()
        if misplaced is not None:
            yield Error(misplaced, hint=_HINT, id="wsgisession.E002")
            return
        manager = SessionManager(**manager_options())
    except ConfigurationError as error:
        yield Error(str(error), hint=_HINT, id="wsgisession.E001")
        return
    yield from _doubtful(manager)


def _doubtful(manager: SessionManager) -> Iterator[CheckMessage]:
    services, hint = manager._services, "Use wsgisession.django.SessionMiddleware in its place."
    if not manager.store.shared:
        what = "WSGISESSION uses memory://: each process has sessions of its own, and a restart ends them all."
        yield Warning(what, hint="Use a store that the processes share.", id="wsgisession.W001")
    if any(_is_ours(one, SessionMiddleware) for one in settings.MIDDLEWARE):
        return
    if services.devices is not None:
        what = "device_binding does not work with Django's own session middleware: no session would be bound or proven."
        yield Error(what, hint=hint, id="wsgisession.E004")
    if services.on_store_error == "unavailable":
        what = 'on_store_error="unavailable" does nothing behind Django\'s own session middleware.'
        yield Warning(what, hint=hint, id="wsgisession.W003")


def _wrong_cookie() -> Iterator[CheckMessage]:
    """Check what browsers refuse, so that nobody could log in."""
    domain = settings.SESSION_COOKIE_DOMAIN
    try:
        CookieOptions(
            max_age=min(settings.SESSION_COOKIE_AGE, LONGEST_LIFETIME),
            path=settings.SESSION_COOKIE_PATH,
            domain=domain.lstrip(".") if domain else None,
            http_only=bool(settings.SESSION_COOKIE_HTTPONLY),
            same_site=settings.SESSION_COOKIE_SAMESITE or "Lax",
            secure=bool(settings.SESSION_COOKIE_SECURE),
        ).check_name(settings.SESSION_COOKIE_NAME)
    except ConfigurationError as error:
        hint = "See SESSION_COOKIE_NAME and the other SESSION_COOKIE_ settings."
        yield Error(f"Django's session cookie: {error}", hint=hint, id="wsgisession.E003")


def _is_ours(path: str, ours: type) -> bool:
    try:
        found = import_string(path)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, ours)
