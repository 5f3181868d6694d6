"""Sessions in MongoDB as connect-mongo keeps them, so that Express can read and write them too.

A document is ``{_id: ID, session: text or object, expires: date}``; ``session`` stays the kind that it is.
A record's version is its ``session``: `replace` compares it, so it notices any writer's change. Ours also writes
``order``, the number of the user's login, and with texts ``user_id``, which an index finds; connect-mongo keeps both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any

import pymongo
from pymongo import ReturnDocument

from ..base import PAGE, Deleted, Page, Reader, Record, Store, restart_is_due
from .client import Client
from .documents import (
    LATEST_FIRST,
    DatetimeMS,
    Document,
    as_dict,
    date_of,
    following,
    next_order,
    page_from,
    position_of,
    ranges,
    with_raw_sessions,
)
from .store import MongoDBStore
from .values import json_of, session_of

_PAGE = 50
_WINDOW = 5000  # texts that one step searches for a user's
_SEARCHING = -1  # the order in a position among the sessions that no index finds
_FIELDS = {"session": 1, "expires": 1, "lastModified": 1, "updatedAt": 1, "user_id": 1, "order": 1}
_STAMPS = ("lastModified", "updatedAt")  # written by connect-mongo with its options touchAfter and timestamps

Pair = tuple[str, Record]


class ExpressMongoDBStore(MongoDBStore):
    """Keeps records as connect-mongo does, with its option ``stringify`` true or false.

    A user's sessions are found even if only Express has written them. Objects are found by their indexes. Texts that
    Express alone has written are found by searching all texts, some thousands in each step.

    :param native: the store whose connections are used.
    :param reader: reads from a text what MongoDB cannot.
    """

    def __init__(self, native: Store, reader: Reader) -> None:
        vars(self).update(vars(native))
        self._reader = reader

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record and, if its restart is due, restart it with a second command, which also updates its user."""
        ends, which = monotonic() + self._timeout, _live(now, _id=handle)
        found = self._repeatable(lambda client: with_raw_sessions(client.sessions).find_one(which, _FIELDS))
        record = self._record(found, now)
        if record is None or not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
            return record
        expires, changes = date_of(now + record.ttl), Document()
        if found.get("user_id") != self._owner(record):  # Express has changed the session's user
            which, changes = {**which, "session": {"$eq": record.version[0]}}, self._ownership(record)
        changes["$set"] = {**changes.get("$set", {}), "expires": expires, **_stamps(record.version[1], now)}
        if not self._try_update(which, changes, ends=ends):
            return record
        return Record(record.data, record.ttl, record.user_id, record.version, int(expires) / 1000, record.order)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Insert a document, or take over an expired one, in one command."""
        session = record.data.decode() if self._stringify else session_of(record.data)
        which = {"_id": handle, "expires": {"$lte": date_of(now)}}
        stored = self._write(which, record, session=(session, ()), now=now, upsert=True)
        self._try_prepare()
        return stored

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace a session that is still as it was read, by one of the same kind."""
        old, stamps = record.version
        session = record.data.decode() if isinstance(old, str) else session_of(record.data, _document(old))
        which = _live(now, _id=handle, session={"$eq": old})
        return self._write(which, record, session=(session, stamps), now=now, upsert=False)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Set the expiry of a live document."""
        which, changes = _live(now, _id=handle), {"$set": {"expires": date_of(now + ttl)}}
        return self._repeatable(lambda client: client.sessions.update_one(which, changes).matched_count > 0)

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live document, or only one whose session is still as it was read."""
        which = _live(now, _id=handle) if version is None else _live(now, _id=handle, session={"$eq": version[0]})
        with self._calling() as client:
            return bool(client.sessions.delete_one(which).deleted_count)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a page of a user's live documents."""
        find = self._find_texts if self._stringify else self._find_objects
        found, after = self._repeatable(lambda client: find(with_raw_sessions(client.sessions), user_id, after, limit))
        pairs = [pair for pair in self._records(found, now) if pair[1].user_id == user_id]
        return Page([pair for pair in pairs if pair[1].expires_at > now], after)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Find a page of a user's live documents, and delete them if they are still as they were found."""
        began, found = monotonic(), list[Pair]()
        while not found:
            page = self.find_user(user_id, now=now, after=after, limit=limit)
            found, after = [(handle, record) for handle, record in page.records if handle != keep], page.after
            if after is None:
                break
        gone = self._in_parts(found, partial(_delete_as_read, now=now), began=began)
        return Deleted(gone, more=after is not None or len(gone) < len(found))

    def scan(self, *, now: float) -> Iterator[Pair]:
        """Read page after page in the order of the IDs, without an open cursor in between."""
        page = self._page("", now)
        while page:
            yield from self._records(page, now)
            page = self._page(page[-1]["_id"], now) if len(page) == _PAGE else []

    def _page(self, after: str, now: float) -> list[Any]:
        which = _live(now, _id={"$gt": after})
        return self._repeatable(
            lambda client: list(with_raw_sessions(client.sessions).find(which, _FIELDS, sort={"_id": 1}, limit=_PAGE))
        )

    def _purge_batch(self, now: float, size: int) -> tuple[int, int]:
        expired = {"expires": {"$lte": date_of(now)}}
        with self._calling() as client:
            handles = [found["_id"] for found in client.sessions.find(expired, {"_id": 1}, limit=size)]
            if not handles:
                return 0, 0
            return len(handles), client.sessions.delete_many({**expired, "_id": {"$in": handles}}).deleted_count

    @property
    def _indexed(self) -> list[str]:
        return ["user_id"] if self._stringify else [f"session.{key}" for key in self._reader.user_keys]

    def _find_objects(self, sessions: Any, user_id: str, after: Any, limit: int) -> tuple[list[Any], Any]:
        of_user = [{field: value} for field in self._indexed for value in _values(user_id)]
        which = {"$or": [{**one, **part} for one in of_user for part in ranges(after)]}
        found, more = page_from(sessions.find(which, _FIELDS, sort=LATEST_FIRST, **_at_most(limit)), limit)
        return found, position_of(found[-1]) if more else None

    def _find_texts(self, sessions: Any, user_id: str, after: Any, limit: int) -> tuple[list[Any], Any]:
        """Find the texts that have the user's ID next to them and then, without that index, those that contain it."""
        found: list[Any] = []
        start = ""
        if after is not None and after[0] == _SEARCHING:
            start = after[1]
        else:
            which = following(after, {"user_id": user_id})
            found, is_more = page_from(sessions.find(which, _FIELDS, sort=LATEST_FIRST, **_at_most(limit)), limit)
            if is_more:
                return found, position_of(found[-1])
        room = limit - len(found)
        if not room:
            return found, (_SEARCHING, start)
        window = {"$gt": start}
        last = list(sessions.find({"_id": window}, {"_id": 1}, sort={"_id": 1}, skip=_WINDOW - 1, limit=1))
        if last:
            window["$lte"] = last[0]["_id"]
        which = {"_id": window, "user_id": {"$ne": user_id}, "session": self._mentions(user_id)}
        more, is_more = page_from(sessions.find(which, _FIELDS, sort={"_id": 1}, **_at_most(room)), room)
        if is_more:
            return found + more, (_SEARCHING, more[-1]["_id"])
        return found + more, (_SEARCHING, window["$lte"]) if last else None

    def _mentions(self, user_id: str) -> Document:
        """Return what the texts of all of the user's sessions match, and few others."""
        text = re.escape(json.dumps(user_id, ensure_ascii=False))
        bare = f"|{re.escape(user_id)}" if _is_number(user_id) else ""
        names = "|".join(re.escape(json.dumps(key, ensure_ascii=False)) for key in self._reader.user_keys)
        return {"$regex": f"(?:{names}):(?:{text}{bare})[,}}]"}

    def _write(self, which: Document, record: Record, *, session: Any, now: float, upsert: bool) -> Record | None:
        """Write a session, and return it as stored; None if no document matches.

        :param session: its new version: the text or object, and the names of the stamps.
        """
        mine = {"_id": which["_id"], "session": {"$eq": session[0]}}
        return self._written(
            lambda client: self._update(client.sessions, which, record, session=session, now=now, upsert=upsert),
            lambda client: self._record(with_raw_sessions(client.sessions).find_one(mine, _FIELDS), now),
            upsert=upsert,
        )

    def _update(
        self, sessions: Any, which: Document, record: Record, *, session: Any, now: float, upsert: bool
    ) -> Record | None:
        expires, order = date_of(now + record.ttl), 0 if record.user_id is None else record.order
        changes = {"session": session[0], "expires": expires, **_stamps(session[1], now)}
        update: Any = self._ownership(record)
        update["$set"] = {**update.get("$set", {}), **changes}
        if order:
            update = {"$set": {**update["$set"], "order": order}}
        elif record.user_id is not None:
            literals = {name: {"$literal": value} for name, value in update["$set"].items()}
            update = [{"$set": {**literals, "order": next_order()}}]
        stored = sessions.find_one_and_update(
            which, update, {"order": 1}, upsert=upsert, return_document=ReturnDocument.AFTER
        )
        if stored is None:
            return None
        order = int(stored.get("order") or 0)
        return Record(record.data, record.ttl, record.user_id, session, int(expires) / 1000, order)

    def _ownership(self, record: Record) -> Document:
        """Return the update that makes a document its record's user's, with no place among the user's logins."""
        if record.user_id is None:
            return {"$unset": {"user_id": "", "order": ""}}
        owner = self._owner(record)
        return {"$unset": {"order": ""}, **({} if owner is None else {"$set": {"user_id": owner}})}

    def _owner(self, record: Record) -> str | None:
        """Return what is in the field ``user_id`` of a record's document: objects do not need it."""
        return record.user_id if self._stringify else None

    def _record(self, document: Any, now: float) -> Record | None:
        if document is None:
            return None
        session, expires = document.get("session"), document.get("expires")
        if isinstance(session, str):
            data = session.encode("utf-8", "surrogatepass")
        elif session is not None and hasattr(session, "raw"):
            data = json_of(as_dict(session))
        else:
            return None
        ttl, user_id = self._reader.glance(data)
        stamps = tuple(name for name in _STAMPS if name in document)
        expires_at = int(expires) / 1000 if isinstance(expires, DatetimeMS) else now + ttl
        order = document.get("order")
        if user_id is None or (self._stringify and document.get("user_id") != user_id):
            order = 0  # it was the number of another user's login
        return Record(data, ttl, user_id, (session, stamps), expires_at, int(order or 0))

    def _records(self, documents: Iterable[Any], now: float) -> Iterator[Pair]:
        for document in documents:
            record = self._record(document, now)
            if record is not None and isinstance(document["_id"], str):
                yield document["_id"], record


