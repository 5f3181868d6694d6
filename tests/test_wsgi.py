"""`SessionMiddleware`: how an app is wrapped, which paths and middlewares have a session, and under which servers."""

from __future__ import annotations

import http.client
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.visits import SECRET, Site
from tests.wsgi_apps import (
    APPS,
    OK,
    TEXT,
    USED,
    USES,
    Browser,
    answering,
    data_of,
    generator,
    list_body,
    posted,
    put,
    reading,
    streaming,
    using,
    visiting,
)
from wsgisession import (
    Session,
    SessionError,
    SessionManager,
    SessionMiddleware,
    get_session,
)
from wsgisession.wsgi.environ import KEY


@pytest.fixture
def site() -> Site:
    return Site()


# Wrapping.


def test_a_middleware_makes_a_manager_of_its_options_or_takes_one(site):
    app = answering(put())
    assert SessionMiddleware(app, site.manager).manager is site.manager
    assert isinstance(SessionMiddleware(app, secret=SECRET, name="id").manager, SessionManager)
    with pytest.raises(TypeError, match="a manager or options, not both"):
        SessionMiddleware(app, site.manager, name="id")
    with pytest.raises(TypeError, match="has no option 'colour'"):
        SessionMiddleware(app, secret=SECRET, colour="red")
    with pytest.raises(TypeError, match="name a store with store="):
        SessionMiddleware(app, "memory://")


def test_the_session_is_in_the_environ_and_get_session_returns_it(site):
    seen = []

    def app(environ, start_response):
        seen.append((environ["wsgisession.session"], get_session(environ), get_session(environ, "sid")))
        start_response(OK, [])
        return []

    visiting(site, app).get()
    ((session, *others),) = seen
    assert isinstance(session, Session)
    assert all(other is session for other in others)


def test_without_a_middleware_get_session_says_how_to_wrap_the_app():
    with pytest.raises(SessionError, match=r"wrap the app, app = SessionMiddleware\(app, secret=...\)"):
        get_session({})


def test_a_middleware_of_another_name_is_not_the_one_that_was_meant(site):
    visiting(site, answering(put())).get()
    with pytest.raises(SessionError, match="no session"):
        get_session({KEY: site.manager.open("", {})}, "another")


def test_a_repr_shows_no_secret():
    middleware = SessionMiddleware(answering(put()), secret=SECRET, store="memory://")
    assert repr(middleware) == "<SessionMiddleware 'sid'>"


def test_the_client_is_known_from_the_environ_on_request():
    site = Site(track_client=True)
    visiting(site, answering(put(user_id="ann"))).get(REMOTE_ADDR="192.0.2.7", HTTP_USER_AGENT="Agent/1")
    (info,) = site.manager.sessions_for("ann")
    assert (info.ip_address, info.user_agent) == ("192.0.2.7", "Agent/1")


# Paths.


def says_whether_it_has_a_session(environ, start_response):
    start_response(OK, [TEXT])
    return [b"yes" if KEY in environ else b"no"]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/admin", b"yes"),
        ("/admin/", b"yes"),
        ("/admin/users", b"yes"),
        ("/administrator", b"no"),
        ("/Admin", b"no"),
        ("/", b"no"),
        ("/x/admin", b"no"),
    ],
)
def test_there_is_a_session_where_the_cookie_s_path_covers(path, answer):
    site = Site(cookie={"path": "/admin"})
    assert visiting(site, says_whether_it_has_a_session).get(path).body == answer


@pytest.mark.parametrize(("path", "answer"), [("/shop/cart", b"yes"), ("/shopping/cart", b"no"), ("/shop", b"yes")])
def test_the_cookie_s_path_covers_the_path_as_the_browser_sees_it(path, answer):
    site = Site(cookie={"path": "/shop"})
    inside = SessionMiddleware(says_whether_it_has_a_session, site.manager)
    mounted = DispatcherMiddleware(inside, {"/shop": inside, "/shopping": inside})
    assert Browser(mounted).get(path).body == answer


def test_an_app_mounted_inside_has_the_session_of_the_whole(site):
    mounted = DispatcherMiddleware(answering(put(outer=1)), {"/shop": answering(put(inner=1))})
    browser = visiting(site, mounted)
    browser.get("/")
    browser.get("/shop/cart")
    assert data_of(site, browser) == {"outer": 1, "inner": 1}


def test_outside_the_cookie_s_path_get_session_says_why():
    site = Site(cookie={"path": "/admin"})
    with pytest.raises(SessionError, match="check that the URL is inside the cookie's path"):
        visiting(site, answering(reading)).get("/")


