"""How `RedisStore` keeps a record: one string, which is a header in ASCII and then the data.

=========== ============================================================================================
``S1``      the mark of this layout; a value without it is another program's, and is left alone
13 digits   when the record expires, in milliseconds since the epoch
8 letters   its version, random, so that a later record under the same handle has another
digits;     its ttl in milliseconds, without leading zeros, which the previous version's PEXPIRE would refuse
digits;     the length of the user's name in bytes; nothing without a user
13 letters  with a user: ``+`` and the order of the login in 12 letters of base 36
the user    of that length
=========== ============================================================================================

The previous version wrote a time as 13 digits where the order is now. Such a record has the order 0, and each version
reads the records of the other one.

A user's sessions are in a sorted set of handles, whose scores are the orders. What has no order has a time in
milliseconds as its score, which is lower than any order of today: until when the set must contain it.
"""

from __future__ import annotations

import re

from ..base import Record

LAST = 10**13 - 1  # milliseconds: the year 2286
_HEADER = re.compile(rb"S1(\d{13})([\w-]{8})(\d+);(\d*);")
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_HIGHEST_ORDER = 2**53 - 1  # a score is a float


def milliseconds(now: float) -> int:
    """Return a time of the caller's clock as it is kept."""
    time = round(now * 1000)
    return time if 0 <= time <= LAST else min(max(time, 0), LAST)


def span(ttl: float) -> int:
    """Return a ttl as it is kept."""
    return max(round(ttl * 1000), 1)


def text(user_id: str) -> bytes:
    """Return a user as it is kept."""
    return user_id.encode("utf-8", "surrogatepass")


def packed(record: Record) -> bytes:
    """Return the value of a record, which has a version and an expiry."""
    head = b"S1%013d%b%d;" % (round(record.expires_at * 1000), record.version.encode(), span(record.ttl))
    if record.user_id is None:
        return b"%b;%b" % (head, record.data)
    user = text(record.user_id)
    return b"%b%d;+%b%b%b" % (head, len(user), _base36(record.order), user, record.data)


def order_of(record: Record) -> int:
    """Return the order of a record as it can be kept; 0 is for the server to assign one."""
    return 0 if record.user_id is None else min(max(record.order, 0), _HIGHEST_ORDER)


def unpacked(value: bytes) -> Record | None:
    """Return what a value holds; None where it is not ours."""
    header = _HEADER.match(value)
    if header is None:
        return None
    expires, version, ttl, size = header.groups()
    start, user, order = header.end(), None, 0
    if size:
        end = start + 13 + int(size)
        if value[start] == 43:  # a plus sign
            order = int(value[start + 1 : start + 13], 36)
        user, start = value[start + 13 : end].decode("utf-8", "surrogatepass"), end
    return Record(value[start:], int(ttl) / 1000, user, version.decode(), int(expires) / 1000, order)


def live(value: bytes | None, time: int) -> Record | None:
    """Return what a value holds, if it is ours and has not expired at this time."""
    record = None if value is None else unpacked(value)
    return record if record is not None and round(record.expires_at * 1000) > time else None


def _base36(number: int) -> bytes:
    letters = ""
    for _ in range(12):
        number, digit = divmod(number, 36)
        letters = _LETTERS[digit] + letters
    return letters.encode()
