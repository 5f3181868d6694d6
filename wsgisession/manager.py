"""`SessionManager`: all settings in one object, and every decision about a session's life."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from ._core.content import Loaded
from ._core.cookies import CookieOptions, cookie_finder
from ._core.decisions import Facts, Send, Write, decide
from ._core.events import Events, Listener, logger
from ._core.ids import parse_secrets
from ._core.info import SessionInfo, capped, info_of
from ._core.lifecycle import Lifecycle
from ._core.records import GONE, Records
from ._core.replies import CookieWriter
from ._core.reply import NOTHING, READ, Reply
from ._core.takeover import Succession
from ._core.timeouts import THIRTY_DAYS, Duration, Timeouts
from .errors import SessionGone, StoreError
from .session import Session, State, first_user
from .settings import (
    check_callables,
    check_choice,
    check_flags,
    check_format,
    check_limit,
    codec_and_store,
    cookie_options,
    given_or_environment,
    listeners_of,
    opened_store,
    signer_for,
    timeouts_for,
    user_keys,
)
from .stores import Record, Store

S = TypeVar("S", bound=Session)

USER_KEYS = ("user_id", "_user_id", "_auth_user_id")


class SessionManager:
    """Opens sessions, commits them, revokes them. One per application; safe for threads, processes and after fork.

    ``open``, ``commit``, ``finish``, ``abandon``, ``check_server`` and the parts ``records``, ``lifecycle`` and
    ``signer`` are for adapters.

    :param secret: the first signs cookies, all verify; left out: the environment's ``SESSION_SECRET``.
    :param store: a URL or a `Store`.
    :param name: the cookie's name.
    :param format: ``"native"``, or ``"express"`` to share cookies and records with express-session and its stores.
    :param resave: write an unmodified session back all the same.
    :param save_uninitialized: store, and set a cookie for, a new session that nobody wrote to.
    :param rolling: send the cookie again on every response, after one look whether the session is still there.
    :param unset: what setting the environ's session to None does: ``"keep"`` or ``"destroy"`` the record.
    :param cookie: a `CookieOptions`, or a dict of the same names.
    :param idle_timeout: seconds or a timedelta; default the cookie's ``max_age``, or one day. With
        ``format="express"`` a ``max_age`` goes before it, as at Express.
    :param absolute_timeout: seconds or a timedelta from creation or login; None for no limit, as is left out with
        ``format="express"``.
    :param touch_after: how much of the idle timeout may pass before a read restarts it; default 5 % of it.
    :param renewal_timeout: seconds or a timedelta after which an active session gets a new ID; None for never.
    :param renewal_grace: how long the old ID is answered after its renewal, so that parallel requests go on.
    :param user_key: the key, or keys tried in order, under which the session holds its user.
    :param user_loader: returns the user for a user ID: what `Session.user` is.
    :param max_sessions_per_user: at a login beyond it the user's oldest session ends; None for no limit.
    :param track_client: keep the IP address and the user agent with the session, for a list of devices.
    :param on_conflict: ``"merge"``, ``"overwrite"`` or ``"refuse"`` where another request wrote meanwhile.
    :param on_gone: ``"discard"`` or ``"raise"`` where the session ended meanwhile.
    :param on_store_error: ``"raise"``, or ``"unavailable"`` for a response 503 with Retry-After.
    :param max_size: the most bytes a session may have in the store.
    :param encryption_key: 32 bytes, raw or base64, or several: the first encrypts the records, all decrypt.
    :param genid: returns the ID for a new session, from the environ; left out: 256 random bits (ASVS 5.0 7.2.3).
    :param on_event: called with each `SessionEvent`; one callable, or several.
    :param clock: returns seconds since the epoch.
    :param random: returns so many random bytes.
    :raises ConfigurationError: for a setting that cannot be right, with the cure.
    """

    def __init__(
        self,
        *,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        store: str | Store = "memory://",
        name: str = "sid",
        format: Literal["native", "express"] = "native",
        resave: bool = False,
        save_uninitialized: bool = False,
        rolling: bool = False,
        unset: Literal["keep", "destroy"] = "keep",
        cookie: CookieOptions | Mapping[str, Any] | None = None,
        idle_timeout: Duration | None = None,
        absolute_timeout: Duration | None = THIRTY_DAYS,
        touch_after: Duration | None = None,
        renewal_timeout: Duration | None = None,
        renewal_grace: Duration = 30.0,
        user_key: str | Sequence[str] = USER_KEYS,
        user_loader: Callable[[Any], Any] | None = None,
        max_sessions_per_user: int | None = None,
        track_client: bool = False,
        on_conflict: Literal["merge", "overwrite", "refuse"] = "merge",
        on_gone: Literal["discard", "raise"] = "discard",
        on_store_error: Literal["raise", "unavailable"] = "raise",
        max_size: int = 1 << 20,
        encryption_key: str | bytes | Sequence[str | bytes] | None = None,
        genid: Callable[[Any], str] | None = None,
        on_event: Listener | Sequence[Listener] | None = None,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        check_format(format, renewal_timeout=renewal_timeout, encryption_key=encryption_key)
        check_choice("unset", unset, "keep", "destroy")
        check_choice("on_conflict", on_conflict, "merge", "overwrite", "refuse")
        check_choice("on_gone", on_gone, "discard", "raise")
        check_choice("on_store_error", on_store_error, "raise", "unavailable")
        check_flags(resave=resave, save_uninitialized=save_uninitialized, rolling=rolling, track_client=track_client)
        check_callables(user_loader=user_loader, genid=genid, clock=clock, random=random)
        self.name, self.cookie = name, cookie_options(cookie)
        self.cookie.check_name(name)
        check_limit("max_sessions_per_user", max_sessions_per_user)
        self.on_store_error, self.track_client = on_store_error, track_client
        self._most_sessions = max_sessions_per_user
        self._resave, self._save_uninitialized, self._rolling = resave, save_uninitialized, rolling
        self.is_lazy = not (resave or save_uninitialized or rolling)
        self._unset, self._on_gone, self._has_genid = unset, on_gone, genid is not None
        self._clock, self._random, self._genid = clock, random, genid
        self.user_keys = user_keys(user_key)
        self._is_express = format == "express"
        self.signer = signer_for(format, parse_secrets(given_or_environment(secret)), own_ids=genid is not None)
        self._find_cookies = cookie_finder(name)
        native = opened_store(store)
        self._timeouts = Timeouts.from_options(
            **timeouts_for(format, idle_timeout, absolute_timeout, ttl=native.express_ttl),
            touch_after=touch_after,
            renewal_timeout=renewal_timeout,
            renewal_grace=renewal_grace,
            max_age=self.cookie.seconds,
        )
        self._events = Events(listeners_of(on_event), clock=clock, shown=self.signer.shown)
        codec, self.store = codec_and_store(
            format,
            native,
            timeouts=self._timeouts,
            most_sessions=max_sessions_per_user,
            cookie=self.cookie,
            user_keys=self.user_keys,
            max_size=max_size,
            encryption_key=encryption_key,
            clock=clock,
        )
        self.records = Records(
            self.store,
            codec,
            timeouts=self._timeouts,
            events=self._events,
            clock=clock,
            user_keys=self.user_keys,
            on_conflict=on_conflict,
        )
        self._cookies = CookieWriter(name, self.cookie, signer=self.signer, records=self.records, clock=clock)
        succession = Succession(
            self.records,
            self.signer,
            timeouts=self._timeouts,
            events=self._events,
            clock=clock,
            random=random,
            genid=genid,
        )
        self.lifecycle = Lifecycle(
            self.records,
            succession,
            self.signer,
            find_cookies=self._find_cookies,
            cookies=self._cookies,
            user_keys=self.user_keys,
            user_loader=user_loader,
            timeouts=self._timeouts,
            events=self._events,
            clock=clock,
            on_store_error=on_store_error,
        )
        self._warned = False

    def __repr__(self) -> str:
        return f"<SessionManager of {self.name!r} on {self.store!r}>"

    # In a request: for the adapters.

    def open(self, cookie_header: str, context: object, face: type[S] = Session) -> S:  # type: ignore[assignment]
        """Return the session of a request, without looking at anything yet.

        :param context: what ``genid`` gets: the environ.
        :param face: the class of the session, for frameworks that expect more of it.
        """
        # Kept only for who needs it: the environ holds the session, and a cycle is work for the garbage collector.
        return face(self.lifecycle, (cookie_header, context if self._has_genid else None))

    def commit(
        self,
        session: Session,
        *,
        dropped: bool = False,
        scheme: str = "https",
        host: str = "",
        client: tuple[str, str] | None = None,
    ) -> Reply:
        """Write what is to be written, and return what the response must carry. Called before the headers leave.

        :param dropped: whether the app set the environ's session to None, or deleted it.
        :param scheme: ``"http"`` or ``"https"``, of the request.
        :param host: the request's host name.
        :param client: the IP address and user agent of the request, for ``track_client``.
        :raises StoreError: where the store failed; the response must not be a success then.
        """
        state = session.state
        if dropped and self._unset == "keep" and not (state and state.ended):
            return self._reply_unwritten(state)
        if state is None:
            if not (dropped or self._wants_touch(session)):
                return NOTHING
            state = session.open()
        if dropped:
            self.lifecycle.destroy(state)
        elif self.is_lazy and state.is_only_read:  # the fast path: the table below would say the same
            return READ if state.accessed else NOTHING
        text = self.lifecycle.changed_text(state)
        decision = decide(self._facts(state, changed=text is not None, dropped=dropped))
        if self._is_express and decision.write is not Write.NOTHING:
            self.lifecycle.settle_cookie(state, scheme=scheme, host=host)
        state.client = None if client is None else capped(client)
        arrived_as = None if state.authenticated else state.arrived_as
        try:
            self.lifecycle.write(state, decision.write, text)
            if self._most_sessions is not None and state.record and state.record.user_id not in (None, arrived_as):
                self._end_oldest(state)
        except SessionGone:
            self._note_gone(state)
            return Reply(vary=state.accessed)
        send = decision.send
        if decision.send is Send.COOKIE and decision.write is Write.NOTHING and not self.lifecycle.touch(state):
            send = Send.NOTHING  # it has ended, or moved on: the browser may have a newer cookie by now
        header = self._cookies.header(state, send, scheme=scheme, host=host)
        state.unsent = False
        return Reply(header, state.accessed, state.clear_site_data)

    def finish(self, session: Session) -> None:
        """Write what changed after the headers left, when the body has ended.

        :raises StoreError: where the store failed.
        """
        state = session.state
        if state is None:
            return
        text = self.lifecycle.changed_text(state)
        if text is None and not state.cookie_changed:
            return
        if state.record is None:
            logger.error("a new session was changed after the headers had left: the changes are lost")
            return
        try:
            self.lifecycle.replace(state, text)
        except SessionGone:
            self._note_gone(state)

    def abandon(self, session: Session) -> None:
        """Take back a new session whose cookie will never leave, because the app failed or the client went away."""
        state = session.state
        if state is None:
            return
        if state.unsent and state.handle is not None:
            self.records.forget(state.handle)
        if state.unsent or state.record is None:
            state.leave_unwritten()

    def check_server(self, *, multiprocess: bool) -> None:
        """Warn, once, where several processes would each have sessions of their own."""
        if multiprocess and not self.store.shared and not self._warned:
            self._warned = True
            logger.warning(
                "memory:// keeps sessions in one process, but this server runs several: each would have its own."
                ' Use a store that they share, such as store="sqlite:///sessions.db"',
            )

    # Outside a request.

    def load(self, handle: str) -> Session | None:
        """Return the session with this handle, or None. Not counted as activity of its user."""
        loaded = self.records.load(handle, restart=False) if self.signer.is_handle(handle) else None
        if loaded is None:
            return None
        session = Session(self.lifecycle, None)
        session.state = self.lifecycle.loaded_state(loaded)
        return session

    @contextlib.contextmanager
    def edit(self, handle: str) -> Iterator[Session]:
        """Open the session with this handle, and write it at the end, merged like any other.

        :raises SessionGone: where there is none, or, with ``on_gone="raise"``, where it ended meanwhile.
        """
        session = self.load(handle)
        if session is None:
            raise SessionGone("there is no live session with this handle")
        yield session
        self.finish(session)

    def _info(self, loaded: Loaded) -> SessionInfo:
        user_id = first_user(loaded.data, self.user_keys)
        deadline = self.records.deadline(loaded.content)
        return info_of(loaded, user_id=user_id, deadline=deadline, shown=self.signer.shown(loaded.handle))

    def sessions_for(self, user_id: Any) -> list[SessionInfo]:
        """Return the live sessions of a user, the one used last first."""
        infos = [self._info(loaded) for loaded in self.records.find_user(user_id)]
        return sorted(infos, key=lambda info: info.last_seen_at, reverse=True)

    def info(self, handle: str) -> SessionInfo | None:
        """Return what may be shown of the session with this handle, or None. Not counted as activity of its user."""
        loaded = self.records.load(handle, restart=False) if self.signer.is_handle(handle) else None
        return None if loaded is None else self._info(loaded)

    def all_sessions(self) -> Iterator[SessionInfo]:
        """Iterate over all live sessions, in no order, holding few of them in memory."""
        return (self._info(loaded) for loaded in self.records.scan())

    def all_records(self) -> Iterator[Record]:
        """Iterate over all live records as the store has them, readable or not."""
        return (record for _, record in self.store.scan(now=self._clock()))

    def revoke(self, handle: str, *, user_id: Any = None) -> bool:
        """End the session with this handle at once, for every process; False where there is none.

        :param user_id: end it only where it is this user's (ASVS 5.0 7.5.2).
        """
        if not self.signer.is_handle(handle) or not self.records.end_session_of(user_id, handle):
            return False
        self._events.emit("revoked", handle)
        return True

    def revoke_user(self, user_id: Any, except_handle: str | None = None) -> int:
        """End all sessions of a user at once, except one if given; return how many (ASVS 5.0 7.4.3).

        :param except_handle: of a session as it is stored: in a request that calls ``login`` or ``regenerate`` too,
            revoke first.
        """
        ended = self.records.end_user(user_id, keep=except_handle)
        for handle in ended:
            self._events.emit("revoked", handle)
        return len(ended)

    def purge_expired(self, limit: int | None = None) -> int:
        """Remove expired records from the store, at most ``limit``; return how many."""
        return self.store.purge(now=self._clock(), limit=limit)

    def close(self) -> None:
        """Close the store's connections in this process; it opens them again at its next use."""
        self.store.close()

    # Inside.

    def _reply_unwritten(self, state: State | None) -> Reply:
        if state is None:
            return NOTHING
        state.leave_unwritten()
        if self._is_express:
            self.lifecycle.forsake(state)
        return Reply(vary=state.accessed, clear_site_data=state.clear_site_data)

    def _note_gone(self, state: State) -> None:
        state.leave_unwritten()
        self._events.emit("gone", state.handle, detail="it ended while the request ran; nothing was written")
        if self._on_gone == "raise":
            raise SessionGone(GONE)

    def _end_oldest(self, state: State) -> None:
        """End the user's sessions beyond the limit, oldest first; of parallel logins each sees the same order.

        Where the store fails, the login stands, for its old ID has ended: the next login ends what is too much.
        """
        with contextlib.suppress(StoreError):
            found = self.records.find_user(first_user(state.data, self.user_keys))
            found.sort(key=lambda one: (self.records.began_at(one.content), one.handle))
            for loaded in found[: -self._most_sessions] if self._most_sessions is not None else ():
                if self.records.end_session(loaded.handle, version=loaded.record.version):
                    self._events.emit("revoked", loaded.handle, detail="the user has more sessions than allowed")

    def _wants_touch(self, session: Session) -> bool:
        """Whether an option asks for a look at a session that the app left alone."""
        if self._save_uninitialized:
            return True
        visit = session.visit
        return (self._resave or self._rolling) and visit is not None and bool(self._find_cookies(visit[0]))

    def _facts(self, state: State, *, changed: bool, dropped: bool) -> Facts:
        own = state.content.cookie if state.cookie is None else state.cookie.own
        return Facts(
            state.origin,
            state.ended,
            state.moved or state.renewing,
            changed or state.unsent,
            state.cookie_changed,
            self._cookies.options_of(own).seconds is not None,
            self._resave,
            self._save_uninitialized and not state.destroyed,
            self._rolling or state.resend,
        )
