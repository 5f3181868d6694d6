"""Flask's settings to the manager's options: one table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from .._core.cookies import CookieOptions
from .._core.events import logger
from .._core.ids import CURE, weakness_of
from .._core.timeouts import THIRTY_DAYS, Default
from ..errors import ConfigurationError
from ..settings import DEFAULTS, Options, services_from, unknown_option
from .leftovers import leftover_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_TEN_YEARS = timedelta(days=3660)


class FlaskOptions(Options, total=False):
    """The options of `FlaskSessions`: those of `SessionManager`, and what carries old sessions over."""

    carry_over: bool | Callable[[str], Any] | None
    carry_over_until: datetime | None


OPTIONS = frozenset(DEFAULTS) | {"carry_over", "carry_over_until"}
"""The options that an app may give, as keyword arguments or in its configuration."""

_SETTINGS = {f"SESSION_{option.upper()}": option for option in sorted(OPTIONS - {"cookie", "name"})}

# Flask's settings of the cookie, and the cookie option that each of them is.
_COOKIE_SETTINGS = {
    "SESSION_COOKIE_DOMAIN": "domain",
    "SESSION_COOKIE_HTTPONLY": "http_only",
    "SESSION_COOKIE_SAMESITE": "same_site",
    "SESSION_COOKIE_PARTITIONED": "partitioned",
}

_KNOWN = frozenset(_SETTINGS) | _COOKIE_SETTINGS.keys()
_KNOWN |= {"SESSION_COOKIE_NAME", "SESSION_COOKIE_PATH", "SESSION_COOKIE_SECURE", "SESSION_REFRESH_EACH_REQUEST"}

# Names that are not misspelled, but that people expect for something that has another name.
_ELSEWHERE = {
    "SESSION_NAME": "SESSION_COOKIE_NAME",
    "SESSION_COOKIE": "SESSION_COOKIE_SAMESITE or another SESSION_COOKIE_ setting",
    "SESSION_COOKIE_MAX_AGE": "PERMANENT_SESSION_LIFETIME",
    "SESSION_STORE_URL": "SESSION_STORE",
}

# How errors name what an option is called in the configuration.
_NAMES = {option: setting for setting, option in (*_SETTINGS.items(), *_COOKIE_SETTINGS.items())}
_NAMES |= {"path": "SESSION_COOKIE_PATH", "name": "SESSION_COOKIE_NAME", "max_age": "PERMANENT_SESSION_LIFETIME"}
_NAMED = re.compile(rf"(?:\bthe cookie(?:'s)? )?\b({'|'.join(_NAMES)})(?= must| \(| belongs| has |=| ')")


class App(Protocol):
    """The attributes of a Flask app that are read. A subclass may have its own, in addition to the configuration."""

    config: Any
    secret_key: Any
    permanent_session_lifetime: Any


@dataclass(frozen=True)
class Settings:
    """An app's settings as they are now.

    :ivar options: for `SessionManager`, and ``carry_over``.
    :ivar weakness: what is wrong with the app's ``SECRET_KEY``, which works only on a developer's machine; None for a
        good one.
    """

    options: dict[str, Any]
    weakness: str | None


def settings_of(app: App, given: Mapping[str, Any]) -> Settings:
    """Return the settings as an app is configured now.

    :param given: options that take precedence over the configuration.
    :raises ConfigurationError: naming a setting that cannot be right.
    """
    config = app.config
    _report(config)
    secrets, weakness = _secrets(app)
    options: dict[str, Any] = {
        "secret": secrets,
        "name": config["SESSION_COOKIE_NAME"],
        "cookie": _cookie(config),
        "absolute_timeout": Default(max(THIRTY_DAYS, lifetime_of(app))),
    }
    options.update({option: config[name] for name, option in _SETTINGS.items() if name in config})
    options.update(given)
    if isinstance(given.get("cookie"), Mapping):  # what it leaves out is as it was configured
        options["cookie"] = _cookie(config) | dict(given["cookie"])
    return Settings(options, weakness if options["secret"] is secrets else None)


def lifetime_of(app: App) -> float:
    """Return the ``PERMANENT_SESSION_LIFETIME`` in seconds.

    :raises ConfigurationError: if it is not a duration, or longer than ten years.
    """
    try:
        lifetime = app.permanent_session_lifetime
        lifetime = lifetime if isinstance(lifetime, timedelta) else timedelta(seconds=lifetime)
    except (TypeError, OverflowError):
        lifetime = None
    if lifetime is None or lifetime > _TEN_YEARS:
        shown = app.config.get("PERMANENT_SESSION_LIFETIME")
        raise ConfigurationError(
            f"PERMANENT_SESSION_LIFETIME must be a number of seconds or a timedelta, at most ten years, not {shown!r}"
        )
    return float(lifetime.total_seconds())


def check_given(given: Mapping[str, Any]) -> None:
    """Check the arguments of `FlaskSessions`, without the configuration, which the app may still change.

    :raises ConfigurationError: for one that cannot be right.
    """
    for name in given:
        if name not in OPTIONS:
            raise ConfigurationError(unknown_option(name, "FlaskSessions", OPTIONS))
    stand_ins = {"secret": "not the secret of any app", "absolute_timeout": Default(_TEN_YEARS.total_seconds())}
    options = {name: value for name, value in given.items() if name in DEFAULTS}
    if options.get("secret", "") is None:
        del options["secret"]
    services_from({**stand_ins, **options})


def named(error: ConfigurationError, given: Mapping[str, Any]) -> ConfigurationError:
    """Return an error that names the settings where it named options that the app did not give as arguments."""
    own = set(given) | set(_cookie_names(given.get("cookie")))

    def replaced(found: re.Match[str]) -> str:
        return found[0] if found[1] in own else _NAMES[found[1]]

    return ConfigurationError(_NAMED.sub(replaced, str(error)))


def _cookie_names(cookie: object) -> Iterable[str]:
    if isinstance(cookie, CookieOptions):
        return CookieOptions.__dataclass_fields__
    return cookie if isinstance(cookie, Mapping) else ()


def snapshot(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, with lists and dicts copied, so that a change inside one shows in a comparison."""
    return {name: copy(value) if type(value) in (list, dict) else value for name, value in config.items()}


