"""What a store may have to say about its server, for the command ``wsgisession doctor``: `Finding`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_TOLERATED_SKEW = 5.0


@dataclass(frozen=True)
class Finding:
    """A fact that is bad for sessions, and the fix.

    :param level: ``"problem"`` where sessions are lost or refused, ``"warning"`` where that may come.
    """

    level: Literal["problem", "warning"]
    fact: str
    cure: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.cure}" if self.cure else self.fact


def skew(server_time: float, *, now: float) -> Iterator[Finding]:
    """Compare the server's clock with the application's, which is what sessions expire by."""
    ahead = server_time - now
    if abs(ahead) > _TOLERATED_SKEW:
        fact = f"the server's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the one here"
        yield Finding("problem", fact, "set both by NTP, for sessions expire by the clock of each application server")
