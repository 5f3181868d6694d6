"""The security checklist over HTTP, rows 23 to 43: expiry, logout, revocation, and parallel requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.visitors import Browser, Site, handles
from tests.visits import DAY, NOW, Clock, WatchedStore
from wsgisession import (
    Session,
    StoreError,
)
from wsgisession.stores import Store

MARKER = "a-word-that-stands-nowhere-else"


@pytest.fixture
def site(store: Store) -> Site:
    """A site on a store of each kind."""
    return Site(store)


@pytest.fixture
def watched() -> Site:
    """A site whose store counts its calls."""
    return Site(WatchedStore())


def read(session: Session) -> dict[str, Any]:
    return dict(session)


def logout(session: Session) -> None:
    session.logout()


def at_once(function: Any, times: int) -> list[Any]:
    """Call it this many times in parallel, each with its number."""
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(function, range(times)))


# D. Expiry.


def test_security_23_24_a_session_ends_by_the_clock_whether_or_not_the_store_has_swept(store):
    """SECURITY 23, 24."""
    clock = Clock()
    site = Site(store, clock=clock)
    idle, busy = site.logged_in("idle"), site.logged_in("busy")
    for hours in range(1, 30 * 24):
        clock.now = NOW + hours * 3600.0
        if hours % 20 == 0:
            assert busy.visit(read) == {"user_id": "busy"}
        if hours in (24, 25):
            assert idle.data == {}
    clock.now = NOW + 30 * DAY
    assert busy.visit(read) == {}


def test_security_29_a_purge_leaves_what_was_used_in_the_meantime(store):
    """SECURITY 29."""
    clock = Clock()
    site = Site(store, clock=clock)
    used, left = site.logged_in("used"), site.logged_in("left")
    clock += DAY / 2
    used.visit(read)
    clock += DAY / 2 + 1
    site.manager.purge_expired(limit=10)
    assert (used.data, left.data) == ({"user_id": "used"}, {})


# E. Logout.


def test_security_30_a_copied_cookie_is_useless_after_the_logout(site):
    """SECURITY 30: the record is gone from the store."""
    browser = site.logged_in(secret=MARKER)
    copy = browser.twin()
    assert copy.data["secret"] == MARKER
    browser.visit(logout)
    assert copy.data == {}
    assert handles(site) == set()
    assert site.manager.sessions_for("ada") == []


def test_security_31_a_logout_holds_where_the_app_fails_after_it(site):
    """SECURITY 31."""
    browser = site.logged_in()

    def fail(session: Session) -> None:
        session.destroy()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        browser.visit(fail)
    assert browser.data == {}
    assert handles(site) == set()


def test_security_31_what_is_written_after_a_logout_goes_to_a_new_session(site):
    """SECURITY 31."""
    browser = site.logged_in()
    copy = browser.twin()

    def start_again(session: Session) -> None:
        session.destroy()
        session["a"] = 1

    browser.visit(start_again)
    assert browser.session_id != copy.session_id
    assert (browser.data, copy.data) == ({"a": 1}, {})


def test_security_32_a_logout_can_clear_what_the_browser_keeps():
    """SECURITY 32."""
    browser = Site().logged_in()
    browser.visit(lambda session: session.logout(clear_site_data=True))
    assert browser.response.headers["Clear-Site-Data"] == '"cache", "cookies", "storage"'
    assert browser.response.headers["Cache-Control"] == "no-store"


# F. Revocation.


def test_security_33_a_user_s_other_sessions_end_at_their_next_request(site):
    """SECURITY 33."""
    browsers = [site.logged_in("ada") for _ in range(3)]
    stranger = site.logged_in("bob")

    def leave_elsewhere(session: Session) -> int:
        return site.manager.revoke_user(session.user_id, except_handle=session.handle)

    assert browsers[0].visit(leave_elsewhere) == 2
    assert [browser.data for browser in browsers] == [{"user_id": "ada"}, {}, {}]
    assert stranger.data == {"user_id": "bob"}


def test_security_34_what_a_user_s_list_shows_opens_nothing_and_ends_only_their_own(site):
    """SECURITY 34."""
    mine, another = site.logged_in("ada"), site.logged_in("bob")
    (info,) = site.manager.sessions_for("ada")
    assert info.handle == mine.handle
    assert site.browser().visit(read, cookies=f"sid={info.handle}") == {}
    assert mine.session_id not in repr(vars(info))
    assert not site.manager.revoke(another.handle, user_id="ada")
    assert another.data == {"user_id": "bob"}
    assert site.manager.revoke(info.handle, user_id="ada")
    assert mine.data == {}


@pytest.mark.parametrize("url_fixture", ["sqlite_url", "redis_url", "postgresql_url", "mongodb_url"])
def test_security_36_a_revocation_reaches_every_process_at_once(url_fixture, request):
    """SECURITY 36: there is no cache in front of the store, so the bound is none."""
    url = request.getfixturevalue(url_fixture)
    here, there = Site(url), Site(url)
    browser = here.logged_in()
    visitor = Browser(there)
    visitor.jar.update(browser.jar)
    assert visitor.visit(read) == {"user_id": "ada"}
    assert here.manager.revoke_user("ada") == 1
    assert visitor.visit(read) == {}
    here.manager.close()
    there.manager.close()


# G. Concurrency.


ENDS = {
    "logout": lambda site, other: other.visit(logout),
    "login": lambda site, other: other.visit(lambda session: session.login("ada")),
    "regenerate": lambda site, other: other.visit(lambda session: session.regenerate()),
    "revoke": lambda site, other: site.manager.revoke(other.handle),
    "revoke_user": lambda site, other: site.manager.revoke_user("ada"),
}

LATE = {
    "write": lambda session: session.update(late=1),
    "touch": lambda session: session.touch(),
    "regenerate": lambda session: session.regenerate(),
    "cookie": lambda session: setattr(session.cookie, "max_age", 600),
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("end", ENDS)
def test_security_38_a_slow_request_brings_nothing_back(store, end, late):
    """SECURITY 38: whatever it does after the session has ended, and however that ended."""
    site = Site(store)
    slow = site.logged_in()
    other, replay = slow.twin(), slow.twin()

    def be_slow(session: Session) -> None:
        assert session["user_id"] == "ada"
        ENDS[end](site, other)
        LATE[late](session)

    slow.visit(be_slow)
    assert slow.sent is None
    assert replay.data == {}
    living = {other.handle} if end in ("login", "regenerate") else set()
    assert handles(site) == living


def test_security_38_a_slow_request_of_an_expired_session_brings_nothing_back(store):
    """SECURITY 27, 38."""
    clock = Clock()
    site = Site(store, clock=clock)
    slow = site.logged_in()
    replay = slow.twin()

    def be_slow(session: Session) -> None:
        assert session["user_id"] == "ada"
        clock.now += DAY + 1
        session["late"] = 1

    slow.visit(be_slow)
    assert slow.sent is None
    assert replay.data == {}
    assert handles(site) == set()


def test_security_39_a_session_that_was_only_read_is_not_written(watched):
    """SECURITY 39."""
    browser = watched.logged_in(cart=["tea"])
    watched.store.calls.clear()
    for _ in range(20):
        browser.visit(lambda session: session["cart"][0])
    assert watched.store.calls == {"load": 20}


def test_security_40_parallel_requests_that_set_a_key_each_set_all(site):
    """SECURITY 40."""
    browser = site.browser()
    browser.put(first=1)
    together = threading.Barrier(26, timeout=30)

    def set_one(session: Session, key: str) -> None:
        assert session["first"] == 1
        together.wait()
        session[key] = 1

    letters = [chr(ord("a") + number) for number in range(26)]
    at_once(lambda number: browser.twin().visit(lambda session: set_one(session, letters[number])), 26)
    assert set(browser.data) == {"first", *letters}


def test_security_40_a_deletion_and_an_addition_both_count(site):
    """SECURITY 40."""
    browser = site.browser()
    browser.put(gone=1, popped=1)

    def overtaken(session: Session) -> None:
        assert session["gone"] == 1
        browser.twin().visit(lambda other: (other.__delitem__("gone"), other.pop("popped")))
        session["added"] = 1

    browser.twin().visit(overtaken)
    assert browser.data == {"added": 1}


def test_security_41_parallel_transactions_lose_nothing(site):
    """SECURITY 41."""
    browser = site.browser()
    browser.put(count=0)

    def count(session: Session) -> None:
        session["count"] += 1

    at_once(lambda _: browser.twin().visit(lambda session: session.transaction(count)), 20)
    assert browser.data == {"count": 20}


def test_security_42_a_slow_request_holds_up_no_other(site):
    """SECURITY 42: it ends only after the others have read and written the same session."""
    browser = site.browser()
    browser.put(a=1)
    started, others_done = threading.Event(), threading.Event()

    def be_slow(session: Session) -> bool:
        session["slow"] = session["a"]
        started.set()
        return others_done.wait(30)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(browser.twin().visit, be_slow)
        try:
            assert started.wait(30)
            browser.twin().put(quick=1)
            assert browser.data == {"a": 1, "quick": 1}
        finally:
            others_done.set()
        assert slow.result() is True
    assert browser.data == {"a": 1, "quick": 1, "slow": 1}


def test_security_43_no_thread_sees_another_s_session():
    """SECURITY 43."""
    site = Site()

    def visit(number: int) -> None:
        browser = site.browser()
        browser.visit(lambda session: session.login(number, mine=[]))
        for turn in range(50):
            browser.visit(lambda session, turn=turn: session["mine"].append((number, turn)))
        assert browser.data == {"user_id": number, "mine": [(number, turn) for turn in range(50)]}

    at_once(visit, 32)


def fail() -> None:
    raise StoreError("the store is down")


def wait(site: Site, seconds: float) -> None:
    site.manager._services.clock.now += seconds


def gone(site: Site, browser: Browser) -> None:
    site.store.before["replace"] = lambda: site.manager.revoke_user("ada")
    browser.put(late=1)
