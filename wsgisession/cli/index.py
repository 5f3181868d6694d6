"""Looking for sessions that their user's index does not contain, for example because the server evicted it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..stores import Store

_BATCH = 1000


@dataclass(frozen=True)
class Counts:
    """What was found.

    :param seen: the sessions with a user that were looked at.
    :param missing: those of them that no index contains.
    :param is_complete: whether all sessions were looked at before the time was up.
    """

    seen: int
    missing: int
    is_complete: bool


def sessions_not_indexed(
    store: Store, *, seconds: float, clock: Callable[[], float] = time.time, timer: Callable[[], float] = time.monotonic
) -> Counts:
    """Count the sessions that `Store.find_user` does not return for their user.

    :param seconds: stop looking after this long.
    :param timer: measures the seconds.
    :raises StoreError: if the store fails.
    """
    ends, seen, missing = timer() + seconds, 0, 0
    for batch in _handles_by_user(store, clock()):
        for user_id, handles in batch.items():
            seen += len(handles)
            missing += sum(
                _is_live(store, handle, user_id, clock()) for handle in _unlisted(store, user_id, handles, clock())
            )
            if timer() > ends:
                return Counts(seen, missing, is_complete=False)
    return Counts(seen, missing, is_complete=True)


def _handles_by_user(store: Store, now: float) -> Iterator[dict[str, set[str]]]:
    batch, size = dict[str, set[str]](), 0
    for handle, record in store.scan(now=now):
        if record.user_id is not None:
            batch.setdefault(record.user_id, set()).add(handle)
            size += 1
        if size == _BATCH:
            yield batch
            batch, size = {}, 0
    yield batch


def _unlisted(store: Store, user_id: str, handles: set[str], now: float) -> set[str]:
    page = store.find_user(user_id, now=now)
    left = handles - {handle for handle, _ in page.records}
    while left and page.after is not None:
        page = store.find_user(user_id, now=now, after=page.after)
        left -= {handle for handle, _ in page.records}
    return left


def _is_live(store: Store, handle: str, user_id: str, now: float) -> bool:
    """Tell whether the session is still there: it may have ended since it was scanned."""
    record = store.load(handle, now=now, touch_after=None)
    return record is not None and record.user_id == user_id
