"""`SessionMiddleware`: any app passes through it unharmed, and its session is stored before anyone sees success."""

from __future__ import annotations

import http.client
import io
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from socketserver import ThreadingMixIn
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import create_environ

from tests.visits import SECRET, Site
from wsgisession import (
    HeadersSentError,
    SerializationError,
    Session,
    SessionError,
    SessionGone,
    SessionManager,
    SessionMiddleware,
    StoreError,
    get_session,
)
from wsgisession.wsgi.environ import KEY

TEXT = ("Content-Type", "text/plain")
OK = "200 OK"

Environ = dict[str, Any]


class Failure(Exception):
    """What an app raises."""


class Browser:
    """A WSGI server as PEP 3333 has it, and the browser before it: it keeps cookies and notes what happened when.

    :ivar log: what the server did and was told, in order; apps and stores may write into it too.
    :ivar status: of the last response, or None where none began.
    """

    def __init__(self, app: Any, **environ: Any) -> None:
        self.app, self.environ = app, environ
        self.cookies: dict[str, str] = {}
        self.log: list[Any] = []

    def get(self, path: str = "/", **environ: Any) -> Browser:
        return self.send(self.request(path, **environ))

    def request(self, path: str = "/", *, method: str = "GET", **environ: Any) -> Environ:
        made = create_environ(path, base_url="https://localhost/", method=method)
        made["wsgi.file_wrapper"] = FileWrapper
        if self.cookies:
            made["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {**made, **self.environ, **environ}

    def send(self, environ: Environ, *, chunks: int | None = None) -> Browser:
        """Send the request.

        :param chunks: after how many chunks of the body the client goes away; left out: it stays.
        """
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.body, self._sent = b"", False
        self.returned = self.app(environ, self.start_response)
        try:
            for chunk in itertools.islice(self.returned, chunks):
                assert self.status is not None, "the body came before the status"
                self.write(chunk)
            if chunks is None:
                assert self.status is not None, "the body ended before the status came"
        finally:
            getattr(self.returned, "close", lambda: None)()
            self.log.append("closed")
        return self

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        if exc_info is not None and self._sent:
            raise exc_info[1]
        assert exc_info is not None or self.status is None, "start_response was called twice"
        assert type(headers) is list
        self.status, self.headers = status, list(headers)
        self.log.append(status)
        for header in self.all("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return self.write

    def write(self, data: bytes) -> None:
        if data:
            self._sent = True
            self.body += data
            self.log.append(data)

    def all(self, name: str) -> list[str]:
        """Return the values of all headers of this name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@pytest.fixture
def site() -> Site:
    return Site()


def visiting(site: Site, app: Any, **environ: Any) -> Browser:
    return Browser(SessionMiddleware(app, site.manager), **environ)


def answering(use: Callable[[Session], object], body: Any = (b"done",)) -> Any:
    """Return an app that does this to its session, and answers."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        use(get_session(environ))
        start_response(OK, [TEXT])
        return list(body)

    return app


def streaming(*steps: Callable[[Session], object] | bytes) -> Any:
    """Return an app whose body is a generator that sends the bytes and does the rest to its session, in this order."""

    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        session = get_session(environ)
        start_response(OK, [TEXT])
        for step in steps:
            if isinstance(step, bytes):
                yield step
            else:
                step(session)

    return app


def put(**data: Any) -> Callable[[Session], None]:
    return lambda session: session.update(data)


def logged_in(site: Site, app: Any, **data: Any) -> Browser:
    """Return a browser that has a session already, and comes to this app."""
    browser = visiting(site, answering(put(**(data or {"n": 1}))))
    browser.get()
    browser.app = SessionMiddleware(app, site.manager)
    browser.log.clear()
    site.store.calls.clear()
    return browser


def data_of(site: Site, browser: Browser) -> dict[str, Any]:
    return site.browser(browser.cookies.get("sid", "")).data


def fail(*_: Any) -> None:
    raise Failure


def fail_at(site: Site, *verbs: str) -> None:
    """Make the store fail at the next call of each verb."""

    def down() -> None:
        raise StoreError("the store cannot be reached")

    site.store.before.update(dict.fromkeys(verbs, down))


class Body:
    """A body that counts how often it is closed."""

    def __init__(self, *chunks: bytes | Callable[[], object]) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        if callable(chunk):
            chunk()
            return b""
        return chunk

    def close(self) -> None:
        self.closed += 1


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


def test_the_session_stands_in_the_environ_and_get_session_returns_it(site):
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


# Every kind of app passes through unharmed.


def list_body(environ, start_response):
    start_response(OK, [TEXT, ("Content-Length", "4")])
    return [b"do", b"ne"]


def tuple_body(environ, start_response):
    start_response(OK, [TEXT])
    return (b"done",)


def empty_body(environ, start_response):
    start_response("303 See Other", [TEXT, ("Location", "https://localhost/")])
    return []


def generator(environ, start_response):
    start_response(OK, [TEXT])
    return (chunk for chunk in (b"do", b"ne"))


def late_generator(environ, start_response):
    start_response(OK, [TEXT])
    yield b"do"
    yield b"ne"


def empty_generator(environ, start_response):
    start_response(OK, [TEXT])
    return
    yield


def empty_chunks(environ, start_response):
    start_response(OK, [TEXT])
    return iter([b"", b"", b"done", b""])


def only_empty_chunks(environ, start_response):
    start_response(OK, [TEXT])
    return iter([b"", b""])


def written(environ, start_response):
    write = start_response(OK, [TEXT])
    write(b"")
    write(b"do")
    write(b"ne")
    return []


def written_and_more(environ, start_response):
    start_response(OK, [TEXT])(b"do")
    return [b"ne"]


def written_and_a_generator(environ, start_response):
    start_response(OK, [TEXT])(b"do")
    return iter([b"", b"ne"])


def no_content(environ, start_response):
    start_response("204 No Content", [("Content-Length", "0")])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"1"')])
    return iter(())


def started_again(environ, start_response):
    start_response(OK, [TEXT, ("X-First", "1")])
    try:
        fail()
    except Failure:
        start_response("500 Internal Server Error", [TEXT], sys.exc_info())
    return [b"sorry"]


def started_again_in_a_generator(environ, start_response):
    yield from started_again(environ, start_response)


def file_body(environ, start_response):
    start_response(OK, [TEXT])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"done"), 2)


