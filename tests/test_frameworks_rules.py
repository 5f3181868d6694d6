"""What a framework's own sessions do differently: an emptied session ends, and some keys alone are not stored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.visits import Browser, Site
from wsgisession import Session
from wsgisession._core.rules import Rules

RULES = Rules(ends_emptied=True, ignored=frozenset({"_permanent"}))


@pytest.fixture
def site() -> Site:
    return Site()


def ended(browser: Browser, session: Session) -> Any:
    session._visit.rules = RULES
    return browser.end(session)


def test_a_session_that_lost_its_last_key_ends(site):
    browser = site.browser()
    browser.put(flash="hello")
    session = browser.open()
    session.pop("flash")
    assert "Max-Age=0" in ended(browser, session).set_cookie
    assert not site.store.handles


def test_a_session_that_lost_its_last_key_keeps_what_another_request_put_in(site):
    browser = site.browser()
    browser.put(flash="hello")
    session = browser.open()
    session.pop("flash")
    browser.twin().put(state="google")
    reply = ended(browser, session)
    assert reply.set_cookie is None
    assert browser.data == {"state": "google"}


def test_a_cleared_session_ends_whatever_another_request_put_in(site):
    browser = site.browser()
    browser.put(flash="hello")
    session = browser.open()
    session.clear()
    browser.twin().put(state="google")
    assert "Max-Age=0" in ended(browser, session).set_cookie
    assert not site.store.handles


def test_a_session_that_lost_its_last_key_is_not_brought_back_after_a_revocation(site):
    browser = site.browser()
    browser.put(flash="hello")
    session = browser.open()
    session.pop("flash")
    site.manager.revoke(browser.handle)
    assert ended(browser, session).set_cookie is None
    assert not site.store.handles
    assert len(site.told("gone")) == 1


def test_a_new_session_with_only_ignored_keys_is_not_stored(site):
    browser = site.browser()
    session = browser.open()
    session["_permanent"] = True
    assert ended(browser, session).set_cookie is None
    assert not site.store.handles
    session = browser.open()
    session.update(_permanent=True, n=1)
    assert ended(browser, session).set_cookie is not None
    assert browser.data == {"_permanent": True, "n": 1}


@pytest.mark.parametrize(("lifetime", "trips"), [(60.0, {"load": 1, "touch": 1}), (None, {"load": 1})])
def test_only_a_session_that_the_framework_gave_a_lifetime_is_refreshed_by_each_read(lifetime, trips):
    """A read is one round trip unless the cookie must be sent again; the manager's own ``max_age`` is no reason."""
    site = Site(cookie={"max_age": 3600})
    browser = site.browser()
    rules = Rules(ends_emptied=True, lifetime=lifetime, refreshes=True)
    session = browser.open()
    session["n"] = 1
    session._visit.rules = rules
    browser.end(session)
    site.store.calls.clear()
    session = browser.open()
    assert session["n"] == 1
    session._visit.rules = rules
    browser.end(session)
    assert site.store.calls == trips
