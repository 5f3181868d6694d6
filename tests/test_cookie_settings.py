"""`session.cookie`: the settings that a session has of its own."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.visits import DAY, NOW, Site
from wsgisession import ConfigurationError


def at(seconds):
    return datetime.fromtimestamp(NOW + seconds, timezone.utc)


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def browser(site):
    browser = site.browser()
    browser.put(cart=["tea"], prefs={"lang": {"ui": "en"}}, n=1)
    site.store.calls.clear()
    return browser


def reads_and_writes(site):
    return site.store.calls["load"], site.store.calls["create"] + site.store.calls["replace"]


def test_what_is_not_a_setting_of_its_cookie_cannot_be_set(browser):
    with browser.request() as session, pytest.raises(AttributeError, match="maxAge"):
        session.cookie.maxAge = 600  # express-session's name


def test_its_cookie_has_the_manager_s_settings_until_it_has_its_own():
    site = Site(cookie={"max_age": 600, "path": "/app"})
    with site.browser().request() as session:
        cookie = session.cookie
        assert (cookie.max_age, cookie.original_max_age, cookie.expires) == (600, 600, at(600))
        assert (cookie.path, cookie.domain, cookie.http_only) == ("/app", None, True)
        assert (cookie.same_site, cookie.secure, cookie.partitioned) == ("Lax", "auto", False)


@pytest.mark.parametrize(
    ("name", "value", "attribute"),
    [
        ("max_age", 60, "Max-Age=60"),
        ("max_age", timedelta(minutes=1), "Max-Age=60"),
        ("expires", at(60), "Max-Age=60"),
        ("path", "/app", "Path=/app"),
        ("domain", "example.com", "Domain=example.com"),
        ("same_site", "strict", "SameSite=Strict"),
        ("partitioned", True, "Partitioned"),
    ],
)
def test_a_change_of_its_cookie_goes_to_the_client_and_stays_with_the_record(browser, name, value, attribute):
    with browser.request() as session:
        setattr(session.cookie, name, value)
        assert not session.is_modified
    assert attribute in browser.reply.set_cookie.split("; ")
    browser.put(other=1)
    with browser.request() as session:
        session.regenerate()
        assert getattr(session.cookie, name) == (
            60 if name == "max_age" else value if name != "same_site" else "Strict"
        )
    assert attribute in browser.reply.set_cookie.split("; ")


def test_a_change_of_its_cookie_is_sent_also_where_it_was_saved_before(site, browser):
    with browser.request() as session:
        session.cookie.max_age = 60
        session.save()
    assert "Max-Age=60" in browser.reply.set_cookie
    assert reads_and_writes(site) == (1, 1)


def test_a_change_of_its_cookie_is_sent_also_after_a_transaction(browser):
    with browser.request() as session:
        session.cookie.max_age = 60
        session.transaction(lambda session: session.update(n=2))
    assert "Max-Age=60" in browser.reply.set_cookie


def test_its_own_max_age_is_its_idle_timeout(site, browser):
    """Remember me: the login form's tick."""
    with browser.request() as session:
        session.cookie.max_age = 14 * DAY
    site.clock += 10 * DAY
    assert browser.data["n"] == 1
    site.clock += 14 * DAY + 1
    assert browser.data == {}


def test_its_cookie_can_end_with_the_browser_again():
    browser = Site(cookie={"max_age": 600}).browser()
    browser.put(a=1)
    assert "Max-Age=600" in browser.reply.set_cookie
    with browser.request() as session:
        session.cookie.max_age = None
        assert session.cookie.expires is None
    assert "Max-Age" not in browser.reply.set_cookie
    with browser.request() as session:
        session["a"] = 2
    assert browser.reply.set_cookie is None


def test_a_change_of_a_new_session_s_cookie_alone_stores_nothing(site):
    browser = site.browser()
    with browser.request() as session:
        session.cookie.max_age = 60
    assert browser.reply.set_cookie is None
    assert site.store.handles == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_age", -1), ("max_age", 401 * DAY), ("path", "app"), ("same_site", "x"), ("domain", "a;b"), ("secure", 0)],
)
def test_what_a_browser_would_refuse_is_refused_here(browser, name, value):
    with browser.request() as session, pytest.raises(ConfigurationError):
        setattr(session.cookie, name, value)
    assert browser.reply.set_cookie is None


def test_settings_of_its_own_that_go_with_the_manager_s_no_longer_break_nothing(site, browser):
    with browser.request() as session:
        session.cookie.secure = False
    later = Site(store=site.store, cookie={"partitioned": True}).browser(browser.cookie)
    with later.request() as session:
        session.regenerate()
    assert {"Secure", "Partitioned"} <= set(later.reply.set_cookie.split("; "))


def test_what_does_not_go_with_the_cookie_s_name_is_refused_here():
    """SECURITY 8."""
    with Site(name="__Host-sid").browser().request() as session, pytest.raises(ConfigurationError, match="__Host-sid"):
        session.cookie.path = "/app"
