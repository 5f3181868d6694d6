"""`SessionMiddleware` when the app fails, or the store."""

from __future__ import annotations

import sys

import pytest

from tests.visits import Site
from tests.wsgi_apps import (
    LINTS,
    OK,
    TEXT,
    Browser,
    Failure,
    answering,
    data_of,
    ending,
    fail,
    fail_at,
    list_body,
    logged_in,
    put,
    reading,
    started_again,
    streaming,
    using,
    visiting,
    writing,
    written,
)
from wsgisession import (
    SerializationError,
    SessionGone,
    SessionMiddleware,
    StoreError,
    get_session,
)


@pytest.fixture
def site() -> Site:
    return Site()


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


def test_a_store_that_fails_after_the_headers_left_is_not_a_503():
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


def test_a_session_that_cannot_be_stored_is_not_a_success(site):
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
def test_a_request_that_does_not_touch_its_session_works_while_the_store_is_down(site, app):
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


def test_an_error_of_the_app_is_not_a_503():
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
