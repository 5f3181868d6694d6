"""A new ID takes over from an old one: at a login, at regenerate, and when it is due for renewal."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.visits import NOW, Site
from wsgisession import (
    ConfigurationError,
    StoreError,
)


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


def test_a_new_id_for_a_session_that_ended_in_the_meantime_is_none(site, browser):
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
def test_a_login_holds_whatever_another_request_did_to_the_user_in_the_meantime(site, change, kept):
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


def test_two_parallel_logins_leave_each_its_own_session(site, browser):
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


def test_a_renewal_takes_what_a_job_wrote_to_the_old_record_in_the_meantime():
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


def test_a_renewal_of_a_session_that_ended_in_the_meantime_leaves_nothing():
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
