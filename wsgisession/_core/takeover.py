"""`TakeOver`: a new ID replaces an old one, at `regenerate` and `login`; and `renew_id`, which lets the old ID lead on.

The order is always the same: write the new record, with what others wrote to the old one in the meantime; end the old
record, or let it lead to the new one; send the cookie. The old ID is dead, or only an alias, before anyone sees the new
one. If the store's answer is lost on the way, exactly one of the two stays usable. A process that is killed after the
old record ended and before the response was sent logs that client out.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

import msgspec

from ..errors import ConfigurationError, SessionGone, StoreError
from ..stores.base import Unconfirmed
from .content import UNPRESENTED, Content, Renewed, Snapshot
from .ids import LONG
from .merge import merge_texts
from .records import GONE
from .services import Services

_MOST_CLASHES = 8


def new_id(services: Services, context: object, *, length: int = LONG) -> str:
    """Return a new session ID: 256 random bits (ASVS 5.0 7.2.3), or what ``genid`` makes of the environ.

    :param length: of the ID in characters, six bits each.
    :raises ConfigurationError: if ``genid`` or ``random`` returned something that cannot be an ID.
    """
    if services.genid is None:
        size = length * 3 // 4
        bits = services.random(size)
        if len(bits) != size:
            raise ConfigurationError(f"random must return as many bytes as it is asked for ({size})")
        return services.signer.new_id(bits)
    session_id = services.genid(context)
    if not isinstance(session_id, str) or not services.signer.accepts(session_id):
        raise ConfigurationError("genid must return a str of 16 to 128 characters of A-Z a-z 0-9 _ and -")
    return session_id


class TakeOver:
    """The change of a session's ID while it is in progress: from a request for a new ID until the cookie is sent.

    A new session is the case without an old record.

    :param old: the record that ends when the new ID is sent; None if there is none.
    :ivar session_id: the new ID.
    :ivar keeps_data: whether the data move along, including what others write to the old record in the meantime.
    :ivar is_login: whether the new session survives the end of the old one.
    :ivar granted: the stored names of the keys that the login set: they replace whatever others wrote under them.
    :ivar asked: whether the app asked for a new ID, and not only for the ID of a session that has none.
    :ivar created: the handles of all records created for this change, the one in use last.
    """

    __slots__ = ("asked", "created", "granted", "handle", "is_login", "keeps_data", "old", "session_id")

    def __init__(self, old: Snapshot | None, session_id: str, handle: str) -> None:
        self.old, self.session_id, self.handle = old, session_id, handle
        self.keeps_data, self.is_login, self.asked = True, False, False
        self.granted: frozenset[str] = frozenset()
        self.created: list[str] = []

    def again(self, session_id: str, handle: str) -> TakeOver:
        """Return the change to yet another ID, which knows what this one created."""
        other = TakeOver(self.old, session_id, handle)
        other.keeps_data, other.is_login, other.granted = self.keeps_data, self.is_login, self.granted
        other.created, other.asked = self.created, self.asked
        return other

    @property
    def is_due(self) -> bool:
        """Whether the response must carry the new ID."""
        return self.asked or self.old is not None or bool(self.created)

    def create(self, services: Services, content: Content, *, order: int, another: Callable[[], object]) -> Snapshot:
        """Store the session under its new ID, or under another one if that is taken.

        :param another: chooses another ID.
        :raises StoreError: if the store fails, or no free ID is found.
        """
        for _ in range(_MOST_CLASHES):
            self.created.append(self.handle)  # before the call: its answer may be lost
            created = services.records.create(self.handle, content, order=order)
            if created is not None:
                services.events.emit("created" if self.old is None else "regenerated", self.handle)
                return created
            self.created.pop()
            another()
        raise StoreError(f"{_MOST_CLASHES} new session IDs in a row were taken; check genid or random")

    def finish(self, services: Services, new: Snapshot) -> Snapshot:
        """End the old record and whatever else was created on the way, and return the new record as it is then.

        :raises SessionGone: if the old session has ended already; then the new record ends too, unless it is a login.
        """
        try:
            if self.old is not None:
                new = self._end_old(services, self.old, new)
        except Exception:
            self.abandon(services)
            raise
        self._forget_others(services, new.handle)
        return new

    def abandon(self, services: Services) -> None:
        """Delete every record that was created for this change, for nobody knows its ID."""
        self._forget_others(services, None)

    def _forget_others(self, services: Services, kept: str | None) -> None:
        for handle in self.created:
            if handle != kept:
                services.records.forget(handle)
        self.created = [] if kept is None else [kept]

    def _end_old(self, services: Services, old: Snapshot, new: Snapshot) -> Snapshot:
        """End the old record; each time another writer came between, carry over what was written."""
        records, passed = services.records, []
        while not self._ended(services, old):
            theirs = records.load(old.handle, restart=False)
            if theirs is None:
                leads_nowhere = records.is_renewed(old.handle)
                if not records.end(old.handle) or leads_nowhere:  # otherwise it was there, but undecodable
                    new = self._survive(services, old, new)
                break
            if theirs.handle != old.handle:
                passed.append(old.handle)
            if self.keeps_data:
                new = self._carried_over(services, old, new, theirs)
            old = theirs
        for handle in passed:  # the old ID was renewed in the meantime: what leads to the record ends with it
            records.forget(handle)
        return new

    def _ended(self, services: Services, old: Snapshot) -> bool:
        """Delete the old record. If the store's answer is lost, look: exactly one ID may stay usable."""
        records = services.records
        try:
            if self.keeps_data:
                return records.end(old.handle, version=old.record.version)
            return records.end_session(old.handle, version=old.record.version)
        except Unconfirmed:  # a failover may bring the old one back, so nobody is logged in now
            raise
        except StoreError:
            with contextlib.suppress(StoreError):
                if records.load(old.handle, restart=False) is None:
                    return True
            raise

    def _carried_over(self, services: Services, old: Snapshot, new: Snapshot, theirs: Snapshot) -> Snapshot:
        """Put what others wrote to the old record since onto the new one."""
        base = self._without_granted(old.content)
        theirs = msgspec.structs.replace(theirs, content=self._without_granted(theirs.content))
        mine = services.records.settled(base, new.content, theirs)
        fresh = new.content
        mine = msgspec.structs.replace(mine, issued_at=fresh.issued_at, presented_at=fresh.presented_at)
        if self.is_login:  # a login is offered its own binding
            mine = msgspec.structs.replace(mine, device=fresh.device)
        return services.records.replace(new, mine)

    def _without_granted(self, content: Content) -> Content:
        """Return the old content without the keys that the login set."""
        texts = {name: text for name, text in content.texts.items() if name not in self.granted}
        return msgspec.structs.replace(content, texts=texts)

    def _survive(self, services: Services, old: Snapshot, new: Snapshot) -> Snapshot:
        """Decide about the new ID if another request ended the old session: only a login survives that."""
        if not self.is_login:
            raise SessionGone(GONE)
        inherited = self._without_granted(old.content).texts
        texts = merge_texts(inherited, new.content.texts, {}, services.records.codec)
        fresh = msgspec.structs.replace(new.content, texts=texts, created_at=services.clock())
        return services.records.replace(new, fresh)