def _report(config: Mapping[str, Any]) -> None:
    """Log what is almost the name of a setting, and what Flask-Session left behind."""
    for name in config:
        if str(name).startswith("SESSION_") and name not in _KNOWN and (meant := _meant(name)):
            warn_once(f"FlaskSessions has no setting {name}: did you mean {meant}?")
    for sentence in leftover_settings(config):
        warn_once(sentence)


def _meant(name: str) -> str | None:
    # Compared without what all have in common, which would make any two of them alike.
    ends = {known.removeprefix("SESSION_"): known for known in _KNOWN}
    alike = get_close_matches(name.removeprefix("SESSION_"), ends, n=1, cutoff=0.8)
    return ends[alike[0]] if alike else _ELSEWHERE.get(name)


def _cookie(config: Mapping[str, Any]) -> dict[str, Any]:
    cookie = {option: config[name] for name, option in _COOKIE_SETTINGS.items() if config.get(name) not in (None, "")}
    if cookie.get("domain") is False:  # which Flask took for "no domain" for years
        del cookie["domain"]
    cookie["path"] = config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"] or "/"
    # Flask's False is a default that nobody chose; "auto" sends Secure wherever a browser would accept it.
    cookie["secure"] = True if config["SESSION_COOKIE_SECURE"] else "auto"
    return cookie


def _secrets(app: App) -> tuple[list[str | bytes], str | None]:
    """Return the app's secrets, the current one first, and a sentence about the first weak one."""
    secret, fallbacks = app.secret_key, app.config.get("SECRET_KEY_FALLBACKS") or []
    if isinstance(fallbacks, (str, bytes)):
        raise ConfigurationError("SECRET_KEY_FALLBACKS is one text, so each of its letters would be a key; give a list")
    if not secret:
        return [], None
    weaknesses: list[str] = []
    secrets = [_strengthened("SECRET_KEY", secret, weaknesses)]
    secrets += [_strengthened("a secret in SECRET_KEY_FALLBACKS", one, weaknesses) for one in fallbacks]
    return secrets, next(iter(weaknesses), None)


def _strengthened(setting: str, secret: Any, weaknesses: list[str]) -> str | bytes:
    """Return a secret that the manager accepts, and note why it would refuse this one."""
    if not isinstance(secret, (str, bytes)):
        raise ConfigurationError(f"{setting} must be str or bytes, not {type(secret).__name__}; {CURE}")
    weakness = weakness_of(secret)
    if weakness is None:
        return secret
    weaknesses.append(f"{setting} {weakness}; {CURE}")
    text = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    return hashlib.sha256(text).hexdigest()


@cache
def warn_once(sentence: str) -> None:
    """Log a warning, once in this process."""
    logger.warning(sentence)
