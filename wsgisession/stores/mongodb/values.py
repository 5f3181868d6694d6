"""The values of a session between JSON text and BSON, with the types that Node.js reads and writes."""

from __future__ import annotations

import contextlib
import json
import math
import re
from base64 import b64encode
from datetime import datetime, timedelta, timezone
from typing import Any

from ...errors import SerializationError
from .documents import DatetimeMS as Date
from .documents import Document

_INT32 = 2**31
_HUGE = 1e21
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_LAST = 8_640_000_000_000_000  # JavaScript's last date, in the year 275760
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_2000 = datetime(2000, 1, 1, tzinfo=timezone.utc)
_400_YEARS = timedelta(days=146_097)  # after which the calendar repeats
_SURROGATE = re.compile("[\ud800-\udfff]")


def json_of(document: Document) -> bytes:
    """Return a document as the JSON text that JavaScript makes of it."""
    text = json.dumps(_json_value(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return _json_number(value)
    if isinstance(value, Date):
        return _iso(int(value))
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return _json_other(value)


def _json_number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < _HUGE else value


def _json_other(value: Any) -> Any:
    """Return what JSON.stringify makes of the driver's classes: an ObjectId's digits, and {} for a RegExp."""
    return str(value) if type(value).__name__ == "ObjectId" else {}


def _iso(milliseconds: int) -> str | None:
    """Return what JSON.stringify makes of a date; JavaScript has more years than Python."""
    if abs(milliseconds) > _LAST:
        return None
    cycles, rest = divmod(timedelta(milliseconds=milliseconds) + (_EPOCH - _2000), _400_YEARS)
    at = _2000 + rest
    year = at.year + 400 * cycles
    digits = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+07d}"
    return f"{digits}-{at:%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def bson_of(value: Any, was: Any = None) -> Any:
    """Return a JSON value as BSON, as Node.js writes it. A value that did not change keeps its type.

    :param was: the value that is stored.
    :raises SerializationError: for a key that contains NUL.
    """
    if was is not None and not isinstance(was, dict) and _is_same(_json_value(was), value):
        return was
    if isinstance(value, dict):
        old = was if isinstance(was, dict) else {}
        return {_key(key): bson_of(item, old.get(key)) for key, item in value.items()}
    if isinstance(was, Date) and isinstance(value, str):
        return _date_in(value)
    if isinstance(value, list):
        old_items = was if isinstance(was, list) else []
        return [bson_of(item, old_items[at] if at < len(old_items) else None) for at, item in enumerate(value)]
    if type(value) is int and not -_INT32 <= value < _INT32:
        return float(value)
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and json.dumps(one) == json.dumps(other)


def session_of(data: bytes, was: Any = None) -> Document:
    """Return the object that connect-mongo stores for the JSON text of a session."""
    session: Document = bson_of(json.loads(data), was)
    cookie = session.get("cookie")
    if isinstance(cookie, dict) and isinstance(cookie.get("expires"), str):
        cookie["expires"] = _date_in(cookie["expires"])
    return session


def _date_in(text: str) -> Date | str:
    """Return the date that a text means, or else the text as BSON can hold it."""
    if _ISO.fullmatch(text):
        with contextlib.suppress(ValueError):
            return Date(datetime.fromisoformat(text.replace("Z", "+00:00")))
    return _SURROGATE.sub("\ufffd", text)


def _key(key: str) -> str:
    if "\0" in key:
        raise SerializationError(f"the key {key!r} cannot be stored: keys in MongoDB cannot contain NUL")
    return _SURROGATE.sub("\ufffd", key)
