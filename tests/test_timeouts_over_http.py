"""Timeouts through the middleware, on every store: by a clock that is set by hand, over HTTP, without a sleep."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from tests.visitors import Browser, Site
from tests.visits import NOW, Clock
from wsgisession import Session

IDLE, ABSOLUTE = 600.0, 7200.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(store, clock) -> Site:
    return Site(store, clock=clock, idle_timeout=IDLE, absolute_timeout=ABSOLUTE)


def read(session: Session) -> dict[str, Any]:
    return dict(session)


def times(session: Session) -> tuple[datetime, datetime | None, datetime]:
    return session.created_at, session.authenticated_at, session.expires_at


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, timezone.utc)


def is_answered(browser: Browser) -> bool:
    """Whether this request finds a session. It is one more activity of its user."""
    found: dict[str, Any] = browser.visit(read)
    return found != {}


# Idle.


def test_security_23_26_reading_keeps_a_session_alive_and_silence_ends_it(site, clock):
    """SECURITY 23, 26: with the same cookie, and nothing swept."""
    browser = site.logged_in()
    for _ in range(5):
        clock += IDLE / 2
        assert is_answered(browser)
    clock += IDLE - 1
    assert is_answered(browser)
    clock += IDLE
    assert not is_answered(browser)


def test_a_request_that_leaves_the_session_alone_is_not_activity(site, clock):
    browser = site.logged_in()
    for _ in range(3):
        clock += IDLE / 3
        browser.visit()
    assert not is_answered(browser)


@pytest.mark.parametrize("throttle", [0, 60, 300])
def test_security_26_a_throttle_ends_no_session_late_and_none_earlier_than_without_it(store, clock, throttle):
    """SECURITY 26: read just before a restart is due, a session ends between idle - throttle and idle."""
    site = Site(store, clock=clock, idle_timeout=IDLE, touch_after=throttle)
    kept, lost = site.logged_in("kept"), site.logged_in("lost")
    clock += max(throttle - 1, 0)
    assert is_answered(kept)
    assert is_answered(lost)
    last_seen = clock.now
    clock.now = last_seen + IDLE - throttle - 1
    assert is_answered(kept)
    clock.now = last_seen + IDLE
    assert not is_answered(lost)


def test_a_session_s_own_max_age_is_its_idle_timeout(store, clock):
    site = Site(store, clock=clock, cookie={"max_age": 1000})
    short, plain = site.logged_in("short"), site.logged_in("plain")
    short.visit(lambda session: setattr(session.cookie, "max_age", 100))
    clock += 99
    assert short.data == {"user_id": "short"}
    clock += 100
    assert short.data == {}
    assert plain.data == {"user_id": "plain"}


# Absolute.


def test_security_24_25_neither_activity_nor_a_new_id_moves_the_absolute_deadline(site, clock):
    """SECURITY 24, 25: read, written, touched, regenerated every few minutes, it is dead at the deadline."""
    browser = site.browser()
    browser.put(n=0)
    orders = (read, lambda s: s.update(n=s["n"] + 1), Session.touch, Session.regenerate, lambda s: s.regenerate())
    while clock.now + 500 < NOW + ABSOLUTE:
        clock += 500
        for order in orders:
            browser.visit(order)
        assert browser.visit(times)[:2] == (moment(0), None)
        assert browser.visit(times)[2] <= moment(ABSOLUTE)
    clock.now = NOW + ABSOLUTE - 1
    assert is_answered(browser)
    clock.now = NOW + ABSOLUTE
    assert not is_answered(browser)


def test_security_25_a_login_restarts_both_timeouts_and_the_time_of_authentication(site, clock):
    """SECURITY 25."""
    browser = site.logged_in()
    for _ in range(14):
        clock += 500
        assert is_answered(browser)
    browser.visit(lambda session: session.login("ada"))
    assert browser.visit(times) == (moment(0), moment(7000), moment(7000 + IDLE))
    clock += 500
    assert is_answered(browser)
    assert clock.now > NOW + ABSOLUTE


def test_security_25_fifty_renewals_move_nothing_but_the_id(store, clock):
    """SECURITY 25."""
    site = Site(store, clock=clock, idle_timeout=IDLE, absolute_timeout=ABSOLUTE, renewal_timeout=140)
    browser = site.logged_in()
    ids = {browser.session_id}
    for _ in range(50):
        clock += 141
        assert browser.visit(times)[:2] == (moment(0), moment(0))
        browser.visit(read)  # presents the new ID
        ids.add(browser.session_id)
    assert len(ids) == 51
    clock.now = NOW + ABSOLUTE
    assert not is_answered(browser)


def test_security_10_11_a_cookie_lasts_only_on_request_and_never_past_the_deadline(store, clock):
    """SECURITY 10, 11: however late in the session it is sent again."""
    by_default = Site(store).logged_in()
    assert by_default.sent is not None
    assert not {"max-age", "expires"} & by_default.sent.attributes.keys()
    site = Site(store, clock=clock, cookie={"max_age": 3000}, absolute_timeout=ABSOLUTE, rolling=True)
    browser = site.logged_in()
    for passed in (0, 2000, 4000, 6000, 7000):
        clock.now = NOW + passed
        assert is_answered(browser)
        assert browser.sent is not None
        assert int(browser.sent.attributes["max-age"]) == min(3000, ABSOLUTE - passed)


# Final.


@pytest.mark.parametrize(
    "late",
    [lambda s: s.update(n=2), Session.touch, Session.regenerate, read],
    ids=["write", "touch", "regenerate", "read"],
)
@pytest.mark.parametrize("limit", ["idle", "absolute"])
def test_security_27_a_request_that_began_before_the_end_extends_nothing_after_it(store, clock, late, limit):
    """SECURITY 27."""
    absolute = IDLE if limit == "absolute" else ABSOLUTE
    site = Site(store, clock=clock, idle_timeout=IDLE, absolute_timeout=absolute)
    browser = site.browser()
    browser.put(n=1)

    def slow(session: Session) -> None:
        nonlocal clock
        assert session["n"] == 1
        clock += IDLE
        late(session)

    browser.visit(slow)
    assert browser.sent is None
    assert not is_answered(browser)
    assert list(site.store.scan(now=clock.now)) == []


# Renewal.


@pytest.fixture
def renewing(store, clock) -> Site:
    return Site(store, clock=clock, idle_timeout=IDLE, renewal_timeout=300, renewal_grace=30)


def test_security_20_a_parallel_request_with_the_old_id_is_served_from_the_renewed_session(renewing, clock):
    """SECURITY 20: what it reads and what it writes is the one session, and its response brings the new cookie."""
    browser = renewing.logged_in()
    old = browser.twin()
    clock += 301
    browser.put(a=1)
    browser.visit(read)  # presents the new ID
    clock += 29
    assert old.twin().visit(read) == {"user_id": "ada", "a": 1}
    old.put(b=2)
    assert old.cookie == browser.cookie
    assert browser.data == {"user_id": "ada", "a": 1, "b": 2}
    assert len(renewing.manager.sessions_for("ada")) == 1


def test_a_request_that_began_before_a_renewal_and_ends_after_it_loses_nothing(renewing, clock):
    browser = renewing.logged_in()
    slow = browser.twin()

    def overtaken(session: Session) -> None:
        nonlocal clock
        session["slow"] = True
        clock += 301
        browser.put(quick=True)

    slow.visit(overtaken)
    assert browser.data == {"user_id": "ada", "slow": True, "quick": True}


def test_the_old_id_ends_with_its_grace_though_it_is_used_all_the_time(renewing, clock):
    browser = renewing.logged_in()
    stubborn = browser.twin()
    header = stubborn.jar.header
    clock += 301
    browser.visit(read)
    for _ in range(20):
        clock += 10
        assert stubborn.visit(read, cookies=header) == {"user_id": "ada"}
    browser.visit(read)  # presents the new ID
    for _ in range(3):
        clock += 10
        assert stubborn.visit(read, cookies=header) == {"user_id": "ada"}
    clock += 1
    assert stubborn.visit(read, cookies=header) == {}
    assert is_answered(browser)


@pytest.mark.parametrize("order", [lambda s: s.login("ada"), Session.regenerate], ids=["login", "regenerate"])
def test_after_a_login_or_regenerate_there_is_no_grace(renewing, clock, order):
    browser = renewing.logged_in()
    before = browser.twin()
    clock += 301
    renewed = browser.twin()
    renewed.visit(read)
    renewed_id = renewed.twin()
    renewed.visit(order)
    assert [each.data for each in (before, renewed_id)] == [{}, {}]
    assert renewed.data == {"user_id": "ada"}


def test_security_20_the_grace_outlives_no_end_of_the_session(renewing, clock):
    """SECURITY 20: a logout with the old ID ends the renewed session, and one with the new ID the old."""
    for leaves_with_the_old in (True, False):
        browser = renewing.logged_in()
        old = browser.twin()
        clock += 301
        browser.visit(read)
        (old.twin() if leaves_with_the_old else browser.twin()).visit(lambda session: session.logout())
        assert (old.data, browser.data) == ({}, {})


# Swept.


def test_security_29_a_sweep_that_stops_at_its_limit_takes_none_that_live(site, clock):
    """SECURITY 29: extended a moment before, the live ones stay through every sweep."""
    alive, idle = site.logged_in("alive"), [site.logged_in("idle") for _ in range(5)]
    clock += IDLE - 1
    assert is_answered(alive)
    clock += 2
    while site.manager.purge_expired(limit=2):
        assert is_answered(alive)
    assert [browser.data for browser in idle] == [{}] * 5
    assert is_answered(alive)