def posted(environ, start_response):
    text = environ["wsgi.input"].read(4)
    start_response(OK, [TEXT])
    return [text]


APPS = [list_body, tuple_body, empty_body, generator, late_generator, empty_generator, empty_chunks]
APPS += [only_empty_chunks, written, written_and_more, written_and_a_generator, no_content, not_modified]
APPS += [started_again, started_again_in_a_generator, file_body, posted]
LINTS = [validator, LintMiddleware]
AROUND_AND_INSIDE = {  # the validator cannot stand inside of werkzeug's lint, whose input lacks a method
    "nothing": (None, None),
    "validator around": (validator, None),
    "validator inside": (None, validator),
    "validator on both sides": (validator, validator),
    "lint around": (LintMiddleware, None),
    "lint inside": (None, LintMiddleware),
    "lint on both sides": (LintMiddleware, LintMiddleware),
    "validator around and lint inside": (validator, LintMiddleware),
}


def reading(session: Session) -> None:
    session.get("n")


def ending(session: Session) -> None:
    session.destroy()


USES = [lambda session: None, reading, put(n=2), ending]
USED = ["untouched", "read", "changed", "destroyed"]


def using(use: Callable[[Session], object], app: Any) -> Any:
    def used(environ: Environ, start_response: Any) -> Any:
        use(get_session(environ))
        return app(environ, start_response)

    return used


def post() -> Environ:
    return {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"text"), "CONTENT_LENGTH": "4"}


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(("around", "inside"), AROUND_AND_INSIDE.values(), ids=AROUND_AND_INSIDE)
def test_an_app_answers_as_it_does_alone_and_by_the_rules_of_wsgi(app, around, inside):
    alone = Browser(app).get(**post())
    inner = app if inside is None else inside(app)
    for use in USES:
        browser = logged_in(Site(), using(use, inner))
        browser.app = browser.app if around is None else around(browser.app)
        browser.get(**post())
        assert (browser.status, browser.body) == (alone.status, alone.body)
        ours = ("vary", "set-cookie", "cache-control")
        assert [pair for pair in browser.headers if pair[0].lower() not in ours] == alone.headers


