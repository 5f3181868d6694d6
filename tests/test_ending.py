"""What an app asks of its session: a login, a new ID, and its end."""

from __future__ import annotations

import pytest

from tests.visits import DAY, Site


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def browser(site):
    browser = site.browser()
    browser.put(cart=["tea"], prefs={"lang": {"ui": "en"}}, n=1)
    site.store.calls.clear()
    return browser


def test_login_sets_the_user_and_the_data_under_a_new_id(site, browser):
    """SECURITY 18, 19."""
    before = browser.twin()
    with browser.request() as session:
        session["_user_id"] = "somebody else"
        session.login(7, role="admin", cart=[])
        assert (session.user_id, session["role"], session["cart"]) == (7, "admin", [])
    assert browser.data == {"cart": [], "prefs": {"lang": {"ui": "en"}}, "n": 1, "user_id": 7, "role": "admin"}
    assert before.data == {}
    assert len(site.store.handles) == 1


def test_a_login_restarts_the_age_of_the_id():
    site = Site(renewal_timeout=1000)
    browser = site.browser()
    browser.put(n=1)
    site.clock += 1000
    browser.put(n=2)  # renewed
    browser.put(n=3)  # presented
    site.clock += 999
    with browser.request() as session:
        session.login(7)
    logged_in = browser.cookie
    site.clock += 999
    browser.put(n=4)
    assert browser.cookie == logged_in
    site.clock += 1
    browser.put(n=5)
    assert browser.cookie != logged_in
    assert len(site.told("renewed")) == 2


def test_regenerate_restarts_the_age_of_the_id():
    site = Site(renewal_timeout=1000)
    browser = site.browser()
    browser.put(n=1)
    site.clock += 999
    with browser.request() as session:
        session.regenerate()
    regenerated = browser.cookie
    site.clock += 999
    browser.put(n=2)
    assert browser.cookie == regenerated
    site.clock += 1
    browser.put(n=3)
    assert browser.cookie != regenerated


def test_a_new_id_that_is_asked_for_when_the_old_one_is_due_for_renewal_is_the_only_one():
    site = Site(renewal_timeout=1000)
    browser = site.browser()
    browser.put(n=1)
    site.clock += 1000
    with browser.request() as session:
        session.regenerate()
    assert site.told("renewed") == []
    assert len(site.store.handles) == 1


def test_login_uses_the_manager_s_own_key():
    browser = Site(user_key=["uid", "user_id"]).browser()
    with browser.request() as session:
        session["user_id"] = "somebody else"
        session.login("u")
    assert browser.data == {"uid": "u"}


def test_login_needs_a_user(browser):
    with pytest.raises(TypeError, match=r"logout\(\)"):
        browser.open().login(None)


NO_USERS = {"an empty str": "", "True": True, "False": False, "a float": 1.5, "bytes": b"ann", "a dict": {"id": 3}}
NO_USERS |= {"a list": [], "an object": object()}


@pytest.mark.parametrize("user", NO_USERS.values(), ids=NO_USERS)
def test_login_refuses_what_is_not_the_id_of_a_user(browser, user):
    with pytest.raises(TypeError, match=r"user's ID.*user\.id"):
        browser.open().login(user)


def test_regenerate_gives_a_new_id_with_the_same_data(site, browser):
    """SECURITY 18."""
    before, data = browser.twin(), browser.data
    with browser.request() as session:
        old = session.id, session.handle
        session.regenerate()
        assert session.is_modified
        assert session.id not in old
        assert session.handle not in old
        assert not session.is_new
    assert browser.data == data
    assert before.data == {}


def test_regenerate_can_leave_the_data_behind(browser):
    with browser.request() as session:
        session.regenerate(keep_data=False)
        session["fresh"] = 1
    assert browser.data == {"fresh": 1}


def test_regenerate_without_the_data_leaves_the_cookie_settings_behind_too(browser):
    with browser.request() as session:
        session.cookie.max_age = 60
        session.cookie.path = "/app"
    with browser.request() as session:
        session.regenerate(keep_data=False)
        session["n"] = 2
        assert (session.cookie.max_age, session.cookie.path) == (None, "/")
    assert "Max-Age" not in browser.reply.set_cookie
    assert "Path=/;" in browser.reply.set_cookie
    with browser.request() as session:
        assert (session.cookie.max_age, session.cookie.path) == (None, "/")
        assert (session.expires_at - session.last_seen_at).total_seconds() == DAY


def test_regenerate_with_the_data_keeps_the_cookie_settings(browser):
    with browser.request() as session:
        session.cookie.max_age = 60
    with browser.request() as session:
        session.regenerate()
    assert "Max-Age=60" in browser.reply.set_cookie
    assert browser.twin().open().cookie.max_age == 60


