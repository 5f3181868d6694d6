"""What the options resave, save_uninitialized, rolling, and unset do at the end of a request."""

from __future__ import annotations

import pytest

from tests.visits import Site


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


def test_resave_writes_an_unmodified_session_back():
    site = Site(resave=True)
    browser = filled(site)
    with browser.request():
        pass
    assert site.store.calls["replace"] == 1
    assert browser.reply.set_cookie is None


def test_save_uninitialized_stores_a_new_session_that_nobody_wrote_to():
    site = Site(save_uninitialized=True)
    browser = site.browser()
    with browser.request():
        pass
    assert browser.cookie
    assert len(site.store.handles) == 1


def test_rolling_sends_the_cookie_again_on_every_response():
    site = Site(rolling=True, cookie={"max_age": 60})
    browser = filled(site)
    with browser.request():
        pass
    assert "Max-Age=60" in browser.reply.set_cookie
    assert site.store.calls["replace"] == 0
    anonymous = site.browser()
    with anonymous.request():
        pass
    assert anonymous.reply.set_cookie is None


@pytest.mark.parametrize("unset", ["keep", "destroy"])
def test_a_session_that_the_app_dropped_is_kept_or_destroyed(unset):
    site = Site(unset=unset)
    browser = filled(site)
    twin = browser.twin()
    with browser.request(dropped=True) as session:
        session["n"] = 2
    assert twin.data.get("n") == (1 if unset == "keep" else None)
    assert bool(browser.cookie) is (unset == "keep")


@pytest.mark.parametrize("unset", ["keep", "destroy"])
def test_a_session_that_the_app_ended_before_it_dropped_it_leaves_the_browser(unset):
    browser = filled(Site(unset=unset), a=1)
    session = browser.open()
    session.logout(clear_site_data=True)
    browser.end(session, dropped=True)
    assert (browser.cookie, browser.reply.clear_site_data) == ("", True)
