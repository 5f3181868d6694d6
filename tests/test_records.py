"""Records in the store: when they expire, how two writers merge, and what is done about those that cannot be read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.environs import request
from tests.visits import DAY, NOW, SECRET, Site
from wsgisession import (
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


def test_purge_removes_expired_sessions_at_most_as_many_as_asked(site):
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


def test_what_the_app_holds_of_the_session_stays_in_use_after_a_merge(browser):
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


def test_overwrite_puts_mine_instead_of_theirs():
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
def test_a_session_that_ended_in_the_meantime_is_not_brought_back(site, browser, end):
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


def test_a_session_that_ended_in_the_meantime_is_an_error_on_request():
    site = Site(on_gone="raise")
    browser = filled(site)
    mine = browser.open()
    mine["n"] = 2
    site.manager.revoke(mine.handle)
    with pytest.raises(SessionGone):
        browser.end(mine)
    assert site.store.handles == set()


def test_a_session_that_ended_in_the_meantime_and_was_only_read_is_not_an_event(site, browser):
    mine = browser.open()
    assert mine["n"] == 1
    site.manager.revoke(mine.handle)
    browser.end(mine)
    assert browser.reply.set_cookie is None
    assert site.told("gone") == []


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
def test_a_record_that_cannot_be_read_is_not_a_session(site, browser, data):
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


def test_a_record_that_became_unreadable_in_the_meantime_is_gone(site, browser):
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
    keys = [KEY, bytes(range(50, 82)), bytes(range(100, 132))]
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


def test_a_record_under_another_handle_is_not_a_session():
    """SECURITY 46."""
    site = Site(encryption_key=KEY)
    mine, theirs = filled(site, who="me"), filled(site, who="them")
    record = site.store.load(theirs.handle, now=NOW, touch_after=None)
    planted(site, mine, record.data)
    assert mine.data == {}


def test_a_plain_record_is_not_a_session_where_a_key_is_set():
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