@pytest.mark.parametrize("ask", [lambda session: session.regenerate(), lambda session: session.login(7)])
def test_what_was_saved_before_an_app_that_failed_is_gone_also_under_a_new_id(site, ask):
    browser = site.browser()
    session = browser.open()
    session["n"] = 1
    session.save()
    ask(session)
    session.save()
    browser.manager.abandon(session)
    assert site.store.handles == set()
    assert site.manager.sessions_for(7) == []


def test_a_new_session_can_be_regenerated(site):
    browser = site.browser()
    with browser.request() as session:
        session["a"] = 1
        session.regenerate()
    assert browser.data == {"a": 1}
    assert len(site.store.handles) == 1


def test_the_old_record_stays_until_the_new_cookie_leaves(site, browser):
    """SECURITY 21: an app that fails after regenerate has changed nothing."""
    session = browser.open()
    session.login(7)
    assert browser.data["n"] == 1
    site.manager.abandon(session)
    assert len(site.store.handles) == 1
    assert browser.data["n"] == 1


def test_destroy_ends_the_record_now_and_the_cookie_with_the_response(site, browser):
    """SECURITY 30, 31."""
    copy = browser.twin()
    with browser.request() as session:
        session.destroy()
        assert dict(session) == {}
        assert session.user_id is None
        assert copy.data == {}
        assert site.store.handles == set()
    assert browser.cookie == ""
    assert "Max-Age=0" in browser.reply.set_cookie
    assert len(site.told("destroyed")) == 1


@pytest.mark.parametrize("end", ["destroy", "logout"])
def test_the_cookie_of_an_ended_session_is_expired_where_its_own_settings_had_put_it(browser, end):
    with browser.request() as session:
        session.cookie.path = "/app"
    with browser.request() as session:
        getattr(session, end)()
    assert "Max-Age=0" in browser.reply.set_cookie
    assert "Path=/app" in browser.reply.set_cookie


def test_cookie_settings_after_the_end_of_a_session_do_not_keep_its_cookie_in_the_browser(browser):
    with browser.request() as session:
        session.destroy()
        session.cookie.path = "/app"
    assert "Max-Age=0" in browser.reply.set_cookie
    assert "Path=/;" in browser.reply.set_cookie


def test_what_is_written_after_destroy_goes_to_a_new_session(site, browser):
    """SECURITY 31."""
    old = browser.handle
    with browser.request() as session:
        session["old"] = 1
        session.destroy()
        session["fresh"] = 1
        assert session.is_new
    assert browser.data == {"fresh": 1}
    assert browser.handle != old
    assert len(site.store.handles) == 1


def test_what_was_taken_out_before_destroy_belongs_to_nothing(browser):
    with browser.request() as session:
        cart = session["cart"]
        session.destroy()
        cart.append("milk")
        session["fresh"] = 1
    assert browser.data == {"fresh": 1}


def test_destroying_a_session_that_never_was_does_nothing(site):
    browser = site.browser()
    with browser.request() as session:
        session["a"] = 1
        session.destroy()
    assert browser.reply.set_cookie is None
    assert site.store.handles == set()
    assert site.told("destroyed") == []


@pytest.mark.parametrize("clear", [True, False])
def test_logout_clears_the_site_s_data_on_request(browser, clear):
    """SECURITY 32."""
    with browser.request() as session:
        session.logout(clear_site_data=clear)
    assert browser.reply.clear_site_data is clear
    assert browser.cookie == ""


def test_a_logout_leaves_the_site_s_data_alone_unless_it_is_asked_for(browser):
    with browser.request() as session:
        session.logout()
    assert not browser.reply.clear_site_data


def test_logout_clears_the_site_s_data_also_where_the_session_had_ended(site, browser):
    """SECURITY 32."""
    site.manager.revoke(browser.handle)
    with browser.request() as session:
        session.logout(clear_site_data=True)
    assert browser.reply.clear_site_data


def test_destroy_after_regenerate_ends_the_old_record(site, browser):
    with browser.request() as session:
        session.regenerate()
        session.destroy()
    assert site.store.handles == set()
    assert browser.cookie == ""


def test_destroy_after_a_new_id_was_saved_expires_the_cookie_of_the_old_one(site, browser):
    with browser.request() as session:
        session.login(7)
        session.save()
        session.destroy()
    assert site.store.handles == set()
    assert browser.cookie == ""


def test_a_cookie_whose_record_is_gone_is_left_alone_though_new_records_came_and_went(site, browser):
    site.manager.revoke(browser.handle)
    with browser.request() as session:
        session["a"] = 1
        session.save()
        session.regenerate()
        session.destroy()
    assert site.store.handles == set()
    assert browser.reply.set_cookie is None  # a late request's: the browser may have a newer one
