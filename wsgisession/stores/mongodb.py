"""`MongoDBStore`: sessions as documents in the layout of connect-mongo, changed only conditionally."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
from bson import ObjectId
from pymongo import IndexModel, MongoClient, ReadPreference, uri_parser
from pymongo.collection import Collection
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.errors import ConnectionFailure, DuplicateKeyError, InvalidURI, OperationFailure, PyMongoError

from ..errors import ConfigurationError, StoreError
from .base import PerProcess, Record, Store, StoreURL, identifier, restart_is_due, seconds

logger = logging.getLogger("wsgisession")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_DATE = 250_000_000_000.0  # in the year 9892: a datetime cannot be much later
_AT_ONCE = 500
_DEFAULT_DATABASE = "test"  # as the drivers and connect-mongo have it
_FIELDS = {"session": 1, "ttl": 1, "user_id": 1, "version": 1, "expires_at": 1}
_NOT_ALLOWED = (13, 18)  # Unauthorized, AuthenticationFailed

Document = dict[str, Any]


class MongoDBStore(Store):
    """Sessions as documents ``{_id: handle, session: text, expires: date}``, as connect-mongo lays them out, plus ours.

    ``expires_at`` is when a session ends, by the application's clock; ``expires`` is the date by which MongoDB removes
    the document itself, a backstop. A document without our fields is somebody else's: absent here, and left alone.
    Reads always go to the primary: a secondary might still have a session that was logged out.

    :param url: what pymongo takes; ``mongodb+srv`` is resolved at the first use.
    :param collection: the name of the collection.
    :param timeout: seconds that a call may take in all: finding the server, retries and the reply.
    """

    def __init__(self, url: str, *, collection: str = "sessions", timeout: float = 2.0) -> None:
        self._url, self._name, self._timeout = url, collection, timeout
        parsed = _parsed(url)
        self._database = parsed["database"] or _DEFAULT_DATABASE
        self._server = ",".join(f"{host}:{port}" for host, port in parsed["nodelist"])
        self._client = PerProcess(self._connect)
        self._prepared = PerProcess(self._try_prepare)

    def __repr__(self) -> str:
        return f"<MongoDBStore {self._server}/{self._database}.{self._name}>"

    @classmethod
    def from_url(cls, url: StoreURL) -> MongoDBStore:
        """Make the store of ``mongodb://host/database?collection=sessions&timeout=2``.

        :raises ConfigurationError: for a URL or parameter that cannot be right.
        """
        collection = url.option("collection", "sessions", identifier)
        timeout = url.option("timeout", 2.0, seconds)
        return cls(url.driver_url(), collection=collection, timeout=timeout)

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record: one round trip, and a second one where a restart is due."""
        with self._asking() as sessions:
            found = sessions.find_one(_live(now, _id=handle), _FIELDS)
            if found is None:
                return None
            record = _record(found)
            if not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
                return record
            times = _times(now, record.ttl)
            restarted = sessions.update_one(_live(now, _id=handle, ttl=record.ttl), {"$set": times})
            return _with_expiry(record, times["expires_at"]) if restarted.matched_count else None

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Store a record where there is none: one round trip, and a second one over an expired record."""
        self._prepared()
        new = _new(record, now)
        with self._asking() as sessions:
            try:
                sessions.insert_one({"_id": handle, **_document(new, now)})
            except DuplicateKeyError:
                expired = {"_id": handle, "expires_at": {"$lte": now}}
                if not sessions.replace_one(expired, _document(new, now)).matched_count:
                    return None
        return new

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the record of this version."""
        new = _new(record, now)
        with self._asking() as sessions:
            mine = _live(now, _id=handle, version=record.version)
            return new if sessions.update_one(mine, {"$set": _document(new, now)}).matched_count else None

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Restart a record with this ttl."""
        with self._asking() as sessions:
            times = {"ttl": ttl, **_times(now, ttl)}
            return sessions.update_one(_live(now, _id=handle), {"$set": times}).matched_count > 0

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a record."""
        which = _live(now, _id=handle) if version is None else _live(now, _id=handle, version=version)
        with self._asking() as sessions:
            return sessions.delete_one(which).deleted_count > 0

    def find_user(self, user_id: str, *, now: float) -> list[tuple[str, Record]]:
        """Return the records of a user."""
        with self._asking() as sessions:
            return [(found["_id"], _record(found)) for found in sessions.find(_live(now, user_id=user_id), _FIELDS)]

    def delete_user(self, user_id: str, *, now: float, keep: str | None = None) -> list[str]:
        """Delete the records of a user: two round trips."""
        with self._asking() as sessions:
            which = _live(now, user_id=user_id)
            handles = [found["_id"] for found in sessions.find(which, {"_id": 1}) if found["_id"] != keep]
            if handles:
                sessions.delete_many({**which, "_id": {"$in": handles}})
            return handles

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Iterate over the live records, in pages ordered by handle."""
        last = ""
        while True:
            with self._asking() as sessions:
                which = _live(now, _id={"$gt": last})
                page = list(sessions.find(which, _FIELDS).sort("_id", 1).limit(_AT_ONCE))
            yield from ((found["_id"], _record(found)) for found in page)
            if len(page) < _AT_ONCE:
                return
            last = page[-1]["_id"]

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Remove expired records, a batch at a time. MongoDB does so itself, where its TTL monitor runs."""
        removed, wanted = 0, _AT_ONCE if limit is None else limit
        expired = {"expires_at": {"$lte": now}}
        while wanted > 0:
            with self._asking() as sessions:
                batch = [found["_id"] for found in sessions.find(expired, {"_id": 1}).limit(min(wanted, _AT_ONCE))]
                if not batch:
                    break
                removed += sessions.delete_many({**expired, "_id": {"$in": batch}}).deleted_count
            wanted = _AT_ONCE if limit is None else limit - removed
        return removed

    def prepare(self) -> None:
        """Create the indexes: the TTL index that connect-mongo has too, and one of the users."""
        expires = IndexModel([("expires", 1)], name="expires_1", expireAfterSeconds=0)
        users = IndexModel([("user_id", 1)], name="user_id_1", partialFilterExpression={"user_id": {"$type": "string"}})
        with self._asking() as sessions:
            sessions.create_indexes([expires, users])

    def close(self) -> None:
        """Close this process's connections."""
        client = self._client.take()
        if client is not None:
            client.close()

    def _connect(self) -> MongoClient[Document]:
        return MongoClient(self._url, connect=False, appname="wsgisession")

    def _try_prepare(self) -> bool:
        """Create the indexes, if we may: sessions work without them, only more slowly."""
        try:
            self.prepare()
        except StoreError as error:
            if not isinstance(error.__cause__, OperationFailure):
                raise
            logger.warning("the indexes of %r were not created: %s", self, error.__cause__.details)
        return True

    @contextmanager
    def _asking(self) -> Iterator[Collection[Document]]:
        """Give the collection for one call, and make a `StoreError` of whatever the driver raises in it."""
        try:
            with pymongo.timeout(self._timeout):
                database = self._client()[self._database]
                yield database.get_collection(self._name, read_preference=ReadPreference.PRIMARY)
        except PyMongoError as error:
            raise StoreError(f"MongoDB at {self._server} {_reason(error, self._timeout)}") from error


