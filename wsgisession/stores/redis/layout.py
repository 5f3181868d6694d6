"""How `RedisStore` keeps a record: one string, which is a header in ASCII and then the data.

=========== ============================================================================================
``S1``      the mark of this layout; a value without it is another program's, and is left alone
13 digits   when the record expires, in milliseconds since the epoch
8 letters   its version, random, so that a later record under the same handle has another
digits;     its ttl in milliseconds, without leading zeros, which the previous version's PEXPIRE would refuse
digits;     the length of the user's name in bytes; nothing without a user
13 letters  with a user: the order of the login in hexadecimal; instead of the first digit, which is 0 to 15, is one
            of the 16 characters from the space to the slash
the user    of that length
=========== ============================================================================================

The previous version wrote a time as 13 digits where the order is now, which distinguishes the two. Such a
record has the order 0, and each version reads the records of the other one.

A user's sessions are in a sorted set of handles, whose scores are the orders. What has no order has a time in
milliseconds as its score, which is lower than any order of today: until when the set must contain it.
"""

from __future__ import annotations

from ..base import Record

LAST = 10**13 - 1  # milliseconds: the year 2286
_HIGHEST_ORDER = 2**52 - 1  # a score is a float
_SPACE, _ZERO = b" 0"
_LOW = 2**48 - 1


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
    first, rest = _SPACE + (record.order >> 48), record.order & _LOW
    return b"%b%d;%c%012x%b%b" % (head, len(user), first, rest, user, record.data)


def order_of(record: Record) -> int:
    """Return the order of a record as it can be kept; 0 is for the server to assign one."""
    return 0 if record.user_id is None else min(max(record.order, 0), _HIGHEST_ORDER)


def unpacked(value: bytes) -> Record | None:
    """Return what a value holds; None where it is not ours."""
    if value[:2] != b"S1":
        return None
    try:
        middle = value.index(b";", 23)
        start = value.index(b";", middle + 1) + 1
        size, user, order = value[middle + 1 : start - 1], None, 0
        expires, version, ttl = int(value[2:15]) / 1000, value[15:23].decode("ascii"), int(value[23:middle]) / 1000
        if size:
            first, begin, start = value[start], start + 13, start + 13 + int(size)
            if first < _ZERO:
                order = (first - _SPACE << 48) + int(value[begin - 12 : begin], 16)
            user = value[begin:start].decode("utf-8", "surrogatepass")
    except (ValueError, IndexError):
        return None
    return Record(value[start:], ttl, user, version, expires, order)


def live(value: bytes | None, time: int) -> Record | None:
    """Return what a value holds, if it is ours and has not expired at this time."""
    record = None if value is None else unpacked(value)
    return record if record is not None and round(record.expires_at * 1000) > time else None
