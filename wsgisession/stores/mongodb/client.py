"""The connections of one process to MongoDB."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pymongo.errors
from pymongo import MongoClient, ReadPreference

from .documents import LATEST_FIRST, Document

_HEARTBEAT = 0.5  # seconds: pymongo looks for a server this often, and notices only then that the time is up
_CLOSING_SECONDS = 0.1  # for a farewell to the server, on connections that may be dead
_OTHER_INDEX_IS_THERE = 85, 86


class Client:
    """pymongo's client, and the collection of sessions.

    :ivar has_answered: whether the server has answered a call, so that one without an answer is a dead connection.
    :ivar is_prepared: whether the indexes were created, or are not to be.
    """

    def __init__(self, client: MongoClient[Document], database: str, collection: str) -> None:
        self._client = client
        self.sessions = client[database].get_collection(collection, read_preference=ReadPreference.PRIMARY)
        self.has_answered = self.is_prepared = False
        self._lock, self._doubt = threading.Lock(), threading.Lock()
        self._calls = 0
        self._is_retired = False

    def close(self, timeout: float = _CLOSING_SECONDS) -> None:
        """Close the connections. A call that is running in another thread fails."""
        with pymongo.timeout(timeout):
            self._client.close()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the client open during a call, also if it is retired in the meantime."""
        with self._lock:
            self._calls += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._calls -= 1
            is_last = self._is_retired and not self._calls
        if is_last:
            self.close()

    def retire(self) -> None:
        """Close the connections as soon as no call uses them."""
        with self._lock:
            self._is_retired = True
            is_unused = not self._calls
        if is_unused:
            self.close()

    @contextmanager
    def doubted(self, timeout: float) -> Iterator[bool]:
        """Wait until no other call is trying new connections; give whether that was so within the time."""
        is_alone = self._doubt.acquire(timeout=max(timeout, 0.0))
        try:
            yield is_alone
        finally:
            if is_alone:
                self._doubt.release()

    def patience(self, timeout: float) -> float:
        """Return how long to wait, so that pymongo, which may take longer while it knows no server, takes no longer."""
        return timeout if self._client.nodes else max(timeout - _HEARTBEAT, timeout * 0.75)

    def has_collection(self) -> bool:
        """Tell whether there is a collection of this name that the user may use."""
        found = self.sessions.database.list_collection_names(
            filter={"name": self.sessions.name}, authorizedCollections=True
        )
        return bool(found)

    def create_indexes(self, of_users: Iterable[str]) -> None:
        """Create the indexes that are missing."""
        self._create_index("expires", name="expires_1", expireAfterSeconds=0)
        for field in of_users:
            partial = {field: {"$exists": True}}
            self._create_index([(field, 1), *LATEST_FIRST], partialFilterExpression=partial)

    def _create_index(self, keys: Any, **options: Any) -> None:
        try:
            self.sessions.create_index(keys, **options)
        except pymongo.errors.OperationFailure as error:
            if error.code not in _OTHER_INDEX_IS_THERE:
                raise