def _live(now: float, **which: Any) -> Document:
    return {**which, "expires_at": {"$gt": now}}


def _times(now: float, ttl: float) -> Document:
    """Return the end by the application's clock, and the backstop by which MongoDB sweeps, never before it."""
    backstop = min(max(now, time.time()) + ttl, _LAST_DATE)
    return {"expires_at": now + ttl, "expires": _EPOCH + timedelta(seconds=backstop)}


def _new(record: Record, now: float) -> Record:
    return Record(record.data, float(record.ttl), record.user_id, ObjectId(), now + record.ttl)


def _with_expiry(record: Record, expires_at: float) -> Record:
    return Record(record.data, record.ttl, record.user_id, record.version, expires_at)


def _document(record: Record, now: float) -> Document:
    return {
        "session": record.data.decode(),
        "ttl": record.ttl,
        "user_id": record.user_id,
        "version": record.version,
        **_times(now, record.ttl),
    }


def _record(found: Document) -> Record:
    return Record(found["session"].encode(), found["ttl"], found["user_id"], found["version"], found["expires_at"])


def _parsed(url: str) -> Document:
    """Take the URL apart as pymongo does, without asking the DNS for the hosts of ``mongodb+srv``."""
    scheme, _, rest = url.partition("://")
    try:
        parsed: Document = dict(uri_parser.parse_uri(f"mongodb://{rest}", validate=True, warn=False))
    except (InvalidURI, DriverConfigurationError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{scheme} store: the URL cannot be used: {error}") from None
    if parsed["collection"]:
        raise ConfigurationError("mongodb store: name the collection as ?collection=..., not after the database")
    return parsed


def _reason(error: PyMongoError, timeout: float) -> str:
    if error.timeout:
        return f"did not answer within {timeout:g} s; check that it runs and is not overloaded"
    if isinstance(error, OperationFailure) and error.code in _NOT_ALLOWED:
        return "refused this user; check the user, the password and the rights in the store's URL"
    if isinstance(error, ConnectionFailure):
        return "cannot be reached; check the store's URL, and that the server runs"
    return "refused the call; see the cause"
