"""What is measured: this library, its peers, and what one writes by hand, each behind the smallest adapter.

A subject makes a WSGI app from a store's URL and a `Stage`, which uses the app's session as the scenario says.
"""

from __future__ import annotations

import hmac
import itertools
import json
import secrets
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import django
import flask
import flask_session
import psycopg
import redis
from beaker.middleware import SessionMiddleware as BeakerMiddleware
from cachelib import SimpleCache
from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangoMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.core.management import call_command
from django.http import HttpResponse

from wsgisession import SessionMiddleware, get_session
from wsgisession.flask import FlaskSessions

SECRET = "a secret for the benchmarks alone"
DAY = 86_400
TWO_WEEKS = 14 * DAY
"""How long browsers keep the cookie, as those of most shops do."""

App = Callable[[dict[str, Any], Any], Any]
Act = Callable[[Any], object]

DATA: dict[str, Any] = {
    "user_id": "u-1234567",
    "name": "Ada Lovelace",
    "roles": ["admin", "staff"],
    "cart": {"items": [{"sku": "A1", "n": 2}, {"sku": "B2", "n": 1}], "total": 12.5},
    "csrf": "0123456789abcdef0123456789abcdef",
    "seen": True,
    "n": 17,
}


def read(session: Any) -> None:
    session.get("name")


def read_nested(session: Any) -> None:
    session["lines"][-1]["price"]


READS = (None, read, read_nested)
"""What changes nothing, for libraries that must be told to save."""


def write(session: Any) -> None:
    session["n"] = session["n"] + 1


_users = itertools.count(1_000_000)


def log_in(session: Any) -> None:
    """Log in another user each time, with a new session ID where the library has a way to say so."""
    user = f"u-{next(_users)}"
    if hasattr(session, "login"):
        session.login(user, name="Ada Lovelace")
    else:
        session.update({"user_id": user, "name": "Ada Lovelace"})


def fill(session: Any) -> None:
    session.update(data_of(0))


def data_of(number: int, size: int = 0) -> dict[str, Any]:
    """Return what one session of many holds, equal to no other: 220 bytes, and a long cart up to this many bytes."""
    name, csrf = f"Ada Lovelace {number:06}", f"{number * 2654435761 % 2**32:08x}" * 4
    own = {**DATA, "user_id": f"u-{number:07}", "name": name, "csrf": csrf, "n": number}
    line = {"sku": "A-1234567", "title": "A book of some sort", "n": 2, "price": 12.5, "tags": ["new", "paper"]}
    count = size // len(json.dumps(line, separators=(",", ":")))
    return {**own, "lines": [dict(line, sku=f"A-{number + each:07}") for each in range(count)]} if count else own


def filling(number: int, size: int) -> Act:
    return lambda session: session.update(data_of(number, size))


class Stage:
    """Takes the place of a view in the app."""

    act: Act | None = None

    def __call__(self, session: Any) -> None:
        if self.act is not None:
            self.act(session)


def answer(start_response: Any, *headers: tuple[str, str]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), *headers])
    return [b"hi"]


# Any WSGI app


def bare_app(stage: Stage, url: str) -> App:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        stage(None)
        return answer(start_response)

    return app


def own_app(stage: Stage, url: str) -> SessionMiddleware:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        stage(get_session(environ))
        return answer(start_response)

    return SessionMiddleware(app, secret=SECRET, store=url, cookie={"max_age": TWO_WEEKS})


def beaker_app(stage: Stage, url: str) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        stage(session)
        if stage.act not in READS:
            session.save()
        return answer(start_response)

    kind = {"session.type": "ext:redis", "session.url": url} if url.startswith("redis") else {"session.type": "memory"}
    cookie = {"session.secret": SECRET, "session.cookie_expires": TWO_WEEKS}
    return BeakerMiddleware(app, {**kind, **cookie, "session.lock_dir": "/tmp"})


class HandMade:
    """A dict that is loaded when it is looked at: no conflicts, no timeouts, no user index, no types beyond JSON."""

    def __init__(self, load: Callable[[str], Any], header: str) -> None:
        self._load = load
        self._cookie = header.partition("sid=")[2].partition(";")[0]
        self._data: dict[str, Any] | None = None
        self.id, self.is_changed = "", False

    @property
    def data(self) -> dict[str, Any]:
        if self._data is None:
            self._data = self._stored() if self._cookie else {}
        return self._data

    def _stored(self) -> dict[str, Any]:
        found, _, signature = self._cookie.partition(".")
        if not hmac.compare_digest(signature, signature_of(found)):
            return {}
        self.id = found
        text = self._load(self.id)
        return json.loads(text) if text else {}

    def get(self, key: str) -> Any:
        return self.data.get(key)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.data[key] = value
        self.is_changed = True

    def update(self, others: dict[str, Any]) -> None:
        self.data.update(others)
        self.is_changed = True


def signature_of(value: str) -> str:
    return urlsafe_b64encode(hmac.digest(SECRET.encode(), value.encode(), "sha256")).decode()


def hand_made_app(stage: Stage, url: str) -> App:
    load, save = DRIVERS[urlsplit(url).scheme](url)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = HandMade(load, environ.get("HTTP_COOKIE", ""))
        stage(session)
        if not session.is_changed:
            return answer(start_response)
        session.id = session.id or secrets.token_urlsafe(32)
        save(session.id, json.dumps(session.data))
        value = f"{session.id}.{signature_of(session.id)}"
        cookie = f"sid={value}; Max-Age={TWO_WEEKS}; HttpOnly; Path=/; SameSite=Lax"
        return answer(start_response, ("Set-Cookie", cookie))

    return app


