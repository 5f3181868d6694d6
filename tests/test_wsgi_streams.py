"""What an app does to its session after the headers were sent, and when the body is closed."""

from __future__ import annotations

import logging

import pytest

from tests.visits import Site
from tests.wsgi_apps import (
    OK,
    TEXT,
    USED,
    USES,
    Body,
    Failure,
    data_of,
    ending,
    fail,
    fail_at,
    logged_in,
    put,
    streaming,
    using,
    visiting,
)
from wsgisession import (
    HeadersSentError,
    SessionMiddleware,
    StoreError,
    get_session,
)
from wsgisession.wsgi.environ import KEY


@pytest.fixture
def site() -> Site:
    return Site()


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


def test_a_change_while_the_body_streams_is_merged_with_what_others_wrote_in_the_meantime(site):
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
def test_a_new_id_after_the_headers_is_an_error_and_the_session_continues(site, use):
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


def test_a_late_change_of_a_session_that_ended_in_the_meantime_brings_nothing_back(site):
    browser = logged_in(site, None)
    handle = site.browser(browser.cookies["sid"]).handle
    steps = (put(n=2), b"done", put(late=True), lambda _: site.manager.revoke(handle))
    browser.app = SessionMiddleware(streaming(*steps), site.manager)
    browser.get()
    assert not site.store.handles
    assert len(site.told("gone")) == 1


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


def test_a_client_that_leaves_before_its_cookie_of_a_new_session_is_not_an_error(site, caplog):
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
