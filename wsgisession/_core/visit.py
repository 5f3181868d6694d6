"""`Visit`: one session in one request, or opened by its handle. `Session` is what the app sees of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

import msgspec

from ..errors import HeadersSentError, SerializationError, SessionGone, StoreError
from .binding import Unproven, is_bound
from .content import REISSUE, UNPRESENTED, Content, Snapshot, Texts
from .cookie_settings import SessionCookie
from .cookies import CookieOptions
from .ids import LONG
from .rules import PLAIN
from .services import Services
from .takeover import TakeOver, followed_id
from .users import is_user
from .values import Values

T = TypeVar("T")

MOST_LOOKED_UP = 8
"""How many cookies of our name that verify are looked up in one request (RFC 6265bis section 5.8.3: any order)."""

TOO_LATE = (
    "a new session needs a cookie, but the headers have been sent; write to the session before the first chunk, and"
    " with Flask's or Django's own sessions before the view returns"
)

NO_RESPONSE = "the session has ended or never began, and no response would carry a new cookie; write in a request first"


class Origin(Enum):
    """Where a session comes from."""

    NEW = "no cookie came"
    LOADED = "its cookie verified, and its record is there"
    UNKNOWN = "its cookie verified, but its record is gone"
    FORGED = "a cookie came, but none that verifies"


class Visit:
    """What we know about a session in this request.

    :param header: the Cookie header; None for a session opened by its handle.
    :param context: the environ, if ``genid`` needs it.
    :param id_length: how many characters a new ID has.
    :ivar values: the data; None until the session is first touched.
    :ivar snapshot: the record as it was last read or written; None if there is none.
    :ivar session_id: the session's ID; None if it has none yet, or was opened by its handle.
    :ivar takeover: the change of the ID, while one is in progress.
    :ivar content: what the record has, or would have, in addition to the data.
    :ivar cookie: the session's own cookie settings, once the app has looked at them.
    :ivar accessed: whether the app touched the session.
    :ivar due: whether the ID is to be renewed.
    :ivar ended: whether a record was ended in this request: "here", or "browser" if the browser has a cookie of it.
    :ivar ended_cookie: the settings of the cookie that the browser has of the session that was ended first.
    :ivar resend: whether the browser may not have the cookie of this ID yet, or needs its lifetime restarted.
    :ivar sealed: whether the headers were sent.
    :ivar rules: what the framework's own sessions do differently.
    :ivar unproven: a bound session whose cookie came without a proof from its device. The request has no part in it.
    :ivar proven_at: when the browser proved the key that the session is bound to, in seconds since the epoch.
    :ivar unanswered: returns whether the request is an event of a socket, which no response answers.
    :ivar failure: the store's error; nothing more is asked of the store in this request.
    :ivar before: returns what the library used before kept for a Cookie header.
    """

    values: Values | None = None
    snapshot: Snapshot | None = None
    session_id: str | None = None
    takeover: TakeOver | None = None
    _owner: str | None = None
    _owner_is_known = True
    cookie: SessionCookie | None = None
    ended_cookie: CookieOptions | None = None
    client: tuple[str, str] | None = None
    user: tuple[Any, Any] | None = None
    verified: tuple[str, ...] = ()
    origin = Origin.NEW
    ended = ""
    accessed = due = resend = sealed = clear_site_data = is_enclosing = hit_the_limit = was_carried_over = False
    enclosing: Any = None
    unproven: Unproven | None = None
    proven_at: float | None = None
    rules = PLAIN
    id_length = LONG
    unanswered: Callable[[], bool] | None = None
    failure: StoreError | None = None
    before: Callable[[str, Services], dict[str, Any]] | None = None
    content: Content

    def __init__(
        self, services: Services, header: str | None, context: object = None, *, id_length: int | None = None
    ) -> None:
        self.services, self.header, self.context = services, header, context
        if id_length is not None:
            self.id_length = id_length

    # Finding the session.

    def open(self) -> Values:
        """Find the session if that was not done yet, and return its data."""
        values = self.values
        if values is None:
            try:
                values = self._find(self.header or "")
            except StoreError as error:
                self.fail(error)
                raise
        return values

    def fail(self, error: StoreError) -> None:
        """Be empty, and ask nothing more of the store in this request, so that its failure costs one timeout."""
        self.failure = error
        if self.values is None:
            self.content = Content({}, self.services.clock())
            self.values = Values(self.services.codec, {})
        self.takeover = None
        self.leave_unwritten()

    def _find(self, header: str) -> Values:
        """Use the first cookie that verifies and still has a record."""
        services = self.services
        signer = services.signer
        seen: list[str] = []
        reasons: set[str] = set()
        for value in services.find(header):
            session_id = self._verified(value, reasons)
            if session_id is None:
                self.origin = Origin.FORGED
                continue
            handle = signer.handle(session_id)
            if handle in seen:
                continue
            if len(seen) == MOST_LOOKED_UP:
                self.hit_the_limit = True
                services.events.emit("rejected", reason="too many")
                break
            seen.append(handle)
            if services.devices is None:
                found = services.records.load(handle, restart=True, presented=True)
            else:
                found = self.proven(handle, header)
            if found is not None and self.enter(found, session_id):
                return self.values  # type: ignore[return-value]
        if seen:
            self.origin = Origin.UNKNOWN
            self.verified = () if self.unproven is not None else tuple(seen)  # nobody ends another device's session
        return self.start()

    def proven(self, handle: str, header: str) -> Snapshot | None:
        """Read the record of an ID that was presented; that of a bound session only with a proof from its device.

        The idle timeout restarts only after that.

        :param header: the Cookie header, which has the proof.
        """
        records, devices = self.services.records, self.services.devices
        if devices is None:
            return records.load(handle, restart=True, presented=True)
        found = records.load(handle, restart=False, presented=True)
        if found is None:
            return None
        field = found.content.device
        if field is not None and is_bound(field):
            verdict = devices.judge(field, header)
            if verdict.doubt is not None:
                self.unproven = Unproven(found.handle, field)
                self.services.events.emit("unproven", found.handle, reason=verdict.doubt)
                return None
            self.proven_at = verdict.proven_at
        self.unproven = None
        return records.restarted(found)

    def _verified(self, value: str, reasons: set[str]) -> str | None:
        """Return the ID that a cookie's value carries, or None; each reason is reported once in a request.

        Its shape is checked before its signature (ASVS 5.0 2.2.1).
        """
        signer = self.services.signer
        session_id = signer.unsign(value)
        if session_id is not None:
            return session_id
        reason = "bad signature" if signer.has_shape(value) else "malformed"
        if reason not in reasons:
            reasons.add(reason)
            self.services.events.emit("rejected", reason=reason)  # type: ignore[arg-type]
        return None

    def enter(self, found: Snapshot, session_id: str | None) -> bool:
        """Take the record that was read as this session's; False if no secret leads to its renewed ID.

        :param session_id: the ID that was presented; None for a session opened by its handle.
        """
        services = self.services
        if found.nonces and session_id is not None:
            session_id = followed_id(services, session_id, found)
            if session_id is None:
                return False
            self.resend = True
            found = msgspec.structs.replace(found, nonces=())
        self.origin, self.snapshot, self.session_id = Origin.LOADED, found, session_id
        content = self.content = found.content
        self.values = Values(services.codec, content.texts)
        self._owner_is_known, self.due = False, self._is_due(content)
        services.events.emit("loaded", found.handle)
        return True

    def start(self) -> Values:
        """Begin as a session without a record, with what the library used before kept for a cookie that is not ours."""
        self.content = Content({}, self.services.clock())
        values = self.values = Values(self.services.codec, {})
        if self.before is not None and self.origin is Origin.FORGED and not self.ended:
            values.update(self.before(self.header or "", self.services))
            self.was_carried_over = bool(values)
            if self.sealed:  # too late to be stored, but it can be read
                values.touched.clear()
        return values

    # State.

    @property
    def owner(self) -> str | None:
        """The text of the user to whom the data belongs: the session's user, or its last one; None if there is none."""
        if not self._owner_is_known:
            self.owner = self.services.records.owner_of(self.content)
        return self._owner

    @owner.setter
    def owner(self, text: str | None) -> None:
        self._owner, self._owner_is_known = text, True

    @property
    def handle(self) -> str | None:
        """The handle of the record, or of the one that will be created; None if there is no ID yet."""
        if self.takeover is not None:
            return self.takeover.handle
        return None if self.snapshot is None else self.snapshot.handle

    @property
    def is_answered(self) -> bool:
        """Whether a response can carry the cookie of a new ID."""
        return self.header is not None and (self.unanswered is None or not self.unanswered())

    @property
    def is_stored(self) -> bool:
        """Whether there is a record under the current ID."""
        return self.snapshot is not None

    @property
    def is_only_read(self) -> bool:
        """Whether the app did nothing but read, and nothing else is due: what most requests do."""
        values, content = self.values, self.content
        return not (
            values is None
            or values.touched
            or values.cleared
            or self.cookie is not None
            or self.takeover is not None
            or self.ended
            or self.resend
            or self.clear_site_data
            or content.presented_at == UNPRESENTED
            or content.issued_at == REISSUE
            or self.due
        )

    def _is_due(self, content: Content) -> bool:
        """Whether the ID is to be renewed: it was used for long enough, and has been presented."""
        renewal = self.services.timeouts.renewal
        if renewal is None or self.session_id is None or content.presented_at == UNPRESENTED:
            return False
        return not self.resend and self.services.clock() - content.age_from >= renewal

    @property
    def cookie_changed(self) -> bool:
        """Whether the app changed this session's own cookie settings."""
        return self.cookie is not None and self.cookie.changed

    @property
    def is_negligible(self) -> bool:
        """Whether a new session has nothing that is worth storing it for."""
        values, ignored = self.values, self.rules.ignored
        return bool(ignored) and values is not None and ignored.issuperset(values)

    @property
    def is_changed(self) -> bool:
        """Whether the session differs from what the store holds."""
        values = self.values
        return values is not None and (self.has_new_id or values.changed_texts() is not None)

    @property
    def has_new_id(self) -> bool:
        """Whether the app asked for a new ID in this request."""
        return self.takeover is not None and self.takeover.asked

    def user_id(self) -> Any:
        """Return the first value under the user keys that names a user, or None."""
        values = self.open()
        for key in self.services.user_keys:
            if key in values and is_user(value := values.peek(key)):
                return value
        return None

    def loaded_user(self) -> Any:
        """Return what the app's loader knows under the user ID, loaded once per request."""
        user_id = self.user_id()
        if user_id is None or self.services.user_loader is None:
            return None
        if self.user is None or self.user[0] != user_id:
            self.user = (user_id, self.services.user_loader(user_id))
        return self.user[1]

    def cookie_options(self) -> CookieOptions:
        """Return the cookie settings in force: the manager's, and this session's own."""
        own = self.content.cookie if self.cookie is None else self.cookie.own
        return self.services.cookie.with_own(own)

    def own_cookie(self) -> SessionCookie:
        """Return the session's own cookie settings, to be changed."""
        if self.cookie is None:
            services, own = self.services, self.content.cookie or {}
            options = services.cookie.with_own(own)
            self.cookie = SessionCookie(options, own, name=services.name, now=services.clock)
        return self.cookie

    def expiry(self) -> float:
        """Return when the session ends unless it is used, in seconds since the epoch."""
        services, content = self.services, self.content_with(None)
        records = services.records
        idle = services.clock() + records.ttl(content) if self.snapshot is None else self.snapshot.record.expires_at
        return float(min(idle, records.deadline(content)))

    # Actions.

    def change(self) -> Values:
        """Return the data, to be changed.

        :raises HeadersSentError: for a session that would need a new cookie after the headers were sent.
        :raises SessionGone: for a session that was opened by its handle and has ended.
        """
        values = self.open()
        if self.snapshot is None:
            self._check_startable()
        return values

    def _check_startable(self) -> None:
        if not self.is_answered:
            raise SessionGone(NO_RESPONSE)
        if self.sealed:
            raise HeadersSentError(TOO_LATE)

    def become_new(self) -> None:
        """Become the session without a record that comes after one that was ended."""
        if self.ended_cookie is None:  # what the app sets from here on belongs to the next session
            self.ended_cookie = self.services.cookie.with_own(self.content.cookie)
        self.origin = self.origin if self.origin is Origin.FORGED else Origin.NEW
        self.snapshot = self.session_id = self.takeover = self.cookie = self.owner = None
        self.verified, self.resend, self.due = (), False, False
        self.ended = "browser" if self.origin is Origin.FORGED else self.ended or "here"
        self.start()

    def note_ended(self, handle: str, known: bool) -> None:
        if known:
            self.ended = "browser"
        self.services.events.emit("destroyed", handle)

    def abandon(self) -> None:
        """Delete what was created in this request, because its cookie will never be sent."""
        takeover = self.takeover
        if takeover is not None:
            takeover.abandon(self.services)
            self.snapshot = None
        if self.snapshot is None:
            self.leave_unwritten()

    def leave_unwritten(self) -> None:
        """Forget that anything changed: it is not written at the end of the body either."""
        self.cookie = None
        if self.values is not None:
            self.values.touched.clear()
            self.values.cleared = False

    def delivered(self) -> None:
        """Note that the response with the cookie is being sent."""
        self.takeover, self.resend = None, False

    def content_with(self, texts: Texts | None) -> Content:
        """Return what is to be written: what was read, with the changed data, cookie, user, and client."""
        content = self.content
        owner = self.owner
        values = self.values
        changed = content.texts if values is None else values.base if texts is None else texts
        presented = content.presented_at
        if presented == UNPRESENTED and self.session_id is not None and not self.resend:
            presented = self.services.clock()
        return msgspec.structs.replace(
            content,
            texts=changed,
            cookie=content.cookie if self.cookie is None else self.cookie.own or None,
            client=self.client or content.client,
            last_user=owner,
            presented_at=presented,
        )

    def accept(self, stored: Snapshot, mine: Texts | None) -> None:
        """Take what was written as the record, and its data as what changes are measured against.

        :param mine: the texts that were written; None if the data was not.
        """
        self.move_to(stored)
        if self.cookie_changed and self.cookie is not None:
            self.cookie.changed, self.resend = False, True  # the record has it now, and the browser not yet
        if mine is not None and self.values is not None:
            self.values.rebase(stored.content.texts, mine=mine)

    def move_to(self, stored: Snapshot) -> None:
        """Take a record as this session's, under the ID that follows ours if that was renewed in the meantime."""
        if stored.nonces and self.session_id is not None:
            self.session_id = followed_id(self.services, self.session_id, stored)
            self.due, self.resend = False, self.session_id is not None
        self.snapshot = msgspec.structs.replace(stored, nonces=()) if stored.nonces else stored
        self.content = stored.content


__all__ = ["MOST_LOOKED_UP", "TOO_LATE", "Origin", "SerializationError", "Visit"]
