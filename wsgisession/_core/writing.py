"""Writing a session: now, at the end of a request, or by a transaction. Each function works on one `Visit`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ..errors import SessionGone
from ..stores.base import Unconfirmed
from .content import Texts
from .identity import another_id, follow_user, identify
from .records import GONE, Records
from .takeover import renew_id
from .visit import Origin, Visit

T = TypeVar("T")


def save(visit: Visit) -> None:
    """Write the session now. The record that a new ID takes over from stays until the response is sent.

    :raises HeadersSentError: if that needs a new ID after the headers were sent.
    :raises SessionGone: if the record has ended.
    """
    visit.change()
    texts = follow_user(visit)
    if visit.snapshot is None:
        create(visit, texts)
    else:
        replace(visit, texts)
        _note_lasting(visit, texts)


def _note_lasting(visit: Visit, texts: Texts | None) -> None:
    """Let a change that is written already restart the cookie in the browser, like one written at the end."""
    if texts is not None and visit.cookie_options().max_age is not None:
        visit.resend = True


def reload(visit: Visit) -> None:
    """Read the session again, and drop unsaved changes.

    :raises SessionGone: if the record has ended.
    """
    values = visit.open()
    takeover = visit.takeover
    stored = visit.snapshot or (None if takeover is None else takeover.old)
    visit.cookie = None
    if stored is None:
        visit.start()
        return
    found = visit.services.records.load(stored.handle, restart=False)
    if found is None:
        raise SessionGone("the session cannot be loaded again: it was destroyed, revoked, or expired")
    visit._owner_is_known = False
    if visit.snapshot is None and takeover is not None:
        takeover.old, takeover.is_login, takeover.granted = found, False, frozenset()
        values.reset(found.content.texts)
        visit.content = msgspec.structs.replace(found.content, issued_at=visit.services.clock(), presented_at=None)
    else:
        visit.move_to(found)
        values.reset(found.content.texts)


def touch(visit: Visit) -> bool:
    """Restart the idle timeout in the store; False if no record is there, or its ID was renewed."""
    visit.open()
    snapshot, services = visit.snapshot, visit.services
    records = services.records
    if snapshot is None or not records.touch(snapshot.handle, snapshot.content):
        return False
    if services.timeouts.renewal is not None and records.is_renewed(snapshot.handle):
        return False
    ttl = records.ttl(snapshot.content)
    record = msgspec.structs.replace(snapshot.record, ttl=ttl, expires_at=services.clock() + ttl)
    visit.snapshot = msgspec.structs.replace(snapshot, record=record)
    services.events.emit("touched", snapshot.handle)
    return True


def transact(visit: Visit, function: Callable[[], T]) -> T:
    """Apply the function and write, again on fresh data if another writer came between.

    If either fails, the data is what it was before.

    :raises SessionGone: if the record has ended.
    """
    turns, tries = visit.services.records.turns, 0
    with contextlib.ExitStack() as stack:
        while True:
            values = visit.change()
            before, touched = values.texts(), dict(values.touched)
            try:
                result = function()
                if _wrote(visit):
                    return result
            except BaseException:
                values.restore(before, touched)
                raise
            values.restore(before, touched)
            if not tries:
                stack.enter_context(turns.of(visit.handle or ""))
            tries += 1
            turns.pause(tries)
            _catch_up(visit, before)


def _wrote(visit: Visit) -> bool:
    """Write once; False if another writer came between, or the record has ended."""
    texts = follow_user(visit)
    if visit.snapshot is None:
        create(visit, texts)
    elif texts is not None or visit.cookie_changed:
        stored = visit.services.records.try_replace(visit.snapshot, visit.content_with(texts))
        if stored is None:
            return False
        visit.accept(stored, texts)
        _note_lasting(visit, texts)
        visit.services.events.emit("saved", stored.handle)
    return True


def _catch_up(visit: Visit, mine: Texts) -> None:
    """Read what another writer made of the record, with this request's earlier changes on top."""
    snapshot, values = visit.snapshot, visit.values
    assert snapshot is not None  # a new record is created, never replaced
    assert values is not None
    records = visit.services.records
    theirs = records.load(snapshot.handle, restart=False)
    if theirs is None:
        raise SessionGone(GONE)
    merged = records.merged(snapshot.content, visit.content_with(mine), theirs.content, cleared=values.cleared)
    visit.move_to(theirs)
    values.catch_up(merged.texts, mine=mine, theirs=theirs.content.texts)


def create(visit: Visit, texts: Texts | None) -> None:
    """Store the session under its new ID."""
    takeover = identify(visit)
    assert takeover is not None  # there is no record, so identify began one
    order = 0 if takeover.old is None or takeover.is_login else takeover.old.record.order
    created = takeover.create(
        visit.services, visit.content_with(texts), order=order, another=lambda: another_id(visit, takeover)
    )
    visit.accept(created, texts)


