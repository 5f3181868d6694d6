"""`FlaskSessions`: Flask's session interface on a `SessionManager`."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask, Request, Response, current_app, request, request_started
from flask.sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin
from werkzeug.datastructures import Headers

from .._core.cookies import LONGEST_LIFETIME
from .._core.reply import NOTHING, with_reply
from .._core.rules import Rules
from .._core.secure import is_development
from ..errors import ConfigurationError, StoreError
from ..express.cookie import EXPRESS
from ..manager import SessionManager
from ..session import Session
from ..stores import Store
from ..wsgi.environ import KEY, RETRY_AFTER, UNAVAILABLE
from .carry_over import CarryOver, signed_cookies
from .leftovers import BOTH, is_of_flask_session, report_on
from .sessions import FlaskSession, current, guard_templates, is_event
from .settings import Settings, check_given, lifetime_of, named, settings_of, snapshot, warn_once

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import FlaskOptions

_EXTENSION = "wsgisession"
_IGNORED = frozenset({"_permanent"})
_UNTOUCHED = Rules(ends_emptied=True, ignored=_IGNORED)


class _Interface(SessionInterface):
    """Flask's session interface for one app. It holds no reference to the app."""

    session_class = FlaskSession

    def __init__(self, options: dict[str, Any]) -> None:
        self._given = options
        self._building = Lock()
        self._read: tuple[dict[str, Any], Settings, SessionManager | None] | None = None
        self._built: tuple[dict[str, Any], SessionManager] | None = None
        self._carry_over: CarryOver | None = None

    def manager(self, app: Flask) -> SessionManager | None:
        """Return the manager for the app's settings as they are now, or None without a secret.

        If the app is wrapped in `SessionMiddleware`, that has the settings.
        """
        enclosing = _enclosing_manager(app)
        return self._configured(app)[1] if enclosing is None else enclosing

    def _configured(self, app: Flask) -> tuple[Settings, SessionManager | None]:
        read = self._read
        if read is None or read[0] != app.config:
            with self._building:
                config, settings = snapshot(app.config), settings_of(app, self._given)
                self._carry_over = _carry_over(app, settings.options)
                read = self._read = config, settings, self._manager_for(settings.options)
        return read[1], read[2]

    def _manager_for(self, options: dict[str, Any]) -> SessionManager | None:
        """Return the manager that was there if the options are the same."""
        if not options["secret"]:
            return None
        if self._built is None or self._built[0] != options:
            try:
                self._built = options, self._successor(options)
            except ConfigurationError as error:
                raise named(error, self._given) from None
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
        """Return the session of the request, unread; None, for Flask's null session, if the app has no secret.

        :raises ConfigurationError: for a setting that cannot be right.
        """
        environ = request.environ
        outer = environ.get(KEY)
        if isinstance(outer, Session) and not outer._visit.sealed:
            session = FlaskSession(outer._visit)
            session._outer = outer
            return session
        manager = _enclosing_manager(app)
        if manager is None:
            settings, manager = self._configured(app)
            if manager is None:
                return None
            if settings.weakness is not None:
                _check_harmless(settings.weakness, environ)
        if environ.get("wsgi.multiprocess"):
            manager.check_server(multiprocess=True)
        if manager._services.devices is not None:
            _install_devices(app)
        session = manager.open(environ.get("HTTP_COOKIE", ""), environ, FlaskSession)
        session._manager, visit = manager, session._visit
        visit.unanswered = partial(is_event, request)
        if self._carry_over is not None:
            visit.before = self._carry_over.data_for
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write the session before the response is sent, and add what the response must carry for it."""
        if not isinstance(session, FlaskSession):  # Flask could not open one, and says so itself
            return
        visit = session._visit
        visit.rules = _rules(app, session)
        is_over = _reports_failure(session, response) or visit.sealed  # a device was answered instead of the app
        if session._outer is not None:
            if session.accessed:
                response.vary.add("Cookie")
            return
        if is_over:
            return
        manager = session._manager
        before = None if visit.values is None else visit.content
        try:
            reply = manager.commit(session, request.environ)
        except StoreError as error:
            visit.fail(error)
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

    def regenerate(self, session: Session) -> None:
        """Give the session a new ID, as the interface of Flask-Session does."""
        session.regenerate()


class FlaskSessions:
    """Server-side sessions as ``flask.session``, with Flask's own settings.

    Keyword arguments are options of `SessionManager`; they take precedence over ``SESSION_...`` in the configuration,
    which takes precedence over Flask's own settings. Settings are read when they are needed, as Flask does; arguments
    are checked immediately.

    Two things differ from Flask's cookie sessions: without ``SESSION_COOKIE_SAMESITE`` the cookie is ``Lax``, and
    ``SESSION_REFRESH_EACH_REQUEST`` refreshes the cookie at requests that look at the session; others make no store
    call.

    A weak ``SECRET_KEY`` only logs a warning for an in-process test client and over plain http on this machine. It is
    refused elsewhere.

    ``carry_over=True`` continues the sessions in Flask's own cookies as ours. A callable that receives a cookie's value
    and returns its data, such as `wsgisession.moving.FlaskSessionRedis`, continues those of another library under the
    same name. ``carry_over_until`` (an aware datetime) ends it. An app wrapped in `SessionMiddleware` carries nothing
    over.

    :raises ConfigurationError: for an argument that cannot be right, and at the first request for such a setting.
    """

    def __init__(self, app: Flask | None = None, **options: Unpack[FlaskOptions]) -> None:
        self._options: dict[str, Any] = dict(options)
        check_given(self._options)
        _given_carry_over(self._options, name="session")
        self._app: Callable[[], Flask | None] = lambda: None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give the app its sessions; an application factory calls this."""
        if is_of_flask_session(app.session_interface):
            warn_once(BOTH)
        interface = app.session_interface = _Interface(self._options)
        app.extensions[_EXTENSION] = self
        app.register_error_handler(StoreError, _unavailable)
        request_started.connect(partial(_check_is_used, weakref.ref(interface)), app, weak=False)
        guard_templates(app)
        self._app = weakref.ref(app)

    @property
    def manager(self) -> SessionManager:
        """The manager of the current app, or of the one that was given.

        :raises ConfigurationError: if the app has no secret.
        """
        app = current_app._get_current_object() if current_app else self._app()  # type: ignore[attr-defined]
        manager = None if app is None else _manager_of(app)
        if manager is None:
            raise ConfigurationError("the app has no sessions yet: call init_app, and set SECRET_KEY")
        return manager


