"""`SessionManager` without a web server: what it decides of a session's life, and what it does outside of requests."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.environs import request
from tests.visits import DAY, NOW, SECRET, Site
from wsgisession import (
    ConfigurationError,
    SerializationError,
    SessionConflict,
    SessionGone,
    SessionManager,
    StoreError,
)
from wsgisession.stores import Record

KEY = bytes(range(32))


def at(seconds):
    return datetime.fromtimestamp(NOW + seconds, timezone.utc)


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


def logged_in(site, user_id, **data):
    browser = site.browser()
    with browser.request() as session:
        session.login(user_id, **data)
    return browser


# Load and edit.


def test_load_opens_a_session_by_its_handle(site, browser):
    session = site.manager.load(browser.handle)
    assert dict(session) == {"n": 1, "cart": ["tea"]}
    assert not session.is_new


@pytest.mark.parametrize("handle", ["", "1nobody", "x" * 300, "é", "\x00", None, 7])
def test_load_of_what_is_no_handle_is_none(site, browser, handle):
    assert site.manager.load(handle) is None


def test_the_id_is_no_handle(site, browser):
    assert site.manager.load(browser.open().id) is None


def test_a_look_from_outside_is_no_activity_of_the_user(site, browser):
    handle = browser.handle
    site.clock += DAY - 1
    assert site.manager.load(handle) is not None
    site.clock += 2
    assert site.manager.load(handle) is None


def test_edit_writes_at_the_end(site, browser):
    with site.manager.edit(browser.handle) as session:
        session["cart"].append("milk")
        assert browser.data["cart"] == ["tea"]
    assert browser.data["cart"] == ["tea", "milk"]


def test_edit_merges_with_what_a_request_wrote_meanwhile(site, browser):
    with site.manager.edit(browser.handle) as session:
        session["cart"].append("milk")
        with browser.request() as other:
            other["cart"].append("bread")
            del other["n"]
    assert browser.data == {"cart": ["tea", "bread", "milk"]}


def test_an_edit_that_fails_writes_nothing(site, browser):
    with pytest.raises(ZeroDivisionError), site.manager.edit(browser.handle) as session:
        session["n"] = 1 / 0
    with pytest.raises(ZeroDivisionError), site.manager.edit(browser.handle) as session:
        session["n"] = 2
        raise ZeroDivisionError
    assert browser.data["n"] == 1


def test_an_edit_that_changes_nothing_writes_nothing(site, browser):
    with site.manager.edit(browser.handle) as session:
        assert session["n"] == 1
    assert site.store.calls["replace"] == 0


def test_edit_of_a_session_that_is_not_there_raises(site):
    with pytest.raises(SessionGone, match="no live session"), site.manager.edit("1nobody"):
        pass


@pytest.mark.parametrize("on_gone", ["discard", "raise"])
def test_an_edit_of_a_session_that_ended_meanwhile_brings_nothing_back(on_gone):
    """SECURITY 38."""
    site = Site(on_gone=on_gone)
    browser = filled(site)

    def edit():
        with site.manager.edit(browser.handle) as session:
            session["n"] = 2
            site.manager.revoke(session.handle)

    if on_gone == "raise":
        with pytest.raises(SessionGone):
            edit()
    else:
        edit()
    assert site.store.handles == set()
    assert len(site.told("gone")) == 1


def test_edit_keeps_a_change_of_the_cookie_with_the_record(site, browser):
    with site.manager.edit(browser.handle) as session:
        session.cookie.max_age = 60
    assert browser.open().cookie.max_age == 60


def test_edit_starts_no_other_session_after_the_end_of_this_one(site, browser):
    with pytest.raises(SessionGone), site.manager.edit(browser.handle) as session:
        session.destroy()
        session["n"] = 2
    assert site.store.handles == set()


def test_edit_can_end_the_session(site, browser):
    with site.manager.edit(browser.handle) as session:
        session.destroy()
    assert browser.data == {}


# Lists, and who is who.


def test_sessions_for_lists_a_user_s_live_sessions_the_one_used_last_first(site):
    """SECURITY 34."""
    first = logged_in(site, 7, device="phone")
    site.clock += 60
    second = logged_in(site, 7, device="laptop")
    logged_in(site, 8)
    site.clock += 60
    assert [info.data["device"] for info in site.manager.sessions_for(7)] == ["laptop", "phone"]
    site.clock += DAY / 20
    assert first.data["device"] == "phone"
    infos = site.manager.sessions_for(7)
    assert [info.handle for info in infos] == [first.handle, second.handle]
    assert infos[0].created_at == at(0)
    assert infos[0].last_seen_at == at(120 + DAY / 20)
    assert infos[0].expires_at == at(120 + DAY / 20 + DAY)
    assert (infos[0].user_id, infos[0].ip_address, infos[0].user_agent) == (7, None, None)


def test_what_is_listed_can_neither_be_written_nor_opens_anything(site):
    """SECURITY 34, 56."""
    browser = logged_in(site, 7, password="hunter2")
    (info,) = site.manager.sessions_for(7)
    assert isinstance(info.data, MappingProxyType)
    assert "hunter2" not in repr(info)
    assert browser.open().id not in repr(info.__dict__)
    assert site.browser(info.handle).data == {}


@pytest.mark.parametrize(
    ("logged", "asked"), [(7, "7"), ("7", 7), (UUID(int=1), str(UUID(int=1))), ("é\n☃", "é\n☃"), (0, "0")]
)
def test_a_user_is_compared_as_text(site, logged, asked):
    browser = logged_in(site, logged)
    assert [info.user_id for info in site.manager.sessions_for(asked)] == [logged]
    assert site.manager.revoke(browser.handle, user_id=asked)


@pytest.mark.parametrize("key", ["user_id", "_user_id", "_auth_user_id"])
def test_who_logged_in_by_another_library_s_key_is_found(site, key):
    browser = site.browser()
    browser.put(**{key: "7"})
    assert len(site.manager.sessions_for(7)) == 1
    browser.put(**{key: None})
    assert site.manager.sessions_for(7) == []


def test_the_list_follows_a_change_of_user_and_a_logout(site):
    """SECURITY 35."""
    browser = logged_in(site, 7)
    with browser.request() as session:
        session.login(8)
    assert (site.manager.sessions_for(7), len(site.manager.sessions_for(8))) == ([], 1)
    with browser.request() as session:
        session.logout()
    assert site.manager.sessions_for(8) == []


OPERATIONS = {
    "login": lambda session, user: session.login(user),
    "switch": lambda session, user: session.update(user_id=user),
    "leave": lambda session, _: session.pop("user_id", None),
    "logout": lambda session, _: session.logout(),
    "regenerate": lambda session, _: session.regenerate(),
    "clear": lambda session, _: session.clear(),
    "write": lambda session, _: session.update(n=session.get("n", 0) + 1),
    "write after destroy": lambda session, user: (session.destroy(), session.update(user_id=user)),
    "save": lambda session, user: (session.update(user_id=user), session.save(), session.regenerate()),
}
steps = st.tuples(
    st.integers(0, 2), st.integers(0, 2), st.sampled_from(list(OPERATIONS)), st.integers(7, 9), st.floats(0, 60)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=15))
def test_after_whatever_happens_the_lists_are_the_live_sessions_of_their_users(steps):
    """SECURITY 35: two requests at a time, of one browser or of two, with renewals and expiries in between."""
    site = Site(idle_timeout=100, absolute_timeout=400, renewal_timeout=50, renewal_grace=20)
    browsers = [site.browser() for _ in range(3)]
    for first, second, operation, user, seconds in steps:
        site.clock += seconds
        one, other = browsers[first].open(), browsers[second].open()
        other["other"] = user
        OPERATIONS[operation](one, user)
        browsers[second].end(other)
        browsers[first].end(one)
    live = {(browser.handle, browser.data["user_id"]) for browser in browsers if "user_id" in browser.data}
    listed = {(info.handle, info.user_id) for user in (7, 8, 9) for info in site.manager.sessions_for(user)}
    assert live <= listed
    for handle, user in listed:
        assert site.manager.load(handle).user_id == user
    site.clock += 10_000
    assert [site.manager.sessions_for(user) for user in (7, 8, 9)] == [[], [], []]
    site.manager.purge_expired()
    assert list(site.store.scan(now=0)) == []


def test_a_user_may_have_1024_characters(site):
    logged_in(site, "é" * 1024)
    assert len(site.manager.sessions_for("é" * 1024)) == 1


@pytest.mark.parametrize("user_id", ["a" * 1025, "a\0b", "\ud800"], ids=["long", "nul", "surrogate"])
def test_a_user_that_not_every_store_can_hold_is_refused(site, user_id):
    with pytest.raises(SerializationError, match="1024"):
        logged_in(site, user_id)


def test_the_client_is_kept_on_request_cut_to_size():
    """SECURITY 58."""
    site = Site(track_client=True)
    browser = site.browser()
    with browser.request(client=("192.0.2.1", "Agent\r\n" + "x" * 100_000)) as session:
        session.login(7)
    (info,) = site.manager.sessions_for(7)
    assert info.ip_address == "192.0.2.1"
    assert info.user_agent.startswith("Agentxxx")
    assert len(info.user_agent) <= 256


# Revocation.


def test_revoke_ends_a_session_at_once(site, browser):
    """SECURITY 33."""
    handle = browser.handle
    assert site.manager.revoke(handle)
    assert browser.data == {}
    assert not site.manager.revoke(handle)
    assert [event.handle for event in site.told("revoked")] == [handle]


def test_revoke_leaves_another_user_s_session_alone(site):
    """SECURITY 34."""
    browser, nobody_s = logged_in(site, 7), filled(site)
    assert not site.manager.revoke(browser.handle, user_id=8)
    assert not site.manager.revoke(nobody_s.handle, user_id=8)
    assert not site.manager.revoke("1nobody", user_id=8)
    assert browser.data["user_id"] == 7
    assert site.manager.revoke(browser.handle, user_id=7)


@pytest.mark.parametrize("handle", ["", "é", None, 7])
def test_revoke_of_what_is_no_handle_is_false(site, handle):
    assert site.manager.revoke(handle) is False


def test_revoke_is_for_the_user_that_it_is_now(site):
    """SECURITY 34: the record changes hands between the look and the deletion."""
    browser = logged_in(site, 7)
    handle = browser.handle

    def change_hands():
        browser.put(user_id=8)

    site.store.before["delete"] = change_hands
    assert not site.manager.revoke(handle, user_id=7)
    assert browser.data["user_id"] == 8


def test_revoke_user_ends_all_sessions_but_the_one_to_keep(site):
    """SECURITY 33."""
    browsers, other = [logged_in(site, 7) for _ in range(3)], logged_in(site, 8)
    assert site.manager.revoke_user("7", except_handle=browsers[0].handle) == 2
    assert [browser.data.get("user_id") for browser in (*browsers, other)] == [7, None, None, 8]
    assert site.manager.revoke_user(7) == 1
    assert site.manager.revoke_user(7) == 0
    assert len(site.told("revoked")) == 3


def test_revoke_user_keeps_a_session_whose_id_was_renewed_meanwhile():
    """SECURITY 33."""
    site = Site(renewal_timeout=50)
    browser, other = logged_in(site, 7), logged_in(site, 7)
    handle = browser.handle
    site.clock += 51
    browser.put(n=1)
    assert site.manager.revoke_user(7, except_handle=handle) == 1
    assert (browser.data, other.data) == ({"user_id": 7, "n": 1}, {})


def test_who_ends_all_other_sessions_and_then_changes_the_id_stays_logged_in(site):
    browser, other = logged_in(site, 7, cart=["tea"]), logged_in(site, 7)
    for change in (lambda session: session.login(7), lambda session: session.regenerate()):
        with browser.request() as session:
            site.manager.revoke_user(7, except_handle=session.handle)
            change(session)
        assert (browser.data, other.data) == ({"user_id": 7, "cart": ["tea"]}, {})


def test_at_a_login_beyond_the_limit_the_oldest_session_ends():
    """SECURITY 37."""
    site = Site(max_sessions_per_user=2)
    browsers = []
    for _ in range(3):
        browsers.append(logged_in(site, 7))
        site.clock += 1
    assert [browser.data.get("user_id") for browser in browsers] == [None, 7, 7]
    browsers[1].put(seen=True)
    assert len(site.manager.sessions_for(7)) == 2
    assert "more sessions" in site.told("revoked")[0].detail


def become(session, user):
    session["_user_id"] = user  # as Flask-Login does


@pytest.mark.parametrize(
    "log_in",
    [
        become,
        lambda session, user: (become(session, user), session.save()),
        lambda session, user: (become(session, user), session.save(), session.reload()),
        lambda session, user: session.transaction(lambda session: become(session, user)),
        lambda session, user: (become(session, user), session.regenerate()),
        lambda session, user: (become(session, user), session.save(), session.regenerate()),
        lambda session, user: (session.destroy(), become(session, user), session.save()),
        lambda session, user: (session.login(user), session.save()),
    ],
)
@pytest.mark.parametrize("before", [None, "another user"])
def test_the_limit_holds_however_the_app_logs_in(log_in, before):
    """SECURITY 37."""
    site = Site(max_sessions_per_user=2)
    for _ in range(4):
        browser = filled(site, _user_id=before)
        with browser.request() as session:
            log_in(session, 7)
        site.clock += 1
    assert len(site.manager.sessions_for(7)) == 2


def test_parallel_logins_end_within_the_limit():
    """SECURITY 37."""
    site = Site(max_sessions_per_user=3)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: logged_in(site, 7), range(20)))
    assert len(site.manager.sessions_for(7)) == 3


# Timeouts.


def test_a_session_ends_when_it_was_idle_for_the_idle_timeout():
    """SECURITY 23."""
    site = Site(idle_timeout=100)
    browser = filled(site)
    site.clock += 99
    assert browser.data["n"] == 1
    site.clock += 99
    assert browser.data["n"] == 1
    site.clock += 100
    assert browser.data == {}


def test_a_session_ends_at_the_absolute_timeout_whatever_its_activity():
    """SECURITY 24."""
    site = Site(idle_timeout=60, absolute_timeout=300)
    browser = filled(site)
    for _ in range(9):
        site.clock += 30
        browser.put(n=site.clock.now)
        assert browser.data
    with browser.request() as session:
        session.regenerate()
    assert browser.data
    site.clock += 30
    assert browser.data == {}
    assert site.manager.load(browser.handle) is None
    assert site.told("expired")


def test_a_login_restarts_both_timeouts_and_regenerating_neither():
    """SECURITY 25."""
    site = Site(idle_timeout=100, absolute_timeout=100)
    browser = filled(site)
    site.clock += 60
    with browser.request() as session:
        session.login(7)
    site.clock += 60
    with browser.request() as session:
        assert session.authenticated_at == at(60)
        session.regenerate()
        assert session.authenticated_at == at(60)
        assert session.expires_at == at(160)
    assert browser.data["user_id"] == 7
    site.clock += 40
    assert browser.data == {}


def test_a_read_restarts_the_idle_timeout_in_the_store_after_touch_after():
    """SECURITY 26."""
    site = Site(idle_timeout=100, touch_after=10)
    asked = []
    load = site.store.load
    site.store.load = lambda handle, *, now, touch_after: (
        asked.append(touch_after) or load(handle, now=now, touch_after=touch_after)
    )
    browser = filled(site)
    assert browser.data
    site.manager.load(browser.handle)
    assert asked[-1] is None
    assert set(asked[:-1]) == {0.1}


def test_touch_restarts_the_idle_timeout_now(site, browser):
    session = site.manager.load(browser.handle)
    site.clock += DAY - 1
    session.touch()
    assert session.last_seen_at == at(DAY - 1)
    assert session.expires_at == at(2 * DAY - 1)
    site.clock += DAY - 1
    assert browser.data
    assert len(site.told("touched")) == 1


def test_touching_a_session_that_is_new_or_gone_does_nothing(site, browser):
    site.browser().open().touch()
    session = browser.open()
    session.get("n")
    site.manager.revoke(session.handle)
    session.touch()
    assert site.told("touched") == []
    assert browser.data == {}


def test_expiry_is_final_for_a_request_that_began_before_it():
    """SECURITY 27."""
    site = Site(idle_timeout=100, absolute_timeout=150)
    browser = filled(site)
    session = browser.open()
    session["n"] = 2
    site.clock += 100
    browser.end(session)
    assert browser.data == {}
    assert len(site.told("gone")) == 1


def test_expiry_by_the_absolute_timeout_is_final_too():
    """SECURITY 27."""
    site = Site(idle_timeout=100, absolute_timeout=150)
    browser = filled(site)
    site.clock += 90
    session = browser.open()
    session["n"] = 2
    site.clock += 60
    browser.end(session)
    assert browser.data == {}


def test_a_lasting_cookie_reaches_no_further_than_the_absolute_timeout():
    """SECURITY 11."""
    site = Site(cookie={"max_age": 100}, absolute_timeout=150)
    browser = filled(site)
    assert "Max-Age=100" in browser.reply.set_cookie
    site.clock += 70.5
    browser.put(n=2)
    assert "Max-Age=79" in browser.reply.set_cookie


def test_the_cookie_s_max_age_is_rounded_up():
    browser = filled(Site(cookie={"max_age": timedelta(seconds=59.2)}))
    assert "Max-Age=60" in browser.reply.set_cookie


def test_purge_removes_expired_sessions_at_most_so_many(site):
    for number in range(5):
        site.browser().put(n=number)
    site.clock += DAY / 2
    live = filled(site)
    site.clock += DAY / 2
    assert site.manager.purge_expired(limit=2) <= 2
    site.manager.purge_expired()
    assert site.manager.purge_expired() == 0
    assert site.store.handles == {live.handle}


def test_close_closes_the_store_and_the_next_use_opens_it_again(tmp_path):
    manager = SessionManager(secret=SECRET, store=f"sqlite:///{tmp_path / 'sessions.db'}")
    session = manager.open("", {})
    session["a"] = 1
    manager.commit(session, request())
    manager.close()
    assert dict(manager.load(session.handle)) == {"a": 1}
    manager.close()
    manager.close()


# Two requests of one session.


def test_two_requests_that_write_different_keys_both_count(site, browser):
    """SECURITY 40."""
    sessions = [browser.twin().open() for _ in range(26)]
    for number, session in enumerate(sessions):
        session[f"key{number}"] = number
    for session in sessions:
        browser.twin().end(session)
    assert len(browser.data) == 28
    assert len(site.told("merged")) == 25


def test_a_deletion_and_an_addition_both_count(site, browser):
    """SECURITY 40."""
    mine, theirs = browser.open(), browser.open()
    del mine["n"]
    theirs["m"] = 1
    browser.end(theirs)
    browser.end(mine)
    assert browser.data == {"cart": ["tea"], "m": 1}


def test_two_requests_that_add_to_one_list_both_count(browser):
    mine, theirs = browser.open(), browser.open()
    mine["cart"].append("milk")
    theirs["cart"].append("bread")
    browser.end(theirs)
    browser.end(mine)
    assert browser.data["cart"] == ["tea", "bread", "milk"]


def test_of_two_requests_that_write_one_value_the_later_counts(browser):
    mine, theirs = browser.open(), browser.open()
    mine["n"], theirs["n"] = "mine", "theirs"
    browser.end(theirs)
    browser.end(mine)
    assert browser.data["n"] == "mine"


def test_what_the_app_holds_of_the_session_goes_on_after_a_merge(browser):
    mine, theirs = browser.open(), browser.open()
    cart = mine["cart"]
    cart.append("milk")
    theirs["cart"].append("bread")
    browser.end(theirs)
    mine.save()
    cart.append("salt")
    browser.end(mine)
    assert browser.data["cart"] == ["tea", "bread", "milk", "salt"]


def test_a_change_of_the_cookie_and_one_of_the_data_both_count(browser):
    for change_of_the_cookie_is_later in (True, False):
        mine, theirs = browser.open(), browser.open()
        age = 60 if change_of_the_cookie_is_later else 90
        (mine if change_of_the_cookie_is_later else theirs).cookie.max_age = age
        (theirs if change_of_the_cookie_is_later else mine)["n"] = age
        browser.end(theirs)
        browser.end(mine)
        assert (browser.data["n"], browser.open().cookie.max_age) == (age, age)


def test_overwrite_puts_mine_in_place_of_theirs():
    browser = filled(Site(on_conflict="overwrite"))
    mine, theirs = browser.open(), browser.open()
    mine["mine"], theirs["theirs"] = 1, 1
    browser.end(theirs)
    browser.end(mine)
    assert browser.data == {"n": 1, "cart": ["tea"], "mine": 1}


def test_refuse_raises_and_theirs_stays():
    browser = filled(Site(on_conflict="refuse"))
    mine, theirs = browser.open(), browser.open()
    mine["mine"], theirs["theirs"] = 1, 1
    browser.end(theirs)
    with pytest.raises(SessionConflict):
        browser.end(mine)
    assert browser.data == {"n": 1, "cart": ["tea"], "theirs": 1}


def test_a_writer_that_comes_between_again_and_again_is_merged_again_and_again(site, browser):
    mine = browser.open()
    mine["mine"] = 1

    def interfere(left=3):
        browser.put(**{f"theirs{left}": 1})
        if left:
            site.store.before["replace"] = lambda: interfere(left - 1)

    site.store.before["replace"] = interfere
    browser.end(mine)
    assert {"mine", "theirs3", "theirs2", "theirs1", "theirs0"} <= set(browser.data)


@pytest.mark.parametrize("end", ["destroy", "revoke", "expire"])
def test_a_session_that_ended_meanwhile_is_not_brought_back(site, browser, end):
    """SECURITY 38."""
    mine, handle = browser.open(), browser.handle
    mine["n"] = 2
    if end == "destroy":
        browser.twin().open().destroy()
    elif end == "revoke":
        site.manager.revoke(handle)
    else:
        site.clock += DAY + 1
    browser.end(mine)
    assert browser.reply.set_cookie is None
    assert site.manager.load(handle) is None
    assert [event.handle for event in site.told("gone")] == [handle]


def test_a_session_that_ended_meanwhile_is_an_error_on_request():
    site = Site(on_gone="raise")
    browser = filled(site)
    mine = browser.open()
    mine["n"] = 2
    site.manager.revoke(mine.handle)
    with pytest.raises(SessionGone):
        browser.end(mine)
    assert site.store.handles == set()


def test_a_session_that_ended_meanwhile_and_was_only_read_is_no_event(site, browser):
    mine = browser.open()
    assert mine["n"] == 1
    site.manager.revoke(mine.handle)
    browser.end(mine)
    assert browser.reply.set_cookie is None
    assert site.told("gone") == []


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


# A new ID takes over.


@pytest.mark.parametrize("ask", [lambda session: session.regenerate(), lambda session: session.login(7)])
def test_a_new_id_takes_what_others_wrote_to_the_old_record(site, browser, ask):
    mine = browser.open()
    mine["mine"] = 1
    ask(mine)
    browser.put(theirs=1)
    old = browser.twin()
    browser.end(mine)
    assert browser.data == {"n": 1, "cart": ["tea"], "mine": 1, "theirs": 1, **browser_user(browser)}
    assert old.data == {}
    assert len(site.store.handles) == 1


def browser_user(browser):
    user_id = browser.data.get("user_id")
    return {} if user_id is None else {"user_id": user_id}


def test_a_new_id_takes_what_is_written_while_the_new_record_is(site, browser):
    mine = browser.open()
    mine.login(7)
    old = browser.twin()
    site.store.before["delete"] = lambda: old.put(theirs=1)
    browser.end(mine)
    assert browser.data == {"n": 1, "cart": ["tea"], "theirs": 1, "user_id": 7}
    assert old.data == {}


def test_the_new_record_is_there_before_the_old_one_ends(site, browser):
    """SECURITY 21."""
    seen = []
    site.store.before["delete"] = lambda: seen.append(len(site.store.handles))
    with browser.request() as session:
        session.regenerate()
    assert seen == [2]


def test_data_that_were_left_behind_do_not_come_back_from_others(browser):
    mine = browser.open()
    mine.regenerate(keep_data=False)
    mine["fresh"] = 1
    browser.put(theirs=1)
    browser.end(mine)
    assert browser.data == {"fresh": 1}


def test_a_new_id_for_a_session_that_ended_meanwhile_is_none(site, browser):
    """SECURITY 38."""
    mine = browser.open()
    mine.regenerate()
    site.manager.revoke(browser.handle)
    browser.end(mine)
    assert browser.reply.set_cookie is None
    assert site.store.handles == set()


def test_a_login_is_never_lost_to_an_end_of_the_old_session(site, browser):
    mine = browser.open()
    mine["mine"] = 1
    mine.login(7)
    site.manager.revoke(browser.handle)
    browser.end(mine)
    assert browser.data == {"mine": 1, "user_id": 7}


def log_in_again(session):
    session.login(7, roles=["admin"])


def test_a_login_again_as_the_same_user_is_not_lost_to_an_end_of_the_old_session(site):
    browser = logged_in(site, 7, roles=["admin"], cart=["tea"])
    again = browser.open()
    log_in_again(again)
    site.manager.revoke_user(7)
    browser.end(again)
    assert browser.data == {"user_id": 7, "roles": ["admin"]}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda session: session.pop("user_id"), {"n": 1}),
        (lambda session: session.update(user_id=8, roles=[]), {}),  # another user's session, and so another record
    ],
)
def test_a_login_stands_whatever_another_request_did_to_the_user_meanwhile(site, change, kept):
    browser = logged_in(site, 7, roles=["admin"])
    again, other = browser.open(), browser.twin()
    log_in_again(again)
    with other.request() as session:
        change(session)
        session["n"] = 1
    browser.end(again)
    assert browser.data == {"user_id": 7, "roles": ["admin"], **kept}


def test_a_login_takes_nothing_of_what_the_user_before_had(site):
    browser = site.browser()
    browser.put(user_id=6, rights={"delete": True})
    mine, theirs = browser.open(), browser.twin()
    mine.login(7, rights={"read": True})
    theirs.put(seen=1)
    browser.end(mine)
    assert browser.data == {"user_id": 7, "rights": {"read": True}}


def test_a_login_that_was_reloaded_away_brings_no_ended_session_back(site, browser):
    session = browser.open()
    session.login(7)
    session.reload()
    site.manager.revoke(browser.handle)
    browser.end(session)
    assert site.store.handles == set()


def test_what_the_app_removes_after_a_login_does_not_come_back_from_others(site):
    browser = logged_in(site, 7, roles=["admin"])
    again, other = browser.open(), browser.twin()
    log_in_again(again)
    del again["roles"]
    other.put(n=1)
    browser.end(again)
    assert browser.data == {"user_id": 7, "n": 1}


def test_two_parallel_logins_leave_each_a_session_of_its_own(site, browser):
    one, other = browser.twin(), browser.twin()
    first, second = one.open(), other.open()
    first.login(7)
    second.login(7)
    one.end(first)
    other.end(second)
    assert (one.data["user_id"], other.data["user_id"]) == (7, 7)
    assert browser.data == {}
    assert len(site.manager.sessions_for(7)) == 2


@pytest.mark.parametrize("ask", [lambda session: session.login(7), lambda session: session.regenerate(keep_data=False)])
def test_a_new_id_alone_is_change_enough(site, browser, ask):
    """Where the app wrote nothing besides, the user is stored all the same, and the data left behind are gone."""
    with browser.request() as session:
        ask(session)
        expected = dict(session)
    assert browser.data == expected


def test_login_twice_in_one_request_leaves_one_session(site, browser):
    with browser.request() as session:
        session.login(7)
        session.save()
        session.login(8)
    assert browser.data["user_id"] == 8
    assert len(site.store.handles) == 1


@pytest.mark.parametrize("verb", ["create", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_where_the_store_fails_on_the_way_to_a_new_id_one_id_stays_usable(site, browser, verb, when):
    """SECURITY 21, 53: nobody is logged out, and nobody is left with two."""
    old = browser.twin()
    session = browser.open()
    session.login(7)
    getattr(site.store, when)[verb] = fail
    try:
        browser.end(session)
    except StoreError:
        browser = old
    assert browser.data["n"] == 1
    assert len(site.store.handles) == 1


def test_an_id_that_is_taken_is_given_to_nobody_else(site):
    """SECURITY 2."""
    bits = iter([bytes(32), bytes(32), b"\x01" * 32])
    site = Site(random=lambda count: next(bits))
    first = filled(site, mine=1)
    second = filled(site, mine=2)
    assert (first.data, second.data) == ({"mine": 1}, {"mine": 2})


def test_ids_that_never_become_free_are_an_error():
    site = Site(random=bytes)
    filled(site)
    with pytest.raises(StoreError, match="genid or random"):
        filled(site)


def test_random_must_give_as_many_bytes_as_asked_for():
    with pytest.raises(ConfigurationError, match="random"):
        filled(Site(random=lambda count: b"short"))


def test_the_app_s_own_ids_come_from_the_environ():
    site = Site(genid=lambda environ: environ["REQUEST_ID"])
    browser, session = site.browser(), site.manager.open("", {"REQUEST_ID": "an-id-of-the-app-s-own"})
    session["n"] = 1
    browser.end(session)
    assert browser.open().id == "an-id-of-the-app-s-own"
    assert browser.data["n"] == 1


@pytest.mark.parametrize("made", ["short", "x" * 129, "with a space in it", None, b"bytes-bytes-bytes"])
def test_an_id_of_the_app_s_own_that_cannot_be_one_is_refused(made):
    with pytest.raises(ConfigurationError, match="genid"):
        filled(Site(genid=lambda environ: made))


# An ID is due for renewal.


def test_an_active_session_gets_a_new_id_this_often():
    """SECURITY 20, 25."""
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    old = browser.twin()
    site.clock += 99
    assert browser.data
    site.clock += 1
    with browser.request() as session:
        assert session["n"] == 1
    assert browser.cookie != old.cookie
    assert len(site.told("renewed")) == 1
    with old.request() as session:
        assert session["n"] == 1
    assert old.cookie == browser.cookie
    assert browser.open().created_at == at(0)


def test_the_old_id_is_refused_after_the_grace_that_follows_the_first_request_with_the_new_one():
    """SECURITY 20."""
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    old = browser.twin()
    site.clock += 100
    browser.put(n=2)
    site.clock += 11
    assert old.data["n"] == 2
    with browser.request() as session:
        assert session["n"] == 2
    site.clock += 11
    assert old.data == {}
    assert browser.data["n"] == 2
    assert "stale" in [event.reason for event in site.told("rejected")]


@pytest.mark.parametrize("end", ["logout", "revoke", "revoke_user", "login"])
def test_no_grace_outlives_a_logout_a_revocation_or_a_login(end):
    """SECURITY 19."""
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = logged_in(site, 7)
    old, handle = browser.twin(), browser.handle
    site.clock += 100
    browser.put(n=2)
    if end == "revoke":
        assert site.manager.revoke(handle)
    elif end == "revoke_user":
        assert site.manager.revoke_user(7) == 1
    else:
        with browser.request() as session:
            session.logout() if end == "logout" else session.login(8)
    assert old.data == {}


def test_an_old_handle_leads_the_manager_to_the_renewed_session_also_after_the_grace():
    """A job may hold the handle for longer than a browser holds the cookie, and a handle opens nothing."""
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    old = browser.handle
    site.clock += 100
    browser.put(n=2)
    site.clock += 60
    assert site.manager.load(old).handle == browser.handle != old
    with site.manager.edit(old) as session:
        session["n"] = 3
    assert browser.data["n"] == 3
    assert site.manager.revoke(old)
    assert browser.data == {}
    assert site.store.handles == set()


def test_a_renewal_takes_what_a_job_wrote_to_the_old_record_meanwhile():
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    site.clock += 100
    session = browser.open()
    session["mine"] = 1
    with site.manager.edit(browser.handle) as job:
        job["theirs"] = 1
    browser.end(session)
    assert browser.data == {"n": 1, "cart": ["tea"], "mine": 1, "theirs": 1}
    assert len(site.told("renewed")) == 1
    assert len(site.store.handles) == 2  # the new one, and the way to it


def test_a_renewal_of_a_session_that_ended_meanwhile_leaves_nothing():
    """SECURITY 38."""
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    site.clock += 100
    session = browser.open()
    session["n"] = 2
    site.manager.revoke(session.handle)
    browser.end(session)
    assert browser.reply.set_cookie is None
    assert site.store.handles == set()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["create", "replace"])
def test_where_the_store_fails_on_the_way_to_a_renewed_id_one_of_the_two_opens_the_session(verb, when):
    """SECURITY 21, 53."""
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    old = browser.twin()
    site.clock += 100
    session = browser.open()
    session["seen"] = 1
    getattr(site.store, when)[verb] = fail
    try:
        browser.end(session)
    except StoreError:
        browser = old
    assert browser.data["n"] == 1
    assert old.data["n"] == 1


def test_a_new_id_that_was_asked_for_while_the_old_one_was_renewed_leaves_one_record():
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    old = browser.twin()
    session = browser.open()
    session.login(7)
    site.clock += 100
    old.put(theirs=1)
    browser.end(session)
    assert browser.data == {"n": 1, "cart": ["tea"], "theirs": 1, "user_id": 7}
    assert old.data == {}
    assert site.store.handles == {browser.handle}


def test_parallel_requests_of_an_old_id_all_write_to_the_renewed_session():
    site = Site(renewal_timeout=100, renewal_grace=10)
    browser = filled(site)
    site.clock += 100
    twins = [browser.twin() for _ in range(5)]
    sessions = [twin.open() for twin in twins]
    for number, session in enumerate(sessions):
        session[f"key{number}"] = number
    for twin, session in zip(twins, sessions, strict=True):
        twin.end(session)
    assert {twin.cookie for twin in twins} == {twins[0].cookie}
    assert len(twins[0].data) == 7


def test_a_late_answer_does_not_bring_the_old_id_back_to_a_browser_that_has_the_renewed_one():
    site = Site(rolling=True, renewal_timeout=100)
    browser = filled(site)
    site.clock += 99
    late = browser.twin()
    session = late.open()
    assert session["n"] == 1
    site.clock += 1
    with browser.request():
        pass
    assert browser.cookie != late.cookie
    assert late.end(session).set_cookie is None


# Cookies that nobody can use.


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


# Records that nobody can read.


def planted(site, browser, data):
    """Put these bytes in place of the session's record."""
    handle = browser.handle
    record = site.store.load(handle, now=NOW, touch_after=None)
    site.store.replace(handle, Record(data, 3600.0, None, record.version), now=NOW)
    site.store.calls.clear()
    return handle


