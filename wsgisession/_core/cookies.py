"""`CookieOptions`, the values of our cookie in a Cookie header, and Set-Cookie as werkzeug writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Literal

from werkzeug.http import dump_cookie

from ..errors import ConfigurationError

LONGEST_HEADER = 64 * 1024
LONGEST_LIFETIME = timedelta(days=400).total_seconds()  # RFC 6265bis section 5.5
_LONGEST_NAME = 256  # octets; our values have at most 172, and the pair may have 4096: RFC 6265bis section 5.6
_LONGEST_ATTRIBUTE = 1024
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE = re.compile(r"[ -:<-~]*")
_DOMAIN = re.compile(r"\.?(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")
_PREFIXES = ("__secure-", "__host-", "__http-")  # RFC 6265bis section 4.1.3, layered-cookies draft
_LAST_SECOND = 253_402_300_799  # of the year 9999

SameSite = Literal["Lax", "Strict", "None"]


@dataclass(frozen=True)
class CookieOptions:
    """How the session cookie is sent. Its value is only a signed ID.

    :param max_age: seconds or a timedelta until the browser drops the cookie, at most 400 days; None for a cookie that
        ends when the browser is closed.
    :param path: the URL path that the cookie covers; a request outside it has no session (RFC 6265bis section 5.1.4).
    :param domain: the domain that gets the cookie, with its subdomains; None for only this host.
    :param http_only: hides the cookie from JavaScript.
    :param same_site: ``"Lax"``, ``"Strict"``, or ``"None"``.
    :param secure: True, False, or ``"auto"``: Secure, except on plain http to this machine.
    :param partitioned: a separate cookie under each top-level site (CHIPS).
    :raises ConfigurationError: for a cookie that a browser would refuse or shorten.
    """

    max_age: float | timedelta | None = None
    path: str = "/"
    domain: str | None = None
    http_only: bool = True
    same_site: SameSite = "Lax"
    secure: bool | Literal["auto"] = "auto"
    partitioned: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.max_age, timedelta):
            object.__setattr__(self, "max_age", self.max_age.total_seconds())
        self._check_max_age()
        self._check_same_site()
        self._check_flags()
        _check_attribute("path", self.path)
        if not self.path.startswith("/"):
            raise ConfigurationError(f'the cookie\'s path must start with "/", not {self.path!r}')
        if self.domain is not None:
            _check_attribute("domain", self.domain)
            if not _DOMAIN.fullmatch(self.domain):
                raise ConfigurationError(
                    f"the cookie's domain must be a host name such as 'example.com', not {self.domain!r}; leave it out"
                    " for only this host"
                )

    def _check_max_age(self) -> None:
        age = self.max_age
        if age is None:
            return
        if isinstance(age, bool) or not isinstance(age, (int, float)):
            raise ConfigurationError(f"the cookie's max_age must be seconds, a timedelta, or None, not {age!r}")
        if not 0 < age <= LONGEST_LIFETIME:
            raise ConfigurationError(
                f"the cookie's max_age must be more than 0 and at most 400 days (34560000 seconds), not {age:g} seconds"
            )

    def _check_same_site(self) -> None:
        known = {"lax": "Lax", "strict": "Strict", "none": "None"}
        if not isinstance(self.same_site, str) or self.same_site.lower() not in known:
            raise ConfigurationError(
                f'the cookie\'s same_site must be "Lax", "Strict", or "None" as text, not {self.same_site!r}'
            )
        object.__setattr__(self, "same_site", known[self.same_site.lower()])

    def _check_flags(self) -> None:
        if self.secure != "auto" and not isinstance(self.secure, bool):
            raise ConfigurationError(f'the cookie\'s secure must be True, False, or "auto", not {self.secure!r}')
        for name in ("http_only", "partitioned"):
            if not isinstance(value := getattr(self, name), bool):
                raise ConfigurationError(f"the cookie's {name} must be True or False, not {value!r}")
        if self.secure is False and self.same_site == "None":
            raise ConfigurationError("browsers refuse SameSite=None without Secure; leave secure=False out")
        if self.secure is False and self.partitioned:
            raise ConfigurationError(
                "browsers refuse Partitioned without Secure; leave secure=False out, or partitioned=True"
            )

    @property
    def seconds(self) -> float | None:
        """The ``max_age`` in seconds, or None."""
        return None if self.max_age is None else float(self.max_age)  # type: ignore[arg-type]

    def with_own(self, own: dict[str, Any] | None) -> CookieOptions:
        """Return the settings of a session: these, with its own on top if they are compatible.

        :param own: by name; ``lifetime`` is a ``max_age`` that the framework chose.
        """
        if not own:
            return self
        values = {name: own[name] for name in _NAMES if name in own}
        if "max_age" not in own and "lifetime" in own:
            values["max_age"] = own["lifetime"]
        try:
            return replace(self, **values)
        except ConfigurationError:  # the operator has changed the others since then; the visitor cannot help it
            return self

    def check_name(self, name: str) -> None:
        """Check that the name is a token and that these options keep what its prefix promises.

        :raises ConfigurationError: RFC 6265bis sections 4.1.3 and 5.6, prefixes compared without case.
        """
        if not isinstance(name, str) or not _TOKEN.fullmatch(name) or len(name) > _LONGEST_NAME:
            raise ConfigurationError(
                f"the cookie's name must be a token of RFC 9110 (letters, digits, and !#$%&'*+-.^_`|~), at most"
                f" {_LONGEST_NAME} characters long, not {name!r:.60}"
            )
        lower = name.lower()
        host, http = lower.startswith("__host-"), lower.startswith(("__http-", "__host-http-"))
        if lower.startswith(_PREFIXES) and self.secure is False:
            raise ConfigurationError(f"browsers refuse a cookie named {name} without Secure; leave secure=False out")
        if host and (self.domain is not None or self.path != "/"):
            raise ConfigurationError(
                f'browsers refuse a cookie named {name} with a domain or a path other than "/"; leave both out'
            )
        if http and not self.http_only:
            raise ConfigurationError(
                f"browsers refuse a cookie named {name} without HttpOnly; leave http_only=False out"
            )

    def is_secure(self, name: str, *, plain_loopback: bool) -> bool:
        """Tell whether the cookie is sent with Secure.

        :param plain_loopback: whether the request came over plain http to a loopback host.
        """
        if self.secure != "auto":
            return self.secure
        needed = self.same_site == "None" or self.partitioned or name.lower().startswith(_PREFIXES)
        return needed or not plain_loopback

    def covers(self, path: str) -> bool:
        """Tell whether the request path is inside the cookie's (RFC 6265bis section 5.1.4)."""
        mine = self.path
        return mine == "/" or path == mine or path.startswith(mine if mine.endswith("/") else mine + "/")