def renew_id(services: Services, base: Snapshot, session_id: str, content: Content) -> tuple[str | None, Snapshot]:
    """Give an active session the ID that follows its ID, and let the old one lead to it. Return both.

    :param content: what this request makes of the base.
    :raises SessionGone: if the session has ended.
    """
    records, signer = services.records, services.signer
    nonce = secrets.token_urlsafe(12)
    new_session_id, now = signer.renewed_id(session_id, nonce), services.clock()
    pointer = Renewed(signer.handle(new_session_id), nonce, now + services.timeouts.grace)
    fresh = msgspec.structs.replace(content, issued_at=now, presented_at=UNPRESENTED)
    created = records.create(pointer.handle, fresh, order=base.record.order)
    if created is None:
        raise StoreError("a renewed session ID was taken; check that no other app uses the same secret")
    start = base
    while not _leads(services, base, pointer):
        try:
            theirs = records.find(base.handle, restart=False)
            if isinstance(theirs, Snapshot):
                mine = records.settled(base.content, created.content, theirs)
                mine = msgspec.structs.replace(mine, issued_at=now, presented_at=UNPRESENTED)
                created = records.replace(created, mine)
        except Exception:
            records.forget(pointer.handle)
            raise
        if not isinstance(theirs, Snapshot):
            records.forget(pointer.handle)
            if theirs is None:
                raise SessionGone(GONE)
            return _followed(services, start, session_id, content)
        base = theirs
    services.events.emit("renewed", pointer.handle)
    return new_session_id, created


def _followed(services: Services, base: Snapshot, session_id: str, content: Content) -> tuple[str | None, Snapshot]:
    """Go where a parallel request has renewed the ID to, with this request's changes."""
    stored = services.records.replace(base, content)
    return followed_id(services, session_id, stored), stored


def followed_id(services: Services, session_id: str, stored: Snapshot) -> str | None:
    """Return the ID of a record that renewals led to from this ID, made with any of the secrets."""
    if not stored.nonces:
        return session_id
    for nonce in stored.nonces[:-1]:
        session_id = services.signer.renewed_id(session_id, nonce)
    return services.signer.follow(session_id, stored.nonces[-1], handle=stored.handle)


def _leads(services: Services, base: Snapshot, pointer: Renewed) -> bool:
    """Let the old record lead to the new one. If the store's answer is lost, look."""
    try:
        return services.records.renew(base, pointer)
    except StoreError:
        with contextlib.suppress(StoreError):
            if services.records.find(base.handle, restart=False) == pointer:
                return True
            services.records.forget(pointer.handle)
        raise


__all__ = ["TakeOver", "followed_id", "new_id", "renew_id"]