def _live(now: float, **which: Any) -> Document:
    """Return the query for what is live; connect-mongo never lets a document without a date expire."""
    return {**which, "$and": [{"$or": [{"expires": {"$exists": False}}, {"expires": {"$gt": date_of(now)}}]}]}


def _delete_as_read(client: Client, pairs: Sequence[Pair], *, now: float) -> Sequence[str]:
    """Delete documents whose sessions are still as they were read; return the handles of those that are gone."""
    handles = [handle for handle, _ in pairs]
    as_read = [_live(now, _id=handle, session={"$eq": record.version[0]}) for handle, record in pairs]
    deletions = [pymongo.DeleteOne(which) for which in as_read]
    if client.sessions.bulk_write(deletions, ordered=False).deleted_count == len(pairs):
        return handles
    left = {document["_id"] for document in client.sessions.find({"_id": {"$in": handles}}, {"_id": 1})}
    return [handle for handle in handles if handle not in left]


def _at_most(limit: int) -> dict[str, int]:
    return {"limit": limit + 1, "batch_size": limit + 1}


def _stamps(names: tuple[str, ...], now: float) -> Document:
    return {name: date_of(now) for name in names}


def _document(session: Any) -> Document:
    return as_dict(session) if hasattr(session, "raw") else session


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _values(user_id: str) -> list[Any]:
    return [user_id, float(user_id)] if _is_number(user_id) else [user_id]
