"""`ObservedStore`: a store whose calls are observed, for metrics and traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from ..errors import ConfigurationError
from ..stores import Record, Store, StoreURL, open_store
from ..stores.base import PAGE, Deleted, Page
from ..stores.findings import Finding

Observer = Callable[[str, str], AbstractContextManager[object]]
"""Called with a verb and the kind of store ("redis"); returns the context manager for the call. It must not fail."""


class ObservedStore(Store):
    """Passes each call on to another store, inside the context manager that the observer returns for it.

    `scan` is not observed, because its duration depends on the caller.

    :param store: a `Store`, which may be observed too, or a URL.
    :ivar kind: the store's class in small letters, without "Store": redis, postgresql, ...
    """

    def __init__(self, store: str | Store, observer: Observer) -> None:
        self._store = open_store(store) if isinstance(store, str) else store
        self._observer = observer
        self.shared, self.express_ttl = self._store.shared, self._store.express_ttl
        self.kind: str = getattr(store, "kind", None) or type(self._store).__name__.removesuffix("Store").lower()

    @classmethod
    def from_url(cls, url: StoreURL) -> Store:
        """Raise `ConfigurationError`: only the observed store has a URL."""
        raise ConfigurationError("an ObservedStore has no URL: pass it the URL of the store to observe")

    def __repr__(self) -> str:
        return repr(self._store)  # in a message, the place of the sessions matters

    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record."""
        with self._observer("load", self.kind):
            return self._store.load(handle, now=now, touch_after=touch_after)

    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Store a new record."""
        with self._observer("create", self.kind):
            return self._store.create(handle, record, now=now)

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the record of this version."""
        with self._observer("replace", self.kind):
            return self._store.replace(handle, record, now=now)

    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Restart a record."""
        with self._observer("touch", self.kind):
            return self._store.touch(handle, ttl=ttl, now=now)

    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a record."""
        with self._observer("delete", self.kind):
            return self._store.delete(handle, now=now, version=version)

    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Return one page of a user's records."""
        with self._observer("find_user", self.kind):
            return self._store.find_user(user_id, now=now, after=after, limit=limit)

    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete some of a user's records."""
        with self._observer("delete_user", self.kind):
            return self._store.delete_user(user_id, now=now, keep=keep, after=after, limit=limit)

    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Remove expired records."""
        with self._observer("purge", self.kind):
            return self._store.purge(now=now, limit=limit)

    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Iterate over all live records."""
        return self._store.scan(now=now)

    @property
    def exists(self) -> bool:
        """Whether the file, table, or collection of sessions exists."""
        return self._store.exists

    def missing(self) -> list[str]:
        """Return what `prepare` would create."""
        return self._store.missing()

    def count(self, *, now: float, expired: bool = False) -> int | None:
        """Return about how many records there are."""
        return self._store.count(now=now, expired=expired)

    def prepare(self) -> None:
        """Create what the store needs on its server."""
        self._store.prepare()

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look for settings of the server that are bad for sessions."""
        with self._observer("diagnose", self.kind):
            return self._store.diagnose(now=now)

    @property
    def ddl(self) -> str | None:
        """The SQL that `prepare` runs."""
        return self._store.ddl

    def rebuilt(self, build: Callable[[Store], Store]) -> Store:
        """Return an observed store of what ``build`` makes of the other store."""
        observed = ObservedStore(build(self._store), self._observer)
        observed.kind = self.kind
        return observed

    def close(self) -> None:
        """Close the connections of this process."""
        self._store.close()
