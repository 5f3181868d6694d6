"""What is written and sent at the end of a request: express-session's rules, with the differences in `decide`."""

from __future__ import annotations

import contextlib

from ..errors import HeadersSentError, SessionGone, StoreError
from ..stores.base import WriteRefused
from . import identity, writing
from .content import REISSUE, UNPRESENTED, Texts
from .events import logger
from .info import capped
from .records import GONE
from .reply import NOTHING, READ, Reply, expired_cookie, session_cookie
from .rules import UNSET
from .secure import Environ
from .visit import Origin, Visit


def commit(visit: Visit, environ: Environ, *, dropped: bool = False) -> Reply:
    """Write what is to be written, and return what the response must carry.

    :param dropped: whether the app set the environ's session to None.
    :raises StoreError: if the store failed; the response must not be a success then.
    """
    services = visit.services
    if visit.failure is not None:
        return _failed(visit)
    if dropped and services.unset == "keep" and not visit.ended:
        return _unwritten(visit)
    if visit.values is None:
        if not (dropped or _wants_touch(visit)):
            return NOTHING
        visit.open()
    if dropped:
        writing.destroy(visit)
    elif services.is_lazy:
        _follow_framework(visit)
        if visit.is_only_read and not _refreshes(visit):
            return READ if visit.accessed else NOTHING
    try:
        sends = _write(visit, environ)
    except SessionGone:
        _note_gone(visit)
        return Reply(vary=visit.accessed)
    header = None
    if sends == "cookie":
        header = session_cookie(visit, environ)
    elif sends == "expired":
        header = expired_cookie(visit, environ)
    headers = () if services.devices is None else _device_headers(visit, environ, sends)
    visit.delivered()
    return Reply(header, visit.accessed, visit.clear_site_data, headers)


def _write(visit: Visit, environ: Environ) -> str:
    """Write the session, and return what to do about its cookie: "cookie", "expired", or ""."""
    services = visit.services
    _follow_framework(visit)
    if visit.content.issued_at == REISSUE and visit.takeover is None and visit.is_stored and visit.is_answered:
        identity.regenerate(visit, keep_data=True)
    texts = identity.follow_user(visit)
    if _is_withheld(visit, environ):
        visit.clear_site_data = False
        visit.abandon()
        return ""
    if visit.rules.ends_emptied:
        seen = visit.snapshot
        if _has_ended_empty(visit, texts):
            return "expired"
        if visit.snapshot is not seen and visit.values is not None:  # another request put something in
            texts = visit.values.changed_texts()
    writes, sends = decide(visit, texts)
    if services.is_express and writes:
        _settle_secure(visit, environ)
    if services.track_client:
        visit.client = capped((environ.get("REMOTE_ADDR", ""), environ.get("HTTP_USER_AGENT", "")))
    is_login = visit.takeover is not None and visit.takeover.is_login
    if writes == "replace":
        writing.replace(visit, texts)
    elif writes == "create":
        _create(visit, texts)
        writing.finish_takeover(visit)
    elif visit.content.presented_at == UNPRESENTED and visit.snapshot is not None and not visit.resend:
        _note_presented(visit)
    if is_login and services.max_sessions is not None and visit.snapshot is not None:
        _end_oldest(visit, services.max_sessions)
    if sends == "cookie" and not writes and not writing.touch(visit):
        return ""  # it has ended, or moved on: the browser may have a newer cookie by now
    return sends


def _is_withheld(visit: Visit, environ: Environ) -> bool:
    """Whether the request gets no session, because it came with the cookie of a bound one, but not from its device.

    A login gets one. So does a browser that could not prove its key, because it needs a session to log in again.
    """
    devices = visit.services.devices
    if devices is None or visit.unproven is None or (visit.takeover is not None and visit.takeover.is_login):
        return False
    return not devices.may_start_over(environ)


def _device_headers(visit: Visit, environ: Environ, sends: str) -> tuple[tuple[str, str], ...]:
    """Return the headers about devices: the offer in the response to a login, the end of the cookie at a logout."""
    devices, snapshot = visit.services.devices, visit.snapshot
    if devices is None:
        return ()
    if sends == "expired":
        return devices.headers_for_logout(environ)
    if sends == "cookie" and snapshot is not None and visit.takeover is not None and visit.takeover.is_login:
        return devices.headers_for_login(snapshot.content.device, environ, handle=snapshot.handle)
    return ()


def decide(visit: Visit, texts: Texts | None) -> tuple[str, str]:
    """Return what to do to the store ("create", "replace", or "") and to the cookie ("cookie", "expired", or "").

    These rules are express-session's except that `destroy` expires the cookie, a change of `session.cookie` is saved
    and sent, and a cookie that does not verify or has no record is left alone unless the app wrote to the session: it
    may belong to another app, or to a late request whose browser already has a newer cookie.
    """
    services, takeover = visit.services, visit.takeover
    if takeover is not None and takeover.is_due:
        return "create", "cookie"
    if visit.snapshot is not None:
        if visit.due and visit.is_answered:
            return "create", "cookie"
        repeats = services.rolling or visit.resend or _refreshes(visit)
        if texts is not None or visit.cookie_changed:
            sends = repeats or visit.cookie_changed or visit.cookie_options().max_age is not None
            return "replace", "cookie" if sends else ""
        return "replace" if services.resave else "", "cookie" if repeats else ""
    if texts is not None and not visit.is_negligible:
        return "create", "cookie"
    if visit.ended:
        return "", "expired" if visit.ended == "browser" else ""
    if services.save_uninitialized and visit.origin is Origin.NEW and visit.is_answered:
        return "create", "cookie"
    return "", ""


