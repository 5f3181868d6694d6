"""`SessionMiddleware` as a WSGI citizen: what passes through arrives unharmed, and the write is before the headers."""

from __future__ import annotations

import io
import sys
import threading
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import Client

from tests.visits import SECRET, WatchedStore
from wsgisession import (
    HeadersSentError,
    SessionError,
    SessionManager,
    SessionMiddleware,
    StoreError,
    get_session,
)
from wsgisession.environ import KEY

PLAIN = [("Content-Type", "text/plain")]


class Server:
    """As little of a WSGI server as shows what the middleware hands to it, in order."""

    def __init__(self, app, store=None, cookie=None, **environ):
        self.app, self.log, self.cookie = app, [], cookie
        self.store = store
        self.extra = environ

    def environ(self):
        environ = {}
        setup_testing_defaults(environ)
        environ["wsgi.multiprocess"] = False
        if self.cookie:
            environ["HTTP_COOKIE"] = self.cookie
        environ.update(self.extra)
        return environ

    def start_response(self, status, headers, exc_info=None):
        if exc_info is not None and any(entry[0] == "headers" for entry in self.log):
            raise exc_info[1].with_traceback(exc_info[2])
        self.log.append(("headers", status, dict(headers)))
        return lambda data: self.log.append(("write", data))

    def run(self, environ=None):
        body = self.app(environ or self.environ(), self.start_response)
        try:
            for chunk in body:
                self.log.append(("chunk", chunk))
        finally:
            if hasattr(body, "close"):
                body.close()
            self.log.append(("closed",))
        for _, _, headers in (entry for entry in self.log if entry[0] == "headers"):
            if "Set-Cookie" in headers:
                self.cookie = headers["Set-Cookie"].partition(";")[0]
        return self.log

    @property
    def status(self):
        return next(entry[1] for entry in self.log if entry[0] == "headers")

    @property
    def headers(self):
        return next(entry[2] for entry in self.log if entry[0] == "headers")


def wrapped(app, store=None, **options):
    return SessionMiddleware(app, secret=SECRET, store=store or WatchedStore(), **options)


def visitor(store, **options):
    """A cookie whose session is in the store."""

    def app(environ, start_response):
        get_session(environ)["n"] = 1
        start_response("200 OK", PLAIN)
        return [b""]

    server = Server(wrapped(app, store, **options))
    server.run()
    return server.cookie


# Apps of every kind, between validators.


def touching(environ):
    session = get_session(environ)
    session["n"] = session.get("n", 0) + 1
    return str(session["n"]).encode()


def app_list(environ, start_response):
    body = touching(environ)
    start_response("200 OK", [*PLAIN, ("Content-Length", str(len(body)))])
    return [body]


def app_late(environ, start_response):
    body = touching(environ)
    start_response("200 OK", PLAIN)
    yield body
    yield b"more"


def app_write(environ, start_response):
    body = touching(environ)
    write = start_response("200 OK", PLAIN)
    write(body)
    write(b"more")
    return [b"and more"]


def app_empty_chunks(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b""
    yield touching(environ)
    yield b""


def app_error(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        raise RuntimeError("on the way")
    except RuntimeError:
        start_response("500 Internal Server Error", PLAIN, sys.exc_info())
    return [touching(environ)]


def app_nothing(environ, start_response):
    touching(environ)
    start_response("204 No Content", [])
    return []


def app_not_modified(environ, start_response):
    touching(environ)
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def app_file(environ, start_response):
    touching(environ)
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))


