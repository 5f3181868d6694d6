"""Flask's settings to the manager's options: one table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import copy
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from typing import Any, Protocol

from .._core.events import logger
from .._core.ids import parse_secrets
from .._core.timeouts import Default
from ..errors import ConfigurationError
from ..settings import DEFAULTS

_THIRTY_DAYS = timedelta(days=30)

OPTIONS = frozenset(DEFAULTS) | {"carry_over", "carry_over_until"}
"""The options that an app may give, as keyword arguments or in its configuration."""

_SETTINGS = {f"SESSION_{option.upper()}": option for option in OPTIONS - {"cookie", "name"}}

# Flask's settings of the cookie, and the option of the cookie that each is.
_COOKIE_SETTINGS = {
    "SESSION_COOKIE_DOMAIN": "domain",
    "SESSION_COOKIE_HTTPONLY": "http_only",
    "SESSION_COOKIE_SAMESITE": "same_site",
    "SESSION_COOKIE_PARTITIONED": "partitioned",
}

_KNOWN = frozenset(_SETTINGS) | _COOKIE_SETTINGS.keys()
_KNOWN |= {"SESSION_COOKIE_NAME", "SESSION_COOKIE_PATH", "SESSION_COOKIE_SECURE", "SESSION_REFRESH_EACH_REQUEST"}

# What is not mistyped, but looked for under another name.
_ELSEWHERE = {
    "SESSION_NAME": "SESSION_COOKIE_NAME",
    "SESSION_COOKIE": "SESSION_COOKIE_SAMESITE or another of the cookie's",
    "SESSION_COOKIE_MAX_AGE": "PERMANENT_SESSION_LIFETIME",
    "SESSION_STORE_URL": "SESSION_STORE",
}


class App(Protocol):
    """What is asked of a Flask app. Subclasses may have these as attributes of their own, beside the configuration."""

    config: Any
    secret_key: Any
    permanent_session_lifetime: Any
    testing: bool
    debug: Any


def options_of(app: App, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manager's options as an app is configured now.

    :param given: options that go before the configuration.
    """
    config = app.config
    _warn_of_mistyped(config)
    options: dict[str, Any] = {
        "secret": _secrets(app),
        "name": config["SESSION_COOKIE_NAME"],
        "cookie": _cookie(config),
        "absolute_timeout": Default(max(_THIRTY_DAYS, app.permanent_session_lifetime).total_seconds()),
    }
    options.update({option: config[name] for name, option in _SETTINGS.items() if name in config})
    options.update(given)
    if isinstance(given.get("cookie"), Mapping):  # what it leaves out is as it was configured
        options["cookie"] = _cookie(config) | dict(given["cookie"])
    if app.testing or app.debug:
        options["secret"] = [_strengthened(secret) for secret in _several(options["secret"])]
    return options


def snapshot(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, with lists and dicts copied, so that a change inside one shows in a comparison."""
    return {name: copy(value) if type(value) in (list, dict) else value for name, value in config.items()}


def _warn_of_mistyped(config: Mapping[str, Any]) -> None:
    """Log what is almost the name of a setting; Flask-Session's names, and others', are not like any."""
    for name in config:
        if str(name).startswith("SESSION_") and name not in _KNOWN and (meant := _meant(name)):
            _warn_once(f"FlaskSessions has no setting {name}: was {meant} meant?")


def _meant(name: str) -> str | None:
    # Compared without what all have in common, which would make any two of them alike.
    ends = {known.removeprefix("SESSION_"): known for known in _KNOWN}
    alike = get_close_matches(name.removeprefix("SESSION_"), ends, n=1, cutoff=0.8)
    return ends[alike[0]] if alike else _ELSEWHERE.get(name)


def _cookie(config: Mapping[str, Any]) -> dict[str, Any]:
    cookie = {option: config[name] for name, option in _COOKIE_SETTINGS.items() if config.get(name) not in (None, "")}
    cookie["path"] = config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"] or "/"
    # Flask's False is a default that nobody chose; "auto" sends Secure wherever a browser would take it.
    cookie["secure"] = True if config["SESSION_COOKIE_SECURE"] else "auto"
    return cookie


def _secrets(app: App) -> list[str | bytes]:
    """Return the app's secrets, the current one first."""
    secret, fallbacks = app.secret_key, app.config.get("SECRET_KEY_FALLBACKS") or []
    if isinstance(fallbacks, (str, bytes)):
        raise ConfigurationError("SECRET_KEY_FALLBACKS is one text, so each of its letters would be a key; give a list")
    return [secret, *fallbacks] if secret else []


def _several(secret: Any) -> list[Any]:
    return [secret] if isinstance(secret, (str, bytes)) else list(secret or ())


def _strengthened(secret: Any) -> Any:
    """Let the weak secrets of tests and of a developer's machine pass; anywhere else they are refused."""
    try:
        parse_secrets(secret)
    except ConfigurationError as error:
        if not isinstance(secret, (str, bytes)):
            raise
        _warn_once(f"{error} (outside of tests and debug mode it is refused)")
        text = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        return hashlib.sha256(text).hexdigest()
    return secret


@cache
def _warn_once(sentence: str) -> None:
    logger.warning(sentence)
