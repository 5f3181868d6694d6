"""`SessionCookie`: the cookie settings of one session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar, overload

from .cookies import CookieOptions, SameSite
from .timeouts import as_datetime

Get = TypeVar("Get")
Set = TypeVar("Set")


class _Setting(Generic[Get, Set]):
    """An attribute of `SessionCookie`, checked as in `CookieOptions`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, cookie: None, owner: type) -> _Setting[Get, Set]: ...
    @overload
    def __get__(self, cookie: SessionCookie, owner: type) -> Get: ...
    def __get__(self, cookie: SessionCookie | None, owner: type) -> Get | _Setting[Get, Set]:
        if cookie is None:
            return self
        value: Get = getattr(cookie.options, self._name)
        return value

    def __set__(self, cookie: SessionCookie, value: Set) -> None:
        cookie.set(self._name, value)


class SessionCookie:
    """The cookie settings of one session: the manager's, and what this session has of its own.

    They are those of `CookieOptions`, by the same names, and each can be set.

    :param options: the settings in force.
    :param own: what differs from the manager's settings, by name.
    :param name: the cookie's name, which some settings must fit.
    """

    __slots__ = ("_name", "_now", "changed", "options", "own")  # so that a name that is no setting is an error

    max_age: _Setting[float | None, float | timedelta | None] = _Setting()
    path: _Setting[str, str] = _Setting()
    domain: _Setting[str | None, str | None] = _Setting()
    http_only: _Setting[bool, bool] = _Setting()
    same_site: _Setting[str, SameSite] = _Setting()
    secure: _Setting[bool | str, bool | Literal["auto"]] = _Setting()
    partitioned: _Setting[bool, bool] = _Setting()

    def __init__(self, options: CookieOptions, own: dict[str, Any], *, name: str, now: Callable[[], float]) -> None:
        self.options, self.own = options, dict(own)
        self.changed = False
        self._name, self._now = name, now

    def set(self, name: str, value: Any) -> None:
        """Change one setting.

        :raises ConfigurationError: for a value that a browser would refuse.
        """
        options = dataclasses.replace(self.options, **{name: value})
        options.check_name(self._name)
        self.options = options
        self.own[name] = getattr(options, name)
        self.changed = True

    def set_lifetime(self, lifetime: float | None) -> None:
        """Take the ``max_age`` that the framework gives the session; the app did not ask for it."""
        self.own.pop("max_age", None)
        self.own["lifetime"] = lifetime
        self.options = dataclasses.replace(self.options, max_age=lifetime)
        self.changed = True

    @property
    def original_max_age(self) -> float | None:
        """The seconds that each use extends the session by: the same as `max_age` (express-session's name)."""
        return self.max_age

    @property
    def expires(self) -> datetime | None:
        """When the browser would drop a cookie that is sent now; None for one that ends with the browser."""
        return None if self.max_age is None else as_datetime(self._now() + self.max_age)

    @expires.setter
    def expires(self, at: datetime | None) -> None:
        self.max_age = None if at is None else at.timestamp() - self._now()

    def __repr__(self) -> str:
        return f"<SessionCookie of its own: {self.own}>"