PLANTED = [
    b"",
    b"{}",
    b'{"n":1}',
    b'["ws1",1.0',
    b'["ws9",1.0,null,{}]',
    b"\x80\x04cposix\nsystem\n.",
    b'["ws1",1,null,[]]',
]


@pytest.mark.parametrize("data", PLANTED, ids=range(len(PLANTED)))
def test_a_record_that_cannot_be_read_is_no_session(site, browser, data):
    """SECURITY 50, 51."""
    handle = planted(site, browser, data)
    assert browser.data == {}
    assert site.manager.load(handle) is None
    assert "undecodable" in [event.reason for event in site.told("rejected")]


@pytest.mark.parametrize("data", PLANTED, ids=range(len(PLANTED)))
def test_a_record_that_cannot_be_read_can_be_ended(site, browser, data):
    """SECURITY 51: destroy works without decoding."""
    handle = planted(site, browser, data)
    assert site.manager.revoke(handle)
    assert site.store.handles == set()


def test_logout_ends_a_record_that_cannot_be_read(site, browser):
    planted(site, browser, b"?")
    with browser.request() as session:
        session.logout()
    assert site.store.handles == set()


def test_writing_where_the_record_cannot_be_read_starts_a_new_session(site, browser):
    handle = planted(site, browser, b"?")
    browser.put(a=1)
    assert browser.data == {"a": 1}
    assert browser.handle != handle


