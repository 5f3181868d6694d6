"""`FlaskSessions`: Flask's session interface on a `SessionManager`, and decorators for who may pass."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, Protocol, cast, overload

import msgspec
from flask import (
    Flask,
    Request,
    Response,
    abort,
    after_this_request,
    current_app,
    request,
    url_for,
)
from flask import session as _flask_session
from flask.sessions import NullSession, SecureCookieSessionInterface, SessionInterface, SessionMixin
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import Headers

from .._core.cookies import LONGEST_LIFETIME
from .._core.reply import NOTHING, with_reply
from .._core.rules import Rules
from .._core.visit import Visit
from ..errors import ConfigurationError, StoreError
from ..express.cookie import EXPRESS
from ..manager import SessionManager
from ..session import Session
from ..stores import Store
from ..wsgi.access import Refusal, Roles, Verdict, judge, refuse
from ..wsgi.environ import KEY, RETRY_AFTER, UNAVAILABLE
from ..wsgi.proof import ProofCheck, proof_check
from .carry_over import CarryOver, signed_cookies
from .settings import OPTIONS, options_of, snapshot

P = ParamSpec("P")
Answer = ResponseReturnValue | Awaitable[ResponseReturnValue]

_EXTENSION = "wsgisession"


class FlaskSession(Session, SessionMixin):
    """A `Session` with what Flask expects of one: `permanent`, `new`, `modified`, `accessed`."""

    __slots__ = ("_manager", "_outer", "_seen", "_was_written")

    _outer: Session | None
    """The environ's session, if the app is also wrapped in `SessionMiddleware`; this is another face of it."""

    _manager: SessionManager

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit)
        self._outer = None
        self._seen = self._was_written = False

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether there was no record when the request came."""
        return self.is_new

    @property
    def modified(self) -> bool:
        """Whether this request changed the session; nested changes are noticed without help.

        Set to True, the session is compared at the end of the request; set to False, changes so far are not.
        """
        return self._was_written or self.is_modified

    @modified.setter
    def modified(self, value: bool) -> None:
        values = self._touched().open()
        if value:
            values.suspect_all()
        else:
            values.touched.clear()
        self._was_written = self._was_written and value

    @property
    def accessed(self) -> bool:
        """Whether anybody has looked at the session in this request. Flask sets it; the store is not asked for it."""
        return self._seen or self.is_accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._seen = value


session: FlaskSession = cast(FlaskSession, _flask_session)
"""``flask.session``, for type checkers: the same object, with the methods of a `Session`."""


class _Interface(SessionInterface):
    """Flask's session interface for one app. It holds no reference to the app."""

    session_class = FlaskSession

    def __init__(self, options: dict[str, Any]) -> None:
        self._given = options
        self._building = Lock()
        self._read: tuple[dict[str, Any], SessionManager | None] = {}, None
        self._built: tuple[dict[str, Any], SessionManager] | None = None
        self._carry_over: CarryOver | None = None

    def manager(self, app: Flask) -> SessionManager | None:
        """Return the manager for the app's settings as they are now, or None without a secret.

        Where the app is wrapped in `SessionMiddleware`, that has the settings.
        """
        enclosing = _enclosing_manager(app)
        if enclosing is not None:
            return enclosing
        config, manager = self._read
        if config != app.config:
            with self._building:
                config, options = snapshot(app.config), options_of(app, self._given)
                self._carry_over = _carry_over(app, options)
                manager = self._manager_for(options)
                self._read = config, manager
        return manager

    def _manager_for(self, options: dict[str, Any]) -> SessionManager | None:
        """Return the manager that was there if the options are the same."""
        if not options["secret"]:
            return None
        if self._built is None or self._built[0] != options:
            self._built = options, self._successor(options)
        return self._built[1]

    def _successor(self, options: dict[str, Any]) -> SessionManager:
        """Return a manager with these options; the store stays while it is the same."""
        if self._built is None:
            return SessionManager(**options)
        before, manager = self._built
        if before.get("store") == options.get("store"):
            return SessionManager(**{**options, "store": manager.store})
        successor = SessionManager(**options)
        if not isinstance(before.get("store"), Store):
            manager.close()  # an app that only gave a URL has no store to close
        return successor

    def open_session(self, app: Flask, request: Request) -> FlaskSession | None:
        """Return the session of the request, unread; None, for Flask's null session, if the app has no secret."""
        outer = request.environ.get(KEY)
        if isinstance(outer, Session) and not outer._visit.sealed:
            session = FlaskSession(outer._visit)
            session._outer = outer
            return session
        manager = self.manager(app)
        if manager is None:
            return None
        if request.environ.get("wsgi.multiprocess"):
            manager.check_server(multiprocess=True)
        if manager._services.devices is not None:
            _install_devices(app)
        session = manager.open(request.environ.get("HTTP_COOKIE", ""), request.environ, FlaskSession)
        session._manager = manager
        if self._carry_over is not None:
            session._visit.before = self._carry_over.data_for
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write the session before the response is sent, and add what the response must carry for it."""
        if not isinstance(session, FlaskSession):  # Flask could not open one, and says so itself
            return
        if session._outer is not None:
            session._visit.rules = _rules(app, session)
            if session.accessed:
                response.vary.add("Cookie")
            return
        manager, visit = session._manager, session._visit
        if visit.sealed:  # a device was answered in place of the app
            return
        before = None if visit.values is None else visit.content
        visit.rules = _rules(app, session)
        try:
            reply = manager.commit(session, request.environ)
        except StoreError:
            if visit.services.on_store_error == "raise":
                raise
            _make_unavailable(response)
            return
        visit.sealed = True
        session._was_written = visit.values is not None and visit.content is not before
        if session.accessed or reply is not NOTHING:
            reply = msgspec.structs.replace(reply, vary=session.accessed)
            response.headers = Headers(with_reply(list(response.headers), reply))
        if response.is_streamed:
            response.call_on_close(lambda: manager.finish(session))


def _install_devices(app: Flask) -> None:
    from .devices import install  # only apps that bind sessions to devices need it

    install(app)


class Guard(Protocol):
    """Stands before a view, async or not."""

    def __call__(self, view: Callable[P, Answer], /) -> Callable[P, ResponseReturnValue]:
        """Return the guarded view."""
        ...


@overload
def login_required(
    view: Callable[P, Answer], *, login_url: str | None = None, bound: bool = False
) -> Callable[P, ResponseReturnValue]: ...
@overload
def login_required(view: None = None, *, login_url: str | None = None, bound: bool = False) -> Guard: ...
def login_required(view: Any = None, *, login_url: str | None = None, bound: bool = False) -> Any:
    """Let in whoever is logged in; others get 401, or are sent to ``login_url`` (a path, or an endpoint's name).

    Used as ``@login_required`` or ``@login_required(login_url="login")``.

    :param bound: let in only sessions that are bound to a device; others get 403.
    """
    guard = _guard((), roles="roles", login_url=login_url, proof=proof_check() if bound else None)
    return guard if view is None else guard(view)


def require_device_proof(*, max_age: float | None = None, login_url: str | None = None) -> Guard:
    """Let in users whose session is bound to a device that proved its key lately.

    A browser is sent back to the same page, and proves its key on the way. If it cannot, or the request is not one that
    can be repeated, the answer is 401. A session that is not bound gets 403.

    :param max_age: the longest age of the proof in seconds, at least 10; None for a bound session with any valid proof.
    """
    return _guard((), roles="roles", login_url=login_url, proof=proof_check(max_age))


def role_required(*needed: str, roles: Roles = "roles", login_url: str | None = None) -> Guard:
    """Let in whoever is logged in and has one of the roles; others get 401 or 403.

    :param roles: the session's key for them, or a callable of the session that returns them.
    """
    return _guard(needed, roles=roles, login_url=login_url)


def _guard(needed: tuple[str, ...], *, roles: Roles, login_url: str | None, proof: ProofCheck | None = None) -> Guard:
    def guard(view: Callable[P, Answer]) -> Callable[P, ResponseReturnValue]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            verdict = _verdict(needed, roles)
            if verdict is Verdict.WELCOME:
                lacking = None if proof is None else proof(session, request.environ)
                if lacking is not None:
                    return _refused(lacking)
                return current_app.ensure_sync(view)(*args, **kwargs)  # type: ignore[no-any-return]
            page = url_for(login_url) if login_url is not None and "/" not in login_url else login_url
            return _refused(refuse(verdict, request.environ, login_url=page))

        return guarded

    return guard


def _verdict(needed: tuple[str, ...], roles: Roles) -> Verdict:
    mine = _flask_session._get_current_object()  # type: ignore[attr-defined]
    if isinstance(mine, NullSession):  # without a secret nobody can be logged in
        return Verdict.WHO_ARE_YOU
    if not isinstance(mine, Session):
        raise ConfigurationError("login_required and role_required need the sessions of FlaskSessions(app)")
    return judge(mine, needed, roles=roles)


def _refused(refusal: Refusal) -> Response:
    """Answer with the refusal; a page for people is one that the app's error handlers may make."""
    if not refusal.is_page:
        return Response(refusal.body, refusal.status, refusal.headers)
    after_this_request(_unshared)
    return abort(refusal.status, refusal.sentence)


def _unshared(response: Response) -> Response:
    response.vary.add("Accept")
    response.headers["Cache-Control"] = "no-store"
    return response


class FlaskSessions:
    """Server-side sessions as ``flask.session``, with Flask's own settings.

    Keyword arguments are options of `SessionManager`; they go before ``SESSION_...`` in the configuration, which goes
    before Flask's own settings. Settings are read when they are needed, as Flask does.

    Two things differ from Flask's cookie sessions: without ``SESSION_COOKIE_SAMESITE`` the cookie is ``Lax``, and
    ``SESSION_REFRESH_EACH_REQUEST`` refreshes at requests that look at the session; others cost no call to the store.

    A weak secret is refused, except in an app that is in debug mode or tested: there a warning in the log must do.

    ``carry_over=True`` lets the sessions in Flask's own cookies go on as ours; a callable that takes a cookie's value
    and returns its data, such as `wsgisession.moving.FlaskSessionRedis`, those of another library under the same name.
    ``carry_over_until`` (an aware datetime) ends it. An app wrapped in `SessionMiddleware` carries nothing over.

    :raises ConfigurationError: at the first request, for a setting that cannot be right.
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        unknown = options.keys() - OPTIONS
        if unknown:
            raise ConfigurationError(f"FlaskSessions knows no option {min(unknown)!r}")
        self._options = options
        self._app: Callable[[], Flask | None] = lambda: None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give the app its sessions; an application factory calls this."""
        app.session_interface = _Interface(self._options)
        app.extensions[_EXTENSION] = self
        app.register_error_handler(StoreError, _unavailable)
        self._app = weakref.ref(app)

    @property
    def manager(self) -> SessionManager:
        """The manager of the current app, or of the one that was given.

        :raises ConfigurationError: where the app has no secret.
        """
        app = current_app._get_current_object() if current_app else self._app()  # type: ignore[attr-defined]
        manager = None if app is None else _manager_of(app)
        if manager is None:
            raise ConfigurationError("the app has no sessions yet: call init_app, and set SECRET_KEY")
        return manager


def _rules(app: Flask, session: FlaskSession) -> Rules:
    """Return what Flask's own sessions do differently: an emptied one ends, and a permanent one has a lifetime."""
    visit = session._visit
    values = visit.values
    if values is None:
        return _UNTOUCHED
    permanent = values.peek("_permanent")
    if EXPRESS in (visit.content.cookie or {}) and "_permanent" not in values:  # whose lifetime Express has set
        return _UNTOUCHED
    lifetime = min(app.permanent_session_lifetime.total_seconds(), LONGEST_LIFETIME)
    return Rules(
        ends_emptied=True,
        lifetime=lifetime if permanent and lifetime > 0 else None,
        refreshes=bool(app.config["SESSION_REFRESH_EACH_REQUEST"]),
        ignored=_IGNORED,
    )


_IGNORED = frozenset({"_permanent"})
_UNTOUCHED = Rules(ends_emptied=True, ignored=_IGNORED)


def _carry_over(app: Flask, options: dict[str, Any]) -> CarryOver | None:
    """Take what is said about the sessions of before out of the options, and return what carries them over."""
    asked, until = options.pop("carry_over", None), options.pop("carry_over_until", None)
    if asked in (None, False):
        return None
    name = app.config["SESSION_COOKIE_NAME"]
    if options["name"] != name:
        raise ConfigurationError(f"carry_over needs one cookie name for old and new: leave out name, for {name!r}")
    if asked is True:
        serializer = SecureCookieSessionInterface().get_signing_serializer(app)
        asked = signed_cookies(serializer, max_age=int(app.permanent_session_lifetime.total_seconds()))
    return CarryOver(asked, name=name, until=until)


def _manager_of(app: Flask) -> SessionManager | None:
    interface = app.session_interface
    return interface.manager(app) if isinstance(interface, _Interface) else None


def _enclosing_manager(app: Flask) -> SessionManager | None:
    """Return the manager of the innermost middleware that was put around ``app.wsgi_app``."""
    layer: Any = app.wsgi_app
    found = None
    while layer is not None:
        manager = getattr(layer, "manager", None)
        found = manager if isinstance(manager, SessionManager) else found
        layer = getattr(layer, "app", None)
    return found


def _unavailable(error: StoreError) -> Response:
    manager = _manager_of(current_app)
    if manager is None or manager._services.on_store_error == "raise":
        raise error
    mine = _flask_session._get_current_object()  # type: ignore[attr-defined]
    if isinstance(mine, FlaskSession):
        mine._visit.leave_unwritten()
    response = Response()
    _make_unavailable(response)
    return response


def _make_unavailable(response: Response) -> None:
    response.status_code = 503
    response.headers = Headers(
        {"Content-Type": "text/plain; charset=utf-8", "Retry-After": RETRY_AFTER, "Cache-Control": "no-store"}
    )
    response.set_data(UNAVAILABLE)