APPS = [
    app_list,
    app_late,
    app_write,
    app_empty_chunks,
    app_error,
    app_nothing,
    app_not_modified,
    app_file,
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("app", APPS)
def test_validators_inside_and_outside_have_nothing_to_say(app, method):
    if method == "HEAD" and app not in (app_list, app_nothing, app_not_modified):

        def headless(environ, start_response):
            touching(environ)
            start_response("200 OK", PLAIN)
            return []

        inner = headless
    else:
        inner = app
    client = Client(validator(wrapped(validator(inner))))
    for number in (1, 2):
        response = client.open("/", method=method, environ_overrides={"wsgi.file_wrapper": FileWrapper}, buffered=True)
        assert ("Set-Cookie" in response.headers) == (number == 1)


@pytest.mark.parametrize("app", [app_list, app_late, app_not_modified])
def test_werkzeugs_lint_has_nothing_to_say(app):
    client = Client(LintMiddleware(wrapped(LintMiddleware(app))))
    for _ in range(2):
        client.get("/", buffered=True)


# The order of things.


@pytest.mark.parametrize("app", [app_list, app_late, app_write, app_empty_chunks, app_error, app_file])
def test_the_write_comes_before_the_headers(app):
    store = WatchedStore()
    server = Server(wrapped(app, store), **{"wsgi.file_wrapper": FileWrapper})
    store.after["create"] = lambda: server.log.append("stored")
    log = server.run()
    assert log[0] == "stored"
    assert log[1][0] == "headers"
    assert "Set-Cookie" in log[1][2]


def test_a_generator_may_change_the_session_until_its_first_byte():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b""
        get_session(environ)["late"] = "but not too late"
        yield b"first"

    server = Server(wrapped(app))
    log = server.run()
    assert "Set-Cookie" in log[0][2]
    assert log[1] == ("chunk", b"first")


def test_a_list_is_returned_as_it_is():
    body = [b"as it is"]

    def app(environ, start_response):
        touching(environ)
        start_response("200 OK", PLAIN)
        return body

    middleware = wrapped(app)
    server = Server(middleware)
    assert middleware(server.environ(), server.start_response) is body


def test_a_file_wrapper_is_returned_as_it_is_so_that_the_server_may_use_sendfile():
    middleware = wrapped(app_file)
    server = Server(middleware, **{"wsgi.file_wrapper": FileWrapper})
    assert type(middleware(server.environ(), server.start_response)) is FileWrapper


def test_start_response_twice_without_exc_info_is_refused():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        start_response("200 OK", PLAIN)
        return []

    with pytest.raises(AssertionError, match="twice"):
        Server(wrapped(app)).run()


def test_an_error_after_the_headers_reaches_the_server():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"first"
        try:
            raise RuntimeError("too late")
        except RuntimeError:
            start_response("500 Internal Server Error", PLAIN, sys.exc_info())

    with pytest.raises(RuntimeError, match="too late"):
        Server(wrapped(app)).run()


@pytest.mark.parametrize("when", ["in the call", "before the first byte", "after it"])
def test_an_app_that_raises_is_heard_and_its_body_is_closed_once(when):
    closed = []

    class Body:
        def __iter__(self):
            if when == "before the first byte":
                raise RuntimeError(when)
            yield b"first"
            raise RuntimeError(when)

        def close(self):
            closed.append(1)

    def app(environ, start_response):
        get_session(environ)["a"] = 1
        start_response("200 OK", PLAIN)
        if when == "in the call":
            raise RuntimeError(when)
        return Body()

    store = WatchedStore()
    server = Server(wrapped(app, store))
    with pytest.raises(RuntimeError, match=when):
        server.run()
    assert len(closed) == (0 if when == "in the call" else 1)
    assert bool(store.handles) == (when == "after it")


def test_close_reaches_the_app_exactly_once():
    closed = []

    class Body:
        def __iter__(self):
            return iter([b"a", b"b"])

        def close(self):
            closed.append(1)

    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return Body()

    server = Server(wrapped(app))
    body = server.app(server.environ(), server.start_response)
    assert next(iter(body)) == b"a"
    body.close()  # the client went away
    body.close()
    assert closed == [1]


def test_a_record_whose_cookie_never_left_is_taken_back():
    def app(environ, start_response):
        session = get_session(environ)
        session["a"] = 1
        session.save()
        raise RuntimeError("after the save")

    store = WatchedStore()
    with pytest.raises(RuntimeError):
        Server(wrapped(app, store)).run()
    assert store.handles == set()


def test_the_apps_own_headers_are_kept():
    def app(environ, start_response):
        touching(environ)
        own = [("Set-Cookie", "theme=dark"), ("Vary", "Accept"), ("Cache-Control", "public, max-age=60"), *PLAIN]
        start_response("200 OK", own)
        return [b""]

    response = Client(wrapped(app)).get("/")
    assert response.headers.getlist("Set-Cookie")[0] == "theme=dark"
    assert response.headers.getlist("Vary") == ["Accept, Cookie"]
    assert response.headers.getlist("Cache-Control") == ["private, max-age=60"]


# While the body streams.


def streaming(change):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"first"
        change(get_session(environ))
        yield b"second"

    return app


def test_a_change_while_the_body_streams_is_saved_at_the_end_of_it():
    store = WatchedStore()
    cookie = visitor(store)
    server = Server(wrapped(streaming(lambda session: session.update(late=1)), store), cookie=cookie)
    server.run()
    found = []
    Server(wrapped(streaming(lambda session: found.append(dict(session))), store), cookie=cookie).run()
    assert found == [{"n": 1, "late": 1}]


def test_a_new_session_cannot_begin_after_the_headers():
    errors = []

    def change(session):
        for act in (lambda: session.update(a=1), session.regenerate, lambda: session.login("ada"), session.save):
            with pytest.raises(HeadersSentError) as caught:
                act()
            errors.append(caught.value)

    store = WatchedStore()
    Server(wrapped(streaming(change), store)).run()
    assert len(errors) == 4
    assert store.handles == set()


def test_a_session_can_be_ended_while_the_body_streams():
    store = WatchedStore()
    cookie = visitor(store)
    Server(wrapped(streaming(lambda session: session.destroy()), store), cookie=cookie).run()
    assert store.handles == set()


# Scopes.


def test_a_request_outside_the_cookies_path_has_no_session():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return [touching(environ) if KEY in environ else b"none"]

    client = Client(wrapped(app, cookie={"path": "/admin"}))
    assert [client.get(path).text for path in ("/", "/administrator", "/admin", "/admin/users")] == [
        "none",
        "none",
        "1",
        "2",
    ]


def test_the_path_is_the_one_the_browser_sees():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return [touching(environ) if KEY in environ else b"none"]

    nothing = DispatcherMiddleware(app, {"/foo": wrapped(app, cookie={"path": "/foo/bar"})})
    client = Client(nothing)
    assert client.get("/foo/bar").text == "1"
    assert client.get("/foo/foo/bar").text == "none"


def test_get_session_says_how_to_wrap_the_app():
    with pytest.raises(SessionError, match="SessionMiddleware"):
        get_session({})


def test_two_middlewares_with_different_names_keep_two_sessions():
    def app(environ, start_response):
        inner, outer = get_session(environ), get_session(environ, "outer")
        assert inner is get_session(environ, "inner")
        assert inner is not outer
        inner["n"] = inner.get("n", 0) + 1
        outer["n"] = outer.get("n", 0) + 10
        start_response("200 OK", PLAIN)
        return [f"{inner['n']} {outer['n']}".encode()]

    client = Client(wrapped(wrapped(app, name="inner"), name="outer"))
    assert client.get("/").text == "1 10"
    assert client.get("/").text == "2 20"
    with pytest.raises(SessionError):
        get_session({}, "inner")


def test_setting_the_session_to_none_ends_the_innermost_only():
    stores = {"inner": WatchedStore(), "outer": WatchedStore()}

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/end":
            environ[KEY] = None
        else:
            get_session(environ)["a"] = get_session(environ, "outer")["a"] = 1
        start_response("200 OK", PLAIN)
        return [b""]

    inner = wrapped(app, stores["inner"], name="inner", unset="destroy")
    client = Client(wrapped(inner, stores["outer"], name="outer", unset="destroy"))
    client.get("/")
    client.get("/end")
    assert (len(stores["inner"].handles), len(stores["outer"].handles)) == (0, 1)


def test_a_middleware_wrapped_twice_is_one():
    manager = SessionManager(secret=SECRET, store=WatchedStore())
    client = Client(SessionMiddleware(SessionMiddleware(app_list, manager), manager))
    response = client.get("/")
    assert len(response.headers.getlist("Set-Cookie")) == 1
    assert client.get("/").text == "2"


def test_an_environ_that_is_used_again_gets_a_new_session():
    server = Server(wrapped(app_list))
    environ = server.environ()
    server.run(environ)
    server.run(environ)
    assert [entry[1] for entry in server.log if entry[0] == "chunk"] == [b"1", b"1"]


def test_a_manager_or_options_but_not_both():
    manager = SessionManager(secret=SECRET)
    assert SessionMiddleware(app_list, manager).manager is manager
    with pytest.raises(TypeError):
        SessionMiddleware(app_list, manager, name="x")


# A store that fails.


def down(*_, **__):
    raise StoreError("the store is down")


@pytest.mark.parametrize("app", [app_list, app_late, app_write, app_file])
@pytest.mark.parametrize("verb", ["load", "replace"])
@pytest.mark.parametrize("policy", ["raise", "unavailable"])
def test_a_store_that_is_down_is_never_a_success_nor_a_logout(app, verb, policy):
    store = WatchedStore()
    cookie = visitor(store)
    server = Server(wrapped(app, store, on_store_error=policy), cookie=cookie, **{"wsgi.file_wrapper": FileWrapper})
    setattr(store, verb, down)
    if policy == "raise":
        with pytest.raises(StoreError):
            server.run()
        assert not any(entry[0] == "headers" for entry in server.log)
        return
    server.run()
    assert server.status.startswith("503")
    assert server.headers["Retry-After"] == "5"
    assert "Set-Cookie" not in server.headers


def test_a_request_that_leaves_its_session_alone_goes_on_while_the_store_is_down():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return [b"fine"]

    store = WatchedStore()
    cookie = visitor(store)
    store.load = down
    server = Server(wrapped(app, store), cookie=cookie)
    server.run()
    assert server.status == "200 OK"
    assert not store.calls["load"]


# What is said to the operator.


def test_memory_behind_several_processes_is_warned_about_once(caplog):
    client = Client(SessionMiddleware(app_list, secret=SECRET))
    for _ in range(2):
        client.get("/", environ_overrides={"wsgi.multiprocess": True})
    assert [record.message for record in caplog.records if "several" in record.message] != []
    assert len([record for record in caplog.records if "several" in record.message]) == 1


def test_a_secure_cookie_over_plain_http_is_warned_about_once(caplog):
    client = Client(wrapped(app_list))
    for _ in range(2):
        client.delete_cookie("sid", domain="example.com")
        client.get("/", base_url="http://example.com/")
    assert len([record for record in caplog.records if "ProxyFix" in record.message]) == 1


# Threads.


def test_threads_never_see_each_others_sessions():
    """SECURITY 43."""
    middleware = wrapped(app_marker := lambda environ, start_response: _mark(environ, start_response))
    assert app_marker is middleware.app
    wrong = []

    def visit(number):
        server = Server(middleware, QUERY_STRING=str(number))
        for _ in range(100):
            server.log.clear()
            server.run()
            if ("chunk", str(number).encode()) not in server.log:
                wrong.append(number)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _mark(environ, start_response):
    session = get_session(environ)
    marker = session.setdefault("marker", environ["QUERY_STRING"])
    start_response("200 OK", PLAIN)
    return [marker.encode()]