@pytest.mark.parametrize("lint", LINTS)
@pytest.mark.parametrize("use", USES, ids=USED)
def test_the_answer_to_head_has_no_body(site, lint, use):
    def head(environ, start_response):
        start_response(OK, [TEXT])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"done"]

    browser = logged_in(site, head)
    browser.app = lint(SessionMiddleware(using(use, lint(head)), site.manager))
    assert browser.get(method="HEAD").body == b""
    assert browser.status == OK


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("use", USES, ids=USED)
def test_a_list_or_tuple_is_returned_as_it_is(site, kind, use):
    body = kind([b"done"])

    def app(environ, start_response):
        start_response(OK, [TEXT])
        return body

    assert logged_in(site, using(use, app)).get().returned is body


@pytest.mark.parametrize("use", USES, ids=USED)
def test_the_server_gets_its_own_file_wrapper_back_so_that_sendfile_works(site, use):
    with io.BytesIO(b"done") as file:
        wrapped = FileWrapper(file)

        def app(environ, start_response):
            start_response(OK, [TEXT])
            return wrapped

        browser = logged_in(site, using(use, app)).get()
        assert browser.returned is wrapped
        assert browser.body == b"done"


def test_a_file_wrapper_that_is_a_function_does_no_harm(site):
    def app(environ, start_response):
        get_session(environ)["n"] = 1
        start_response(OK, [TEXT])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"done"))

    browser = visiting(site, app).get(**{"wsgi.file_wrapper": lambda file: iter([file.read()])})
    assert browser.body == b"done"
    assert data_of(site, browser) == {"n": 1}


def test_the_app_s_own_list_of_headers_is_not_touched(site):
    headers = [TEXT]

    def app(environ, start_response):
        get_session(environ)["n"] = 1
        start_response(OK, headers)
        return [b"done"]

    assert len(visiting(site, app).get().headers) == 4
    assert headers == [TEXT]


