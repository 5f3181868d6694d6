"""`FlaskSessions`: Flask's settings to manager options, one table; Flask's session interface on a `SessionManager`."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from copy import copy
from datetime import timedelta
from functools import wraps
from inspect import signature
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast

from flask import (
    Flask,
    Request,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    request,
    session,
    url_for,
)
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response as BaseResponse

from .access import SENTENCES, Roles, Verdict, judge, login_address, prefers_json
from .cookies import LONGEST_LIFETIME
from .environ import KEY, RETRY_AFTER, UNAVAILABLE, path_of, request_of
from .errors import ConfigurationError, StoreError
from .express_cookies import EXPRESS
from .headers import NOTHING, with_reply
from .manager import SessionManager
from .session import Origin, Session, State
from .timeouts import Default

P = ParamSpec("P")
R = TypeVar("R")

_EXTENSION = "wsgisession"
_THIRTY_DAYS = timedelta(days=30)


class FlaskSession(Session, SessionMixin):
    """A `Session` with what Flask expects of one: `permanent`, `new`, `modified`, `accessed`.

    :ivar manager: the manager it belongs to.
    :ivar was_written: whether this request's changes are in the store already.
    :ivar outer: the environ's session, where the app is wrapped in `SessionMiddleware` too: then this is another face
        of it.
    """

    outer: Session | None = None
    manager: SessionManager
    was_written = False
    _seen = _sealed = False

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether no record was there when the request came."""
        return self.is_new

    @property
    def modified(self) -> bool:
        """Whether this request changed the session; nested changes are noticed without help.

        Set to True, the session is compared at the end of the request; set to False, changes so far are not.
        """
        return self.was_written or self.is_modified

    @modified.setter
    def modified(self, value: bool) -> None:
        state = self.open()
        if value:
            state.expose()
        else:
            state.exposed = False
        self.was_written = self.was_written and value

    @property
    def accessed(self) -> bool:
        """Whether anybody has looked at the session in this request. Flask sets it; the store is not asked for it."""
        return self._seen or self.is_accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._seen = value

    def open(self) -> State:
        """Find the session if that was not done yet, and return the manager's side of it. For adapters."""
        if self.state is None and self.outer is not None:
            self.state = self.outer.open()
        return super().open()

    @property
    def is_sealed(self) -> bool:
        """Whether the headers have left."""
        return self._sealed or (self.outer is not None and self.outer.is_sealed)

    @is_sealed.setter
    def is_sealed(self, value: bool) -> None:
        self._sealed = value


