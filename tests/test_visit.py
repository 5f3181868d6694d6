"""Finding the session of a request among its cookies."""

from __future__ import annotations

import pytest

from tests.visits import SECRET, Site


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


def test_a_cookie_of_another_shape_or_signature_is_a_new_session(site, browser):
    """SECURITY 3, 48: no store is asked."""
    for cookie in ("x", browser.cookie[:-1], browser.cookie[:-1] + "~", "A" * 43 + "." + "A" * 43):
        other = site.browser(cookie)
        assert other.data == {}
    assert not site.store.calls
    reasons = [event.reason for event in site.told("rejected")]
    assert reasons == ["malformed", "malformed", "malformed", "bad signature"]


def test_a_cookie_that_verifies_without_its_record_is_a_new_session_with_another_id(site, browser):
    """SECURITY 17."""
    cookie, session_id = browser.cookie, browser.open().id
    site.manager.revoke(browser.handle)
    with browser.request() as session:
        session["a"] = 1
    assert session_id not in browser.cookie
    assert site.browser(cookie).data == {}
    assert "unknown" in [event.reason for event in site.told("rejected")]


def test_the_first_cookie_that_verifies_and_has_its_record_counts(site, browser):
    gone = filled(site)
    site.manager.revoke(gone.handle)
    header = f"sid=forged; sid={gone.cookie}; sid={browser.cookie}; sid=forged"
    assert dict(site.manager.open(header, {})) == browser.data


def test_a_cookie_that_came_several_times_is_looked_up_once(site, browser):
    """SECURITY 49."""
    gone = browser.twin()
    site.manager.revoke(browser.handle)
    site.store.calls.clear()
    assert dict(site.manager.open("; ".join([f"sid={gone.cookie}"] * 20), {})) == {}
    assert site.store.calls["load"] == 1


def test_a_cookie_of_a_secret_that_signs_no_more_still_opens_its_session():
    site = Site(secret="an old secret, long enough")
    browser = filled(site)
    rotated = Site(secret=[SECRET, "an old secret, long enough"], store=site.store).browser(browser.cookie)
    assert rotated.data["n"] == 1
    assert Site(store=site.store).browser(browser.cookie).data == {}
