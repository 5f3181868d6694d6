"""What parallel requests of one session lose, here and elsewhere: ``python -m benchmarks.races``.

Needs ``pip install flask flask-session beaker``. Each library keeps its sessions in one Redis. Keys: 48 rounds of 8
parallel requests, each of which sets a key of its own. Logouts: 100 times, a slow request that changes the session is
on its way while the session is logged out; the cookie is sent again afterwards, and should open nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import redis
from beaker.middleware import SessionMiddleware as BeakerMiddleware
from flask_session import Session as FlaskSession
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from tests import servers
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
    server = servers.Redis().start()
    try:
        print(f"{'sessions in Redis':16} {'lost of 384 keys':>18} {'undone of 100 logouts':>24}")
        for name, make in {
            "wsgisession": wsgisession_app,
            "Flask-Session": flask_session_app,
            "Beaker": beaker_app,
        }.items():
            app = make(server.url)
            print(f"{name:16} {lost_keys(app):>18} {undone_logouts(app):>24}")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
