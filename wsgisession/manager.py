"""`SessionManager`: all settings in one object. It opens, commits, lists, and revokes sessions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ._core import commit as _commit
from ._core.content import Snapshot
from ._core.cookies import CookieOptions
from ._core.events import logger
from ._core.ids import IDSigner
from ._core.info import SessionInfo, info_of
from ._core.reply import Reply
from ._core.users import is_user
from ._core.values import Values
from ._core.visit import Visit
from .errors import ConfigurationError, SessionGone
from .session import Session
from .settings import services_from, signature
from .stores import Record, Store

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import Options

S = TypeVar("S", bound=Session)


class SessionManager:
    """Opens sessions, commits them, revokes them. One per application; safe for threads, processes, and after fork.

    Durations are seconds or a timedelta.

    :param secret: the first signs cookies, all verify; if omitted, the environment's ``SESSION_SECRET``.
    :param store: a URL or a `Store`; default ``"memory://"``.
    :param name: the cookie's name; default ``"sid"``.
    :param format: ``"native"``, or ``"express"`` to share cookies and records with express-session and its stores.
    :param resave: write an unmodified session back anyway.
    :param save_uninitialized: store a new session that nobody wrote to, and set its cookie.
    :param rolling: send the cookie on every response, after one look whether the session is still there.
    :param unset: what setting the environ's session to None does: ``"keep"`` or ``"destroy"`` the record.
    :param cookie: a `CookieOptions`, or a dict with the same names.
    :param idle_timeout: default the cookie's ``max_age``, or one day. With ``format="express"`` a ``max_age`` takes
        precedence, as at Express.
    :param absolute_timeout: from creation or login; default 30 days, or a longer ``max_age``. None for no limit, which
        is the default of ``format="express"``.
    :param touch_after: how much of the idle timeout may pass before a read restarts it; default 5 % of it.
    :param renewal_timeout: how often an active session gets a new ID; None for never.
    :param renewal_grace: how long the old ID is accepted after the new one was first presented; default 30 seconds.
    :param user_key: the key, or keys tried in order, under which the session holds its user.
    :param user_loader: returns the user for a user ID: what `Session.user` is.
    :param max_sessions_per_user: a login beyond it ends the user's oldest session; None for no limit.
    :param track_client: keep the IP address and the user agent with the session, for a list of devices.
    :param on_conflict: ``"merge"``, ``"overwrite"``, or ``"refuse"`` if another request wrote in the meantime.
    :param on_gone: ``"discard"`` or ``"raise"`` if the session ended in the meantime.
    :param on_store_error: ``"raise"``, or ``"unavailable"`` for a response 503 with Retry-After.
    :param max_size: the most bytes a session may have in the store; default 1 MiB.
    :param encryption_key: 32 bytes, raw or base64, or several: the first encrypts the records, all decrypt.
    :param genid: returns the ID for a new session, from the environ; if omitted, 256 random bits (ASVS 5.0 7.2.3).
    :param on_event: called with each `SessionEvent`; one callable, or several.
    :param device_binding: True, or a `DeviceBinding`, to bind each session to the device that logged in. Experimental.
    :param clock: returns seconds since the epoch; default `time.time`.
    :param random: returns as many random bytes as it is asked for; default `os.urandom`.
    :raises ConfigurationError: for a setting that cannot be right, with the fix.
    :raises TypeError: for an option that does not exist, suggesting the intended one.
    """

    __signature__ = signature()
    _text_keys = False  # whether dict keys are stored as JSON text, as Django's sessions have them

    def __init__(self, **options: Unpack[Options]) -> None:
        self._services = services_from(options, text_keys=self._text_keys)
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<SessionManager of {self.name!r} on {self.store!r}>"

    @property
    def name(self) -> str:
        """The cookie's name."""
        return self._services.name

    @property
    def cookie(self) -> CookieOptions:
        """How the cookie is sent, unless a session has settings of its own."""
        return self._services.cookie

    @property
    def signer(self) -> IDSigner:
        """What signs the IDs in cookies, and makes handles of them. For adapters."""
        return self._services.signer

    @property
    def store(self) -> Store:
        """The store, in the layout of the manager's format."""
        return self._services.records.store

    # In a request. Adapters call these; an app does not need them.

    def open(self, cookie_header: str, environ: object, face: type[S] = Session) -> S:  # type: ignore[assignment]
        """Return the session of a request, without looking at anything yet.

        :param environ: what ``genid`` receives.
        :param face: the class of the session, for frameworks that expect more of it.
        """
        services = self._services
        # Kept only if needed: the environ holds the session, and a cycle is work for the garbage collector.
        return face(Visit(services, cookie_header, environ if services.genid is not None else None))

    def commit(
        self,
        session: Session,
        environ: dict[str, Any] | None = None,
        *,
        dropped: bool = False,
        scheme: str = "https",
        host: str = "",
    ) -> Reply:
        """Write what is to be written, and return what the response must carry. Called before the headers are sent.

        :param environ: of the request: its scheme, host, and client matter. If there is none, ``scheme`` and ``host``
            are given instead.
        :param dropped: whether the app set the environ's session to None, or deleted it.
        :raises StoreError: if the store failed; the response must not be a success then.
        """
        if environ is None:
            environ = {"wsgi.url_scheme": scheme, "HTTP_HOST": host}
        visit = session._visit
        reply = _commit.commit(visit, environ, dropped=dropped)
        visit.sealed = True
        return reply

    def finish(self, session: Session) -> None:
        """Write what changed after the headers were sent, when the body has ended.

        :raises StoreError: if the store failed.
        """
        _commit.finish(session._visit)

    def abandon(self, session: Session) -> None:
        """Delete new records whose cookie will never be sent, because the app failed or the client went away."""
        session._visit.abandon()

    def check_server(self, *, multiprocess: bool) -> None:
        """Warn, once, if several processes would each have sessions of their own.

        :raises ConfigurationError: if sessions are bound to devices: a refresh that another process answered would end
            the browser's session.
        """
        if multiprocess and not self.store.shared and self._services.devices is not None:
            raise ConfigurationError(
                "device_binding needs a store that all processes share, but memory:// keeps sessions in one process;"
                ' use one such as store="sqlite:///sessions.db"'
            )
        if multiprocess and not self.store.shared and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "memory:// keeps sessions in one process, but this server runs several, so each would have its own."
                ' Use a store that they share, such as store="sqlite:///sessions.db"',
            )

    # Outside a request.

    def load(self, handle: str) -> Session | None:
        """Return the session with this handle, or None. Not counted as activity of its user."""
        found = self._found(handle)
        if found is None:
            return None
        visit = Visit(self._services, None)
        visit.enter(found, None)
        return Session(visit)

    def _found(self, handle: str) -> Snapshot | None:
        services = self._services
        return services.records.load(handle, restart=False) if services.signer.is_handle(handle) else None

    @contextlib.contextmanager
    def edit(self, handle: str) -> Iterator[Session]:
        """Open the session with this handle, and write it at the end, merged like any other.

        :raises SessionGone: if there is none, or, with ``on_gone="raise"``, if it ended in the meantime.
        """
        session = self.load(handle)
        if session is None:
            raise SessionGone("there is no live session with this handle")
        yield session
        self.finish(session)

    def info(self, handle: str) -> SessionInfo | None:
        """Return what may be shown of the session with this handle, or None. Not counted as activity of its user."""
        found = self._found(handle)
        return None if found is None else self._info(found)

    def _info(self, snapshot: Snapshot) -> SessionInfo:
        services = self._services
        data = Values(services.codec, snapshot.content.texts)
        user_id = next((data[key] for key in services.user_keys if is_user(data.get(key))), None)
        deadline = services.records.deadline(snapshot.content)
        shown = services.signer.shown(snapshot.handle)
        return info_of(snapshot, data, user_id=user_id, deadline=deadline, shown=shown)

    def sessions_for(self, user_id: Any) -> list[SessionInfo]:
        """Return the live sessions of a user, the one used last first."""
        infos = [self._info(found) for found in self._services.records.find_user(user_id)]
        return sorted(infos, key=lambda info: info.last_seen_at, reverse=True)

    def all_sessions(self) -> Iterator[SessionInfo]:
        """Iterate over all live sessions, in no order, holding few of them in memory."""
        return (self._info(found) for found in self._services.records.scan())

    def all_records(self) -> Iterator[Record]:
        """Iterate over all live records as the store has them, readable or not."""
        return (record for _, record in self.store.scan(now=self._services.clock()))

    def revoke(self, handle: str, *, user_id: Any = None) -> bool:
        """End the session with this handle immediately, for every process; False if there is none.

        :param user_id: end it only if it is this user's (ASVS 5.0 7.5.2).
        """
        services = self._services
        if not services.signer.is_handle(handle) or not services.records.end_session_of(user_id, handle):
            return False
        services.events.emit("revoked", handle)
        return True

    def revoke_user(self, user_id: Any, except_handle: str | None = None) -> int:
        """End all sessions of a user immediately, except one if given; return how many (ASVS 5.0 7.4.3).

        It continues until the user's index is empty, in bounded steps.

        :param except_handle: of a session as it is stored: in a request that also calls ``login`` or ``regenerate``,
            revoke first.
        :raises StoreError: if the store fails or its time runs out, saying how many were ended.
        """
        services = self._services
        emit = services.events.emit
        return services.records.end_user(user_id, keep=except_handle, ended=lambda handle: emit("revoked", handle))

    def purge_expired(self, limit: int | None = None) -> int:
        """Remove expired records from the store, at most ``limit``; return how many."""
        return self.store.purge(now=self._services.clock(), limit=limit)

    def close(self) -> None:
        """Close the store's connections in this process; it opens them again at its next use."""
        self.store.close()