TABLE = "CREATE TABLE IF NOT EXISTS hand (id text PRIMARY KEY, data text)"
UPSERT = "INSERT INTO hand VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET data = excluded.data"

Driver = tuple[Callable[[str], Any], Callable[[str, str], object]]


def in_memory(url: str) -> Driver:
    records: dict[str, str] = {}
    return records.get, records.__setitem__


def in_sqlite(url: str) -> Driver:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    connection.executescript(f"PRAGMA journal_mode = wal; PRAGMA synchronous = normal; {TABLE};")

    def load(key: str) -> Any:
        row = connection.execute("SELECT data FROM hand WHERE id = ?", (key,)).fetchone()
        return row and row[0]

    return load, lambda key, text: connection.execute(UPSERT.replace("%s", "?"), (key, text))


def in_redis(url: str) -> Driver:
    client = redis.Redis.from_url(url)
    return lambda key: client.getex(f"hand:{key}", ex=DAY), lambda key, text: client.setex(f"hand:{key}", DAY, text)


def in_postgresql(url: str) -> Driver:
    connection = psycopg.connect(url, autocommit=True)
    connection.execute(TABLE)

    def load(key: str) -> Any:
        row = connection.execute("SELECT data FROM hand WHERE id = %s", (key,)).fetchone()
        return row and row[0]

    return load, lambda key, text: connection.execute(UPSERT, (key, text))


DRIVERS = {"memory": in_memory, "sqlite": in_sqlite, "redis": in_redis, "postgresql": in_postgresql}


# Flask


def flask_app(stage: Stage, setup: Callable[[flask.Flask], object]) -> flask.Flask:
    app = flask.Flask("benchmark")
    setup(app)

    @app.route("/")
    def show() -> str:
        stage(flask.session)
        return "hi"

    return app


def bare_flask_app(stage: Stage, url: str) -> flask.Flask:
    return flask_app(stage, lambda app: None)  # without a secret there is no session


def own_flask_app(stage: Stage, url: str) -> flask.Flask:
    cookie = {"max_age": TWO_WEEKS}
    return flask_app(stage, lambda app: FlaskSessions(app, secret=SECRET, store=url, cookie=cookie))


def flask_cookie_app(stage: Stage, url: str) -> flask.Flask:
    return flask_app(stage, lambda app: app.config.update(SECRET_KEY=SECRET))


def flask_session_app(stage: Stage, url: str) -> flask.Flask:
    def setup(app: flask.Flask) -> None:
        if url.startswith("redis"):
            app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(url))
        else:
            app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache(threshold=0))
        flask_session.Session(app)

    return flask_app(stage, setup)


# Django: its request, its response and its session middleware, without URLs and views


def django_app(stage: Stage, middleware: Any) -> App:
    def view(request: Any) -> HttpResponse:
        stage(getattr(request, "session", None))
        return HttpResponse(b"hi", content_type="text/plain")

    handle = middleware(view)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        response = handle(WSGIRequest(environ))
        cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
        start_response("200 OK", [*response.items(), *cookies])
        return response

    return app


def configure_django(url: str) -> None:
    """Set Django up for the one store that this process measures."""
    parts = urlsplit(url)
    backend = "redis.RedisCache" if parts.scheme == "redis" else "locmem.LocMemCache"
    cache = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": url}
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres"}
    settings.configure(
        SECRET_KEY=SECRET,
        CACHES={"default": cache},
        DATABASES={"default": {**database, "HOST": parts.hostname, "PORT": parts.port, "CONN_MAX_AGE": None}},
        INSTALLED_APPS=["django.contrib.sessions"],
        WSGISESSION={"store": url},
    )
    django.setup()
    if parts.scheme == "postgresql":
        call_command("migrate", verbosity=0)


def django_with(engine: str) -> Callable[[Stage, str], App]:
    def make(stage: Stage, url: str) -> App:
        if not settings.configured:
            configure_django(url)
        its_own = "db" if url.startswith("postgresql") else "cache"
        settings.SESSION_ENGINE = engine or f"django.contrib.sessions.backends.{its_own}"
        return django_app(stage, DjangoMiddleware)

    return make


def bare_django_app(stage: Stage, url: str) -> App:
    if not settings.configured:
        configure_django(url)
    return django_app(stage, lambda view: view)


@dataclass(frozen=True)
class Subject:
    """A library, the bare app that its cost is counted over, and the schemes of the stores it is measured on."""

    make: Callable[[Stage, str], App]
    over: str
    schemes: tuple[str, ...] = ("memory", "redis", "postgresql")


EVERYWHERE = ("memory", "sqlite", "redis", "postgresql")


BARE: Mapping[str, Callable[[Stage, str], App]] = {
    "WSGI": bare_app,
    "Flask": bare_flask_app,
    "Django": bare_django_app,
}

SUBJECTS: Mapping[str, Subject] = {
    "wsgisession": Subject(own_app, "WSGI", EVERYWHERE),
    "by hand": Subject(hand_made_app, "WSGI", EVERYWHERE),
    "Beaker": Subject(beaker_app, "WSGI", ("memory", "redis")),
    "wsgisession in Flask": Subject(own_flask_app, "Flask", EVERYWHERE),
    "Flask-Session": Subject(flask_session_app, "Flask", ("memory", "redis")),
    "Flask's cookie": Subject(flask_cookie_app, "Flask"),
    "wsgisession in Django": Subject(django_with("wsgisession.django"), "Django", EVERYWHERE),
    "Django": Subject(django_with(""), "Django"),
}
