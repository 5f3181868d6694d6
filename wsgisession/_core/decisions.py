"""When a session is written, and when its cookie is sent: one table, read from the top, the first row that fits.

express-session's rules, with these deliberate differences: the write comes before the headers; `destroy` expires the
cookie in the browser, and so does a cookie that does not verify once the app touched the session; one that verifies
but whose record is gone is left alone, for it may be a late request's whose browser has a newer cookie already; a
change of `session.cookie` is saved and sent.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any, NamedTuple

import msgspec

from ..session import Origin


class Write(Enum):
    """What is done to the store."""

    NOTHING = "nothing"
    CREATE = "create"
    REPLACE = "replace"


class Send(Enum):
    """What is done to the browser's cookie."""

    NOTHING = "nothing"
    COOKIE = "send"
    EXPIRED = "expire"


class Facts(msgspec.Struct, frozen=True):
    """What a decision depends on.

    :param origin: where the session comes from; a destroyed one that was written to again is new.
    :param ended: whether `destroy` ended a record in this request.
    :param moved: whether a new ID was asked for, or is due.
    :param changed: whether the data differ from what the store holds.
    :param cookie_changed: whether `session.cookie` was changed.
    :param lasting: whether the cookie has a Max-Age.
    """

    origin: Origin
    ended: bool
    moved: bool
    changed: bool
    cookie_changed: bool
    lasting: bool
    resave: bool
    save_uninitialized: bool
    rolling: bool


class Decision(NamedTuple):
    """What is done at the end of a request."""

    write: Write
    send: Send


_NEW, _LOADED, _UNKNOWN, _FORGED = Origin
_yes, _no, _any = True, False, None

TABLE: tuple[tuple[Any, ...], ...] = (
    # origin   ended moved  changed cookie lasting resave saveun rolling   write          cookie
    (_any,     _any, _yes,  _any,   _any,  _any,   _any,  _any,  _any,  Write.CREATE,  Send.COOKIE),
    (_LOADED,  _no,  _no,   _yes,   _any,  _any,   _any,  _any,  _yes,  Write.REPLACE, Send.COOKIE),
    (_LOADED,  _no,  _no,   _yes,   _any,  _yes,   _any,  _any,  _any,  Write.REPLACE, Send.COOKIE),
    (_LOADED,  _no,  _no,   _any,   _yes,  _any,   _any,  _any,  _any,  Write.REPLACE, Send.COOKIE),
    (_LOADED,  _no,  _no,   _yes,   _any,  _any,   _any,  _any,  _any,  Write.REPLACE, Send.NOTHING),
    (_LOADED,  _no,  _no,   _no,    _no,   _any,   _yes,  _any,  _yes,  Write.REPLACE, Send.COOKIE),
    (_LOADED,  _no,  _no,   _no,    _no,   _any,   _yes,  _any,  _any,  Write.REPLACE, Send.NOTHING),
    (_LOADED,  _no,  _no,   _no,    _no,   _any,   _any,  _any,  _yes,  Write.NOTHING, Send.COOKIE),
    (_LOADED,  _no,  _no,   _no,    _no,   _any,   _any,  _any,  _any,  Write.NOTHING, Send.NOTHING),
    (_any,     _any, _no,   _yes,   _any,  _any,   _any,  _any,  _any,  Write.CREATE,  Send.COOKIE),
    (_any,     _yes, _no,   _no,    _any,  _any,   _any,  _any,  _any,  Write.NOTHING, Send.EXPIRED),
    (_any,     _no,  _no,   _no,    _any,  _any,   _any,  _yes,  _any,  Write.CREATE,  Send.COOKIE),
    (_FORGED,  _no,  _no,   _no,    _any,  _any,   _any,  _no,   _any,  Write.NOTHING, Send.EXPIRED),
    (_any,     _no,  _no,   _no,    _any,  _any,   _any,  _no,   _any,  Write.NOTHING, Send.NOTHING),
)  # fmt: skip


@cache
def decide(facts: Facts) -> Decision:
    """Return the decision of the first row that fits the facts."""
    for row in TABLE:
        if all(want is None or want is have for want, have in zip(row, msgspec.structs.astuple(facts), strict=False)):
            return Decision(row[-2], row[-1])
    raise AssertionError("the table has a gap")