def test_a_record_that_became_unreadable_meanwhile_is_gone(site, browser):
    session = browser.open()
    session["n"] = 2
    planted(site, browser, b"?")
    browser.end(session)
    assert browser.reply.set_cookie is None
    assert len(site.told("gone")) == 1


def test_an_unreadable_record_of_a_user_is_left_out_of_the_list(site):
    readable, broken = logged_in(site, 7), logged_in(site, 7)
    record = site.store.load(broken.handle, now=NOW, touch_after=None)
    site.store.replace(broken.handle, Record(b"?", 3600.0, "7", record.version), now=NOW)
    assert [info.handle for info in site.manager.sessions_for(7)] == [readable.handle]


# Encryption.


def test_records_are_encrypted_with_the_first_key_and_read_with_all():
    """SECURITY 46."""
    keys = [KEY, bytes(32), b"\x01" * 32]
    site = Site(encryption_key=keys[1])
    browser = logged_in(site, "somebody", note="plainly visible")
    (_, record) = next(site.store.scan(now=NOW))
    assert b"plainly" not in record.data
    assert record.user_id != "somebody"
    both = Site(encryption_key=keys[:2], store=site.store)
    assert both.browser(browser.cookie).data["note"] == "plainly visible"
    assert len(both.manager.sessions_for("somebody")) == 1
    both.browser(browser.cookie).put(n=1)
    assert Site(encryption_key=keys[0], store=site.store).browser(browser.cookie).data["n"] == 1
    assert site.browser(browser.cookie).data == {}