class _Interface(SessionInterface):
    """Flask's session interface for one app. It holds no reference to the app."""

    session_class = FlaskSession

    def __init__(self, options: dict[str, Any]) -> None:
        self._given = options
        self._building = Lock()
        self._read: tuple[dict[str, Any], SessionManager | None] = {}, None
        self._built: tuple[dict[str, Any], SessionManager] | None = None

    def manager(self, app: Flask) -> SessionManager | None:
        """Return the manager for the app's settings as they are now, or None without a secret."""
        config, manager = self._read
        if config != app.config:
            with self._building:
                config, manager = _snapshot(app.config), self._manager_for(_options_of(app, self._given))
                self._read = config, manager
        return manager

    def _manager_for(self, options: dict[str, Any]) -> SessionManager | None:
        """Return the manager that was there if the options are the same; the store stays while it is the same."""
        if not options["secret"]:
            return None
        built = self._built
        if built is None or built[0] != options:
            reusable = built is not None and built[0].get("store") == options.get("store")
            store = {"store": built[1].store} if built is not None and reusable else {}
            built = self._built = options, SessionManager(**{**options, **store})
        return built[1]

    def open_session(self, app: Flask, request: Request) -> FlaskSession | None:
        """Return the session of the request, unread; None, for Flask's null session, where the app has no secret."""
        outer = request.environ.get(KEY)
        if isinstance(outer, Session) and not outer.is_sealed:
            return _face_of(outer)
        manager = self.manager(app)
        if manager is None:
            return None
        if request.environ.get("wsgi.multiprocess"):
            manager.check_server(multiprocess=True)
        session = manager.open(request.environ.get("HTTP_COOKIE", ""), request.environ, FlaskSession)
        session.manager = manager
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write the session before the response leaves, and add what the response must carry for it."""
        if not isinstance(session, FlaskSession):  # Flask could not open one, and says so itself
            return
        if session.accessed:
            response.vary.add("Cookie")
        _follow_flask(app, session)
        if session.outer is not None:
            return
        manager, before = session.manager, session.state and session.state.content
        try:
            reply = manager.commit(session, **request_of(request.environ, with_client=manager.track_client))
        except StoreError:
            if manager.on_store_error == "raise":
                raise
            _make_unavailable(response)
            return
        session.is_sealed = True
        session.was_written = session.state is not None and session.state.content is not before
        if reply is not NOTHING and session.state is not None and _is_unreadable(session.state):
            reply = reply._replace(set_cookie=None)
        if reply is not NOTHING:
            response.headers = Headers(with_reply(list(response.headers), reply))
        if response.is_streamed:
            response.call_on_close(lambda: manager.finish(session))


def login_required(view: Callable[P, R] | None = None, *, login_url: str | None = None) -> Any:
    """Let in whoever is logged in; others get 401, or are sent to ``login_url`` (a path, or an endpoint's name).

    Used as ``@login_required`` or ``@login_required(login_url="login")``.
    """
    if view is None:
        return lambda late: _guarded(late, (), roles="roles", login_url=login_url)
    return _guarded(view, (), roles="roles", login_url=login_url)


def role_required(*needed: str, roles: Roles = "roles", login_url: str | None = None) -> Any:
    """Let in whoever is logged in and has one of the roles; others get 401 or 403.

    :param roles: the session's key for them, or a callable of the session that returns them.
    """
    return lambda view: _guarded(view, needed, roles=roles, login_url=login_url)


def _guarded(
    view: Callable[P, R], needed: tuple[str, ...], *, roles: Roles, login_url: str | None
) -> Callable[P, R | BaseResponse]:
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | BaseResponse:
        verdict = judge(cast(Session, session), needed, roles=roles)
        if verdict is Verdict.WELCOME:
            return current_app.ensure_sync(view)(*args, **kwargs)  # type: ignore[no-any-return]
        as_json = prefers_json(request.headers.get("Accept", ""))
        if verdict is Verdict.WHO_ARE_YOU and login_url is not None and not as_json:
            page = login_url if "/" in login_url else url_for(login_url)
            query = request.environ.get("QUERY_STRING", "")
            return redirect(login_address(page, path_of(request.environ), query), 303)
        if as_json:
            return make_response({"error": SENTENCES[verdict]}, verdict.value)
        return abort(verdict.value, SENTENCES[verdict])

    return guarded


class FlaskSessions:
    """Server-side sessions as ``flask.session``, with Flask's own settings.

    Keyword arguments are options of `SessionManager`; they go before ``SESSION_...`` in the configuration, which goes
    before Flask's own settings. Settings are read when they are needed, as Flask does.

    Two things differ from Flask's cookie sessions: without ``SESSION_COOKIE_SAMESITE`` the cookie is ``Lax``, and
    ``SESSION_REFRESH_EACH_REQUEST`` refreshes at requests that look at the session; others cost no call to the store.

    :raises ConfigurationError: at the first request, for a setting that cannot be right.
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        unknown = options.keys() - _OPTIONS
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


# Flask's settings, and the manager's option or the cookie's that each is.
_COOKIE_SETTINGS = {
    "SESSION_COOKIE_DOMAIN": "domain",
    "SESSION_COOKIE_HTTPONLY": "http_only",
    "SESSION_COOKIE_SAMESITE": "same_site",
    "SESSION_COOKIE_PARTITIONED": "partitioned",
}
_OPTIONS = frozenset(signature(SessionManager).parameters)
_SETTINGS = {f"SESSION_{option.upper()}": option for option in _OPTIONS - {"cookie", "name"}}


def _options_of(app: Flask, given: dict[str, Any]) -> dict[str, Any]:
    """Return the manager's options as the app is configured now."""
    config = app.config
    cookie = {option: config[name] for name, option in _COOKIE_SETTINGS.items() if config.get(name) not in (None, "")}
    cookie["path"] = config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"] or "/"
    # Flask's False is a default that nobody chose; "auto" sends Secure wherever a browser would take it.
    cookie["secure"] = True if config["SESSION_COOKIE_SECURE"] else "auto"
    options: dict[str, Any] = {
        "secret": _secrets(app),
        "name": config["SESSION_COOKIE_NAME"],
        "cookie": cookie,
        "absolute_timeout": Default(max(_THIRTY_DAYS, app.permanent_session_lifetime).total_seconds()),
    }
    options.update({option: config[name] for name, option in _SETTINGS.items() if name in config})
    options.update(given)
    return options


def _snapshot(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, with lists and dicts copied, so that a change inside one shows in a comparison."""
    return {name: copy(value) if type(value) in (list, dict) else value for name, value in config.items()}


def _secrets(app: Flask) -> list[str | bytes]:
    """Return the app's secrets, the current one first."""
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or []
    if isinstance(fallbacks, (str, bytes)):
        raise ConfigurationError("SECRET_KEY_FALLBACKS is one text, so each of its letters would be a key; give a list")
    if not app.secret_key:
        return []
    secrets = [app.secret_key, *fallbacks]
    return [_strengthened(secret) for secret in secrets] if app.testing else secrets


def _strengthened(secret: str | bytes) -> str | bytes:
    """Let the short secrets of test suites pass; a production app is told to make a good one."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def _face_of(outer: Session) -> FlaskSession:
    session = FlaskSession(outer.keeper, outer.visit)
    session.outer, session.state = outer, outer.state
    return session


def _follow_flask(app: Flask, session: FlaskSession) -> None:
    """Do what Flask does at this point: drop a session that became empty, give a permanent one its lifetime."""
    state = session.state
    if state is None:
        return
    if state.origin is Origin.LOADED and not state.data and session.is_modified:
        session.destroy()
        return
    own = state.content.cookie or {}
    if EXPRESS in own and "_permanent" not in state.data:  # whose lifetime Express has set
        return
    lifetime = min(app.permanent_session_lifetime.total_seconds(), LONGEST_LIFETIME)
    wanted = lifetime if state.data.get("_permanent") and lifetime > 0 else None
    if own.get("max_age") != wanted:
        session.cookie.max_age = wanted
    state.resend = state.resend or (wanted is not None and bool(app.config["SESSION_REFRESH_EACH_REQUEST"]))


def _is_unreadable(state: State) -> bool:
    """Tell whether a cookie that does not verify is all there is: Flask leaves it alone, its secret may come back."""
    return state.origin is Origin.FORGED and state.record is None


def _manager_of(app: Flask) -> SessionManager | None:
    interface = app.session_interface
    return interface.manager(app) if isinstance(interface, _Interface) else None


def _unavailable(error: StoreError) -> Response:
    manager = _manager_of(current_app)
    if manager is None or manager.on_store_error == "raise":
        raise error
    mine = session._get_current_object()  # type: ignore[attr-defined]
    if isinstance(mine, FlaskSession) and mine.state is not None:
        mine.state.leave_unwritten()
    response = Response()
    _make_unavailable(response)
    return response


def _make_unavailable(response: Response) -> None:
    response.status_code = 503
    response.headers = Headers(
        {"Content-Type": "text/plain; charset=utf-8", "Retry-After": RETRY_AFTER, "Cache-Control": "no-store"}
    )
    response.set_data(UNAVAILABLE)
