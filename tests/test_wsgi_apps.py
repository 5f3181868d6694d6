"""Any app passes through `SessionMiddleware` unharmed, and its session is stored before anyone sees success."""

from __future__ import annotations

import io
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import create_environ

from tests.visits import Site
from tests.wsgi_apps import (
    APPS,
    LINTS,
    OK,
    TEXT,
    USED,
    USES,
    Browser,
    Environ,
    Failure,
    answering,
    data_of,
    logged_in,
    put,
    streaming,
    using,
    visiting,
    writing,
)
from wsgisession import (
    HeadersSentError,
    SessionMiddleware,
    get_session,
)


@pytest.fixture
def site() -> Site:
    return Site()


# Every kind of app passes through unharmed.


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