def _install_devices(app: Flask) -> None:
    from .devices import install  # only apps that bind sessions to devices need it

    install(app)


def _check_is_used(ours: Callable[[], _Interface | None], app: Flask, **_: Any) -> None:
    if app.session_interface is not ours():
        warn_once(report_on(app.session_interface))


def _check_harmless(weakness: str, environ: dict[str, Any]) -> None:
    """Let a weak secret pass on a developer's machine.

    :raises ConfigurationError: anywhere else.
    """
    if not is_development(environ):
        raise ConfigurationError(weakness)
    warn_once(f"{weakness}. It works only in tests and over plain http on this machine")


def _rules(app: Flask, session: FlaskSession) -> Rules:
    """Return what Flask's own sessions do differently: an emptied one ends, and a permanent one has a lifetime."""
    visit = session._visit
    values = visit.values
    if values is None:
        return _UNTOUCHED
    if EXPRESS in (visit.content.cookie or {}) and "_permanent" not in values:  # whose lifetime Express has set
        return _UNTOUCHED
    lifetime = min(lifetime_of(app), LONGEST_LIFETIME) if values.peek("_permanent") else 0.0
    return Rules(
        ends_emptied=True,
        lifetime=lifetime if lifetime > 0 else None,
        refreshes=bool(app.config["SESSION_REFRESH_EACH_REQUEST"]),
        ignored=_IGNORED,
    )


def _reports_failure(session: FlaskSession, response: Response) -> bool:
    """Tell whether the response is the error page of a store that failed, of which nothing more is asked."""
    if response.status_code < 500:
        return False
    visit, error = session._visit, sys.exc_info()[1]
    if visit.failure is None and isinstance(error, StoreError):
        visit.fail(error)
    return visit.failure is not None


def _carry_over(app: Flask, options: dict[str, Any]) -> CarryOver | None:
    """Take what is said about the sessions of before out of the options, and return what carries them over."""
    name = app.config["SESSION_COOKIE_NAME"]
    if options.get("carry_over") and options["name"] != name:
        raise ConfigurationError(f"carry_over needs one cookie name for old and new: leave out name, for {name!r}")
    if options.get("carry_over") is True:
        serializer = SecureCookieSessionInterface().get_signing_serializer(app)
        options["carry_over"] = signed_cookies(serializer, max_age=int(lifetime_of(app)))
    carry_over = _given_carry_over(options, name=name)
    options.pop("carry_over", None)
    options.pop("carry_over_until", None)
    return carry_over


def _given_carry_over(options: dict[str, Any], *, name: str) -> CarryOver | None:
    asked, until = options.get("carry_over"), options.get("carry_over_until")
    if asked in (None, False):
        return None
    read = (lambda value: None) if asked is True else asked
    return CarryOver(read, name=name, until=until)


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
    """Answer for a store that failed in a view, if ``on_store_error`` says so; the session is not written then."""
    mine = current()
    if not isinstance(mine, FlaskSession) or mine._visit.services.on_store_error == "raise":
        raise error
    mine._visit.fail(error)
    response = Response()
    _make_unavailable(response)
    return response


def _make_unavailable(response: Response) -> None:
    response.status_code = 503
    response.headers = Headers(
        {"Content-Type": "text/plain; charset=utf-8", "Retry-After": RETRY_AFTER, "Cache-Control": "no-store"}
    )
    response.set_data(UNAVAILABLE)