def finish(visit: Visit) -> None:
    """Write what changed after the headers were sent, when the body has ended.

    :raises StoreError: if the store failed.
    """
    if visit.values is None or visit.failure is not None:
        return
    try:
        texts = identity.follow_user(visit)
    except HeadersSentError as error:
        visit.leave_unwritten()
        logger.error("the session's changes after the headers were sent are lost: %s", error)
        return
    if texts is None and not visit.cookie_changed:
        return
    if visit.snapshot is None:
        logger.error("a new session was changed after the headers were sent; the changes are lost")
        return
    try:
        writing.replace(visit, texts)
    except SessionGone:
        _note_gone(visit)


def _failed(visit: Visit) -> Reply:
    """Say again that the store failed if the app wrote to the session in spite of that; do not ask it again.

    :raises StoreError: the one that the app has seen.
    """
    if visit.failure is not None and (visit.is_changed or visit.cookie_changed):
        raise visit.failure
    return Reply(vary=visit.accessed)


def _unwritten(visit: Visit) -> Reply:
    """Leave the record as it is, because the app dropped the session."""
    if visit.values is None:
        return NOTHING
    takeover, records = visit.takeover, visit.services.records
    if takeover is not None and visit.services.is_express and takeover.old is not None:
        records.end_session(takeover.old.handle, version=takeover.old.record.version)  # as express-session does
    if takeover is not None:
        takeover.abandon(visit.services)
    visit.leave_unwritten()
    return Reply(vary=visit.accessed, clear_site_data=visit.clear_site_data)


def _wants_touch(visit: Visit) -> bool:
    """Whether an option asks for a look at a session that the app left alone."""
    services = visit.services
    if services.save_uninitialized:
        return True
    return (services.resave or services.rolling) and bool(visit.header) and any(services.find(visit.header or ""))


def _follow_framework(visit: Visit) -> None:
    """Give the session the lifetime that the framework has for it, unless the app set one of its own."""
    rules = visit.rules
    if rules.lifetime is UNSET:
        return
    own = (visit.content.cookie or {}) if visit.cookie is None else visit.cookie.own
    if "max_age" in own and own["max_age"] != rules.lifetime:
        return
    if own.get("lifetime", own.get("max_age")) != rules.lifetime:
        visit.own_cookie().set_lifetime(rules.lifetime)


def _refreshes(visit: Visit) -> bool:
    """Whether the framework sends the cookie of this session, which it gave a lifetime, with every response."""
    rules = visit.rules
    return rules.refreshes and rules.lifetime not in (UNSET, None) and visit.is_stored and visit.accessed


def _has_ended_empty(visit: Visit, texts: Texts | None) -> bool:
    """End a stored session that lost its last key, unless other requests put something in: then write it."""
    values, snapshot = visit.values, visit.snapshot
    if visit.was_carried_over and snapshot is None:
        return values_are_empty(visit)  # the library used before may not find its cookie again
    if snapshot is None or not values_are_empty(visit) or texts is None or visit.origin is not Origin.LOADED:
        return False
    if values is not None and values.cleared:
        writing.destroy(visit)
        return True
    return writing.end_if_empty(visit)


def values_are_empty(visit: Visit) -> bool:
    """Tell whether there are no data."""
    return visit.values is not None and len(visit.values) == 0


def _create(visit: Visit, texts: Texts | None) -> None:
    if visit.snapshot is None:
        writing.create(visit, texts)
    elif visit.takeover is None:
        _renew(visit, texts)
    elif texts is not None or visit.cookie_changed or visit.client not in (None, visit.content.client):
        writing.replace(visit, texts)


def _renew(visit: Visit, texts: Texts | None) -> None:
    """Renew the ID; a server that refuses writes does not fail a request that only read."""
    try:
        writing.renew(visit, texts)
    except WriteRefused:
        if texts is not None or visit.cookie_changed:
            raise


def _note_presented(visit: Visit) -> None:
    """Note that the new ID has been presented; if that fails, the next request does it."""
    with contextlib.suppress(StoreError):
        writing.note_presented(visit)


def _settle_secure(visit: Visit, environ: Environ) -> None:
    """Let a new record say whether its cookie is Secure: Node.js has no "auto", and reads that from the record."""
    if visit.snapshot is not None and visit.takeover is None:
        return
    options = visit.cookie_options()
    if options.secure == "auto" and visit.services.secure.is_secure(options, environ):
        cookie = visit.own_cookie()
        changed = cookie.changed or visit.snapshot is not None
        cookie.set("secure", True)
        cookie.changed = changed


def _end_oldest(visit: Visit, most: int) -> None:
    """End the user's sessions beyond the limit, in the order in which the store accepted their logins.

    If the store fails, the login holds, because its old ID has ended; the next login ends the surplus sessions.
    """
    services, user = visit.services, visit.owner
    detail = "the user has more sessions than max_sessions_per_user"
    try:
        services.records.end_oldest(
            user or "", most=most, ended=lambda handle: services.events.emit("revoked", handle, detail=detail)
        )
    except StoreError as error:
        services.events.emit(
            "store_error", visit.handle, detail=f"max_sessions_per_user could not be enforced: {error}"
        )


def _note_gone(visit: Visit) -> None:
    visit.leave_unwritten()
    visit.services.events.emit("gone", visit.handle, detail="it ended while the request ran; nothing was written")
    if visit.services.on_gone == "raise":
        raise SessionGone(GONE)
