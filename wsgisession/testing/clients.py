"""A test client whose visitor is logged in, for werkzeug and Flask: `logged_in`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from werkzeug.test import Client, create_environ

from ..errors import ConfigurationError
from ..manager import SessionManager
from ..session import Session
from ..wsgi.middleware import SessionMiddleware


def logged_in(target: Any, /, user_id: Any, *, manager: SessionManager | None = None, **data: Any) -> Any:
    """Give a test client the cookie of a new session that is logged in, and return the client.

    :param target: a test client of werkzeug's or Flask's, or an app to make one for.
    :param user_id: whose session it is, as in `Session.login`.
    :param manager: left out: that of the app's `SessionMiddleware` or ``FlaskSessions``.
    :param data: what else the session holds.
    :raises ConfigurationError: where the app has no sessions.
    """
    client = target if isinstance(target, Client) else _client_for(target)
    manager = manager or _manager_of(client.application)
    session: Session = manager.open("", create_environ())
    session.login(user_id, **data)
    reply = manager.commit(session, create_environ())
    assert reply.set_cookie is not None
    name, _, value = reply.set_cookie.partition(";")[0].partition("=")
    options = session.cookie
    domain = options.domain or _host_of(client.application)
    client.set_cookie(name, value, domain=domain, origin_only=options.domain is None, path=options.path)
    return client


def _client_for(app: Any) -> Any:
    return app.test_client() if hasattr(app, "test_client") else Client(app)


def _manager_of(app: Any) -> SessionManager:
    """Return the manager whose session a request to the app has: of a middleware before Flask's own."""
    layers = list(_layers(app))
    for layer in layers:
        if isinstance(layer, SessionMiddleware):
            return layer.manager
    for layer in layers:
        if "wsgisession" in getattr(layer, "extensions", ()):
            with layer.app_context():
                manager: SessionManager = layer.extensions["wsgisession"].manager
            return manager
    raise ConfigurationError(
        "this app has no sessions to log in to: wrap it in SessionMiddleware, call FlaskSessions(app), or pass manager="
    )


def _layers(app: Any) -> Iterator[Any]:
    while app is not None:
        yield app
        app = next((getattr(app, name) for name in ("wsgi_app", "app", "__wrapped__") if hasattr(app, name)), None)


def _host_of(app: Any) -> str:
    """Return where the client's requests go: Flask's SERVER_NAME where it has one."""
    name = next((layer.config.get("SERVER_NAME") for layer in _layers(app) if hasattr(layer, "test_client")), None)
    return str(name or "localhost").partition(":")[0]