def test_a_record_under_another_handle_is_no_session():
    """SECURITY 46."""
    site = Site(encryption_key=KEY)
    mine, theirs = filled(site, who="me"), filled(site, who="them")
    record = site.store.load(theirs.handle, now=NOW, touch_after=None)
    planted(site, mine, record.data)
    assert mine.data == {}


def test_a_plain_record_is_no_session_where_a_key_is_set():
    """SECURITY 51: no other decoder is tried."""
    site = Site()
    browser = filled(site)
    assert Site(encryption_key=KEY, store=site.store).browser(browser.cookie).data == {}


# A store that fails.


@pytest.mark.parametrize(
    ("verb", "use"),
    [
        ("load", lambda site, browser: browser.data),
        ("replace", lambda site, browser: browser.put(n=2)),
        ("create", lambda site, browser: site.browser().put(n=2)),
        ("delete", lambda site, browser: browser.open().destroy()),
        ("find_user", lambda site, browser: site.manager.sessions_for(7)),
        ("delete_user", lambda site, browser: site.manager.revoke_user(7)),
    ],
)
def test_a_store_that_fails_is_an_error_and_an_event_and_never_a_logout(site, browser, verb, use):
    """SECURITY 53."""
    cookie = browser.cookie
    site.store.before[verb] = fail
    with pytest.raises(StoreError):
        use(site, browser)
    site.store.before.clear()
    assert [event.detail for event in site.told("store_error")] == ["the store is down"]
    assert browser.cookie == cookie
    assert browser.data["n"] == 1