def test_an_app_asked_for_nothing_has_the_path_of_the_root():
    site = Site(cookie={"path": "/admin"})
    assert visiting(site, says_whether_it_has_a_session).get(PATH_INFO="", SCRIPT_NAME="").body == b"no"


# Several middlewares.


def two(app: Any, **options: Any) -> tuple[Site, Site, Any]:
    outer, inner = Site(name="outer", **options), Site(name="inner", **options)
    return outer, inner, SessionMiddleware(SessionMiddleware(app, inner.manager), outer.manager)


@pytest.mark.parametrize("body", [[b"done"], iter([b"done"])], ids=["list", "stream"])
def test_two_middlewares_give_a_session_each(body):
    def app(environ, start_response):
        get_session(environ, "outer")["of"] = "outer"
        get_session(environ, "inner")["of"] = "inner"
        assert get_session(environ) is get_session(environ, "inner")
        start_response(OK, [TEXT])
        return body

    outer, inner, app = two(app)
    browser = Browser(app).get()
    assert browser.body == b"done"
    assert outer.browser(browser.cookies["outer"]).data == {"of": "outer"}
    assert inner.browser(browser.cookies["inner"]).data == {"of": "inner"}


def test_the_name_of_a_middleware_that_is_not_there_has_no_session():
    def app(environ, start_response):
        get_session(environ, "another")

    with pytest.raises(SessionError):
        Browser(two(app)[2]).get()


@pytest.mark.parametrize("drop", [lambda environ: environ.update({KEY: None}), lambda environ: environ.pop(KEY)])
def test_setting_the_session_to_none_destroys_that_of_the_innermost_middleware(drop):
    def start(environ, start_response):
        for name in ("outer", "inner"):
            get_session(environ, name)["n"] = 1
        start_response(OK, [TEXT])
        return [b"done"]

    def dropping(environ, start_response):
        drop(environ)
        start_response(OK, [TEXT])
        return [b"done"]

    outer, inner, app = two(start, unset="destroy")
    browser = Browser(app).get()
    browser.app = SessionMiddleware(SessionMiddleware(dropping, inner.manager), outer.manager)
    browser.get()
    assert list(browser.cookies) == ["outer"]
    assert len(outer.store.handles) == 1
    assert not inner.store.handles


@pytest.mark.parametrize("again", ["the same manager", "another manager"])
def test_a_middleware_wrapped_twice_is_transparent_inside(site, again):
    inner = site if again == "the same manager" else Site()
    seen = []

    def app(environ, start_response):
        seen.append(environ[KEY]._visit.services)
        return answering(put(n=1))(environ, start_response)

    browser = Browser(SessionMiddleware(SessionMiddleware(app, inner.manager), site.manager)).get()
    assert seen == [site.manager._services]
    assert len(browser.all("Set-Cookie")) == 1
    assert site.store.calls["create"] == 1
    assert data_of(site, browser) == {"n": 1}


@pytest.mark.parametrize("use", USES, ids=USED)
@pytest.mark.parametrize("app", [list_body, generator])
def test_an_environ_that_is_used_again_gets_its_own_session(site, app, use):
    seen = []

    def noting(environ, start_response):
        seen.append(get_session(environ))
        return using(use, app)(environ, start_response)

    browser = visiting(site, noting)
    environ = browser.request()
    browser.send(environ)
    browser.send(environ)
    assert seen[0] is not seen[1]


def test_an_environ_whose_client_left_at_once_gets_its_own_session_when_used_again(site):
    browser = visiting(site, streaming(put(n=1), b"done"))
    environ = browser.request()
    browser.send(environ, chunks=0)
    assert data_of(site, browser.send(environ)) == {"n": 1}


@pytest.mark.parametrize("app", [answering(put(n=1)), streaming(put(n=1), b"done")], ids=["list", "stream"])
def test_an_environ_that_is_used_again_writes_again(site, app):
    browser = visiting(site, app)
    environ = browser.request()
    browser.send(environ)
    assert len(site.store.handles) == 1
    browser.send(environ)
    assert len(site.store.handles) == 2


def test_two_middlewares_serve_an_environ_that_is_used_again():
    def app(environ, start_response):
        for name in ("outer", "inner"):
            session = get_session(environ, name)
            session["n"] = session.get("n", 0) + 1
        start_response(OK, [TEXT])
        return [b"done"]

    outer, inner, app = two(app)
    browser = Browser(app)
    environ = browser.request()
    browser.send(environ)
    browser.send(environ)
    assert len(outer.store.handles) == len(inner.store.handles) == 2