def create_exactly(visit: Visit) -> bool:
    """Store the session under the ID that was chosen for it; False if that is taken."""
    takeover, texts = visit.takeover, follow_user(visit)
    assert takeover is not None  # the caller began it
    created = visit.services.records.create(takeover.handle, visit.content_with(texts))
    if created is None:
        return False
    takeover.created.append(takeover.handle)
    visit.accept(created, texts)
    visit.services.events.emit("created", takeover.handle)
    return True


def replace(visit: Visit, texts: Texts | None) -> None:
    """Write over the record that was read, merged with what others wrote in the meantime.

    :raises SessionGone: if it has ended.
    """
    values, snapshot = visit.values, visit.snapshot
    assert values is not None  # callers looked
    assert snapshot is not None
    mine = visit.content_with(texts)
    stored = visit.services.records.replace(snapshot, mine, cleared=values.cleared)
    visit.accept(stored, mine.texts)
    visit.services.events.emit("saved", stored.handle)


def renew(visit: Visit, texts: Texts | None) -> None:
    """Give an active session the ID that follows its ID.

    :raises SessionGone: if the session has ended.
    """
    snapshot, session_id = visit.snapshot, visit.session_id
    assert snapshot is not None  # otherwise no renewal is due
    assert session_id is not None
    mine = visit.content_with(texts)
    session_id, stored = renew_id(visit.services, snapshot, session_id, mine)
    visit.session_id = session_id
    visit.accept(msgspec.structs.replace(stored, nonces=()), mine.texts)
    visit.due, visit.resend = False, True


def finish_takeover(visit: Visit) -> None:
    """End the old record, and whatever was created on the way, before the cookie is sent.

    :raises SessionGone: if the old session has ended already.
    """
    takeover, snapshot = visit.takeover, visit.snapshot
    if takeover is None or snapshot is None:
        return
    try:
        stored = takeover.finish(visit.services, snapshot)
    except Exception:
        visit.snapshot = None
        raise
    if stored is not snapshot:
        visit.accept(stored, snapshot.content.texts)
    takeover.old, takeover.created = None, [stored.handle]


def end_if_empty(visit: Visit) -> bool:
    """End the session, which has lost its last key; False if another request put something in, which is kept.

    :raises SessionGone: if it has ended already.
    """
    records, values, snapshot = visit.services.records, visit.values, visit.snapshot
    assert values is not None  # callers looked
    assert snapshot is not None
    while not records.end(snapshot.handle, version=snapshot.record.version):
        theirs = records.load(snapshot.handle, restart=False)
        if theirs is None:
            raise SessionGone(GONE)
        merged = records.settled(snapshot.content, visit.content_with({}), theirs)
        visit.move_to(theirs)
        values.catch_up(merged.texts, mine={}, theirs=theirs.content.texts)
        if merged.texts:
            return False
        snapshot = theirs
    visit.note_ended(snapshot.handle, known=True)
    visit.become_new()
    return True


def note_presented(visit: Visit) -> None:
    """Note in the record that a request has presented the new ID."""
    snapshot = visit.snapshot
    if snapshot is not None:
        visit.services.records.try_replace(snapshot, visit.content_with(None))


def destroy(visit: Visit) -> None:
    """End all records of the session, and become a new one.

    :raises StoreError: if a record could not be ended; the session then still exists.
    :raises Unconfirmed: if it was ended, but too few replicas confirmed it; the browser drops the cookie anyway.
    """
    services, records = visit.services, visit.services.records
    visit.open()
    created = [] if visit.takeover is None else visit.takeover.created
    known = visit.origin is Origin.LOADED or (visit.origin is Origin.UNKNOWN and not created)
    handles, lost = visit.verified, list[Unconfirmed]()
    for snapshot in (visit.snapshot, None if visit.takeover is None else visit.takeover.old):
        if snapshot is not None:
            handles = ()
            if snapshot.handle in created:
                created.remove(snapshot.handle)
            if _end(records, snapshot.handle, lost, version=snapshot.record.version):
                visit.note_ended(snapshot.handle, known)
    for handle in handles:
        if _end(records, handle, lost):
            visit.note_ended(handle, known)
    if visit.takeover is not None:
        visit.takeover.abandon(services)
    visit.become_new()
    if lost:
        raise lost[0]


def _end(records: Records, handle: str, lost: list[Unconfirmed], *, version: Any = None) -> bool:
    """End a session, and note if too few replicas have confirmed it."""
    try:
        return records.end_session(handle, version=version)
    except Unconfirmed as error:
        lost.append(error)
        return True