def test_the_app_s_own_headers_are_kept_and_merged_with(site):
    own = [("Vary", "Accept"), ("Cache-Control", "public, max-age=60"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]

    def app(environ, start_response):
        get_session(environ)["n"] = 1
        start_response(OK, [TEXT, *own])
        return [b"done"]

    browser = visiting(site, app).get()
    assert browser.all("Vary") == ["Accept, Cookie"]
    assert browser.all("Cache-Control") == ["private, max-age=60"]
    assert [cookie.partition("=")[0] for cookie in browser.all("Set-Cookie")] == ["a", "b", "sid"]


# The order of things.


def note_writes(site: Site, log: list[Any]) -> None:
    for verb in ("create", "replace", "delete"):
        site.store.after[verb] = lambda verb=verb: log.append(verb)


def writing(environ, start_response):
    get_session(environ)["n"] = 2
    start_response(OK, [TEXT])(b"done")
    return []


@pytest.mark.parametrize(
    "app", [answering(put(n=2)), streaming(put(n=2), b"done"), writing], ids=["list", "stream", "write"]
)
def test_the_session_is_stored_before_the_server_hears_of_a_response(site, app):
    new = visiting(site, app)
    note_writes(site, new.log)
    new.get()
    assert new.log == ["create", OK, b"done", "closed"]
    loaded = logged_in(site, app)
    note_writes(site, loaded.log)
    loaded.get()
    assert loaded.log == ["replace", OK, b"done", "closed"]


def test_the_new_record_is_there_and_the_old_one_gone_before_the_server_hears_of_a_login(site):
    browser = logged_in(site, answering(lambda session: session.login("ann")))
    note_writes(site, browser.log)
    browser.get()
    assert browser.log == ["create", "delete", OK, b"done", "closed"]


def test_a_generator_may_change_the_session_until_its_first_chunk(site):
    browser = visiting(site, streaming(put(n=1), b"done")).get()
    assert browser.body == b"done"
    assert data_of(site, browser) == {"n": 1}


def test_an_empty_first_chunk_sends_the_headers_and_a_stored_session_can_still_be_changed(site):
    browser = logged_in(site, streaming(b"", put(n=2), b"done"))
    browser.get()
    assert browser.log.index(OK) < browser.log.index(b"done")
    assert browser.body == b"done"
    assert data_of(site, browser)["n"] == 2


def test_an_empty_first_chunk_is_too_late_for_a_new_session(site):
    with pytest.raises(HeadersSentError):
        visiting(site, streaming(b"", put(n=1), b"done")).get()


@pytest.mark.parametrize("steps", [(b"done",), (b"", b"done"), (b"do", b"ne"), ()], ids=repr)
def test_a_server_that_takes_the_headers_when_the_call_returns_gets_them(site, steps):
    started = []
    body = SessionMiddleware(streaming(put(n=1), *steps), site.manager)(
        {**create_environ(), "SERVER_SOFTWARE": "Granian"}, lambda *response: started.append(response)
    )
    ((_, headers),) = started
    assert "Set-Cookie" in dict(headers)
    assert b"".join(body) == b"".join(steps)
    body.close()


def test_a_stream_that_fails_before_such_a_server_has_it_is_closed(site):
    class Body:
        closed = 0

        def __iter__(self):
            raise Failure

        def close(self):
            self.closed += 1

    body = Body()
    app = SessionMiddleware(lambda environ, start_response: start_response(OK, [TEXT]) and body, site.manager)
    with pytest.raises(Failure):
        app({**create_environ(), "SERVER_SOFTWARE": "Granian"}, lambda *response: None)
    assert body.closed == 1


def test_a_generator_without_a_chunk_may_change_the_session_until_its_end(site):
    browser = visiting(site, streaming(put(n=1))).get()
    assert browser.body == b""
    assert data_of(site, browser) == {"n": 1}


def test_an_empty_write_sends_no_headers_yet(site):
    def app(environ, start_response):
        write = start_response(OK, [TEXT])
        write(b"")
        get_session(environ)["n"] = 1
        write(b"done")
        return []

    assert data_of(site, visiting(site, app).get()) == {"n": 1}


def test_a_response_leaves_chunk_by_chunk_and_an_empty_one_among_them_stays(site):
    produced = []

    def app(environ, start_response):
        get_session(environ)["n"] = 1
        start_response(OK, [TEXT])
        for chunk in (b"a", b"", b"c"):
            produced.append(chunk)
            yield chunk

    browser = visiting(site, app)
    body = browser.app(browser.request(), lambda *_: print)
    for chunk in (b"a", b"", b"c"):
        assert next(body) == chunk
        assert produced[-1] == chunk
    body.close()


# After the headers left.


def written_then_changed(environ, start_response):
    start_response(OK, [TEXT])(b"done")
    get_session(environ)["late"] = True
    return []


@pytest.mark.parametrize("app", [streaming(b"done", put(late=True)), written_then_changed], ids=["stream", "write"])
def test_a_change_while_the_body_streams_is_saved_at_its_end(site, app):
    browser = logged_in(site, app)
    browser.get()
    assert data_of(site, browser) == {"n": 1, "late": True}


def test_a_change_while_the_body_of_a_new_session_streams_is_saved_too(site):
    browser = visiting(site, streaming(put(n=1), b"done", put(late=True))).get()
    assert data_of(site, browser) == {"n": 1, "late": True}


def test_a_change_while_the_body_streams_is_merged_with_what_others_wrote_meanwhile(site):
    browser = logged_in(site, None)
    other = site.browser(browser.cookies["sid"])
    browser.app = SessionMiddleware(streaming(b"done", put(late=True), lambda _: other.put(other=1)), site.manager)
    browser.get()
    assert data_of(site, browser) == {"n": 1, "late": True, "other": 1}


def test_a_change_in_the_body_s_close_is_saved(site):
    def app(environ, start_response):
        start_response(OK, [TEXT])
        try:
            yield b"a"
            yield b"b"
        finally:
            get_session(environ)["closed"] = True

    browser = logged_in(site, app)
    browser.send(browser.request(), chunks=1)
    assert data_of(site, browser) == {"n": 1, "closed": True}


@pytest.mark.parametrize(
    "use",
    [
        put(n=1),
        lambda session: session.setdefault("n", 1),
        lambda session: session.save(),
        lambda session: session.transaction(put(n=1)),
        lambda session: session.regenerate(),
        lambda session: session.login("ann"),
    ],
    ids=["assignment", "setdefault", "save", "transaction", "regenerate", "login"],
)
def test_a_new_session_after_the_headers_is_an_error_where_it_is_written(site, use):
    raised = []

    def late(session):
        with pytest.raises(HeadersSentError) as error:
            use(session)
        raised.append(error.value)

    browser = visiting(site, streaming(b"done", late)).get()
    assert len(raised) == 1
    assert not browser.cookies
    assert not site.store.handles


@pytest.mark.parametrize("use", [lambda s: s.regenerate(), lambda s: s.login("ann")], ids=["regenerate", "login"])
def test_a_new_id_after_the_headers_is_an_error_and_the_session_goes_on(site, use):
    def late(session):
        with pytest.raises(HeadersSentError):
            use(session)

    browser = logged_in(site, streaming(b"done", late)).get()
    assert data_of(site, browser) == {"n": 1}


def test_destroy_while_the_body_streams_ends_the_record(site):
    browser = logged_in(site, streaming(b"done", ending)).get()
    assert not site.store.handles
    assert "sid" in browser.cookies  # it opens nothing any more


def test_a_change_after_a_late_destroy_is_an_error_and_stored_nowhere(site):
    def late(session):
        session.destroy()
        with pytest.raises(HeadersSentError):
            session["n"] = 2

    logged_in(site, streaming(b"done", late)).get()
    assert not site.store.handles


def test_a_change_inside_a_session_that_was_never_stored_is_logged_and_lost(site, caplog):
    def app(environ, start_response):
        session = get_session(environ)
        session["cart"] = []
        environ[KEY] = None
        start_response(OK, [TEXT])
        yield b"done"
        session["cart"].append("tea")

    browser = visiting(site, app).get()
    assert not site.store.handles
    assert not browser.cookies
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "a new session was changed after the headers were sent; the changes are lost"
    ]


