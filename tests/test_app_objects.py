"""Lists and dicts that the app put into a session stay the app's own: no merge and no load changes them."""

from __future__ import annotations

import pytest

from tests.visits import Site

PUT_IN = {
    "given to login": lambda session, mine: session.login(7, rights=mine),
    "assigned": lambda session, mine: session.update(rights=mine),
    "set as a default": lambda session, mine: session.setdefault("rights", mine),
    "assigned inside a dict": lambda session, mine: session.update(all={"rights": mine}),
}


def rights_of(session):
    return session["all"]["rights"] if "all" in session else session["rights"]


@pytest.fixture
def browser():
    browser = Site().browser()
    browser.put(n=1)
    return browser


@pytest.mark.parametrize("put", PUT_IN.values(), ids=PUT_IN)
def test_a_merge_changes_the_session_and_not_what_the_app_put_in(browser, put):
    mine = ["admin"]
    session = browser.open()
    put(session, mine)
    session.save()
    theirs = browser.manager.load(session.handle)
    rights_of(theirs).append("added by another request")
    browser.manager.finish(theirs)
    session["m"] = 2
    session.save()
    assert rights_of(session) == ["admin", "added by another request"]
    assert mine == ["admin"]
    browser.end(session)
    assert rights_of(browser.twin().open()) == ["admin", "added by another request"]
    assert mine == ["admin"]


@pytest.mark.parametrize("put", PUT_IN.values(), ids=PUT_IN)
def test_the_app_finds_the_object_that_it_put_in_until_its_request_ends(browser, put):
    mine = ["admin"]
    with browser.request() as session:
        put(session, mine)
        assert rights_of(session) is mine
        mine.append("added later")
    assert rights_of(browser.twin().open()) == ["admin", "added later"]


def test_a_constant_that_every_visitor_shares_is_never_changed(browser):
    defaults = {"theme": "dark", "seen": []}
    session, other = browser.open(), browser.twin().open()
    session["settings"] = defaults
    other["settings"] = {"seen": ["welcome"], "theme": "dark"}
    browser.manager.commit(other)
    browser.end(session)
    assert defaults == {"theme": "dark", "seen": []}
