"""The contract of a store, and what every store needs to keep it: `Record`, URL options, expiry arithmetic.

A store keeps bytes under a handle, with a time to live. It decides nothing: no policy, no signature, no clock of its
own (``now`` comes in with every call, in seconds since the epoch, so that expiry is the application's clock and never
a sweeper's). There is no blind write. `wsgisession.testing` holds every promise below as a test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from ..errors import StoreError
from .findings import Finding
from .pool import PerProcess
from .url import StoreURL, identifier, positive, seconds

PAGE = 1000
"""How many sessions of a user one step of `Store.find_user` or `Store.delete_user` covers by default."""


class Record(msgspec.Struct, frozen=True):
    """What a store keeps under a handle.

    :param data: JSON text in UTF-8, opaque to the store, given back byte for byte.
    :param ttl: the idle timeout of this record, in seconds; a restart extends the expiry to ``now + ttl``.
    :param user_id: whose session this is, as text for the user index; None if it has no user.
    :param version: the token of this state, chosen by the store; `Store.replace` succeeds only against it.
    :param expires_at: when the record expires unless it is restarted, in seconds since the epoch.
    :param order: the position of this login among the user's logins, by the store's own clock and never a worker's:
        the time in microseconds since the epoch, or one more than the user's latest. A record without a user, and one
        that was written by something that keeps no order, has 0.
    """

    data: bytes
    ttl: float
    user_id: str | None = None
    version: Any = None
    expires_at: float = 0.0
    order: int = 0

    def __repr__(self) -> str:
        return f"<Record of {len(self.data)} bytes>"


class WriteRefused(StoreError):
    """The server refuses to write, but still reads: it is out of memory, a replica, or cannot save to its disk.

    Only writes raise it. A write that the request can do without is skipped then; any other fails as with `StoreError`.
    """


class Unconfirmed(StoreError):
    """Sessions were ended, but fewer replicas confirmed it in time than the store's ``wait`` asks for.

    Only `Store.delete` and `Store.delete_user` raise it, and only after they have deleted.

    :ivar handles: of the records that were deleted.
    :ivar more: as in `Deleted`.
    """

    def __init__(self, message: str, handles: list[str], *, more: bool = False) -> None:
        super().__init__(message)
        self.handles, self.more = handles, more


class Page(NamedTuple):
    """One page of a user's sessions, the latest login first.

    :param records: handles and records, at most as many as were asked for. There may be fewer, or none, before the end.
    :param after: where the next page begins, to be passed to `Store.find_user` or `Store.delete_user`; None at the end.
    """

    records: list[tuple[str, Record]]
    after: Any = None


class Deleted(NamedTuple):
    """What one step of `Store.delete_user` did.

    :param handles: of the live records that this step deleted.
    :param more: whether the user's index may contain more; call again until it is False.
    """

    handles: list[str]
    more: bool = False


@dataclass(frozen=True)
class Reader:
    """What a store must know of records that Express writes, and that say all of it in their data.

    :param glance: returns the ttl of a record with these data, and its user as text for the index, or None.
    :param user_keys: the keys that can hold the user in the data, in the order in which they are tried.
    """

    glance: Callable[[bytes], tuple[float, str | None]]
    user_keys: tuple[str, ...]


class Store(ABC):
    """Where records live. Eight verbs, one round trip each, safe for threads, processes and after ``fork``.

    Expired is absent in every verb, whether or not anything has swept. A handle is opaque printable ASCII of at most
    256 characters. No verb raises anything but `StoreError`, within the store's ``timeout`` in total.
    """

    shared: bool = True
    """Whether several processes see the same records; where not, a multi-process server is warned about."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: StoreURL) -> Store:
        """Make the store that the URL describes. Nothing connects before the first verb.

        :raises ConfigurationError: for a URL or parameter that cannot be right.
        """

    express_ttl: float = 86_400.0
    """The idle timeout, in seconds, that Express's store for this database gives where the cookie has none."""

    @abstractmethod
    def load(self, handle: str, *, now: float, touch_after: float | None) -> Record | None:
        """Read a record, and restart its idle timeout if that is due.

        A read that restarts nothing is one round trip and writes nothing on the server. A restart may take a second
        one. It also checks that the user's index still contains the record, and repairs it. If the server refuses to
        write, the record is returned as it is stored, and the store logs the refusal once, not on each request.

        :param touch_after: the fraction of the idle timeout that must have passed since the last restart before this
            read restarts it again (0: every read does); None leaves the expiry alone.
        """

    @abstractmethod
    def create(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Store a record under a handle that holds none, and return it with its version, expiry, and order.

        None, and nothing stored, where the handle holds a live record.

        :param record: with an ``order`` of 0 if this is a login of its user, which gets the next number; any other
            order is kept, as when a session gets a new ID.
        """

    @abstractmethod
    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        """Replace the record that still has ``record.version``; return the new one with version, expiry, and order.

        None, and nothing changed, where it has been changed, deleted or expired since.

        :param record: with an ``order`` as in `create`: the one that was read, or 0 for a login.
        """

    @abstractmethod
    def touch(self, handle: str, *, ttl: float, now: float) -> bool:
        """Give a live record this idle timeout and restart it; False where there is none. Its version stays."""

    @abstractmethod
    def delete(self, handle: str, *, now: float, version: Any = None) -> bool:
        """Delete a live record, or only one of this version; False where there is none."""

    @abstractmethod
    def find_user(self, user_id: str, *, now: float, after: Any = None, limit: int = PAGE) -> Page:
        """Return one page of a user's live sessions, by `Record.order`, the latest login first, without restarting any.

        One call is a short step for the server, whatever the number of sessions. Logins during the walk are not in it.

        :param after: `Page.after` of the page before; None for the first page.
        :param limit: of records in the page.
        """

    @abstractmethod
    def delete_user(
        self, user_id: str, *, now: float, keep: str | None = None, after: Any = None, limit: int = PAGE
    ) -> Deleted:
        """Delete some of a user's sessions: one short step. The caller repeats it while `Deleted.more` is True.

        Each step looks at the index again. Only when it is empty, except ``keep``, is ``more`` False, so that a session
        that changes its ID in the meantime is not missed. Each step makes progress.

        :param keep: the handle of a session that stays.
        :param after: `Page.after` of a page of `find_user`: delete only what would follow that page. This is how all
            but the latest sessions are ended.
        :param limit: of records deleted by this step.
        """

    @abstractmethod
    def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
        """Iterate over all live records, in no order, holding few of them in memory, without restarting them."""

    @abstractmethod
    def purge(self, *, now: float, limit: int | None = None) -> int:
        """Remove expired records, at most ``limit``, in bounded batches; return how many.

        A record that was restarted in the meantime stays. A store whose server deletes expired records returns 0.
        """

    @property
    def exists(self) -> bool:
        """Whether the file, table, or collection of sessions exists. Looking does not create it.

        :raises StoreError: if the server cannot be asked.
        """
        return True

    def missing(self) -> list[str]:
        """Return what `prepare` would create, in words such as "the table session"; empty if nothing is missing.

        :raises StoreError: if the server cannot be asked.
        """
        return []

    def count(self, *, now: float, expired: bool = False) -> int | None:
        """Return about how many live records there are, or None if the store cannot tell quickly.

        :param expired: count the expired records that `purge` would remove instead.
        """
        return None

    def prepare(self) -> None:  # noqa: B027 - most stores need nothing
        """Create what the store needs on its server (table, indexes); safe to repeat, and to race."""

    @property
    def ddl(self) -> str | None:
        """The SQL that `prepare` runs, for a role that may; None where there is none to show."""
        return None

    def diagnose(self, *, now: float) -> list[Finding]:
        """Look for what is bad for sessions on the server, changing nothing: for an operator, never in a request.

        :param now: the application's clock, which the server's is compared with.
        """
        return []

    def rebuilt(self, build: Callable[[Store], Store]) -> Store:
        """Return what ``build`` makes of this store; a store that wraps another one passes it on."""
        return build(self)

    @abstractmethod
    def close(self) -> None:
        """Close the connections of this process. The store opens them again at its next use."""


def restart_is_due(expires_at: float, ttl: float, *, now: float, touch_after: float | None) -> bool:
    """Tell whether a read at ``now`` restarts the idle timeout: ``touch_after`` of it has passed since the last."""
    return touch_after is not None and now - (expires_at - ttl) >= touch_after * ttl


def page_of(found: list[tuple[str, Record]], *, after: Any, limit: int) -> Page:
    """Return a page of a user's sessions, all of which have been read: for stores that hold only few of each user."""
    newest_first = sorted(found, key=_position, reverse=True)
    rest = [pair for pair in newest_first if after is None or _position(pair) < after]
    return Page(rest[:limit], _position(rest[limit - 1]) if len(rest) > limit else None)


def _position(pair: tuple[str, Record]) -> tuple[int, str]:
    handle, record = pair
    return record.order, handle


def delete_each(store: Store, user_id: str, *, now: float, keep: str | None, after: Any, limit: int) -> Deleted:
    """Delete a page of a user's sessions one by one, each as it was read.

    For stores that cannot tell on their server whose a record is. What another writer changed in the meantime stays for
    the next step.
    """
    found: list[tuple[str, Record]] = []
    while not found:
        page = store.find_user(user_id, now=now, after=after, limit=limit)
        found, after = [(handle, record) for handle, record in page.records if handle != keep], page.after
        if after is None:
            break
    gone = [handle for handle, record in found if store.delete(handle, now=now, version=record.version)]
    return Deleted(gone, more=after is not None or len(gone) < len(found))


__all__ = [
    "Deleted",
    "Page",
    "PerProcess",
    "Reader",
    "Record",
    "Store",
    "StoreURL",
    "Unconfirmed",
    "WriteRefused",
    "identifier",
    "positive",
    "restart_is_due",
    "seconds",
]
