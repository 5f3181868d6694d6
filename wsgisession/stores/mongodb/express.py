"""Sessions in MongoDB as connect-mongo keeps them, so that Express reads and writes them too.

A document is ``{_id: ID, session: text or object, expires: date}``; ``session`` is written back as what it was. A
record's version is its ``session``: `replace` compares it, so that any writer's change is noticed.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from ...errors import SerializationError
from ..base import PAGE, Deleted, Page, Reader, Record, Store, delete_each, page_of, restart_is_due
from .store import DatetimeMS as Date
from .store import DuplicateKeyError, MongoDBStore, as_dict, date_of, with_raw_sessions

Document = dict[str, Any]

_PAGE = 50
_FIELDS = {"session": 1, "expires": 1, "lastModified": 1, "updatedAt": 1}
_STAMPS = ("lastModified", "updatedAt")  # of connect-mongo's touchAfter and timestamps
_INT32 = 2**31
_HUGE = 1e21
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_LAST = 8_640_000_000_000_000  # of JavaScript's dates, in the year 275760
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_2000 = datetime(2000, 1, 1, tzinfo=timezone.utc)
_400_YEARS = timedelta(days=146_097)  # after which the calendar is the same again
_SURROGATE = re.compile("[\ud800-\udfff]")


class ExpressMongoDBStore(MongoDBStore):
    """Keep records as connect-mongo does, with ``stringify`` true or false.

    Users are found in sessions that only Express has written too: in objects by an index, in texts by reading them all.

    :param native: whose connections are used.
    :param reader: says what the text of a record does not say to a server.
    """

    def __init__(self, native: Store, reader: Reader) -> None:
        vars(self).update(vars(native))
        self._reader = reader

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and where that is due restart it with a second command."""
        with self._calling() as client:
            found = with_raw_sessions(client.sessions).find_one(_live(now, _id=handle), _FIELDS)
            record = None if found is None else self._record(found, now)
            if record is None or not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
                return record
            expires = date_of(now + record.ttl)
            changes = {"expires": expires, **_stamps(record.version[1], now)}
            client.sessions.update_one(_live(now, _id=handle), {"$set": changes})
        return Record(record.data, record.ttl, record.user_id, record.version, int(expires) / 1000)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Insert a document, or take over an expired one, in one command."""
        session = record.data.decode() if self._stringify else session_of(record.data)
        expires = date_of(now + record.ttl)
        which = {"_id": handle, "expires": {"$lte": date_of(now)}}
        with self._calling() as client:
            try:
                client.sessions.update_one(which, {"$set": {"session": session, "expires": expires}}, upsert=True)
            except DuplicateKeyError:  # the document that is there is not an expired one
                return None
            self._try_prepare(client)
        return Record(record.data, record.ttl, record.user_id, (session, ()), int(expires) / 1000)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the session that still stands as it was read, by one of the same kind."""
        old, stamps = record.version
        session = record.data.decode() if isinstance(old, str) else session_of(record.data, _document(old))
        expires = date_of(now + record.ttl)
        changes = {"session": session, "expires": expires, **_stamps(stamps, now)}
        with self._calling() as client:
            result = client.sessions.update_one(_live(now, _id=handle, session={"$eq": old}), {"$set": changes})
        if not result.matched_count:
            return None
        return Record(record.data, record.ttl, record.user_id, (session, stamps), int(expires) / 1000)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Set the expiry of a live document."""
        with self._calling() as client:
            changes = {"$set": {"expires": date_of(now + ttl)}}
            return bool(client.sessions.update_one(_live(now, _id=handle), changes).matched_count)

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live document, or only one whose session stands as it was read."""
        which = _live(now, _id=handle) if version is None else _live(now, _id=handle, session={"$eq": version[0]})
        with self._calling() as client:
            return bool(client.sessions.delete_one(which).deleted_count)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a user's live documents."""
        with self._calling() as client:
            found = with_raw_sessions(client.sessions).find(_live(now, **self._of_user(user_id)), _FIELDS)
            mine = [pair for pair in self._records(found, now) if pair[1].user_id == user_id]
        return page_of(mine, after=after, limit=limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Find a user's live documents, and delete them as they were found."""
        return delete_each(self, user_id, now=now, keep=keep, after=after, limit=limit)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Read page after page in the order of the IDs, leaving no cursor open between them."""
        page = self._page("", now)
        while page:
            yield from self._records(page, now)
            page = self._page(page[-1]["_id"], now) if len(page) == _PAGE else []

    def _page(self, after: str, now: float) -> list[Any]:
        with self._calling() as client:
            sessions = with_raw_sessions(client.sessions)
            return list(sessions.find(_live(now, _id={"$gt": after}), _FIELDS, sort={"_id": 1}, limit=_PAGE))

    def _purge_batch(self, now: float, size: int) -> tuple[int, int]:
        expired = {"expires": {"$lte": date_of(now)}}
        with self._calling() as client:
            handles = [found["_id"] for found in client.sessions.find(expired, {"_id": 1}, limit=size)]
            if not handles:
                return 0, 0
            return len(handles), client.sessions.delete_many({**expired, "_id": {"$in": handles}}).deleted_count

    @property
    def _indexed(self) -> list[str]:
        return [] if self._stringify else [f"session.{key}" for key in self._reader.user_keys]

    def _of_user(self, user_id: str) -> Document:
        """Return what all documents of the user match, and few others."""
        if not self._stringify:
            return {"$or": [{field: {"$in": _values(user_id)}} for field in self._indexed]}
        text = re.escape(json.dumps(user_id, ensure_ascii=False))
        bare = f"|{re.escape(user_id)}" if _is_number(user_id) else ""
        names = "|".join(re.escape(json.dumps(key, ensure_ascii=False)) for key in self._reader.user_keys)
        return {"session": {"$regex": f"(?:{names}):(?:{text}{bare})[,}}]"}}

    def _record(self, document: Any, now: float) -> Record | None:
        session, expires = document.get("session"), document.get("expires")
        if isinstance(session, str):
            data = session.encode("utf-8", "surrogatepass")
        elif session is not None and hasattr(session, "raw"):
            data = json_of(as_dict(session))
        else:
            return None
        ttl, user_id = self._reader.glance(data)
        stamps = tuple(name for name in _STAMPS if name in document)
        expires_at = int(expires) / 1000 if isinstance(expires, Date) else now + ttl
        return Record(data, ttl, user_id, (session, stamps), expires_at)

    def _records(self, documents: Iterable[Any], now: float) -> Iterator[tuple[str, Record]]:
        for document in documents:
            record = self._record(document, now)
            if record is not None and isinstance(document["_id"], str):
                yield document["_id"], record


def _live(now: float, **which: Any) -> Document:
    """Return what is live: connect-mongo takes a document without a date for one that never expires."""
    return {**which, "$and": [{"$or": [{"expires": {"$exists": False}}, {"expires": {"$gt": date_of(now)}}]}]}


def _stamps(names: tuple[str, ...], now: float) -> Document:
    return {name: date_of(now) for name in names}


def _document(session: Any) -> Document:
    return as_dict(session) if hasattr(session, "raw") else session


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _values(user_id: str) -> list[Any]:
    return [user_id, float(user_id)] if _is_number(user_id) else [user_id]


def json_of(document: Document) -> bytes:
    """Return the document as the JSON text that JavaScript makes of it."""
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
    """Return what JSON.stringify makes of a class of the driver's: an ObjectId's digits, nothing of a RegExp."""
    return str(value) if type(value).__name__ == "ObjectId" else {}


def _iso(milliseconds: int) -> str | None:
    """Return what JSON.stringify makes of a date, whose years are more than Python's."""
    if abs(milliseconds) > _LAST:
        return None
    cycles, rest = divmod(timedelta(milliseconds=milliseconds) + (_EPOCH - _2000), _400_YEARS)
    at = _2000 + rest
    year = at.year + 400 * cycles
    digits = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+07d}"
    return f"{digits}-{at:%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def bson_of(value: Any, was: Any = None) -> Any:
    """Return the JSON value as BSON, as Node.js writes it; what did not change stays of the type that it was.

    :raises SerializationError: for a key with NUL in it.
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
    """Return the object that connect-mongo keeps for the JSON text of a session."""
    session: Document = bson_of(json.loads(data), was)
    cookie = session.get("cookie")
    if isinstance(cookie, dict) and isinstance(cookie.get("expires"), str):
        cookie["expires"] = _date_in(cookie["expires"])
    return session


def _date_in(text: str) -> Date | str:
    """Return the date that the text stands for, or as BSON has it the text that stands for none."""
    if _ISO.fullmatch(text):
        with contextlib.suppress(ValueError):
            return Date(datetime.fromisoformat(text.replace("Z", "+00:00")))
    return _SURROGATE.sub("\ufffd", text)


def _key(key: str) -> str:
    if "\0" in key:
        raise SerializationError(f"the key {key!r} cannot be stored: MongoDB's have no NUL")
    return _SURROGATE.sub("\ufffd", key)
