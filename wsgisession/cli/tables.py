"""Text for a terminal: tables of any length, times in words, and nothing that could steer it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

_MEASURED = 50  # rows that are waited for, to set the widths by; what comes later may stand out
_GAP = "  "
_SHORTEST = 8
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> Iterator[str]:
    """Yield the lines of a table, holding few of its rows in memory; none where there are no rows.

    :param width: where to cut the last column; None for nowhere.
    """
    rest = iter(rows)
    first = list(islice(rest, _MEASURED))
    if not first:
        return
    widths = [max(map(len, column)) for column in zip(headings, *first, strict=True)]
    last = None if width is None else max(_SHORTEST, width - sum(size + len(_GAP) for size in widths[:-1]))
    for row in chain([headings], first, rest):
        cells = [cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=False)]
        yield _GAP.join([*cells, _cut(row[-1], last)]).rstrip()


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def span(seconds: float) -> str:
    """Return a length of time in the largest unit that it fills twice, for people: ``"50 min"``."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def plain(value: Any) -> str:
    """Return a value as text that is safe to print."""
    if value is None:
        return "-"
    # What a client wrote must not steer the terminal: JSON escapes whatever could.
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, default=str)
