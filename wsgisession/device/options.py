"""`DeviceBinding`: the options of device-bound sessions, checked at startup."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from .._core.cookies import CookieOptions
from .._core.timeouts import Duration
from ..errors import ConfigurationError

ALGORITHMS = ("ES256", "RS256")
LEEWAY = 30.0
"""For how many seconds a device cookie is accepted after the browser dropped it: requests in flight, other clocks."""

_SHORTEST_LIFETIME = 300.0  # Chromium signs at most 6 times in 9 minutes for one site
_LONGEST_LIFETIME = 86_400.0
_LONGEST_GRACE = 60.0
_SLOWEST_REFRESH = 30.0
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_PREFIX = re.compile(r"/[!$-;=@-~]*")
_HOST = r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}"
_INITIATOR = re.compile(rf"\*|(?:\*\.)?{_HOST}")


@dataclass(frozen=True)
class DeviceBinding:
    """How sessions are bound to the device that logged in (W3C Device Bound Session Credentials). Experimental.

    :param path: the URL path of the registration endpoint, below the cookie's path and the app's mount point;
        ``path + "/refresh"`` is the refresh endpoint. The middleware answers both.
    :param lifetime: seconds or a timedelta until the browser has to prove its key again. A stolen pair of cookies works
        this long, and up to 30 seconds more.
    :param algorithms: the signature algorithms that are offered, in order of preference.
    :param grace: how many seconds after the registration a request needs no proof, because the browser may have sent it
        before it received the second cookie. At most 60.
    :param offer: ``"login"``: each login offers the browser to register a key. ``"never"``: sessions that are bound
        stay bound, and no others become so. Use it to roll the feature out and back.
    :param include_site: bind the whole site (the registrable domain with all its subdomains) instead of one origin.
        Needs ``origin``, and a cookie domain that covers the site.
    :param origin: the origin of the scope, such as ``"https://example.com"``; None for the one that registers.
    :param exclude: URL paths, with everything below them, that need no proof, such as ``"/static"``: the browser sends
        requests there without waiting for a refresh, and they get no data from a bound session.
    :param initiators: other hosts whose pages may cause a refresh, such as ``"app.example.com"``.
    :param on_unproven: ``"answer"``: the middleware helps a browser that has the key to prove it; any other request
        without a proof is anonymous. ``"anonymous"``: all of them are.
    :param testing: allow a lifetime under five minutes, for which browsers refuse to sign often enough.
    :raises ConfigurationError: for a value that cannot work.
    """

    path: str = "/.session-device"
    lifetime: Duration = 600.0
    algorithms: tuple[str, ...] = ALGORITHMS
    grace: Duration = 10.0
    offer: Literal["login", "never"] = "login"
    include_site: bool = False
    origin: str | None = None
    exclude: tuple[str, ...] = ()
    initiators: tuple[str, ...] = ()
    on_unproven: Literal["answer", "anonymous"] = "answer"
    testing: bool = False

    def __post_init__(self) -> None:
        for name in ("include_site", "testing"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{_of(name)} must be True or False, not {getattr(self, name)!r}")
        self._check_path()
        self._check_durations()
        self._check_algorithms()
        self._check_choice("offer", "login", "never")
        self._check_choice("on_unproven", "answer", "anonymous")
        self._check_origin()
        self._check_texts("exclude", _PREFIX, 'a URL path that begins with "/"')
        self._check_texts("initiators", _INITIATOR, 'a host name in lower case, "*.host", or "*"')

    @property
    def seconds(self) -> int:
        """The ``lifetime`` in whole seconds, as Max-Age has it."""
        return int(self.lifetime)  # type: ignore[arg-type]

    @property
    def refresh_path(self) -> str:
        """The URL path of the refresh endpoint, below the mount point."""
        return f"{self.path}/refresh"

    def _check_path(self) -> None:
        if not isinstance(self.path, str) or not _PATH.fullmatch(self.path) or _has_dot_segment(self.path):
            raise ConfigurationError(
                f'{_of("path")} must be a URL path such as "/.session-device", without a slash at its end, not'
                f" {self.path!r}"
            )

    def _check_durations(self) -> None:
        lifetime, grace = _seconds("lifetime", self.lifetime), _seconds("grace", self.grace)
        shortest = 1.0 if self.testing else _SHORTEST_LIFETIME
        if lifetime < shortest and not self.testing:
            raise ConfigurationError(
                f"{_of('lifetime')} ({lifetime:g} s) must be at least {_SHORTEST_LIFETIME:g} s, because browsers sign"
                " only about every 90 seconds; set testing=True for a shorter one in tests"
            )
        if not shortest <= lifetime <= _LONGEST_LIFETIME or lifetime != int(lifetime):
            raise ConfigurationError(
                f"{_of('lifetime')} must be whole seconds, at least {shortest:g} and at most {_LONGEST_LIFETIME:g}, not"
                f" {lifetime:g}"
            )
        if not 0 <= grace <= _LONGEST_GRACE:
            raise ConfigurationError(
                f"{_of('grace')} must be at least 0 and at most {_LONGEST_GRACE:g} seconds, not {grace:g}"
            )
        object.__setattr__(self, "lifetime", lifetime)
        object.__setattr__(self, "grace", grace)

    def _check_algorithms(self) -> None:
        given = _as_tuple("algorithms", self.algorithms)
        if not given or any(one not in ALGORITHMS for one in given) or len(set(given)) != len(given):
            raise ConfigurationError(
                f'{_of("algorithms")} must be "ES256", "RS256", or both in order of preference, not {given!r}'
            )
        object.__setattr__(self, "algorithms", given)

    def _check_choice(self, name: str, *known: str) -> None:
        if getattr(self, name) not in known:
            choices = " or ".join(f'"{one}"' for one in known)
            raise ConfigurationError(f"{_of(name)} must be {choices}, not {getattr(self, name)!r}")

    def _check_origin(self) -> None:
        if self.include_site and self.origin is None:
            raise ConfigurationError(
                f'{_of("include_site")}=True needs origin="https://example.com", with the domain of your site'
            )
        if self.origin is None:
            return
        parts = urlsplit(self.origin) if isinstance(self.origin, str) else None
        if (
            parts is None
            or parts.scheme != "https"
            or not re.fullmatch(rf"{_HOST}(?::\d{{1,5}})?", parts.netloc)
            or self.origin != f"https://{parts.netloc}"
        ):
            raise ConfigurationError(
                f'{_of("origin")} must be "https://" and a host in lower case, such as "https://example.com", not'
                f" {self.origin!r}"
            )

    def _check_texts(self, name: str, pattern: re.Pattern[str], what: str) -> None:
        given = _as_tuple(name, getattr(self, name))
        for one in given:
            if not isinstance(one, str) or not pattern.fullmatch(one):
                raise ConfigurationError(f"{_of(name)} must list texts that are each {what}, not {one!r}")
        object.__setattr__(self, name, given)


def device_binding(given: object) -> DeviceBinding | None:
    """Return the options from what the user wrote: themselves, a dict of their names, True, or False or None for none.

    :raises ConfigurationError: for anything else.
    """
    if given is None or given is False:
        return None
    if isinstance(given, DeviceBinding):
        return given
    if given is True:
        return DeviceBinding()
    known = [field.name for field in fields(DeviceBinding)]
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigurationError(f"device_binding has no option {unknown[0]!r}; it knows {', '.join(known)}")
        options: dict[str, Any] = dict(given)
        return DeviceBinding(**options)
    raise ConfigurationError(f"device_binding must be True, False, or a DeviceBinding, not {type(given).__name__}")


def device_cookie(cookie: CookieOptions, options: DeviceBinding) -> CookieOptions:
    """Return how the second cookie is sent: like the session cookie, but Secure, HttpOnly, and short-lived."""
    return replace(cookie, max_age=options.seconds, http_only=True, secure=True, partitioned=False)


def check_combination(options: DeviceBinding, cookie: CookieOptions, *, format: str, renewal_grace: float) -> None:
    """Check the options against the manager's others.

    :param renewal_grace: how long an old ID is accepted; infinite where IDs are not renewed.
    :raises ConfigurationError: for a combination that browsers refuse, or that would log people out.
    """
    if format == "express":
        raise ConfigurationError(
            'device_binding needs the native format: leave out format="express" (Node.js would drop the binding), or'
            " device_binding"
        )
    if cookie.secure is False:
        raise ConfigurationError(
            "device_binding needs https: leave out the cookie's secure=False (browsers bind no sessions over http), or"
            " device_binding"
        )
    if cookie.partitioned:
        raise ConfigurationError(
            "browsers do not bind Partitioned cookies: leave out the cookie's partitioned=True, or device_binding"
        )
    if renewal_grace < _SLOWEST_REFRESH:
        raise ConfigurationError(
            f"renewal_grace ({renewal_grace:g} s) must be at least {_SLOWEST_REFRESH:g} s with device_binding, because"
            " a slow refresh may arrive with the old ID, and refusing it ends the browser's session"
        )
    _check_site(options, cookie)
    _check_initiators(options, cookie)


def _check_site(options: DeviceBinding, cookie: CookieOptions) -> None:
    domain, host = (cookie.domain or "").lstrip(".").lower(), _host_of(options.origin)
    if options.include_site and domain != host:
        raise ConfigurationError(
            f"{_of('include_site')}=True with origin={options.origin!r} needs the cookie domain {host!r}, not"
            f" {cookie.domain!r}; set it, or leave out include_site"
        )


def _check_initiators(options: DeviceBinding, cookie: CookieOptions) -> None:
    """Refuse initiators on other sites where the refresh would arrive without the session cookie.

    Only the browser knows which hosts belong to one site. Hosts below the cookie's domain certainly do.
    """
    if cookie.same_site == "None":
        return
    site = (cookie.domain or "").lstrip(".").lower() or _host_of(options.origin)
    for one in options.initiators:
        if not site or (one != site and not one.endswith(f".{site}")):
            raise ConfigurationError(
                f"{_of('initiators')} names {one!r}, but with SameSite={cookie.same_site} a refresh that another site"
                " causes arrives without the session cookie, and the browser's session ends; name only hosts below the"
                ' cookie domain, or set the cookie\'s same_site="None"'
            )


def _host_of(origin: str | None) -> str:
    return "" if origin is None else (urlsplit(origin).hostname or "")


def _of(name: str) -> str:
    return f"device_binding's {name}"


def _seconds(name: str, value: object) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not abs(seconds) < 1e9:
        raise ConfigurationError(f"{_of(name)} must be seconds or a timedelta, not {value!r}")
    return float(seconds)


def _as_tuple(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise ConfigurationError(f"{_of(name)} must be a tuple or list, not {value!r}")
    return tuple(value)


def _has_dot_segment(path: str) -> bool:
    return any(part in (".", "..") for part in path.split("/"))
