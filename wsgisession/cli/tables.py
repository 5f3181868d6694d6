"""Text for a terminal: tables of any length, lengths of time in words, and JSON that people can read.

Nothing here lets text that a client wrote send control characters to the terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

_MEASURED = 50  # rows that are read ahead to choose the column widths; later rows may be wider
_GAP = "  "
_SHORTEST = 8
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_SPECIAL = re.compile(r"[^\n -~]")  # may be unprintable


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> Iterator[str]:
    """Yield the lines of a table while holding few of its rows in memory. Without rows there are no lines.

    :param width: cut the last column so that lines have this length; None does not cut it.
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
    """Return a length of time in the largest unit of which it has at least two, such as ``"50 min"``."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def plain(value: Any) -> str:
    """Return a value as one line of text that is safe to print; None is a dash."""
    if value is None:
        return "-"
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, default=str)


def readable_json(value: Any) -> str:
    """Return a session's value as indented JSON. Only what a terminal might not print as a character is escaped."""
    text = json.dumps(value, default=_as_json, ensure_ascii=False, indent=2)
    return _SPECIAL.sub(_printable, text)


def _printable(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _as_json(value: Any) -> Any:
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else str(value)
