"""A clock that stands still until a test moves it: `FakeClock`."""

from __future__ import annotations

import time
from datetime import timedelta


class FakeClock:
    """A clock for ``SessionManager(clock=...)``, so that no test waits for a timeout.

    :param now: where it begins, in seconds since the epoch; left out, at the present.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.now

    def advance(self, by: float | timedelta) -> None:
        """Advance by this many seconds, or a timedelta."""
        self.now += by.total_seconds() if isinstance(by, timedelta) else by

    def __repr__(self) -> str:
        return f"<FakeClock at {self.now}>"