def test_a_late_change_of_a_session_that_ended_meanwhile_brings_nothing_back(site):
    browser = logged_in(site, None)
    handle = site.browser(browser.cookies["sid"]).handle
    steps = (put(n=2), b"done", put(late=True), lambda _: site.manager.revoke(handle))
    browser.app = SessionMiddleware(streaming(*steps), site.manager)
    browser.get()
    assert not site.store.handles
    assert len(site.told("gone")) == 1


# Apps that fail.


def failing_in_the_call(environ, start_response):
    get_session(environ)["n"] = 2
    start_response(OK, [TEXT])
    fail()


def failing_before_start(environ, start_response):
    get_session(environ)["n"] = 2
    fail()


FAILING_EARLY = [failing_in_the_call, failing_before_start, streaming(put(n=2), fail)]
EARLY = ["in the call", "before its headers", "at its first chunk"]


@pytest.mark.parametrize("app", FAILING_EARLY, ids=EARLY)
def test_an_app_that_fails_before_its_headers_left_sends_and_writes_nothing(site, app):
    browser = logged_in(site, app)
    with pytest.raises(Failure):
        browser.get()
    assert browser.status is None
    assert data_of(site, browser) == {"n": 1}
    new = visiting(site, app)
    with pytest.raises(Failure):
        new.get()
    assert len(site.store.handles) == 1


@pytest.mark.parametrize("app", FAILING_EARLY, ids=EARLY)
def test_a_new_session_that_was_saved_is_taken_back_where_the_app_fails(site, app):
    browser = visiting(site, using(lambda session: session.save(), app))
    with pytest.raises(Failure):
        browser.get()
    assert not site.store.handles


def test_a_session_that_was_there_before_is_not_taken_back(site):
    browser = logged_in(site, using(lambda session: session.save(), failing_in_the_call))
    with pytest.raises(Failure):
        browser.get()
    assert data_of(site, browser) == {"n": 1}


@pytest.mark.parametrize("app", FAILING_EARLY, ids=EARLY)
def test_nobody_hears_of_a_failed_app_s_session_that_it_has_gone(app):
    site = Site(on_gone="raise")
    with pytest.raises(Failure):
        visiting(site, using(lambda session: session.save(), app)).get()
    assert not site.told("gone")