_NAMES = tuple(field.name for field in fields(CookieOptions))


def _check_attribute(what: str, value: str) -> None:
    if not isinstance(value, str) or not _ATTRIBUTE.fullmatch(value) or len(value) > _LONGEST_ATTRIBUTE:
        raise ConfigurationError(
            f"the cookie's {what} must be at most {_LONGEST_ATTRIBUTE} printable ASCII characters without a semicolon,"
            f" not {value!r:.60}"
        )


CookieFinder = Callable[[str], Iterator[str]]


def cookie_finder(name: str) -> CookieFinder:
    """Return a function that finds the values of this cookie in a Cookie header, in their order.

    The name is exact and case-sensitive (RFC 6265bis section 5.4). A header of over 64 KiB has none.
    """
    pattern = re.compile(rf"(?:^|;)[ \t]*{re.escape(name)}[ \t]*=[ \t]*([^;]*)")

    def find(header: str) -> Iterator[str]:
        if name not in header or len(header) > LONGEST_HEADER:  # quick, and true of most requests
            return iter(())
        found: list[str] = pattern.findall(header)
        return iter([_trimmed(value) if value[-1:] in _TO_TRIM else value for value in found])

    return find


_TO_TRIM = frozenset(' \t"')


def _trimmed(value: str) -> str:
    value = value.rstrip(" \t")
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value


def set_cookie(name: str, value: str, options: CookieOptions, *, secure: bool, lasts: int | None, now: float) -> str:
    """Return the Set-Cookie value that gives the browser the cookie. Name and value need no quoting.

    :param lasts: Max-Age in seconds, or None for a cookie that ends with the browser.
    :param now: seconds since the epoch.
    """
    start, rest = _attributes(options, secure)
    if lasts is None:
        return f"{name}={value}{start}{rest}"
    return f"{name}={value}{start}; Expires={_http_date(int(now) + lasts)}; Max-Age={lasts}{rest}"


def expire_cookie(name: str, options: CookieOptions, *, secure: bool) -> str:
    """Return the Set-Cookie value that makes the browser drop the cookie: the same attributes, empty and past."""
    start, rest = _attributes(options, secure)
    return f"{name}={start}; Expires={_http_date(0)}; Max-Age=0{rest}"


@lru_cache(maxsize=64)
def _http_date(second: int) -> str:
    return formatdate(min(second, _LAST_SECOND), usegmt=True)


@lru_cache(maxsize=64)
def _attributes(options: CookieOptions, secure: bool) -> tuple[str, str]:
    """Return what goes before and after the lifetime, as werkzeug writes it; the same for all visitors."""
    header = dump_cookie(
        "name",
        "",
        max_age=1,
        expires=0,
        path=options.path,
        domain=options.domain,
        secure=secure,
        httponly=options.http_only,
        samesite=options.same_site,
        partitioned=options.partitioned,
        sync_expires=False,
        max_size=0,
    )
    start, _, rest = header.partition("; Expires=")
    return start.partition("=")[2], rest.partition("Max-Age=1")[2]
