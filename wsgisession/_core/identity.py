"""Whose session it is, and under which ID: new IDs, logins, and changes of the user."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import HeadersSentError, SessionError
from .content import REISSUE, Snapshot, Texts
from .takeover import TakeOver, new_id
from .users import check_user, is_user, login_id, user_text
from .values import Values
from .visit import Visit

NO_NEW_ID = (
    "a new session ID needs a cookie, which no response would carry here (the session was opened by its handle, or in"
    " an event of a socket); call login and regenerate in an ordinary request"
)


def identify(visit: Visit) -> TakeOver | None:
    """Give the session an ID if it has none; return the change that is in progress for it."""
    visit.open()
    if visit.takeover is None and visit.snapshot is None:
        visit.takeover = _take_over(visit, None)
    return visit.takeover


def _take_over(visit: Visit, old: Snapshot | None) -> TakeOver:
    services = visit.services
    visit.session_id = new_id(services, visit.context, length=visit.id_length)
    handle = services.signer.handle(visit.session_id)
    return (
        TakeOver(old, visit.session_id, handle)
        if visit.takeover is None
        else visit.takeover.again(visit.session_id, handle)
    )


def regenerate(visit: Visit, *, keep_data: bool) -> TakeOver:
    """Ask for a new ID, which takes over when the response is about to be sent.

    :raises HeadersSentError: after the headers were sent.
    :raises SessionError: for a session opened by its handle, and in an event of a socket.
    """
    visit.open()
    if visit.sealed:
        raise HeadersSentError("a new session ID needs a cookie, but the headers have been sent; regenerate earlier")
    if not visit.is_answered:
        raise SessionError(NO_NEW_ID)
    takeover = visit.takeover = _take_over(visit, visit.snapshot)
    takeover.asked, visit.snapshot, visit.due = True, None, False
    changes: dict[str, Any] = {"issued_at": visit.services.clock(), "presented_at": None}
    if not keep_data:
        takeover.keeps_data, visit.cookie = False, None
        visit.values.clear()  # type: ignore[union-attr]
        changes |= {"cookie": None, "device": None}
    visit.content = msgspec.structs.replace(visit.content, **changes)
    return takeover


def login(visit: Visit, user_id: Any, data: dict[str, Any]) -> None:
    """Ask for a new ID, and set the user and the data; another user's data is dropped.

    :raises TypeError: for a user ID that is not a non-empty str, an int, or a UUID.
    """
    text = user_text(login_id(user_id))
    takeover = regenerate(visit, keep_data=True)
    values = visit.values
    assert values is not None  # regenerate opened it
    if visit.owner is not None and visit.owner != text:
        takeover.keeps_data = False
        values.clear()
    key, *others = visit.services.user_keys
    for other in others:
        values.pop(other, None)
    for name, value in {key: user_id, **data}.items():
        values[name] = value
    visit.owner = text
    takeover.granted = frozenset(visit.services.codec.name_of(name) for name in (*visit.services.user_keys, *data))
    _note_login(visit, takeover)


def _note_login(visit: Visit, takeover: TakeOver) -> None:
    """Let the new ID be that of a login: it restarts both timeouts, and survives the end of the old session.

    With ``device_binding`` the browser is offered to bind the new session to its device.
    """
    takeover.is_login, visit.proven_at = True, None
    services = visit.services
    changes: dict[str, Any] = {"authenticated_at": services.clock(), "issued_at": None}
    changes["device"] = None if services.devices is None else services.devices.new_offer()
    if services.is_express and not visit.cookie_changed:
        visit.cookie, changes["cookie"] = None, None  # today's settings, as with express-session's regenerate
    visit.content = msgspec.structs.replace(visit.content, **changes)


def follow_user(visit: Visit) -> Texts | None:
    """Return the changed texts, after what a change of the session's user asks for.

    The session gets a new ID, and another user's data is not inherited.

    :raises HeadersSentError: if that needs a new ID after the headers were sent.
    :raises SerializationError: for a value that cannot be stored, or cannot name a user.
    """
    values = visit.values
    assert values is not None  # callers opened it
    if not _may_have_new_user(visit, values):
        return values.changed_texts()
    user_id = _checked_user_id(visit, values)
    text = None if user_id is None else user_text(user_id)
    if text is None or text == visit.owner:
        return values.changed_texts()
    if visit.owner is not None:
        values.inherit_nothing()
    if not visit.is_answered:
        now = visit.services.clock()
        visit.content = msgspec.structs.replace(visit.content, issued_at=REISSUE, authenticated_at=now)
    elif visit.takeover is None or not visit.takeover.is_login:
        if visit.sealed:
            raise HeadersSentError(
                "the session's user changed after the headers were sent, which needs a new session ID; log in"
                " before the response starts"
            )
        takeover = visit.takeover or identify(visit) or regenerate(visit, keep_data=True)
        takeover.keeps_data = takeover.keeps_data and visit.owner is None
        _note_login(visit, takeover)
    visit.owner = text
    return values.changed_texts()


def _may_have_new_user(visit: Visit, values: Values) -> bool:
    return bool(values.touched) and not values.touched.keys().isdisjoint(visit.services.user_keys)


def _checked_user_id(visit: Visit, values: Values) -> Any:
    for key in visit.services.user_keys:
        if key not in values:
            continue
        value = values.peek(key)
        if is_user(value):
            if key in values.touched:
                check_user(value, key=key)
            return value
    return None


def another_id(visit: Visit, takeover: TakeOver) -> None:
    visit.session_id = takeover.session_id = new_id(visit.services, visit.context, length=visit.id_length)
    takeover.handle = visit.services.signer.handle(takeover.session_id)