def failing_after_write(environ, start_response):
    get_session(environ)["n"] = 2
    start_response(OK, [TEXT])(b"do")
    fail()


@pytest.mark.parametrize("app", [streaming(put(n=2), b"do", fail), failing_after_write], ids=["stream", "write"])
def test_an_app_that_fails_after_its_headers_left_fails_at_the_server(site, app):
    browser = logged_in(site, app)
    with pytest.raises(Failure):
        browser.get()
    assert (browser.status, browser.body) == (OK, b"do")
    assert data_of(site, browser) == {"n": 2}


def test_a_store_that_fails_after_the_headers_left_is_no_503():
    def app(environ, start_response):
        start_response(OK, [TEXT])(b"do")
        reading(get_session(environ))

    site = Site(on_store_error="unavailable")
    browser = logged_in(site, app)
    fail_at(site, "load")
    with pytest.raises(StoreError):
        browser.get()
    assert (browser.status, browser.body) == (OK, b"do")


@pytest.mark.parametrize("step", [b"", b"do"], ids=["before", "after"])
def test_start_response_twice_without_exc_info_is_the_app_s_mistake(site, step):
    def app(environ, start_response):
        start_response(OK, [TEXT])
        if step:
            yield step
        start_response(OK, [TEXT])
        yield b"ne"

    with pytest.raises(AssertionError, match="twice"):
        visiting(site, app).get()


def test_start_response_again_with_exc_info_raises_it_where_the_headers_have_left(site):
    raised = []

    def app(environ, start_response):
        start_response(OK, [TEXT])
        yield b"do"
        try:
            fail()
        except Failure:
            try:
                start_response("500 Internal Server Error", [TEXT], sys.exc_info())
            except Failure as error:
                raised.append(error)
                raise

    browser = visiting(site, app)
    with pytest.raises(Failure):
        browser.get()
    assert len(raised) == 1
    assert browser.status == OK


def test_a_server_without_write_serves_all_that_does_not_need_it():
    """As the bridges to ASGI are."""
    started = []

    def failing_late(environ, start_response):
        start_response(OK, [TEXT])
        yield b"do"
        raise StoreError("the store cannot be reached")

    def response(app):
        manager = Site(on_store_error="unavailable").manager
        return iter(SessionMiddleware(app, manager)(Browser(app).request(), lambda *head: started.append(head)))

    assert b"".join(response(answering(put(n=1)))) == b"done"
    assert b"".join(response(streaming(put(n=1), b"done"))) == b"done"
    with pytest.raises(StoreError):
        list(response(failing_late))
    with pytest.raises(RuntimeError, match="return the body from the app instead"):
        response(written)
    assert [head[0] for head in started] == [OK] * 4


def test_an_error_page_of_the_app_s_own_carries_its_session(site):
    browser = visiting(site, using(put(n=1), started_again)).get()
    assert browser.status == "500 Internal Server Error"
    assert data_of(site, browser) == {"n": 1}


def test_a_session_that_cannot_be_stored_is_no_success(site):
    browser = logged_in(site, answering(put(bad=object())))
    with pytest.raises(SerializationError, match="bad"):
        browser.get()
    assert browser.status is None


def test_after_a_failure_another_app_can_answer_the_same_request_with_a_session(site):
    middlewares = [SessionMiddleware(app, site.manager) for app in (failing_in_the_call, answering(put(error=True)))]

    def outer(environ, start_response):
        try:
            return middlewares[0](environ, start_response)
        except Failure:
            return middlewares[1](environ, start_response)

    browser = logged_in(site, None)
    browser.app = outer
    browser.get()
    assert data_of(site, browser) == {"n": 1, "error": True}


# close().


