"""A small Flask app for the tests, with and without our sessions."""

from __future__ import annotations

from typing import Any

from flask import Flask, request, session

from wsgisession.flask import FlaskSessions

SECRET = "a secret that is long enough"
OLD = "the secret of last year, long enough"


def make_app(secret: str | None = SECRET, **settings: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": secret, **settings})

    @app.get("/")
    def untouched() -> str:
        return "hello"

    @app.get("/put")
    def put() -> str:
        session.update(request.args)
        return "put"

    @app.get("/get")
    def get() -> dict[str, Any]:
        return dict(session)

    @app.get("/clear")
    def clear() -> str:
        session.clear()
        return "cleared"

    return app


def app_with_sessions(secret: str | None = SECRET, *, options: dict[str, Any] | None = None, **settings: Any) -> Flask:
    app = make_app(secret, **settings)
    FlaskSessions(app, **(options or {}))
    return app


def attributes(response: Any) -> dict[str, str]:
    """The attributes of the only Set-Cookie, with the cookie's name and value first."""
    (cookie,) = response.headers.getlist("Set-Cookie")
    pairs = [part.strip().partition("=") for part in cookie.split(";")]
    return {name: value for name, _, value in pairs}
