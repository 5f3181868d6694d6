"""What parallel requests of one session lose, here and elsewhere: ``python -m benchmarks.races``.

Needs what ``make bench`` installs, and Node.js for express-session. Each library keeps its sessions in one Redis. Keys:
48 rounds of 8 parallel requests, each of which sets its own key. Logouts: 100 times, a slow request that changes
the session is on its way while the session is logged out; the cookie is sent again afterwards, and should open nothing.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
import flask
import redis
from beaker.middleware import SessionMiddleware as BeakerMiddleware
from django.conf import settings
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware as DjangoMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from flask_session import Session as FlaskSession
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from tests import servers
from tests.express.peer import Node
from wsgisession import SessionMiddleware, get_session

ROUNDS, PARALLEL, LOGOUTS = 48, 8, 100
WORK = 0.005
"""Seconds that a request works between its read and its write."""

SECRET = "a secret for the benchmarks alone"


def app_with(session_of: Callable[[Any], Any], end: Callable[[Any], object], *, saves: bool = False) -> Any:
    """An app that does to its session what the URL says."""

    @Request.application
    def app(request: Request) -> Response:
        session = session_of(request.environ)
        if request.path == "/logout":
            end(session)
        elif request.path == "/set":
            session.get("user")
            time.sleep(WORK)
            session[request.args["key"]] = 1
            if saves:
                session.save()
        return Response(",".join(sorted(key for key in session if not key.startswith("_"))))

    return app


def wsgisession_app(url: str) -> Any:
    return SessionMiddleware(app_with(get_session, lambda session: session.logout()), secret=SECRET, store=url)


def beaker_app(url: str) -> Any:
    options = {"session.type": "ext:redis", "session.url": url, "session.cookie_expires": True, "session.auto": True}
    app = app_with(lambda environ: environ["beaker.session"], lambda session: session.delete(), saves=True)
    return BeakerMiddleware(app, {**options, "session.secret": SECRET, "session.lock_dir": "/tmp"})


def flask_session_app(url: str) -> Any:
    app = flask.Flask("flask-session")
    app.config.update(SECRET_KEY=SECRET, SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(url))
    FlaskSession(app)

    @app.route("/set")
    def set_key() -> str:
        flask.session.get("user")
        time.sleep(WORK)
        flask.session[flask.request.args["key"]] = 1
        return ""

    @app.route("/logout")
    def logout() -> str:
        flask.session.clear()
        return ""

    @app.route("/")
    def show() -> str:
        return ",".join(sorted(key for key in flask.session if not key.startswith("_")))

    return app


def django_app(url: str) -> Any:
    cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}
    engine = "django.contrib.sessions.backends.cache"
    settings.configure(SECRET_KEY=SECRET, CACHES={"default": cache}, SESSION_ENGINE=engine)
    django.setup()

    def view(request: Any) -> HttpResponse:
        session = request.session
        if request.path == "/logout":
            session.flush()
        elif request.path == "/set":
            session.get("user")
            time.sleep(WORK)
            session[request.GET["key"]] = 1
        return HttpResponse(",".join(sorted(session.keys())))

    handle = DjangoMiddleware(view)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        try:
            response = handle(WSGIRequest(environ))
        except SessionInterrupted as error:
            response = HttpResponse(str(error), status=400)
        cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
        start_response(f"{response.status_code} .", [*response.items(), *cookies])
        return response

    return app


def express_app(url: str) -> Any:
    """Hand each request on to an app on the real express-session."""
    node = Node().start()
    atexit.register(node.stop)
    session = {"secret": SECRET, "resave": False, "saveUninitialized": False}
    _, _, number = node.ask("POST", "/apps", {"store": {"kind": "redis", "url": url}, "session": session})

    @Request.application
    def app(request: Request) -> Response:
        wait, key = ["wait", WORK * 1000], request.args.get("key")
        steps = {"/set": [["get"], wait, ["set", key, 1]], "/logout": [["destroy"]], "/": [["get"]]}[request.path]
        _, cookies, answer = node.ask("POST", f"/apps/{number}/visit", steps, Cookie=request.headers.get("Cookie", ""))
        return Response(",".join(answer["data"] or {}), headers=[("Set-Cookie", cookie) for cookie in cookies])

    return app


def with_cookie(app: Any, header: str, path: str) -> str:
    return Client(app, use_cookies=False).get(path, headers={"Cookie": header}).text


def visitor(app: Any) -> str:
    response = Client(app, use_cookies=False).get("/set?key=user")
    return response.headers["Set-Cookie"].partition(";")[0]


def lost_keys(app: Any) -> int:
    lost = 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        for number in range(ROUNDS):
            cookie = visitor(app)
            keys = [f"k{number}-{one}" for one in range(PARALLEL)]
            list(pool.map(lambda key, cookie=cookie: with_cookie(app, cookie, f"/set?key={key}"), keys))
            there = set(with_cookie(app, cookie, "/").split(","))
            lost += len(set(keys) - there)
    return lost


def undone_logouts(app: Any) -> int:
    undone = 0
    for _ in range(LOGOUTS):
        cookie = visitor(app)
        slow = threading.Thread(target=with_cookie, args=(app, cookie, "/set?key=late"))
        slow.start()
        time.sleep(WORK / 3)
        with_cookie(app, cookie, "/logout")
        slow.join()
        undone += bool(with_cookie(app, cookie, "/"))
    return undone


def main() -> None:
    logging.getLogger("wsgisession").setLevel(logging.ERROR)  # which would tell of each logout that stood
    server = servers.Redis().start()
    try:
        print(f"{'sessions in Redis':16} {'lost of 384 keys':>18} {'undone of 100 logouts':>24}")
        for name, make in {
            "wsgisession": wsgisession_app,
            "Flask-Session": flask_session_app,
            "Beaker": beaker_app,
            "Django": django_app,
            "express-session": express_app,
        }.items():
            app = make(server.url)
            print(f"{name:16} {lost_keys(app):>18} {undone_logouts(app):>24}")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