@pytest.mark.parametrize(
    ("chunks", "leaves_after", "error"),
    [
        ([b"a", b"b"], None, None),
        ([], None, None),
        ([b"a", b"b"], 0, None),
        ([b"a", b"b"], 1, None),
        ([fail], None, Failure),
        ([b"a", fail], None, Failure),
    ],
    ids=["sent", "empty", "the client leaves at once", "the client leaves", "fails at once", "fails"],
)
@pytest.mark.parametrize("use", USES, ids=USED)
def test_the_body_is_closed_once(site, chunks, leaves_after, error, use):
    body = Body(*chunks)

    def app(environ, start_response):
        start_response(OK, [TEXT])
        return body

    browser = logged_in(site, using(use, app))
    if error is None:
        browser.send(browser.request(), chunks=leaves_after)
    else:
        with pytest.raises(error):
            browser.get()
    assert body.closed == 1


@pytest.mark.parametrize("how", ["raise", "unavailable"])
@pytest.mark.parametrize("chunks", [[b"a"], []])
def test_the_body_is_closed_once_where_the_store_fails(how, chunks):
    site, body = Site(on_store_error=how), Body(*chunks)

    def app(environ, start_response):
        get_session(environ)["n"] = 2
        start_response(OK, [TEXT])
        return body

    browser = logged_in(site, app)
    fail_at(site, "replace")
    if how == "raise":
        with pytest.raises(StoreError):
            browser.get()
    else:
        browser.get()
    assert body.closed == 1


@pytest.mark.parametrize("how", ["raise", "unavailable"])
def test_a_file_is_closed_once_where_the_store_fails(how):
    site, body = Site(on_store_error=how), Body(b"a")

    def app(environ, start_response):
        get_session(environ)["n"] = 2
        start_response(OK, [TEXT])
        return body

    browser = logged_in(site, app)
    browser.environ["wsgi.file_wrapper"] = Body
    fail_at(site, "replace")
    if how == "raise":
        with pytest.raises(StoreError):
            browser.get()
    else:
        assert browser.get().status == "503 Service Unavailable"
    assert body.closed == 1


def test_a_server_that_closes_twice_closes_the_app_s_body_once(site):
    body = Body(b"a")
    browser = visiting(site, lambda environ, start_response: start_response(OK, []) and body).get()
    browser.returned.close()
    assert body.closed == 1


def test_what_the_app_changed_is_saved_where_the_client_left_before_the_first_chunk(site):
    browser = logged_in(site, None)
    body = Body(b"a")

    def app(environ, start_response):
        get_session(environ)["n"] = 2
        start_response(OK, [TEXT])
        return body

    browser.app = SessionMiddleware(app, site.manager)
    browser.send(browser.request(), chunks=0)
    assert browser.status is None
    assert data_of(site, browser) == {"n": 2}


def test_a_new_session_that_was_saved_is_taken_back_where_the_client_left_before_its_cookie(site):
    site = Site(on_gone="raise")

    def app(environ, start_response):
        session = get_session(environ)
        session["n"] = 1
        session.save()
        session["n"] = 2
        start_response(OK, [TEXT])
        return Body(b"a")

    browser = visiting(site, app)
    browser.send(browser.request(), chunks=0)
    assert not site.store.handles
    assert not site.told("gone")


def test_a_client_that_leaves_before_its_cookie_of_a_new_session_is_no_error(site, caplog):
    def app(environ, start_response):
        get_session(environ)["n"] = 1
        start_response(OK, [TEXT])
        return Body(b"a")

    browser = visiting(site, app)
    browser.send(browser.request(), chunks=0)
    assert not site.store.handles
    assert not caplog.records


def test_what_was_changed_before_the_client_left_is_saved(site):
    browser = logged_in(site, streaming(b"a", put(late=True), b"b", b"c"))
    browser.send(browser.request(), chunks=2)
    assert data_of(site, browser) == {"n": 1, "late": True}


# A store that fails.


STORE_FAILS = {
    "read in the app": ("load", answering(reading)),
    "read in a generator": ("load", streaming(reading, b"done")),
    "commit": ("replace", answering(put(n=2))),
    "commit of a stream": ("replace", streaming(put(n=2), b"done")),
    "commit at write": ("replace", writing),
    "destroy": ("delete", answering(ending)),
    "login": ("create", answering(lambda session: session.login("ann"))),
}