def test_a_new_session_that_may_have_been_stored_is_taken_back(site):
    session = site.browser().open()
    session["a"] = 1
    site.store.after["create"] = fail
    with pytest.raises(StoreError):
        site.manager.commit(session, request())
    assert site.store.handles == set()


# Events, warnings.


def test_what_happens_to_a_session_is_told(site):
    """SECURITY 57."""
    browser = site.browser()
    browser.put(n=1)
    browser.put(n=2)
    with browser.request() as session:
        session.login(7)
    with browser.request() as session:
        session.logout()
    names = [event.name for event in site.events]
    assert names == ["created", "loaded", "saved", "loaded", "regenerated", "loaded", "destroyed"]
    assert all(event.handle and event.at == at(0) for event in site.events)


def test_no_event_or_log_line_holds_an_id(site, caplog):
    """SECURITY 56."""
    caplog.set_level(logging.DEBUG)
    browser, ids = site.browser(), set()
    for change in (lambda s: s.update(n=1), lambda s: s.login(7), lambda s: s.regenerate(), lambda s: s.logout()):
        with browser.request() as session:
            change(session)
            ids.add(session.id)
    site.browser("A" * 43 + "." + "A" * 43).open().get("n")
    assert len(ids) >= 3
    told = caplog.text + repr(site.events)
    assert [session_id for session_id in (*ids, "A" * 43) if session_id in told] == []


