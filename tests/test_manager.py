"""`SessionManager`: what an app can do with sessions outside of requests, and when it is warned."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.visits import DAY, NOW, SECRET, Site
from wsgisession import (
    SerializationError,
    SessionGone,
    SessionManager,
)


def at(seconds):
    return datetime.fromtimestamp(NOW + seconds, timezone.utc)


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
def test_load_of_what_is_not_a_handle_is_none(site, browser, handle):
    assert site.manager.load(handle) is None


def test_the_id_is_not_a_handle(site, browser):
    assert site.manager.load(browser.open().id) is None


def test_a_look_from_outside_is_not_activity_of_the_user(site, browser):
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


def test_edit_merges_with_what_a_request_wrote_in_the_meantime(site, browser):
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
def test_an_edit_of_a_session_that_ended_in_the_meantime_brings_nothing_back(on_gone):
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
def test_revoke_of_what_is_not_a_handle_is_false(site, handle):
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


def test_revoke_user_keeps_a_session_whose_id_was_renewed_in_the_meantime():
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


# Events, warnings.


def test_what_happens_to_a_session_is_reported(site):
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
