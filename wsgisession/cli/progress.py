"""One line on the terminal that shows how far a long command is."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_INTERVAL = 0.1  # seconds between two updates
_BAR = 20
_ERASE = "\r\x1b[K"
_SETTLED = 2.0  # seconds after which the speed so far says how long the rest will take

Report = Callable[[int], None]


@contextmanager
def progress(done: str, total: int | None = None) -> Iterator[Report]:
    """Give a function that shows a count on stderr, if that is a terminal. The line is gone when the block ends.

    Print a command's result after the block.

    :param done: the word after the count, such as "copied".
    :param total: the count at the end, if it is known; it may be an estimate.
    """
    is_watched, began, shown = sys.stderr.isatty(), time.monotonic(), 0.0

    def report(count: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if is_watched and now - shown > _INTERVAL:
            shown = now
            line = progress_line(count, done, total=total, seconds=now - began)
            sys.stderr.write(f"{_ERASE}{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()

    try:
        yield report
    finally:
        if shown:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()


def progress_line(count: int, done: str, *, total: int | None, seconds: float) -> str:
    """Return what the line says: the count and, with a total, a bar and the time that is left.

    :param seconds: how long it took to get to this count.
    """
    if not total:
        return f"{count:,} {done}"
    share = min(count / total, 1.0)
    bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
    line = f"[{bar}] {share:4.0%}  {count:,} of {total:,} {done}"
    if seconds < _SETTLED or not 0 < count < total:
        return line
    left = round(seconds / count * (total - count))
    return f"{line}, {left // 60}:{left % 60:02d} left"