# Warnings.


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_memory_behind_several_processes_is_warned_about_once(site, caplog):
    browser = visiting(site, answering(lambda session: None))
    browser.get()
    assert not caplog.records
    for _ in range(3):
        browser.get(**{"wsgi.multiprocess": True})
    (warning,) = warnings_in(caplog)
    assert 'store="sqlite:///sessions.db"' in warning


def test_a_secure_cookie_over_plain_http_is_warned_about_once_with_the_fix(site, caplog):
    browser = visiting(site, answering(put(n=1)))
    insecure = {"wsgi.url_scheme": "http", "HTTP_HOST": "shop.example"}
    browser.get(**{**insecure, "HTTP_HOST": "localhost:8000"})
    assert not warnings_in(caplog)
    browser.app = SessionMiddleware(answering(lambda session: session.regenerate()), site.manager)
    for _ in range(3):
        browser.get(**insecure)
    (warning,) = warnings_in(caplog)
    assert "ProxyFix" in warning


def test_without_a_host_header_the_server_s_name_is_the_host(site):
    environ = visiting(site, answering(put(n=1))).request(**{"wsgi.url_scheme": "http", "SERVER_NAME": "127.0.0.1"})
    del environ["HTTP_HOST"]
    browser = visiting(site, answering(put(n=1))).send(environ)
    assert "Secure" not in browser.all("Set-Cookie")[0]


# Threads and servers.


@pytest.fixture
def impatient_threads():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("impatient_threads")
def test_no_visitor_ever_sees_another_s_session():
    """SECURITY 43: 32 threads of 200 requests each, at one middleware."""

    def app(environ, start_response):
        session = get_session(environ)
        marker = environ["QUERY_STRING"]
        found = session.setdefault("marker", marker)
        session["n"] = session.get("n", 0) + 1
        start_response(OK, [TEXT])
        if session["n"] % 2:
            return [f"{found} {session['n']}".encode()]
        return iter([f"{found} ".encode(), str(session["n"]).encode()])

    middleware = SessionMiddleware(app, secret=SECRET)
    ready = threading.Barrier(32)

    def visit(number: int) -> list[bytes]:
        browser = Browser(middleware)
        ready.wait()
        return [browser.get(f"/?{number}").body for _ in range(200)]

    with ThreadPoolExecutor(32) as threads:
        seen = list(threads.map(visit, range(32)))
    assert seen == [[f"{number} {n}".encode() for n in range(1, 201)] for number in range(32)]


class Handler(WSGIRequestHandler):
    """Answers without a line in the log, on connections that end."""

    def log_message(self, *_: Any) -> None:
        pass


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread."""

    daemon_threads = True


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Callable[..., Any]]]:
    """Serve an app with the standard library's server; return what asks it."""
    stops = []

    def start(app: Any) -> Callable[..., Any]:
        server = make_server("127.0.0.1", 0, app, ThreadingServer, Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stops.append(lambda: (server.shutdown(), thread.join(), server.server_close()))
        return lambda method, path, **headers: ask(server.server_port, method, path, headers)

    yield start
    for stop in stops:
        stop()


def ask(port: int, method: str, path: str, headers: dict[str, str]) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
    return SimpleNamespace(status=response.status, body=body, cookie=cookie)


@pytest.mark.parametrize("app", [app for app in APPS if app is not posted])
def test_the_standard_library_s_server_serves_every_kind_of_app(serve, app):
    site = Site()
    ask = serve(validator(SessionMiddleware(using(put(n=1), validator(app)), site.manager)))
    alone = Browser(app).get()
    response = ask("GET", "/")
    assert (response.status, response.body) == (int(alone.status.split()[0]), alone.body)
    assert site.browser(response.cookie.partition("=")[2]).data == {"n": 1}


def test_a_visitor_of_the_standard_library_s_server_is_known_again(serve):
    def count(environ, start_response):
        session = get_session(environ)
        session["n"] = session.get("n", 0) + 1
        start_response(OK, [TEXT])
        return [str(session["n"]).encode()]

    ask = serve(SessionMiddleware(count, secret=SECRET))
    cookie = ask("GET", "/").cookie
    assert [ask("GET", "/", Cookie=cookie).body for _ in range(3)] == [b"2", b"3", b"4"]
    assert ask("HEAD", "/", Cookie=cookie).body == b""
    assert ask("GET", "/", Cookie=cookie).body == b"6"
