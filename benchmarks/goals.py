"""What the project set itself as goals, and whether the figures meet them.

Those that must be met are marked with a star in the tables; the others are what to aim for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import report


@dataclass(frozen=True)
class Goal:
    """The most that something may cost, or the least that it must reach."""

    limit: float
    is_must: bool = False
    at_least: bool = False

    def is_met(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit


def must(limit: float, *, at_least: bool = False) -> Goal:
    return Goal(limit, is_must=True, at_least=at_least)


OWN, IN_FLASK, IN_DJANGO = "wsgisession", "wsgisession in Flask", "wsgisession in Django"

INSTRUCTIONS: Mapping[tuple[str, str, str], Goal] = {
    ("redis", "cookie, untouched", OWN): Goal(8),
    ("redis", "no cookie, read", OWN): Goal(20),
    ("redis", "forged cookie, read", OWN): Goal(50),
    ("memory", "read", OWN): Goal(85),
    ("sqlite", "read", OWN): Goal(115),
    ("redis", "read", OWN): Goal(115),
    ("postgresql", "read", OWN): Goal(115),
    ("memory", "write", OWN): must(180),
    ("sqlite", "write", OWN): must(270),
    ("redis", "write", OWN): must(270),
    ("postgresql", "write", OWN): must(260),
    ("redis", "login", OWN): must(200),
    ("postgresql", "login", OWN): must(190),
    ("redis", "read 10 KB", OWN): must(260),
    ("redis", "read 100 KB", OWN): must(1500),
    ("memory", "nested read 10 KB", OWN): must(900),
    ("memory", "write 100 KB", OWN): must(1800),
    ("redis", "nested read 10 KB", IN_FLASK): must(1400),
    ("redis", "read 100 KB", IN_DJANGO): must(1900),
}
"""Thousands of instructions over the bare app, by store, scenario, and library."""

ADDED_BY_FLASK: Mapping[str, Goal] = {"read": Goal(40), "write": Goal(45)}
"""Thousands of instructions that the library costs more in Flask than in a WSGI app, with the sessions in memory."""


def table(rows: Mapping[str, tuple[Goal, float, str]], form: Callable[[float], str]) -> str:
    """Return the table of the goals, and below it the names of those that are missed.

    :param rows: by name, the goal, the figure, and what to compare it with.
    """
    lines = []
    missed = []
    for name, (goal, figure, beside) in rows.items():
        star = "\\* " if goal.is_must else ""
        limit = f"at least {form(goal.limit)}" if goal.at_least else form(goal.limit)
        lines.append([star + name, limit, form(figure), "met" if goal.is_met(figure) else "missed", beside])
        if not goal.is_met(figure):
            missed.append(star + name)
    text = report.table(["", "goal", "measured", "", "by hand"], lines)
    verdict = f"Missed: {'; '.join(missed)}." if missed else "No goal is missed."
    return f"{text}\n\n{report.filled(verdict)}"
