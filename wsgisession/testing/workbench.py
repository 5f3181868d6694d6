"""What the contract's tests are made with: a clock, records, threads and a fork."""

from __future__ import annotations

import os
import select
import signal
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..stores.base import Record, Store

T = TypeVar("T")

NOW = 4_000_000_000.0
"""The tests' clock: so far ahead that no server's own sweeper takes a live record for an old one."""

TTL = 100.0
LATER = NOW + TTL + 1
MILLISECOND = 0.0011  # servers may keep times in milliseconds
MANY = 16


def record(
    data: bytes = b'{"a":1}',
    *,
    ttl: float = TTL,
    user_id: str | None = None,
    version: object = None,
    order: int = 0,
) -> Record:
    """Return a record to be stored."""
    return Record(data, ttl, user_id, version, order=order)


def numbered(number: int) -> bytes:
    """Return a text of its own for each number."""
    return b'{"n":%d}' % number


def create(store: Store, handle: str, new: Record | None = None, *, now: float = NOW) -> Record:
    """Create a record that must not be there yet, and return what the store made of it."""
    stored = store.create(handle, new or record(), now=now)
    assert stored is not None, "create found a live record in a store that should be empty"
    return stored


def peek(store: Store, handle: str, *, now: float = NOW) -> Record | None:
    """Read without a restart."""
    return store.load(handle, now=now, touch_after=None)


def sessions_of(store: Store, user_id: str, *, now: float = NOW) -> list[tuple[str, Record]]:
    """Return all sessions of a user, page by page."""
    page = store.find_user(user_id, now=now)
    found = list(page.records)
    while page.after is not None:
        page = store.find_user(user_id, now=now, after=page.after)
        found += page.records
    return found


def end_user(store: Store, user_id: str, *, now: float = NOW, keep: str | None = None) -> list[str]:
    """Delete all sessions of a user, step by step, and return their handles."""
    step = store.delete_user(user_id, now=now, keep=keep)
    handles = list(step.handles)
    while step.more:
        step = store.delete_user(user_id, now=now, keep=keep)
        handles += step.handles
    return handles


def in_parallel(task: Callable[[int], T], *, count: int = MANY) -> list[T]:
    """Run ``task(0)`` to ``task(count - 1)`` in threads that start at one moment, and return what each returned."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(timeout=30)
        return task(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def in_fork(task: Callable[[], object], *, seconds: float = 30) -> None:
    """Run the task in a forked process; what it raises there fails the test here."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a driver's threads are exactly what is tested here
        child = os.fork()
    if child == 0:
        _run_and_exit(task, writer)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], seconds)
    if not ready:
        os.kill(child, signal.SIGKILL)
    with open(reader, encoding="utf-8", errors="replace") as pipe:
        failure = pipe.read()
    os.waitpid(child, 0)
    assert ready, f"the forked process did not finish within {seconds} s"
    assert not failure, failure


def _run_and_exit(task: Callable[[], object], writer: int) -> None:
    try:
        task()
    except BaseException:
        os.write(writer, traceback.format_exc().encode()[-60_000:])
    finally:
        os._exit(0)  # neither pytest's nor anybody's clean-up belongs to this process
