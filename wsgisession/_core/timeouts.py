"""How long a session lives: the arithmetic of the idle and the absolute timeout. All in seconds, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ..errors import ConfigurationError

Duration = float | timedelta
DAY = 86_400.0


class Default(float):
    """A number of seconds that was not set: the default of one format is not always the default of another."""


THIRTY_DAYS = Default(30 * DAY)

_TOUCH_SHARE = 0.05
_THE_END = 253_402_300_799.0  # of the year 9999, in seconds: the last that a datetime can be


@dataclass(frozen=True)
class Timeouts:
    """The timeouts of a manager.

    :param idle: the idle timeout that the operator set, or None if it follows the cookie's ``max_age``.
    :param absolute: the absolute timeout, or None for no limit.
    :param default: the idle timeout of a session without its own cookie settings.
    :param touch_after: the fraction of the idle timeout that may pass before a read restarts it.
    :param renewal: how long an ID is used before it is renewed, or None for never.
    :param grace: how long the old ID works after its renewal.
    :param unlimited: the idle timeout of a session whose cookie has no ``max_age``.
    :param is_flexible: whether a session with a longer ``max_age`` lasts that long, because nobody set the absolute
        timeout.
    """

    idle: float | None
    absolute: float | None
    default: float
    touch_after: float
    renewal: float | None
    grace: float
    unlimited: float = DAY
    is_flexible: bool = False

    @classmethod
    def from_options(
        cls,
        *,
        idle_timeout: Duration | None,
        absolute_timeout: Duration | None,
        touch_after: Duration | None,
        renewal_timeout: Duration | None,
        renewal_grace: Duration,
        max_age: float | None,
        unlimited: Duration = DAY,
    ) -> Timeouts:
        """Check the manager's options and put them in seconds.

        :raises ConfigurationError: for one that is not positive, or an idle timeout beyond the absolute one.
        """
        idle = _positive("idle_timeout", idle_timeout)
        absolute = _positive("absolute_timeout", absolute_timeout)
        if idle is not None and absolute is not None and idle > absolute:
            raise ConfigurationError(
                f"idle_timeout ({idle:g} s) is longer than absolute_timeout ({absolute:g} s); shorten the first"
            )
        without_age = _positive("idle_timeout", unlimited) or DAY
        is_flexible = isinstance(absolute_timeout, Default)
        if absolute is not None and is_flexible:
            absolute = max(absolute, max_age or 0.0)
        default = idle or min(max_age or without_age, absolute or math.inf)
        after = _TOUCH_SHARE * default if touch_after is None else _seconds("touch_after", touch_after)
        if not 0 <= after < default:
            raise ConfigurationError(
                f"touch_after ({after:g} s) must be at least 0 and less than the idle timeout ({default:g} s)"
            )
        renewal = _positive("renewal_timeout", renewal_timeout)
        grace = _positive("renewal_grace", renewal_grace) or 0.0
        if renewal is not None and grace >= renewal:
            raise ConfigurationError(
                f"renewal_grace ({grace:g} s) must be less than renewal_timeout ({renewal:g} s); shorten the first"
            )
        return cls(idle, absolute, default, after / default, renewal, grace, without_age, is_flexible)

    def limit(self, max_age: float | None) -> float:
        """Return how long a session with this ``max_age`` of its own can last at most."""
        if self.absolute is None:
            return math.inf
        return max(self.absolute, max_age or 0.0) if self.is_flexible else self.absolute

    def ttl(self, max_age: float | None) -> float:
        """Return the idle timeout of a session whose cookie has this ``max_age``."""
        if self.idle is not None:
            return self.idle
        return min(max_age or self.unlimited, self.limit(max_age))

    def deadline(self, since: float, *, max_age: float | None = None) -> float:
        """Return when a session that was created or authenticated at ``since`` ends, whatever its activity."""
        return since + self.limit(max_age)


def as_datetime(seconds: float) -> datetime:
    """Return the aware datetime of seconds since the epoch, at most the end of the year 9999."""
    return datetime.fromtimestamp(min(seconds, _THE_END), timezone.utc)


def _seconds(name: str, value: Duration) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        raise ConfigurationError(f"{name} must be seconds or a timedelta, not {value!r}")
    return float(seconds)


def _positive(name: str, value: Duration | None) -> float | None:
    if value is None:
        return None
    seconds = _seconds(name, value)
    if not 0 < seconds <= 10 * 366 * DAY:
        raise ConfigurationError(f"{name} must be more than 0 and at most ten years, not {seconds:g} s")
    return seconds
