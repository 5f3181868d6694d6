"""Sessions as documents in the layout of connect-mongo: `MongoDBStore`.

Needs MongoDB 4.4 or later and pymongo 4.9 or later. Every change is one conditional command on one document, so no
transaction is needed: a standalone server, a replica set, and a cluster sharded by ``_id`` all work. The majority write
concern, which is the default since MongoDB 5.0, makes a logout survive a failover.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, TypeVar

import msgspec
import pymongo
import pymongo.errors
from bson import ObjectId
from pymongo import MongoClient
from pymongo.driver_info import DriverInfo

from ...errors import StoreError
from ..base import (
    PAGE,
    Deleted,
    Page,
    PerProcess,
    Record,
    Store,
    StoreURL,
    WriteRefused,
    identifier,
    positive,
    restart_is_due,
    seconds,
)
from ..findings import Finding
from . import diagnosis
from .client import Client
from .documents import (
    FIELDS,
    LATEST_FIRST,
    Document,
    date_of,
    expiry,
    following,
    live,
    page_from,
    position_of,
    put,
    record_of,
    records_of,
)
from .failures import Situation, explained, refuses_writes, without_values
from .url import OPTIONS, driver_options, driver_url, parsed_url, true_or_false

T = TypeVar("T")

logger = logging.getLogger("wsgisession")

_DEFAULT_DATABASE = "test"  # as in connect-mongo and the drivers
_PAGE = 50  # records, of up to 1 MiB, that `scan` holds in memory
_BATCH = 1000  # documents that one command of `purge` deletes
_SHORTEST = 0.001  # seconds; none at all would be no limit for pymongo
_DELETED_AT_ONCE = 100
_PREPARE_SECONDS = 60.0  # an index on a large collection takes longer than a request may


class MongoDBStore(Store):
    """Keeps records as documents of one collection: ``{_id: handle, session: text, expires: date}`` and our fields.

    ``expires_at``, in seconds since the epoch, says when a record expires. ``expires`` is the date after which the
    server's TTL index may remove it: the same moment, or later if the application's clock is behind. The other fields
    are ``ttl``, ``version``, and, if the session has a user, ``user_id`` and ``order``. Documents without
    ``expires_at`` belong to another program: they count as absent, and are never deleted or replaced.

    Records are read from the primary, whatever the URL prefers: a secondary may still have one that was deleted.

    :param url: a URL for pymongo. The hosts of ``mongodb+srv`` are looked up at the first use.
    :param timeout: seconds for a whole call: finding the server, connecting, retries, and the answer. pymongo looks for
        a server twice a second, so a call during which the server disappears may take half a second longer. The
        driver's own timeouts have no effect. `scan` and `purge` may take this long for each page or batch, and
        `prepare` a minute.
    :param max_connections: how many connections a process opens, unless the URL has the driver's ``maxPoolSize``.
    :param max_idle: seconds after which an idle connection is closed, unless the URL has ``maxIdleTimeMS``.
    :param stringify: with ``format="express"``, connect-mongo's option with this name.
    :raises ConfigurationError: if pymongo does not accept the URL, or if it asks for unacknowledged writes.
    """

    express_ttl: float = 14 * 86_400.0

    def __init__(
        self,
        url: str,
        *,
        collection: str = "sessions",
        timeout: float = 2.0,
        max_connections: int = 100,
        max_idle: float = 60.0,
        stringify: bool = True,
    ) -> None:
        parsed = parsed_url(url)
        self._server = StoreURL(url).shown
        self._collection = collection
        self._timeout = timeout
        self._stringify = stringify
        self._situation = Situation(timeout, collection, parsed["username"] or "")
        self._has_logged_refusal = False
        options = driver_options(
            url, parsed, timeout=timeout, maxPoolSize=max_connections, maxIdleTimeMS=round(1000 * max_idle)
        )
        database = parsed["database"] or _DEFAULT_DATABASE

        def new_client() -> Client:
            driver: MongoClient[Document] = MongoClient(url, connect=False, driver=DriverInfo("wsgisession"), **options)
            return Client(driver, database, collection)

        self._new_client: Callable[[], Client] = new_client
        self._client = PerProcess(new_client)

    @classmethod
    def from_url(cls, url: StoreURL) -> MongoDBStore:
        """Make the store of ``mongodb://host/database?collection=sessions&timeout=2``; other parameters are pymongo's.

        :raises ConfigurationError: if pymongo does not accept the URL or a parameter.
        """
        return cls(
            driver_url(url, url.scheme, without=OPTIONS),
            collection=url.option("collection", "sessions", identifier),
            timeout=url.option("timeout", 2.0, seconds),
            max_connections=url.option("max_connections", 100, positive),
            max_idle=url.option("max_idle", 60.0, seconds),
            stringify=url.option("stringify", True, true_or_false),
        )

    def __repr__(self) -> str:
        return f"<MongoDBStore {self._server} collection={self._collection!r}>"

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record and, if its restart is due, restart it with a second command.

        If another request changes the record between the two, it is returned as it was read.
        """
        ends = monotonic() + self._timeout
        record = record_of(self._repeatable(lambda client: client.sessions.find_one(live(now, _id=handle), FIELDS)))
        if record is None or not restart_is_due(record.expires_at, record.ttl, now=now, touch_after=touch_after):
            return record
        as_read = live(now, _id=handle, version=record.version, ttl=record.ttl)
        restarted = expiry(record.ttl, now)
        if not self._try_update(as_read, {"$set": restarted}, ends=ends):
            return record
        return msgspec.structs.replace(record, expires_at=restarted["expires_at"])

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Insert a document, or replace an expired one, in one command.

        The first call of a process also creates the indexes.
        """
        stored = self._put({"_id": handle, "expires_at": {"$lte": now}}, record, now=now, upsert=True)
        self._try_prepare()
        return stored

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the document that has ``record.version``."""
        return self._put(live(now, _id=handle, version=record.version), record, now=now, upsert=False)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Set the expiry of a live document."""
        which, changes = live(now, _id=handle), {"$set": {"ttl": float(ttl), **expiry(ttl, now)}}
        return self._repeatable(lambda client: client.sessions.update_one(which, changes).matched_count > 0)

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live document, or only one that has this version."""
        which = live(now, _id=handle) if version is None else live(now, _id=handle, version=version)
        with self._calling() as client:
            return client.sessions.delete_one(which).deleted_count > 0

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Read a page of a user's live documents in the order of their index."""
        which = following(after, live(now, user_id=user_id))
        options = {"sort": LATEST_FIRST, "limit": limit + 1, "batch_size": limit + 1}
        found, more = self._repeatable(lambda client: page_from(client.sessions.find(which, FIELDS, **options), limit))
        return Page(list(records_of(found)), position_of(found[-1]) if more else None)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Find the handles of a page of a user's live documents, and delete as many as half of the time allows.

        One that another process deletes in between is among the handles returned.
        """
        began, which = monotonic(), live(now, user_id=user_id)
        size = limit + (keep is not None)
        options = {"sort": LATEST_FIRST, "limit": size + 1, "batch_size": size + 1}
        found = self._repeatable(
            lambda client: list(client.sessions.find(following(after, which), {"_id": 1}, **options))
        )
        handles = [document["_id"] for document in found]
        chosen = [handle for handle in handles[:size] if handle != keep][:limit]

        def delete(client: Client, part: Sequence[str]) -> Sequence[str]:
            client.sessions.delete_many({**which, "_id": {"$in": part}})
            return part

        deleted = self._in_parts(chosen, delete, began=began)
        return Deleted(deleted, more=len(set(handles) - {keep}) > len(deleted))

    def _in_parts(
        self, items: Sequence[T], delete: Callable[[Client, Sequence[T]], Sequence[str]], *, began: float
    ) -> list[str]:
        """Delete some items at a time until half of the call's time is over; return the handles of those deleted."""
        deleted: list[str] = []
        for start in range(0, len(items), _DELETED_AT_ONCE):
            elapsed = monotonic() - began
            if start and elapsed > self._timeout / 2:
                break
            with self._calling(self._timeout - elapsed) as client:
                deleted += delete(client, items[start : start + _DELETED_AT_ONCE])
        return deleted

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Read page after page in the order of the handles, without an open cursor in between."""
        page = self._page("", now)
        while page:
            yield from records_of(page)
            page = self._page(page[-1]["_id"], now) if len(page) == _PAGE else []

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Delete expired documents in batches. The server does this automatically if it has the TTL index."""
        purged = 0
        while limit is None or purged < limit:
            size = _BATCH if limit is None else min(_BATCH, limit - purged)
            found, deleted = self._purge_batch(now, size)
            purged += deleted
            if found < size:
                break
        return purged

    @property
    def exists(self) -> bool:
        """Whether the database has the collection."""
        with self._calling() as client:
            return client.has_collection()

    def missing(self) -> list[str]:
        """Return the collection and the indexes that are missing."""
        with self._calling() as client:
            indexes = list(client.sessions.list_indexes()) if client.has_collection() else None
        place = f"the collection {self._collection}"
        fields = diagnosis.missing_fields(indexes or (), self._indexed)
        return [*([place] if indexes is None else []), *(f"the index on {field} of {place}" for field in fields)]

    def count(self, *, now: float, expired: bool = False) -> int | None:
        """Return how many records there are, as the collection's metadata says; expired ones are not counted."""
        if expired:
            return None
        with self._calling() as client:
            return client.sessions.estimated_document_count()

    def prepare(self) -> None:
        """Create the TTL index and the index of users. One that is there with other options is left as it is.

        :raises StoreError: for example if the user may not create them.
        """
        with self._calling(max(_PREPARE_SECONDS, self._timeout)) as client:
            client.create_indexes(self._indexed)

    def diagnose(self, *, now: float) -> list[Finding]:
        """Check the server's role and clock, and the indexes of the collection. Creates nothing, now or later."""
        with self._calling() as client:
            client.is_prepared = True
            hello = client.sessions.database.command("hello")
            indexes = list(client.sessions.list_indexes()) if client.has_collection() else None
        findings = list(diagnosis.of_server(hello, now=now))
        if indexes is not None:
            findings += diagnosis.of_indexes(indexes, self._indexed, collection=self._collection)
        return findings

    def close(self) -> None:
        """Close this process's connections. A call that is running in another thread fails."""
        client = self._client.take()
        if client is not None:
            client.close(self._timeout)

    @property
    def _indexed(self) -> list[str]:
        """The fields that may hold a record's user, outside its text."""
        return ["user_id"]

    def _page(self, after: str, now: float) -> list[Document]:
        which = live(now, _id={"$gt": after})
        return self._repeatable(lambda client: list(client.sessions.find(which, FIELDS, sort={"_id": 1}, limit=_PAGE)))

    def _purge_batch(self, now: float, size: int) -> tuple[int, int]:
        # The date has the index; the number is what counts, also for a record that was restarted since.
        expired = {"expires": {"$lte": date_of(now)}, "expires_at": {"$lte": now}}
        with self._calling() as client:
            handles = [found["_id"] for found in client.sessions.find(expired, {"_id": 1}, limit=size)]
            if not handles:
                return 0, 0
            return len(handles), client.sessions.delete_many({**expired, "_id": {"$in": handles}}).deleted_count

    def _try_update(self, which: Document, changes: Any, *, ends: float) -> bool:
        """Make a change that the request can do without; False if it was not made.

        If the server refuses to write, that is logged once.

        :param ends: when the call must end, by the monotonic clock.
        """
        with self._calling(ends - monotonic()) as client:
            try:
                return client.sessions.update_one(which, changes).matched_count > 0
            except pymongo.errors.OperationFailure as error:
                if not refuses_writes(error):
                    raise
                if not self._has_logged_refusal:
                    self._has_logged_refusal = True
                    logger.warning("%s; until then, reads do not restart idle timeouts", self._failure(error))
                return False

    def _try_prepare(self) -> None:
        # Everything works without the indexes, only more slowly, so their absence must not fail a request.
        client = self._client()
        if client.is_prepared:
            return
        client.is_prepared = True
        try:
            with self._calling() as client:
                client.create_indexes(self._indexed)
        except StoreError as error:
            logger.warning("%s; sessions work, but slowly, until `wsgisession init URL` has run", error)

    def _put(self, which: Document, record: Record, *, now: float, upsert: bool) -> Record | None:
        version = ObjectId()
        options: Document = {"version": version, "now": now, "upsert": upsert}
        mine = {"_id": which["_id"], "version": version}
        return self._written(
            lambda client: put(client.sessions, which, record, **options),
            lambda client: record_of(client.sessions.find_one(mine, FIELDS)),
            upsert=upsert,
        )

    def _written(
        self, write: Callable[[Client], Record | None], find_mine: Callable[[Client], Record | None], *, upsert: bool
    ) -> Record | None:
        """Write, if need be twice: then the first attempt may be what prevents the second.

        :param write: returns the record as stored, or None if it cannot be stored.
        :param find_mine: returns the record that the first attempt stored, if it is there.
        :param upsert: whether a duplicate key means that it cannot be stored.
        """
        attempts = itertools.count(1)

        def attempt(client: Client) -> Record | None:
            is_first, stored = next(attempts) == 1, None
            with suppress(*([pymongo.errors.DuplicateKeyError] if upsert else [])):  # a document that has not expired
                stored = write(client)
            return stored if is_first or stored is not None else find_mine(client)

        return self._repeatable(attempt)

    def _repeatable(self, call: Callable[[Client], T]) -> T:
        """Make a call that may be made twice: again on a new connection if the one in use turns out to be dead.

        A firewall, or a server that is gone, can drop connections without a word. Both attempts share the time.
        """
        ends = monotonic() + self._timeout
        with self._explained():
            client = self._client()
            if client.has_answered:
                try:
                    with client.in_use(), pymongo.timeout(self._timeout / 2):
                        return call(client)
                except pymongo.errors.AutoReconnect as error:
                    if isinstance(error, pymongo.errors.NetworkTimeout):
                        with client.doubted(ends - monotonic()) as is_alone:
                            if is_alone and self._client() is client:
                                return self._replaced(client, call, max(ends - monotonic(), _SHORTEST))
        with self._calling(ends - monotonic()) as client:
            return call(client)

    def _replaced(self, client: Client, call: Callable[[Client], T], timeout: float) -> T:
        """Make a call on new connections. If the server answers, they replace the old ones, or else are closed."""
        fresh = self._new_client()
        try:
            with fresh.in_use(), pymongo.timeout(fresh.patience(timeout)):
                result = call(fresh)
        except BaseException:
            fresh.retire()
            raise
        fresh.has_answered, fresh.is_prepared = True, client.is_prepared
        if (old := self._client.put(fresh)) is not None:
            old.retire()
        return result

    @contextmanager
    def _calling(self, timeout: float | None = None) -> Iterator[Client]:
        with self._explained():
            client, seconds = self._client(), self._timeout if timeout is None else max(timeout, _SHORTEST)
            with client.in_use(), pymongo.timeout(client.patience(seconds)):
                yield client
            client.has_answered = True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except pymongo.errors.PyMongoError as error:
            raise self._failure(error) from without_values(error)

    def _failure(self, error: Exception) -> StoreError:
        kind = WriteRefused if refuses_writes(error) else StoreError
        return kind(f"the session store {self._server} {explained(error, self._situation)}")
