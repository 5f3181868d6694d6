"""The app: an ordinary Flask app with `FlaskSessions`.

The store's URL (``STORE``) and the secret (``SESSION_SECRET``) come from the environment.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from flask import Flask, Response, render_template, request, session
from flask_wtf import CSRFProtect
from prometheus_client import CollectorRegistry
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from wsgisession.flask import FlaskSessions
from wsgisession.metrics import Metrics
from wsgisession.observed import ObservedStore

from . import account, admin, cart, devices, figures, fixation, inside, live, receipt, theft
from .guesses import Guesses
from .users import Users

IS_OVER_TLS = bool(os.environ.get("TLS"))
"""Whether the demo itself serves https: then it binds sessions to devices."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def create_app(**settings: Any) -> Flask:
    """Create the app.

    :param settings: take precedence over the environment.
    """
    app = Flask(__name__, instance_path=str(Path(__file__).resolve().with_name("instance")))
    app.config.from_mapping(
        SECRET_KEY=os.environ.get("SESSION_SECRET"),
        SESSION_COOKIE_NAME="sid",
        SESSION_STORE=os.environ.get("STORE", "memory://"),
        SESSION_IDLE_TIMEOUT=timedelta(seconds=float(os.environ.get("IDLE_TIMEOUT", "900"))),
        SESSION_ABSOLUTE_TIMEOUT=timedelta(hours=8),
        SESSION_TRACK_CLIENT=True,
        SESSION_ON_STORE_ERROR="unavailable",
        SESSION_REFRESH_EACH_REQUEST=False,
        SESSION_DEVICE_BINDING=IS_OVER_TLS,
        PERMANENT_SESSION_LIFETIME=timedelta(days=14),
        FRESH_FOR=timedelta(minutes=10),
        WTF_CSRF_TIME_LIMIT=None,  # a token lives as long as its session
        USERS=Path(app.instance_path) / "users.db",
    )
    app.config.update(settings)
    metrics = Metrics(CollectorRegistry())
    app.config["SESSION_STORE"] = ObservedStore(metrics.observed(app.config["SESSION_STORE"]), receipt.metered)
    app.config["SESSION_ON_EVENT"] = [metrics, receipt.note_event]
    FlaskSessions(app)
    CSRFProtect(app)
    live.socketio.init_app(app)
    app.extensions["users"] = Users(Path(app.config["USERS"]))
    app.extensions["guesses"] = Guesses(Path(app.config["USERS"]))
    for pages in (account, cart, devices, admin, live, inside, fixation, theft):
        app.register_blueprint(pages.pages)
    app.add_url_rule("/", "home", home)
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {"/metrics": figures.OnlyFromThisMachine(metrics.app)}
    )
    app.after_request(protect)
    app.after_request(receipt.append)
    app.register_error_handler(HTTPException, refuse)
    app.add_template_filter(ago)
    app.add_template_global(has_ended)
    return app


def home() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return render_template("home.html")


def has_ended() -> bool:
    """Say whether the browser sent the cookie of a session that no longer exists, to explain what happened to it."""
    return session.is_new and "rejected" in receipt.current().events


def protect(response: Response) -> Response:
    """Add the headers of every response. No page stays in the browser's cache for the next user of the machine."""
    response.headers.extend(HEADERS)
    if request.is_secure and not IS_OVER_TLS:  # which would keep this machine's other sites from using http
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if request.endpoint != "static":
        response.cache_control.no_store = True
    return response


def refuse(error: HTTPException) -> tuple[str, int]:
    """Show an error page with the site's own layout."""
    return render_template("refused.html", error=error), error.code or 500


def ago(moment: datetime) -> str:
    """Say how long ago a moment was, in one unit."""
    minutes = (datetime.now(timezone.utc) - moment) // timedelta(minutes=1)
    if minutes < 1:
        return "just now"
    return f"{minutes} min ago" if minutes < 60 else f"{minutes // 60} h ago"
