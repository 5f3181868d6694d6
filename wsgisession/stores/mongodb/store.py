"""Sessions as documents in the layout of connect-mongo: `MongoDBStore`.

Needs MongoDB 4.4 or later and pymongo 4.9 or later. Every change is one conditional command on one document, so no
transaction is needed: a standalone server, a replica set and a sharded cluster (by ``_id``) all do. The majority write
concern, the default of servers since 5.0, is what makes a logout survive a failover.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pymongo
import pymongo.errors
from bson import CodecOptions, DatetimeMS, ObjectId, decode
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference, uri_parser
from pymongo.driver_info import DriverInfo

from ...errors import ConfigurationError, StoreError
from ..base import (
    PAGE,
    Deleted,
    Page,
    PerProcess,
    Record,
    Store,
    StoreURL,
    delete_each,
    identifier,
    page_of,
    restart_is_due,
    seconds,
)
from ..findings import Finding
from . import diagnosis

__all__ = ["DatetimeMS", "DuplicateKeyError", "MongoDBStore", "as_dict", "date_of", "with_raw_sessions"]

Document = dict[str, Any]
DuplicateKeyError = pymongo.errors.DuplicateKeyError

_MS = DatetimeConversion.DATETIME_MS

logger = logging.getLogger("wsgisession")

_DEFAULT_DATABASE = "test"  # as connect-mongo and the drivers have it
_FIELDS = {"session": 1, "ttl": 1, "user_id": 1, "version": 1, "expires_at": 1}
_PAGE = 50  # of records up to 1 MiB: what `scan` holds in memory at once
_BATCH = 1000  # documents that one command of `purge` deletes
_PREPARE_SECONDS = 60.0  # an index on a collection that is full already takes longer than a request may
_OTHER_INDEX_IS_THERE = 85, 86
_PAIRS = ":,"  # stand between pairs in a value, where pymongo does not decode them
_PROPER = "write mongodb://user:password@host:27017/database, with %XX for special characters"


class MongoDBStore(Store):
    """Keep records as documents of one collection: ``{_id: handle, session: text, expires: date}`` and our fields.

    ``expires_at``, in seconds since the epoch, says when a record expires; ``expires`` is the date at which MongoDB's
    TTL index may remove it, the same moment, and later where the application's clock is behind. The other fields are
    ``ttl``, ``version`` and, where there is one, ``user_id``. Documents without ``expires_at`` are another program's:
    absent for this store, and never deleted or replaced by it.

    Records are read from the primary whatever the URL prefers: a secondary may still have one that was deleted.

    :param url: a URL of pymongo's. The hosts of ``mongodb+srv`` are looked up at the first use.
    :param timeout: seconds for a whole call: finding the server, connecting, retries and the answer. pymongo looks for
        a server twice a second, and may give up that much later; its own timeouts are of no effect beside this one.
        `scan` and `purge` may take that long for each page or batch, and `prepare` a minute.
    :param stringify: with ``format="express"``, the option of this name that connect-mongo has.
    :raises ConfigurationError: where pymongo does not accept the URL, or it asks for unacknowledged writes.
    """

    express_ttl: float = 14 * 86_400.0

    def __init__(self, url: str, *, collection: str = "sessions", timeout: float = 2.0, stringify: bool = True) -> None:
        parsed = _parsed(url)
        self._server = StoreURL(url).shown
        self._collection = collection
        self._timeout = timeout
        self._stringify = stringify
        options: Document = {"connectTimeoutMS": _lookup_timeout(parsed, timeout)} if _is_srv(url) else {}
        self._client = PerProcess(
            lambda: _Client(
                MongoClient(url, connect=False, driver=DriverInfo("wsgisession"), **options),
                parsed["database"] or _DEFAULT_DATABASE,
                collection,
            )
        )

    @classmethod
    def from_url(cls, url: StoreURL) -> MongoDBStore:
        """Make the store of ``mongodb://host/database?collection=sessions&timeout=2``; the rest is pymongo's."""
        collection = url.option("collection", "sessions", identifier)
        timeout = url.option("timeout", 2.0, seconds)
        stringify = url.option("stringify", True, _yes_or_no)
        return cls(_driver_url(url, url.scheme), collection=collection, timeout=timeout, stringify=stringify)

    def __repr__(self) -> str:
        return f"<MongoDBStore {self._server} collection={self._collection!r}>"

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and where that is due restart it with a second command.

        Where another request changes it between the two, it is returned as it was read.
        """
        with self._calling() as client:
            record = _record(client.sessions.find_one(_live(now, _id=handle), _FIELDS))
            if record is None or not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
                return record
            as_read = _live(now, _id=handle, version=record.version, ttl=record.ttl)
            expiry = _expiry(record.ttl, now)
            if not client.sessions.update_one(as_read, {"$set": expiry}).matched_count:
                return record
        return Record(record.data, record.ttl, record.user_id, record.version, expiry["expires_at"])

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Insert a document, or replace an expired one, in one command; the first one of a process adds the indexes."""
        new, document = _written(record, now)
        expired = {"_id": handle, "expires_at": {"$lte": now}}
        with self._calling() as client:
            try:
                client.sessions.replace_one(expired, {"_id": handle, **document}, upsert=True)
            except DuplicateKeyError:  # the document that is there is not an expired one
                return None
            self._try_prepare(client)
        return new

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the document that has ``record.version``."""
        new, document = _written(record, now)
        with self._calling() as client:
            result = client.sessions.replace_one(_live(now, _id=handle, version=record.version), document)
            return new if result.matched_count else None

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Set the expiry of a live document."""
        changes = {"ttl": float(ttl), **_expiry(ttl, now)}
        with self._calling() as client:
            return client.sessions.update_one(_live(now, _id=handle), {"$set": changes}).matched_count > 0

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live document, or only one that has this version."""
        which = _live(now, _id=handle) if version is None else _live(now, _id=handle, version=version)
        with self._calling() as client:
            return client.sessions.delete_one(which).deleted_count > 0

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a user's live documents by their index."""
        with self._calling() as client:
            found = list(_records(client.sessions.find(_live(now, user_id=user_id), _FIELDS)))
        return page_of(found, after=after, limit=limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Find a user's live documents and delete them, in two commands.

        One that somebody else deletes between the two is among the handles returned.
        """
        if after is not None:
            return delete_each(self, user_id, now=now, keep=keep, after=after, limit=limit)
        which = _live(now, user_id=user_id)
        with self._calling() as client:
            handles = [found["_id"] for found in client.sessions.find(which, {"_id": 1}) if found["_id"] != keep]
            if handles:
                client.sessions.delete_many({**which, "_id": {"$in": handles}})
        return Deleted(handles)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Read page after page in the order of the handles, leaving no cursor open between them."""
        page = self._page("", now)
        while page:
            yield from _records(page)
            page = self._page(page[-1]["_id"], now) if len(page) == _PAGE else []

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Delete expired documents in batches. The server does so by itself, where it has the TTL index."""
        purged = 0
        while limit is None or purged < limit:
            size = _BATCH if limit is None else min(_BATCH, limit - purged)
            found, deleted = self._purge_batch(now, size)
            purged += deleted
            if found < size:
                break
        return purged

    def prepare(self) -> None:
        """Create the TTL index and the index of users. One that is there with other options is left as it is.

        :raises StoreError: also where the user may not create them.
        """
        with self._calling(max(_PREPARE_SECONDS, self._timeout)) as client:
            client.create_indexes(self._indexed)

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look at the server's role and clock, and at the indexes of the collection."""
        with self._calling() as client:
            hello = client.sessions.database.command("hello")
            indexes = list(client.sessions.list_indexes())
        of_indexes = diagnosis.of_indexes(indexes, collection=self._collection)
        return [*diagnosis.of_server(hello, now=now), *of_indexes]

    def close(self) -> None:
        """Close this process's connections. A call that is under way in another thread fails."""
        client = self._client.take()
        if client is not None:
            with pymongo.timeout(self._timeout):
                client.close()

    @property
    def _indexed(self) -> list[str]:
        """The fields that a user may stand in, besides the text of a record."""
        return ["user_id"]

    def _page(self, after: str, now: float) -> list[Document]:
        with self._calling() as client:
            return list(client.sessions.find(_live(now, _id={"$gt": after}), _FIELDS, sort={"_id": 1}, limit=_PAGE))

    def _purge_batch(self, now: float, size: int) -> tuple[int, int]:
        # The date is what has an index; the number is what counts, also for one that was restarted meanwhile.
        expired = {"expires": {"$lte": date_of(now)}, "expires_at": {"$lte": now}}
        with self._calling() as client:
            handles = [found["_id"] for found in client.sessions.find(expired, {"_id": 1}, limit=size)]
            if not handles:
                return 0, 0
            return len(handles), client.sessions.delete_many({**expired, "_id": {"$in": handles}}).deleted_count

    def _try_prepare(self, client: _Client) -> None:
        # Expired is absent and users are found without an index too, so that to lack one fails no request.
        if client.is_prepared:
            return
        client.is_prepared = True
        try:
            client.create_indexes(self._indexed)
        except pymongo.errors.PyMongoError as error:
            logger.warning("%s; sessions work, but slowly, until `wsgisession init URL` has run", self._failure(error))

    @contextmanager
    def _calling(self, timeout: float | None = None) -> Iterator[_Client]:
        try:
            with pymongo.timeout(timeout or self._timeout):
                yield self._client()
        except pymongo.errors.PyMongoError as error:
            raise self._failure(error) from _without_values(error)

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"the session store {self._server} {self._what_failed(error)}")

    def _what_failed(self, error: Exception) -> str:
        match error:
            case pymongo.errors.WaitQueueTimeoutError():
                return f"had all connections in use for {self._timeout:g} s: add maxPoolSize to its URL"
            case pymongo.errors.ServerSelectionTimeoutError():
                fact = f"could not be reached within {self._timeout:g} s"
                return f"{fact}: check that its primary runs, and the hosts and replicaSet of the store's URL"
            case pymongo.errors.PyMongoError(timeout=True):
                return f"did not answer within {self._timeout:g} s: look at its load and the network, or raise timeout"
            case pymongo.errors.OperationFailure(code=18 | 8000):
                return "refused the login: check the user, the password and authSource of the store's URL"
            case pymongo.errors.OperationFailure(code=13):
                return f"gives this user no right to {self._collection!r}: grant it readWrite on the database"
            case pymongo.errors.NotPrimaryError():
                return "is not the primary: name the members of the replica set, without directConnection"
            case pymongo.errors.ConnectionFailure() | pymongo.errors.ConfigurationError():
                return "cannot be reached: check that it runs, and the hosts of the store's URL"
        return f"refused the command ({type(error).__name__}): see the log of the server"


