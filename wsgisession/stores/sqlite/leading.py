"""One purge of a file at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where two purges may run at once, and share the work
    fcntl = None  # type: ignore[assignment]


@contextmanager
def leading(path: str) -> Iterator[bool]:
    """Tell whether this is the only purge of the file, and keep others away; the lock ends with its process."""
    try:
        lock = os.open(f"{os.path.realpath(path)}-purge", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:  # the purge itself will say what is wrong with the folder
        yield True
        return
    try:
        yield _is_first(lock)
    finally:
        os.close(lock)


def _is_first(lock: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
