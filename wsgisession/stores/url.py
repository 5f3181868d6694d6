"""`StoreURL`: the URL of a store taken apart, and what converts its options."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ..errors import ConfigurationError

T = TypeVar("T")


class StoreURL:
    """A store URL taken apart: the store takes its own options out, the driver gets what is left.

    :raises ConfigurationError: if it is not a URL.
    """

    def __init__(self, url: str) -> None:
        # By hand where urllib loses something: the slashes of sqlite:////absolute, the host list of a replica set.
        self.scheme, separator, rest = _with_quoted_password(url).partition("://")
        if not separator or not self.scheme:
            raise ConfigurationError('the store must be a URL such as "redis://localhost:6379/0", or a Store')
        self.scheme = self.scheme.lower()
        before, _, query = rest.partition("?")
        self.location = before.partition("#")[0]
        try:
            pairs = parse_qsl(query.partition("#")[0], keep_blank_values=True, errors="strict")
        except ValueError:
            raise ConfigurationError(f"the parameters of the {self.scheme} store URL cannot be decoded") from None
        if not re.fullmatch(r"(?:[\w.%-]+=[^&]*|&)*", query.partition("#")[0]):  # not shown: it may be a secret
            raise ConfigurationError(
                f"the {self.scheme} store URL has a parameter that is not of the form name=value. {_QUOTING}"
            )
        # If a password contains a ?, a part of it is here, which no message may show.
        self._is_shown = "@" not in query
        self._parameters: dict[str, str] = {}
        for name, value in pairs:
            if name in self._parameters:
                raise ConfigurationError(f"the {self.scheme} store URL names the parameter{self._named(name)} twice")
            self._parameters[name] = value

    def option(self, name: str, default: T, convert: Callable[[str], T]) -> T:
        """Take the parameter out of the URL, converted, or return the default.

        :raises ConfigurationError: where ``convert`` raises `ValueError`.
        """
        if name not in self._parameters:
            return default
        text = self._parameters.pop(name)
        try:
            return convert(text)
        except ValueError as error:
            given = f"{name}={text!r}" if self._is_shown else f"the value of {name}"
            cause = str(error) if self._is_shown else f"correct it. {_QUOTING}"
            raise ConfigurationError(f"{self.scheme} store: {given} cannot be used: {cause}") from None

    @property
    def rest(self) -> dict[str, str]:
        """The parameters that no `option` has taken, for the driver."""
        return dict(self._parameters)

    def refuse_rest(self, known: str) -> None:
        """Refuse the parameters that no `option` has taken.

        :param known: the names to offer instead.
        :raises ConfigurationError: naming the first one.
        """
        for name in self._parameters:
            more = "" if self._is_shown else f". {_QUOTING}"
            meant = get_close_matches(name, re.findall(r"\w+", known), 1) if self._is_shown else []
            hint = f"did you mean {meant[0]!r}?" if meant else f"it takes {known}{more}"
            raise ConfigurationError(f"{self.scheme} store: unknown parameter{self._named(name)}; {hint}")

    def driver_url(self, scheme: str | None = None) -> str:
        """Return the URL for the driver: another scheme if given, and the parameters that are left."""
        query = urlencode(self._parameters)
        return f"{scheme or self.scheme}://{self.location}" + (f"?{query}" if query else "")

    @property
    def username(self) -> str | None:
        """The percent-decoded user name, or None."""
        return _decoded(urlsplit(f"x://{self.location}").username)

    @property
    def password(self) -> str | None:
        """The percent-decoded password, or None. Never to be shown."""
        return _decoded(urlsplit(f"x://{self.location}").password)

    @property
    def shown(self) -> str:
        """The URL without user, password and parameters, for messages."""
        if self.location.startswith("/"):
            return f"{self.scheme}://{self.location}"
        place, is_user_known = self.location.rpartition("@")[2], "@" in self.location
        is_hidden = _holds_a_password(place) or not (self._is_shown or is_user_known or ":" not in place)
        return f"{self.scheme}://" + ("***" if is_hidden else place)

    def __repr__(self) -> str:
        return f"<StoreURL {self.shown}>"

    def _named(self, name: str) -> str:
        return f" {name!r}" if self._is_shown else ""


_QUOTING = "If the password contains ?, #, / or @, write %3F, %23, %2F or %40 for it"


def _with_quoted_password(url: str) -> str:
    """Return the URL with the characters quoted that would end its password too early."""
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if not at or not _ends_in_password(user):
        return url
    return f"{scheme}{separator}{quote(user, safe=':%@!$&()*+,;=~')}{at}{place}"


def _ends_in_password(user: str) -> bool:
    """Tell whether what is before the last @ is a user and a password, and not a place with a path or parameters."""
    begun, end, rest = re.match(r"([^/?#]*)([/?#]?)(.*)", user, re.DOTALL).groups()  # type: ignore[union-attr]
    if end == "#" or (end == "?" and "=" not in rest):
        return bool(begun)
    return bool(end) and "@" not in begun and _holds_a_password(begun)


def _holds_a_password(place: str) -> bool:
    """Tell whether what should be hosts and ports, with a path, has something else behind a colon."""
    hosts = re.sub(r"\[[^\]]*\]", "host", place.partition("/")[0])
    ports = [host.partition(":")[2] for host in hosts.split(",") if ":" in host]
    return hosts.startswith(":") or not all(port.isdecimal() or not port for port in ports)


def seconds(text: str) -> float:
    """Convert a positive number of seconds.

    :raises ValueError: for anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise ValueError("give a positive number of seconds")
    return value


def positive(text: str) -> int:
    """Convert a positive whole number.

    :raises ValueError: for anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("give a whole number of at least 1")
    return int(text)


def identifier(text: str) -> str:
    """Check a name for a table, schema or collection: printable, without NUL, at most 63 bytes (PostgreSQL's limit).

    :raises ValueError: for anything else.
    """
    if not text or not text.isprintable() or len(text.encode()) > 63:
        raise ValueError("give a printable name of at most 63 bytes")
    return text


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)