def test_memory_behind_several_processes_is_warned_about_once(site, caplog, tmp_path):
    for _ in range(2):
        site.manager.check_server(multiprocess=True)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "sqlite:///" in caplog.text


def test_one_process_or_a_shared_store_is_not_warned_about(site, caplog, tmp_path):
    site.manager.check_server(multiprocess=False)
    SessionManager(secret=SECRET, store=f"sqlite:///{tmp_path / 's.db'}").check_server(multiprocess=True)
    assert caplog.records == []


def test_a_secure_cookie_over_plain_http_is_warned_about_once(site, caplog):
    for _ in range(2):
        with site.browser().request(scheme="http", host="example.com") as session:
            session["a"] = 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "ProxyFix" in caplog.text


@pytest.mark.parametrize(
    ("scheme", "host", "secure"),
    [("https", "example.com", True), ("http", "localhost:8000", False), ("https", "localhost", True)],
)
def test_the_cookie_is_secure_but_on_plain_loopback(site, caplog, scheme, host, secure):
    """SECURITY 5, in the contract's form."""
    browser = site.browser()
    with browser.request(scheme=scheme, host=host) as session:
        session["a"] = 1
    assert ("Secure" in browser.reply.set_cookie.split("; ")) is secure
    assert caplog.records == []


# The three options, and a session that was dropped.


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
