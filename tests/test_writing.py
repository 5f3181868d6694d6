"""Writing a session before the end of the request: save, reload, and transactions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.visits import Site
from wsgisession import (
    SerializationError,
    SessionGone,
    StoreError,
)


def fail():
    raise StoreError("the store is down")


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def browser(site):
    return filled(site)


def filled(site, **data):
    browser = site.browser()
    browser.put(**(data or {"n": 1, "cart": ["tea"]}))
    site.store.calls.clear()
    site.events.clear()
    return browser


# Save, reload.


def test_save_writes_now(site, browser):
    session = browser.open()
    session["n"] = 2
    session.save()
    assert browser.data["n"] == 2
    assert not session.is_modified
    browser.end(session)
    assert site.store.calls["replace"] == 1


def test_save_of_a_new_session_stores_it_and_the_cookie_follows(site):
    browser = site.browser()
    with browser.request() as session:
        session["a"] = 1
        session.save()
        assert len(site.store.handles) == 1
    assert browser.data == {"a": 1}


def test_a_saved_session_whose_app_failed_is_taken_back(site):
    """A record whose cookie nobody got is no session."""
    session = site.browser().open()
    session["a"] = 1
    session.save()
    site.manager.abandon(session)
    assert site.store.handles == set()


@pytest.mark.parametrize("write", [lambda session: session.save(), lambda session: session.transaction(len)])
def test_a_lasting_cookie_is_sent_again_also_if_the_change_was_saved_before_the_response(write):
    browser = Site(cookie={"max_age": 60}).browser()
    browser.put(n=1)
    with browser.request() as session:
        session["n"] = 2
        write(session)
    assert browser.reply.set_cookie is not None
    assert "Max-Age=60" in browser.reply.set_cookie


@pytest.mark.parametrize("write", [lambda session: session.save(), lambda session: session.transaction(len)])
def test_a_cookie_that_ends_with_the_browser_is_not_sent_again_after_a_save(browser, write):
    with browser.request() as session:
        session["n"] = 2
        write(session)
    assert browser.reply.set_cookie is None


def test_save_merges_what_others_wrote(browser):
    session = browser.open()
    session["n"] = 2
    browser.put(m=3)
    session.save()
    assert dict(session) == browser.data == {"n": 2, "m": 3, "cart": ["tea"]}


@pytest.mark.parametrize("on_gone", ["discard", "raise"])
def test_save_raises_where_the_session_has_ended(on_gone):
    site = Site(on_gone=on_gone)
    session = filled(site).open()
    session["n"] = 2
    site.manager.revoke(session.handle)
    with pytest.raises(SessionGone):
        session.save()
    assert site.store.handles == set()


def test_save_raises_where_the_store_refuses(site, browser):
    """SECURITY 53."""
    session = browser.open()
    session["n"] = 2
    site.store.before["replace"] = fail
    with pytest.raises(StoreError):
        session.save()
    assert len(site.told("store_error")) == 1
    session.save()
    assert browser.data["n"] == 2


def test_reload_drops_unsaved_changes(browser):
    session = browser.open()
    session["n"] = 2
    session["cart"].append("milk")
    browser.put(n=3)
    session.reload()
    assert dict(session) == {"n": 3, "cart": ["tea"]}
    assert not session.is_modified
    session["n"] = 4
    browser.end(session)
    assert browser.data == {"n": 4, "cart": ["tea"]}


def test_reload_of_a_new_session_empties_it(site):
    browser = site.browser()
    with browser.request() as session:
        session["a"] = 1
        session.reload()
        assert dict(session) == {}
    assert browser.reply.set_cookie is None


def test_reload_raises_where_the_session_has_ended(site, browser):
    session = browser.open()
    site.manager.revoke(session.handle)
    with pytest.raises(SessionGone):
        session.reload()


def test_reload_after_regenerate_reads_the_old_record_and_keeps_the_new_id(site, browser):
    with browser.request() as session:
        session["n"] = 2
        session.regenerate()
        new = session.id
        browser.put(n=3)
        session.reload()
        assert (session["n"], session.id) == (3, new)
    assert browser.data["n"] == 3
    assert len(site.store.handles) == 1


# Transactions.


def bump(session):
    session["n"] += 1
    return session["n"]


def test_a_transaction_is_written_at_once_and_returns_what_its_function_does(browser):
    session = browser.open()
    assert session.transaction(bump) == 2
    assert browser.data["n"] == 2


def test_fifty_parallel_increments_make_fifty(site):
    """SECURITY 41."""
    browser = filled(site, n=0)
    barrier = threading.Barrier(10)

    def add_five(_):
        session = browser.twin().open()
        session.get("n")
        barrier.wait(timeout=30)
        for _ in range(5):
            session.transaction(bump)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(add_five, range(10)))
    assert browser.data["n"] == 50


def test_a_transaction_runs_again_on_what_another_writer_made(site, browser):
    session = browser.open()
    session["mine"] = 1
    site.store.before["replace"] = lambda: browser.put(n=10, theirs=1)
    assert session.transaction(bump) == 11
    assert browser.data == {"n": 11, "cart": ["tea"], "mine": 1, "theirs": 1}


def test_a_transaction_that_changes_nothing_writes_nothing(site, browser):
    assert browser.open().transaction(lambda session: session["n"]) == 1
    assert site.store.calls["replace"] == 0


def test_a_transaction_on_a_new_session_creates_it(site):
    browser = site.browser()
    with browser.request() as session:
        session.transaction(lambda session: session.update(n=1))
        assert len(site.store.handles) == 1
    assert browser.data == {"n": 1}


def test_a_transaction_raises_where_the_session_has_ended(site, browser):
    session = browser.open()
    session.get("n")
    site.manager.revoke(session.handle)
    with pytest.raises(SessionGone):
        session.transaction(bump)
    assert site.store.handles == set()


def test_a_transaction_whose_function_fails_has_changed_nothing(browser):
    session = browser.open()
    session["before"] = 1

    def fail_halfway(session):
        bump(session)
        session["cart"].append("milk")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.transaction(fail_halfway)
    browser.end(session)
    assert browser.data == {"n": 1, "cart": ["tea"], "before": 1}


def test_a_transaction_that_cannot_be_written_has_changed_nothing(site, browser):
    session = browser.open()
    site.store.before["replace"] = fail
    with pytest.raises(StoreError):
        session.transaction(bump)
    with pytest.raises(SerializationError):
        session.transaction(lambda session: session.update(n=object()))
    assert dict(session) == {"n": 1, "cart": ["tea"]}
    assert session.transaction(bump) == 2
    browser.end(session)
    assert browser.data["n"] == 2


def test_what_was_changed_after_a_transaction_is_written_at_the_end(browser):
    with browser.request() as session:
        session.transaction(bump)
        session["after"] = 1
    assert browser.data == {"n": 2, "cart": ["tea"], "after": 1}