@pytest.mark.parametrize(("verb", "app"), STORE_FAILS.values(), ids=STORE_FAILS)
def test_a_store_that_fails_is_raised_and_the_client_sees_no_success(site, verb, app):
    browser = logged_in(site, app)
    before = dict(browser.cookies)
    fail_at(site, verb)
    with pytest.raises(StoreError):
        browser.get()
    assert browser.status is None
    assert browser.cookies == before
    assert data_of(site, browser) == {"n": 1}


@pytest.mark.parametrize(("verb", "app"), STORE_FAILS.values(), ids=STORE_FAILS)
@pytest.mark.parametrize("lint", [lambda app: app, *LINTS], ids=["bare", "validator", "lint"])
def test_a_store_that_fails_is_503_on_request_and_nobody_is_logged_out(verb, app, lint):
    site = Site(on_store_error="unavailable")
    browser = logged_in(site, app)
    browser.app = lint(browser.app)
    fail_at(site, verb)
    browser.get()
    assert browser.status == "503 Service Unavailable"
    assert browser.all("Content-Type") == ["text/plain; charset=utf-8"]
    assert browser.all("Retry-After") == ["5"]
    assert browser.all("Cache-Control") == ["no-store"]
    assert not browser.all("Set-Cookie")
    assert b"try again" in browser.body
    assert data_of(site, browser) == {"n": 1}


@pytest.mark.parametrize(("verb", "app"), STORE_FAILS.values(), ids=STORE_FAILS)
@pytest.mark.parametrize("lint", LINTS)
def test_the_503_of_head_has_no_body(verb, app, lint):
    site = Site(on_store_error="unavailable")
    browser = logged_in(site, app)
    browser.app = lint(browser.app)
    fail_at(site, verb)
    browser.get(method="HEAD")
    assert browser.status == "503 Service Unavailable"
    assert browser.body == b""


@pytest.mark.parametrize("app", [answering(lambda session: None), streaming(b"done")], ids=["list", "stream"])
def test_a_request_that_does_not_touch_its_session_goes_on_while_the_store_is_down(site, app):
    browser = logged_in(site, app)
    fail_at(site, "load", "create", "replace", "delete", "touch")
    assert browser.get().status == OK


def test_a_store_that_fails_once_more_at_the_end_is_raised_once(site):
    browser = logged_in(site, streaming(put(n=2), b"done"))
    fail_at(site, "replace")
    with pytest.raises(StoreError):
        browser.get()
    assert site.store.calls["replace"] == 1


def test_a_store_that_fails_at_the_end_of_the_body_is_raised_by_close(site):
    browser = logged_in(site, streaming(b"done", put(late=True)))
    fail_at(site, "replace")
    with pytest.raises(StoreError):
        browser.get()
    assert browser.body == b"done"


def test_an_error_of_the_app_is_no_503():
    site = Site(on_store_error="unavailable")
    for app in FAILING_EARLY:
        with pytest.raises(Failure):
            logged_in(site, app).get()


def test_after_a_503_the_session_of_the_request_is_written_no_more(site):
    site = Site(on_store_error="unavailable")
    browser = logged_in(site, streaming(put(n=2), b"done"))
    fail_at(site, "replace")
    browser.get()
    assert site.store.calls["replace"] == 1
    assert data_of(site, browser) == {"n": 1}


def test_a_session_that_has_gone_is_an_error_on_request_and_no_success():
    site = Site(on_gone="raise")
    browser = logged_in(site, None)
    handle = site.browser(browser.cookies["sid"]).handle
    app = using(put(n=2), using(lambda session: site.manager.revoke(handle), list_body))
    browser.app = SessionMiddleware(app, site.manager)
    with pytest.raises(SessionGone):
        browser.get()
    assert browser.status is None


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
def test_an_environ_that_is_used_again_gets_a_session_of_its_own(site, app, use):
    seen = []

    def noting(environ, start_response):
        seen.append(get_session(environ))
        return using(use, app)(environ, start_response)

    browser = visiting(site, noting)
    environ = browser.request()
    browser.send(environ)
    browser.send(environ)
    assert seen[0] is not seen[1]


def test_an_environ_whose_client_left_at_once_gets_a_session_of_its_own_when_used_again(site):
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


def test_a_secure_cookie_over_plain_http_is_warned_about_once_with_the_cure(site, caplog):
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
