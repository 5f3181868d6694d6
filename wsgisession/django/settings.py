"""Django's settings to the manager's options, and the one manager that they describe."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .._core.cookies import LONGEST_LIFETIME, CookieOptions
from ..errors import ConfigurationError
from ..manager import SessionManager
from ..settings import DEFAULTS, USER_KEYS, unknown_option

_USER_KEYS = ("_auth_user_id", *(key for key in USER_KEYS if key != "_auth_user_id"))
"""Django's own key first, so that an app may keep an unrelated ``user_id`` next to it."""

_SETTINGS = ("WSGISESSION", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "SESSION_COOKIE_AGE")

_FOR_THE_WRAPPER = "only an app that is wrapped in wsgisession.SessionMiddleware has it"

DJANGOS_OWN = {
    "secret": "set SECRET_KEY",
    "name": "set SESSION_COOKIE_NAME",
    "cookie": "set SESSION_COOKIE_AGE, SESSION_COOKIE_SECURE and their like",
    "rolling": "set SESSION_SAVE_EVERY_REQUEST",
    "resave": "set SESSION_SAVE_EVERY_REQUEST",
    "save_uninitialized": _FOR_THE_WRAPPER,
    "unset": _FOR_THE_WRAPPER,
    "genid": _FOR_THE_WRAPPER,
    "renewal_timeout": _FOR_THE_WRAPPER,
    "renewal_grace": _FOR_THE_WRAPPER,
    "user_loader": "request.user is Django's",
    "max_sessions_per_user": _FOR_THE_WRAPPER,
    "track_client": _FOR_THE_WRAPPER,
    "format": "only an app that is wrapped in SessionMiddleware sends cookies that Express can read",
    "on_gone": "Django answers 400 if a session ended in the meantime",
}
"""The manager's options that would do nothing here, and what does instead."""

_lock = threading.Lock()
_manager: SessionManager | None = None


class DjangoManager(SessionManager):
    """The manager of Django's engine, in whose sessions keys that are not str become JSON text, as in Django's own."""

    _text_keys = True


def get_manager() -> SessionManager:
    """Return the manager that ``settings.WSGISESSION`` describes: for `sessions_for`, `revoke_user` and the like.

    :raises ConfigurationError: for a setting that cannot be right.
    """
    global _manager  # noqa: PLW0603 - one per process, as Django's settings are
    if _manager is None:
        with _lock:
            if _manager is None:
                _manager = DjangoManager(**manager_options())
    return _manager


def manager_options() -> dict[str, Any]:
    """Return the options of the manager that the settings describe.

    :raises ConfigurationError: for what is missing, unknown, or Django's to decide.
    """
    given = dict(_given())
    origin_of_old_sessions()
    given.pop("carry_over", None)
    unknown = given.keys() - DEFAULTS.keys()
    if unknown:
        raise ConfigurationError(unknown_option(min(map(str, unknown)), "WSGISESSION", {*DEFAULTS, "carry_over"}))
    if "store" not in given:
        raise ConfigurationError('WSGISESSION needs a store, such as {"store": "redis://localhost:6379/0"}')
    misplaced = misplaced_option()
    if misplaced is not None:
        raise ConfigurationError(misplaced)
    # Django writes the cookie itself: the secret signs nothing here, and may be as short as Django allows.
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    secrets = [hashlib.sha256(str(key).encode()).hexdigest() for key in keys]
    cookie = {"name": settings.SESSION_COOKIE_NAME, "cookie": _cookie()} if given.get("device_binding") else {}
    return {"secret": secrets, "absolute_timeout": None, "user_key": _USER_KEYS, **cookie, **given}


def _cookie() -> CookieOptions:
    """Return Django's session cookie as options: the second cookie of a bound session is like it."""
    if not settings.SESSION_COOKIE_SECURE:
        raise ConfigurationError("device_binding needs https: set SESSION_COOKIE_SECURE = True, or leave it out")
    domain = settings.SESSION_COOKIE_DOMAIN
    return CookieOptions(
        max_age=min(settings.SESSION_COOKIE_AGE, LONGEST_LIFETIME),
        path=settings.SESSION_COOKIE_PATH,
        domain=domain.lstrip(".") if domain else None,
        http_only=bool(settings.SESSION_COOKIE_HTTPONLY),
        same_site=settings.SESSION_COOKIE_SAMESITE or "Lax",
        secure=True,
    )


def misplaced_option() -> str | None:
    """Say which option in ``settings.WSGISESSION`` would do nothing, and what does instead."""
    found = next((name for name in DJANGOS_OWN if name in _given()), None)
    return None if found is None else f"WSGISESSION cannot have the option {found!r}: {DJANGOS_OWN[found]}"


def origin_of_old_sessions() -> type[DatabaseStore] | None:
    """Return the engine whose sessions are carried over, or None.

    :raises ConfigurationError: for one that does not keep them in the database: to read those of the cache is to
        unpickle them.
    """
    path = _given().get("carry_over")
    if path is None:
        return None
    try:
        engine = import_string(f"{path}.SessionStore")
        if issubclass(engine, DatabaseStore) and engine.get_model_class() is not None:
            return engine  # type: ignore[no-any-return]
    except ImportError:
        raise ConfigurationError(f"WSGISESSION carries over from {path!r}, which is no session engine") from None
    except RuntimeError:
        raise ConfigurationError('carry_over needs "django.contrib.sessions" in INSTALLED_APPS') from None
    known = "django.contrib.sessions.backends.db"
    raise ConfigurationError(f"carry_over reads sessions from the database only: give {known!r}, or leave it out")


def _given() -> dict[str, Any]:
    given = getattr(settings, "WSGISESSION", {})
    if not isinstance(given, dict):
        raise ConfigurationError('WSGISESSION must be a dict, such as {"store": "redis://localhost:6379/0"}')
    return given


def _forget(*, setting: str, **_: Any) -> None:
    global _manager  # noqa: PLW0603
    if setting in _SETTINGS and _manager is not None:
        _manager.close()
        _manager = None


setting_changed.connect(_forget, dispatch_uid="wsgisession.django")
