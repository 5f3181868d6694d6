"""The documents of sessions: what is in them, how they are found, and how the logins of a user are numbered."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

from bson import CodecOptions, DatetimeMS, ObjectId, decode
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument

from ..base import Record

__all__ = [
    "FIELDS",
    "LATEST_FIRST",
    "DatetimeMS",
    "Document",
    "as_dict",
    "date_of",
    "expiry",
    "following",
    "live",
    "next_order",
    "page_from",
    "position_of",
    "put",
    "ranges",
    "record_of",
    "records_of",
    "with_raw_sessions",
]

Document = dict[str, Any]

FIELDS = {"session": 1, "ttl": 1, "user_id": 1, "version": 1, "expires_at": 1, "order": 1}
LATEST_FIRST = [("order", -1), ("_id", -1)]

_PAGE_BYTES = 4 << 20
_MS = DatetimeConversion.DATETIME_MS
_numbers = itertools.count()


def next_order() -> Document:
    """Return the expression for the order of a login: the server's clock, in microseconds.

    The server's clock counts milliseconds, so the last three digits are a number of this process: logins of one
    millisecond have different orders.
    """
    return {"$add": [{"$multiply": [{"$toLong": "$$NOW"}, 1000]}, next(_numbers) % 1000]}


def live(now: float, **which: Any) -> Document:
    """Return the query for documents that match and have not expired."""
    return {**which, "expires_at": {"$gt": now}}


def ranges(after: tuple[int, str] | None) -> list[Document]:
    """Return queries which together match what comes after a position, each a range of the index on logins."""
    if after is None:
        return [{}]
    order, handle = after
    if not order:
        return [{"order": None, "_id": {"$lt": handle}}]
    return [{"order": {"$lt": order}}, {"order": order, "_id": {"$lt": handle}}, {"order": None}]


def following(after: tuple[int, str] | None, which: Document) -> Document:
    """Return the query for documents that match and come after a position, the latest login first."""
    parts = [{**which, **part} for part in ranges(after)]
    return parts[0] if len(parts) == 1 else {"$or": parts}


def page_from(cursor: Any, limit: int) -> tuple[list[Any], bool]:
    """Read documents, at most ``limit`` and not many more than 4 MiB, and tell whether there are more of them."""
    found, size = list[Any](), 0
    with cursor:
        for document in cursor:
            if len(found) == limit or size >= _PAGE_BYTES:
                return found, True
            found.append(document)
            size += len(document.raw) if isinstance(document, RawBSONDocument) else len(document.get("session") or "")
    return found, False


def position_of(document: Any) -> tuple[int, str]:
    """Return where a document is among those of its user."""
    return document.get("order") or 0, document["_id"]


def expiry(ttl: float, now: float) -> Document:
    """Return the fields that say when a document expires."""
    # The server removes by its own clock, so the date must not be earlier than ttl from the real now.
    return {"expires_at": float(now + ttl), "expires": date_of(max(now, time.time()) + ttl)}


def date_of(timestamp: float) -> DatetimeMS:
    """Return the moment as a MongoDB date, rounded up."""
    return DatetimeMS(math.ceil(timestamp * 1000))


def put(
    sessions: Any, which: Document, record: Record, *, version: ObjectId, now: float, upsert: bool
) -> Record | None:
    """Put a record in the place of a document, and return it as stored; None if no document matches.

    :param version: the new version.
    """
    document: Document = {"_id": which["_id"], "session": record.data.decode(), "ttl": float(record.ttl)}
    document |= {"version": version, **expiry(record.ttl, now)}
    order = 0 if record.user_id is None else record.order
    if record.user_id is not None:
        document |= {"user_id": record.user_id, "order": order}
    if order or record.user_id is None:
        result = sessions.replace_one(which, document, upsert=upsert)
        if not (upsert or result.matched_count):
            return None
    else:
        values = {**{name: {"$literal": value} for name, value in document.items()}, "order": next_order()}
        found = sessions.find_one_and_update(
            which, [{"$replaceWith": values}], {"order": 1}, upsert=upsert, return_document=ReturnDocument.AFTER
        )
        if found is None:
            return None
        order = int(found["order"])
    return Record(record.data, document["ttl"], record.user_id, document["version"], document["expires_at"], order)


def record_of(document: Document | None) -> Record | None:
    """Return the record; None if there is none, or if connect-mongo has replaced the text by an object."""
    text = None if document is None else document.get("session")
    if document is None or not isinstance(text, str):
        return None
    order = int(document.get("order") or 0)  # not the int of bson
    user_id, version = document.get("user_id"), document["version"]
    return Record(text.encode(), document["ttl"], user_id, version, document["expires_at"], order)


def records_of(documents: Iterable[Document]) -> Iterator[tuple[str, Record]]:
    """Return the handles and records of the documents that have one."""
    for document in documents:
        record = record_of(document)
        if record is not None:
            yield document["_id"], record


def with_raw_sessions(collection: Any) -> Any:
    """Return the collection with its documents left as bytes, so that a value is written back with its type."""
    return collection.with_options(codec_options=CodecOptions(document_class=RawBSONDocument, datetime_conversion=_MS))


def as_dict(raw: RawBSONDocument) -> Document:
    """Return a raw document as a dict, with dates in milliseconds."""
    return decode(raw.raw, CodecOptions(datetime_conversion=_MS))
