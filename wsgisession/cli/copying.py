"""Copying the sessions of one store to another, as the bytes that they are stored as."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..stores import Record, Store

Pair = tuple[str, Record]

_PAGE = 200  # sessions that are written while the next ones are read
_PAGE_BYTES = 4 << 20
_MICROSECONDS = 1e6  # the unit of the order of logins


@dataclass(frozen=True)
class Copied:
    """How many sessions were copied, were in the target already, and expired before they were copied."""

    copied: int = 0
    present: int = 0
    expired: int = 0

    def __add__(self, other: Copied) -> Copied:
        return Copied(self.copied + other.copied, self.present + other.present, self.expired + other.expired)

    @property
    def seen(self) -> int:
        """How many sessions of the source are done."""
        return self.copied + self.present + self.expired


def copy_sessions(
    source: Store, target: Store, *, writers: int = 1, clock: Callable[[], float] = time.time
) -> Iterator[Copied]:
    """Copy each live session that the target lacks, and yield the totals so far after each page.

    A session keeps its handle, data, user, idle timeout, and remaining time. Its data is not decoded, so no encryption
    key is needed. Nothing in the target is overwritten, so an interrupted copy can be started again. Memory holds two
    pages of sessions. Stop the app first: a session that changes after its page was read is copied as it was.

    :param writers: how many threads write to the target, which hides the time that a network takes.
    :raises StoreError: if one of the stores fails.
    """
    total, written = Copied(), list[Future[Copied]]()
    with ThreadPoolExecutor(writers) as pool:
        for page in _pages(source.scan(now=clock())):
            parts = [page[first::writers] for first in range(writers)]
            written, before = [pool.submit(_copy_page, part, target, clock) for part in parts if part], written
            total += _sum(before)
            yield total
        yield total + _sum(written)


def _sum(written: Iterable[Future[Copied]]) -> Copied:
    total = Copied()
    for part in written:
        total += part.result()
    return total


def _pages(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    page, size = list[Pair](), 0
    for pair in pairs:
        page.append(pair)
        size += len(pair[1].data)
        if len(page) == _PAGE or size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def _copy_page(page: Sequence[Pair], target: Store, clock: Callable[[], float]) -> Copied:
    total, one = Copied(), Copied()
    for handle, record in page:
        # In a copy that is repeated, sessions that are there already follow each other: then look first.
        if one.present and target.load(handle, now=clock(), touch_after=None) is not None:
            one = Copied(present=1)
        else:
            one = _copy_one(handle, record, target, clock)
        total += one
    return total


def _copy_one(handle: str, record: Record, target: Store, clock: Callable[[], float]) -> Copied:
    if record.expires_at <= clock():
        return Copied(expired=1)
    # A store lets a record expire one idle timeout after its creation, so it is created at its last restart.
    restarted_at = record.expires_at - record.ttl
    order = record.order
    if record.user_id is not None and not order:  # or it would be numbered as a new login
        order = round(restarted_at * _MICROSECONDS)
    record = Record(record.data, record.ttl, record.user_id, order=order)
    if target.create(handle, record, now=restarted_at) is not None:
        return Copied(copied=1)
    if target.load(handle, now=clock(), touch_after=None) is not None:
        return Copied(present=1)
    # An expired record that was not purged yet is in the way: it was still live at the last restart.
    if target.create(handle, record, now=clock()) is None:
        return Copied(present=1)
    target.touch(handle, ttl=record.ttl, now=restarted_at)
    return Copied(copied=1)