class _Client:
    """What one process has open."""

    def __init__(self, client: MongoClient[Document], database: str, collection: str) -> None:
        self._client = client
        self.sessions = client[database].get_collection(collection, read_preference=ReadPreference.PRIMARY)
        self.is_prepared = False

    def close(self) -> None:
        self._client.close()

    def create_indexes(self, of_users: Iterable[str]) -> None:
        self._create_index("expires", name="expires_1", expireAfterSeconds=0)
        for field in of_users:
            self._create_index(field, name=f"{field}_1", sparse=True)

    def _create_index(self, field: str, **options: Any) -> None:
        try:
            self.sessions.create_index(field, **options)
        except pymongo.errors.OperationFailure as error:
            if error.code not in _OTHER_INDEX_IS_THERE:
                raise


def _yes_or_no(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError('give "true" or "false"')
    return text == "true"


def _is_srv(url: str) -> bool:
    return url.startswith("mongodb+srv://")


def _parsed(url: str) -> Document:
    """Take the URL apart as pymongo does, and let it check every option, without looking up or connecting."""
    parts = StoreURL(url)
    if parts.scheme not in ("mongodb", "mongodb+srv"):
        raise _unusable("it must begin with mongodb:// or mongodb+srv://")
    for name in parts.rest if _is_srv(url) else ():
        if name.lower().startswith("srv"):
            parts.option(name, "", str)
    plain = _driver_url(parts, "mongodb")
    try:
        for name, value in parts.rest.items():
            _check_option(name, value)
        parsed: Document = uri_parser.parse_uri(plain, default_port=None, warn=False)
        MongoClient(plain, connect=False).close()
    except (pymongo.errors.PyMongoError, ValueError, TypeError, OSError) as error:
        # These may quote the password: where a "?" in it was not escaped, the rest of it has become a parameter.
        is_unsafe = isinstance(error, pymongo.errors.InvalidURI) or ("@" not in parts.location and "%40" in plain)
        raise _unusable(_PROPER if is_unsafe else str(error)) from None
    if parsed["collection"]:
        raise _unusable("name the collection by ?collection= and not after the database")
    if parsed["options"].get("w") == 0:
        raise _unusable("with w=0 nobody knows whether a session was stored or ended; leave it out")
    if _is_srv(url) and (len(parsed["nodelist"]) > 1 or parsed["nodelist"][0][1]):
        raise _unusable("mongodb+srv takes one host, without a port")
    return parsed


def _check_option(name: str, value: str) -> None:
    try:
        uri_parser.split_options(urlencode({name: value}, safe=_PAIRS))
    except pymongo.errors.ConfigurationError:
        raise ConfigurationError(
            f"unknown parameter {name!r}; it takes collection, timeout and pymongo's options for a URL"
        ) from None


def _driver_url(url: StoreURL, scheme: str) -> str:
    return f"{scheme}://{url.location}?{urlencode(url.rest, safe=_PAIRS)}"


def _unusable(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the URL of the mongodb store cannot be used: {reason}")


def _lookup_timeout(parsed: Document, timeout: float) -> float:
    """Return the milliseconds for each of the two records that ``mongodb+srv`` looks up, outside of any deadline."""
    given: float | None = parsed["options"].get("connectTimeoutMS")
    return 1000 * min(timeout / 2, given or timeout)


def _live(now: float, **which: Any) -> Document:
    return {**which, "expires_at": {"$gt": now}}


def _expiry(ttl: float, now: float) -> Document:
    # The server sweeps by a clock of its own, so the date must not be earlier than ttl from the real now.
    return {"expires_at": float(now + ttl), "expires": date_of(max(now, time.time()) + ttl)}


def date_of(timestamp: float) -> DatetimeMS:
    """Return the moment as a date of MongoDB's, not before it."""
    return DatetimeMS(math.ceil(timestamp * 1000))


def _written(record: Record, now: float) -> tuple[Record, Document]:
    document: Document = {"session": record.data.decode(), "ttl": float(record.ttl), "version": ObjectId()}
    document |= _expiry(record.ttl, now)
    if record.user_id is not None:
        document["user_id"] = record.user_id
    return Record(record.data, document["ttl"], record.user_id, document["version"], document["expires_at"]), document


def _record(document: Document | None) -> Record | None:
    """Return the record, or None where there is none, or connect-mongo has put an object in place of the text."""
    text = None if document is None else document.get("session")
    if document is None or not isinstance(text, str):
        return None
    user_id = document.get("user_id")
    return Record(text.encode(), document["ttl"], user_id, document["version"], document["expires_at"])


def _records(documents: Iterable[Document]) -> Iterator[tuple[str, Record]]:
    for document in documents:
        record = _record(document)
        if record is not None:
            yield document["_id"], record


def with_raw_sessions(collection: Any) -> Any:
    """Return the collection with documents left as bytes, so that a value is written back of the type it was."""
    return collection.with_options(codec_options=CodecOptions(document_class=RawBSONDocument, datetime_conversion=_MS))


def as_dict(raw: RawBSONDocument) -> Document:
    """Return a raw document as a dict, with dates as milliseconds."""
    return decode(raw.raw, CodecOptions(datetime_conversion=_MS))


def _without_values(error: pymongo.errors.PyMongoError) -> pymongo.errors.PyMongoError:
    """Return the error as a cause that may be logged: those of a write quote values of the document."""
    if isinstance(error, pymongo.errors.WriteError):
        return pymongo.errors.OperationFailure(f"{type(error).__name__}, code {error.code}", error.code)
    return error
