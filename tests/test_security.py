"""The security checklist over HTTP: each test carries the number of its row (`test_security_coverage` lists them).

The sites have no option but a secret and a store, unless the test says more: what holds here holds by default.
"""

from __future__ import annotations

import base64
import inspect
import itertools
import logging
import os
import pickle
import secrets
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dumps import dump_of
from tests.visitors import Browser, Cookie, Site, handles
from tests.visits import DAY, NOW, SECRET, Clock, WatchedStore
from wsgisession import (
    ConfigurationError,
    CookieOptions,
    SerializationError,
    Session,
    SessionManager,
    SessionMiddleware,
    StoreError,
)
from wsgisession.stores import Record, Store, open_store

KEY = bytes(range(32))
MARKER = "a-word-that-stands-nowhere-else"
ANY_SIGNATURE = "A" * 42 + "E"


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


def replaced(site: Site, handle: str, data: bytes) -> None:
    """Put other bytes where a record was."""
    now = site.manager._services.clock()
    record = site.store.load(handle, now=now, touch_after=None)
    assert record is not None
    assert site.store.replace(handle, Record(data, record.ttl, record.user_id, record.version), now=now) is not None


# A. Session IDs.


def test_security_01_an_id_is_256_bits_of_the_csprng_and_nothing_else():
    """SECURITY 1."""
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return bytes(range(100, 100 + count))

    browser = Site(random=random).logged_in()
    assert base64.urlsafe_b64decode(browser.session_id + "=") == bytes(range(100, 132))
    assert asked == [32]
    assert inspect.signature(SessionManager).parameters["random"].default is os.urandom


def test_security_01_ids_never_repeat_and_no_bit_is_more_often_set_than_not():
    """SECURITY 1."""
    browser = Site().browser()
    made = [browser.visit(lambda session: session.id, cookies="") for _ in range(2000)]
    assert len(set(made)) == 2000
    assert {len(one) for one in made} == {43}
    numbers = [int.from_bytes(base64.urlsafe_b64decode(one + "="), "big") for one in made]
    shares = [sum(number >> bit & 1 for number in numbers) / 2000 for bit in range(256)]
    assert 0.42 < min(shares) < max(shares) < 0.58  # seven standard deviations


def test_security_02_an_id_that_is_taken_is_given_to_nobody_else(store):
    """SECURITY 2."""
    bits = iter([b"a" * 32, b"a" * 32, b"b" * 32])
    site = Site(store, random=lambda _: next(bits))
    first, second = site.browser(), site.browser()
    first.put(mine="first")
    second.put(mine="second")
    assert (first.data, second.data) == ({"mine": "first"}, {"mine": "second"})
    assert first.session_id != second.session_id


def test_security_03_an_id_without_a_record_finds_nothing(site):
    """SECURITY 3."""
    site.logged_in()
    unknown = site.manager._services.signer.new_id(os.urandom(32))
    for cookie in (unknown, f"{unknown}.{ANY_SIGNATURE}", site.manager._services.signer.sign(unknown)):
        assert site.browser().visit(read, cookies=f"sid={cookie}") == {}


def test_security_04_an_id_is_taken_from_the_cookie_alone_and_put_nowhere_else():
    """SECURITY 4."""
    site = Site()
    browser = site.logged_in()
    stranger = site.browser()
    for sent in (
        {"query_string": {"sid": browser.cookie}},
        {"method": "POST", "data": {"sid": browser.cookie}},
        {
            "headers": {
                "X-Session-Id": browser.cookie,
                "Authorization": f"Bearer {browser.cookie}",
                "sid": browser.cookie,
            }
        },
        {"path": f"/;sid={browser.cookie}"},
    ):
        assert stranger.visit(read, **sent) == {}
    browser.visit(lambda session: session.regenerate(), answer=[("Location", "/next")])
    others = [value for name, value in browser.response.headers if name != "Set-Cookie"]
    assert browser.session_id not in "".join(others) + browser.response.get_data(as_text=True)


# B. The cookie.


def all_sent(site: Site, **request: Any) -> list[Cookie]:
    """Return the cookies of a new session, a login, a change of its settings and a logout."""
    browser, sent = site.browser(), []
    for order in (
        lambda session: session.update(a=1),
        lambda session: session.login("ada"),
        lambda session: setattr(session.cookie, "max_age", 60),
        logout,
    ):
        browser.visit(order, **request)
        sent.append(browser.sent)
    assert sent[-1].attributes["max-age"] == "0"
    return sent


def test_security_05_the_cookie_is_secure():
    """SECURITY 5, in the contract's form: but on plain http to this machine, and only there."""
    for host in ("https://example.com", "http://example.com", "https://localhost"):
        assert all("secure" in cookie.attributes for cookie in all_sent(Site(), base_url=host))
    assert not any("secure" in cookie.attributes for cookie in all_sent(Site(), base_url="http://localhost:8000"))
    assert not any("secure" in cookie.attributes for cookie in all_sent(Site(cookie={"secure": False})))


def test_security_06_the_cookie_is_hidden_from_scripts():
    """SECURITY 6."""
    assert all("httponly" in cookie.attributes for cookie in all_sent(Site()))


def test_security_07_the_cookie_says_samesite():
    """SECURITY 7."""
    assert {cookie.attributes["samesite"] for cookie in all_sent(Site())} == {"Lax"}
    assert {cookie.attributes["samesite"] for cookie in all_sent(Site(cookie={"same_site": "Strict"}))} == {"Strict"}
    with pytest.raises(ConfigurationError, match="SameSite=None"):
        Site(cookie={"same_site": "None", "secure": False})
    assert all("secure" in cookie.attributes for cookie in all_sent(Site(cookie={"same_site": "None"})))


def test_security_08_the_cookie_is_this_host_s_alone():
    """SECURITY 8, in the contract's form: the name is "sid", and has a prefix where the operator gives it one."""
    for cookie in all_sent(Site()) + all_sent(Site(name="__Host-sid")):
        assert "domain" not in cookie.attributes
        assert cookie.attributes["path"] == "/"


@pytest.mark.parametrize("change", [str, str.lower, str.upper])
@pytest.mark.parametrize(
    ("name", "cookie"),
    [
        ("__Host-sid", {"domain": "example.com"}),
        ("__Host-sid", {"path": "/app"}),
        ("__Host-sid", {"secure": False}),
        ("__Secure-sid", {"secure": False}),
        ("__Http-sid", {"secure": False}),
        ("__Http-sid", {"http_only": False}),
        ("__Host-Http-sid", {"http_only": False}),
        ("__Host-Http-sid", {"path": "/app"}),
    ],
)
def test_security_08_what_the_name_s_prefix_promises_is_kept(change, name, cookie):
    """SECURITY 8."""
    with pytest.raises(ConfigurationError, match="browsers refuse"):
        Site(name=change(name), cookie=cookie)
    assert "secure" in all_sent(Site(name=change(name)), base_url="http://localhost")[0].attributes


@pytest.mark.parametrize(("name", "other"), [("__Host-sid", "__host-sid"), ("sid", "SID"), ("sid", "xsid")])
def test_security_09_the_name_is_matched_exactly(name, other):
    """SECURITY 9."""
    site = Site(name=name)
    mine, planted = site.logged_in("ada"), site.logged_in("eve")
    header = f"{other}={planted.cookie}; {name}={mine.cookie}; {other}={planted.cookie}"
    assert mine.visit(read, cookies=header) == {"user_id": "ada"}
    assert mine.visit(read, cookies=f"{other}={planted.cookie}") == {}


def test_security_10_the_cookie_ends_with_the_browser_unless_the_session_asks_for_more():
    """SECURITY 10."""
    browser = Site().logged_in()
    assert not {"max-age", "expires"} & set(browser.sent.attributes)
    browser.visit(lambda session: setattr(session.cookie, "max_age", timedelta(days=14)))
    assert browser.sent.attributes["max-age"] == str(14 * 86_400)
    assert "expires" in browser.sent.attributes


def test_security_11_a_lasting_cookie_lasts_no_longer_than_400_days_and_the_absolute_timeout():
    """SECURITY 11."""
    with pytest.raises(ConfigurationError, match="400 days"):
        Site(cookie={"max_age": timedelta(days=401)})
    clock = Clock()
    browser = Site(cookie={"max_age": 10 * DAY}, absolute_timeout=30 * DAY, rolling=True, clock=clock).logged_in()
    for days in (9, 9, 9):
        clock += days * DAY
        browser.visit(read)
    assert browser.sent.attributes["max-age"] == str(3 * 86_400)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "__Host-sid"},
        {"name": "__Secure-sid", "cookie": {"domain": "example.com"}},
        {"cookie": {"path": "/app", "same_site": "Strict"}},
        {"cookie": {"same_site": "None", "partitioned": True, "max_age": 600}},
        {"cookie": {"http_only": False, "secure": False}},
    ],
)
def test_security_12_a_browser_drops_the_cookie_at_logout(options):
    """SECURITY 12, 14: its attributes are those that it was set with."""
    browser = Site(**options).browser()
    browser.visit(lambda session: session.login("ada"), path="/app")
    before = {**browser.sent.attributes}
    browser.visit(logout, path="/app")
    assert browser.jar == {}
    assert browser.sent.value == ""
    ends = {"max-age": "0", "expires": "Thu, 01 Jan 1970 00:00:00 GMT"}
    assert browser.sent.attributes == {**before, **ends}


def test_security_13_a_response_sets_the_cookie_once_and_only_where_it_changed():
    """SECURITY 13."""
    clock = Clock()
    browser = Site(renewal_timeout=60, renewal_grace=5, clock=clock).browser()

    def everything(session: Session) -> None:
        session["a"] = 1
        session.regenerate()
        session.login("ada")
        session.cookie.max_age = 60
        session.save()

    for _ in range(2):
        browser.visit(everything)
        assert browser.sent is not None
        clock += 61  # a renewal is due
    browser.put(a=2)
    assert browser.sent is not None
    for order in (None, read, lambda session: session.update(a=3)):
        browser.visit(order)
        assert browser.sent is None


def test_security_14_partitioned_goes_with_secure_alone():
    """SECURITY 14."""
    with pytest.raises(ConfigurationError, match="Partitioned"):
        Site(cookie={"partitioned": True, "secure": False})
    sent = all_sent(Site(cookie={"partitioned": True}), base_url="http://localhost")
    assert all({"partitioned", "secure"} <= set(cookie.attributes) for cookie in sent)


@pytest.mark.parametrize("bad", ["a;b", "a\r\nSet-Cookie: x=y", "a\nb", "a\0b", "a\x7fb", "a" * 4097, "é"])
def test_security_15_nothing_can_be_smuggled_into_the_header(bad):
    """SECURITY 15."""
    for options in ({"name": bad}, {"cookie": {"path": f"/{bad}"}}, {"cookie": {"domain": bad}}):
        with pytest.raises(ConfigurationError):
            Site(**options)
    with pytest.raises(ConfigurationError):
        Site().browser().visit(lambda session: setattr(session.cookie, "path", f"/{bad}"))


def test_security_15_the_largest_cookie_is_one_that_browsers_take():
    """SECURITY 15: name and value have at most 4096 octets, each attribute 1024 (RFC 6265bis section 5.6)."""
    site = Site(name="n" * 256, cookie={"path": "/" + "p" * 1023}, genid=lambda _: "i" * 128)
    browser = site.browser()
    browser.visit(lambda session: session.login("ada"), path="/" + "p" * 1023)
    assert len(browser.sent.name) + len(browser.sent.value) <= 4096


def test_security_16_the_cookie_s_name_says_nothing_of_the_software():
    """SECURITY 16, in the contract's form."""
    assert Site().logged_in().sent.name == "sid"


# C. Fixation.


@pytest.mark.parametrize("kind", ["chosen", "signed", "expired", "destroyed", "revoked"])
def test_security_17_an_id_without_a_live_session_is_never_adopted(store, store_url, kind):
    """SECURITY 17."""
    clock = Clock()
    site = Site(store, clock=clock)
    planted = site.browser()
    planted.put(a=1)
    session_id, cookie, handle = planted.session_id, planted.cookie, planted.handle
    if kind in ("chosen", "signed"):
        session_id = site.manager._services.signer.new_id(os.urandom(32))
        handle = site.manager._services.signer.handle(session_id)
        cookie = f"{session_id}.{ANY_SIGNATURE}" if kind == "chosen" else site.manager._services.signer.sign(session_id)
    elif kind == "expired":
        clock += DAY + 1
    elif kind == "destroyed":
        planted.twin().visit(logout)
    else:
        site.manager.revoke(handle)
    victim = site.browser()
    victim.visit(lambda session: session.update(victim=MARKER), cookies=f"sid={cookie}")
    assert victim.session_id != session_id
    assert victim.data == {"victim": MARKER}
    assert handle not in handles(site)
    assert site.browser().visit(read, cookies=f"sid={cookie}") == {}


def test_security_18_a_login_changes_the_id_and_keeps_the_data(site):
    """SECURITY 18: the second login of a session too, and regenerate."""
    browser = site.browser()
    browser.put(cart=["tea"])
    seen = {browser.session_id}
    for count, order in enumerate(
        (lambda session: session.login("ada"), lambda session: session.login("ada"), lambda s: s.regenerate()), 2
    ):
        browser.visit(order)
        seen.add(browser.session_id)
        assert len(seen) == count
        assert browser.data == {"cart": ["tea"], "user_id": "ada"}
    browser.visit(lambda session: session.regenerate(keep_data=False))
    assert browser.session_id not in seen


@pytest.mark.parametrize("order", [lambda s: s.login("ada"), lambda s: s.regenerate()], ids=["login", "regenerate"])
def test_security_19_the_old_id_is_dead_at_once_without_any_grace(store, order):
    """SECURITY 19: neither the ID of before the login, nor one that a renewal had left in its grace."""
    clock = Clock()
    site = Site(store, clock=clock, renewal_timeout=60, renewal_grace=30)
    victim = site.browser()
    victim.put(secret=MARKER)
    attackers = [victim.twin()]
    clock += 61
    victim.visit(read)
    attackers.append(victim.twin())
    assert attackers[0].cookie != attackers[1].cookie
    assert attackers[0].data == {"secret": MARKER}  # within the grace of a renewal
    victim.visit(order)
    assert [attacker.data for attacker in attackers] == [{}, {}]
    assert victim.data["secret"] == MARKER


def test_security_19_the_old_id_is_dead_before_anybody_sees_the_new_one(store):
    """SECURITY 19: when the server is handed the headers, the old ID opens nothing."""
    site = Site(store)
    victim = site.browser()
    victim.put(secret=MARKER)
    attacker, found = victim.twin(), []

    def login(session: Session) -> None:
        session.login("ada")
        found.append(attacker.data)  # nothing was sent yet: a client with the old ID sees the old session

    app = site.middleware

    def watching(environ: Any, start_response: Any) -> Any:
        def start(*response: Any) -> Any:
            found.append(attacker.data)
            return start_response(*response)

        return app(environ, start)

    victim._client.application = watching
    victim.visit(login)
    assert found == [{"secret": MARKER}, {}]


def test_security_20_a_renewed_id_is_answered_for_its_grace_and_then_refused_and_told(store):
    """SECURITY 20."""
    clock, events = Clock(), []
    site = Site(store, clock=clock, renewal_timeout=600, renewal_grace=30, on_event=events.append)
    browser = site.logged_in()
    late, later = browser.twin(), browser.twin()
    clock += 600
    browser.visit(read)
    clock += 300
    assert late.twin().visit(read) == {"user_id": "ada"}
    browser.visit(read)  # presents the new ID
    clock += 30
    assert late.visit(read) == {"user_id": "ada"}
    assert late.cookie == browser.cookie != later.cookie
    clock += 1
    assert later.visit(read) == {}
    assert [event.reason for event in events if event.name == "rejected"] == ["stale"]
    assert browser.data == {"user_id": "ada"}


def test_security_22_visitors_who_leave_nothing_cost_nothing(site):
    """SECURITY 22."""
    for order in (None, read, lambda session: session.get("a"), lambda session: session.user_id):
        for _ in range(25):
            browser = site.browser()
            browser.visit(order)
            assert browser.sent is None
    assert handles(site) == set()


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


def test_security_29_a_purge_leaves_what_was_used_meanwhile(store):
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


def test_security_30_a_copied_cookie_is_nobody_s_after_the_logout(site):
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


def test_security_34_what_a_user_s_list_shows_opens_nothing_and_ends_only_his_own(site):
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


# H. What a stolen store reveals.


def test_security_44_the_store_holds_no_cookie(store, store_url, caplog):
    """SECURITY 44: neither ID nor signature, of any time of the session's life, in any of its bytes."""
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    site = Site(store, clock=clock, renewal_timeout=60, renewal_grace=30, track_client=True)
    browser, told = site.browser(), []

    def look() -> None:
        told.append(dump_of(store, store_url))

    for order in (
        lambda session: session.update(secret=MARKER),
        lambda session: session.login("ada"),
        lambda session: session.transaction(lambda session: session.update(a=1)),
        read,
        lambda session: session.regenerate(),
    ):
        browser.visit(order)
        look()
        clock += 61
    cookies = [cookie.partition(".") for cookie in browser.had]
    browser.visit(logout)
    look()
    assert MARKER.encode() in told[1]
    assert len(cookies) > 3
    for session_id, _, signature in cookies:
        assert not any(session_id.encode() in dump or signature.encode() in dump for dump in told)
        assert session_id not in caplog.text


def test_security_45_nothing_that_the_store_holds_is_a_cookie(store, store_url):
    """SECURITY 45: not its keys, in whatever form, not even signed."""
    site = Site(store)
    browser = site.logged_in()
    handle, signature = browser.handle, browser.cookie.partition(".")[2]
    sign = site.manager._services.signer.sign
    assert handle.encode() in dump_of(store, store_url)
    for text in (handle, handle[1:], f"sess:{handle}", f"2::{handle}", browser.session_id):
        for value in (text, f"{text}.{signature}", f"s:{text}.{signature}", text and sign(text)):
            if value != browser.cookie:
                assert site.browser().visit(read, cookies=f"sid={value}") == {}


def test_security_46_an_encrypted_store_tells_nothing(store, store_url):
    """SECURITY 46."""
    site = Site(store, encryption_key=KEY)
    browser = site.logged_in("ada-lovelace", secret=MARKER)
    dump = dump_of(store, store_url)
    assert browser.handle.encode() in dump
    assert MARKER.encode() not in dump
    assert b"ada-lovelace" not in dump
    assert len(site.manager.sessions_for("ada-lovelace")) == 1


def test_security_47_the_sqlite_file_is_its_owner_s_alone(tmp_path):
    """SECURITY 47."""
    before = os.umask(0)
    try:
        Site(f"sqlite:///{tmp_path / 'sessions.db'}").logged_in()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["sessions.db"] == 0o600
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..%2f..%2fx", "sessions.db", "x\0y"])
def test_security_47_an_id_is_never_a_path(tmp_path, name):
    """SECURITY 47."""
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)
    site = Site(f"sqlite:///{folder / 'sessions.db'}")
    site.logged_in()
    before = sorted(tmp_path.rglob("*"))
    for value in (name, f"{name}.{ANY_SIGNATURE}", site.manager._services.signer.sign(name)):
        browser = site.browser()
        browser.visit(lambda session: session.update(a=1), cookies=f"sid={value}")
        assert site.manager.load(name) is None
    assert sorted(tmp_path.rglob("*")) == before
    site.manager.close()


# I. Hostile input.

HOSTILE = [
    "x" * 10_000,
    "\0",
    "%00",
    "'",
    '"',
    '"' * 50,
    "*",
    "sess:*",
    "é\xff",
    "' OR '1'='1",
    "$where",
    "{}",
    "../" * 14 + "x",
    "A" * 43,
    "A" * 42 + "B." + ANY_SIGNATURE,
    "A" * 43 + "." + ANY_SIGNATURE + "A",
    "A" * 43 + "\n." + ANY_SIGNATURE,
    "A" * 43 + "." + ANY_SIGNATURE + "\n",
    "A" * 43 + ".." + ANY_SIGNATURE,
]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_security_48_a_value_of_another_shape_reaches_no_store(watched, caplog, value):
    """SECURITY 48."""
    caplog.set_level(logging.DEBUG)
    browser = watched.browser()
    assert browser.visit(read, cookies=f"sid={value}") == {}
    assert browser.response.status_code == 200
    assert not watched.store.calls
    assert len(value) < 3 or value not in caplog.text


_pieces = st.sampled_from(["sid", "=", ";", " ", '"', "\\", ",", "\t", "\0", "\x7f", "é", "x", ".", ANY_SIGNATURE])


@settings(max_examples=300, deadline=None)
@given(st.lists(_pieces | st.characters(max_codepoint=255)).map("".join))
def test_security_49_a_broken_header_raises_nothing(header):
    """SECURITY 49."""
    browser = Site(WatchedStore()).browser()
    assert browser.visit(read, cookies=header) == {}
    assert browser.response.status_code == 200


def test_security_49_of_many_cookies_of_our_name_eight_are_tried(watched):
    """SECURITY 49: the first that verifies and has its record counts."""
    sign, new_id = watched.manager._services.signer.sign, watched.manager._services.signer.new_id
    browser = watched.logged_in()
    dead = [f"sid={sign(new_id(os.urandom(32)))}" for _ in range(20)]
    for before, found in ((0, {"user_id": "ada"}), (7, {"user_id": "ada"}), (8, {})):
        watched.store.calls.clear()
        header = "; ".join([*dead[:before], f"sid={browser.cookie}", *dead[before:]])
        assert watched.browser().visit(read, cookies=header) == found
        assert watched.store.calls == {"load": min(before + 1, 8)}


def test_security_49_hundreds_of_cookies_cost_little(watched):
    """SECURITY 49."""
    browser = watched.logged_in()
    watched.store.calls.clear()
    others = "; ".join(f"cookie{number}={'v' * 60}" for number in range(500))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        assert browser.visit(read, cookies=f"{others}; {browser.jar.header}") == {"user_id": "ada"}
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05
    assert watched.store.calls == {"load": 5}


exploded: list[int] = []


def explode() -> None:
    exploded.append(1)


class _Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


BOMBS = {
    "pickle": pickle.dumps(_Bomb(), 0),
    "binary pickle": pickle.dumps(_Bomb()),
    "jsonpickle": b'{"py/reduce": [{"py/function": "os.abort"}, {"py/tuple": []}]}',
    "yaml": b'["ws1", 1, null, "!!python/object/apply:os.abort []"]',
    "tag": b'["ws1", 1700000000.0, null, {"a": {"~eval": "os.abort()"}}]',
}


def test_security_50_the_bomb_is_one():
    pickle.loads(BOMBS["pickle"])
    assert exploded.pop() == 1


@pytest.mark.parametrize("bomb", BOMBS)
def test_security_50_a_record_runs_no_code(store, bomb):
    """SECURITY 50: a store that keeps text alone, or JSON alone, refuses the bomb itself."""
    site = Site(store)
    browser = site.logged_in()
    with suppress(StoreError, UnicodeDecodeError):
        replaced(site, browser.handle, BOMBS[bomb])
        assert browser.visit(read) == {}
    assert browser.response.status_code == 200
    assert exploded == []


@pytest.mark.parametrize("encryption_key", [None, KEY], ids=["plain", "encrypted"])
def test_security_51_whatever_a_byte_of_a_record_turns_into_nobody_gets_an_error(encryption_key):
    """SECURITY 51: encrypted, no record of which a byte is another is a session."""
    site = Site(WatchedStore(), encryption_key=encryption_key)
    browser = site.logged_in(n=1)
    handle, found = browser.handle, []
    whole = site.store.load(handle, now=NOW, touch_after=None).data
    for position, bit in itertools.product(range(len(whole)), (1, 0x20, 0x80)):
        flipped = bytearray(whole)
        flipped[position] ^= bit
        replaced(site, handle, bytes(flipped))
        found.append(browser.twin().visit(read))
    assert {} in found
    if encryption_key:
        assert all(data == {} for data in found)
    replaced(site, handle, whole)
    assert browser.data == {"user_id": "ada", "n": 1}


UNREADABLE = {
    "nothing": b"",
    "truncated": b'["ws1",1700000000.0,null,{"user_id":"ad',
    "later version": b'["ws2",1700000000.0,null,{"user_id":"ada"}]',
    "foreign": b'{"cookie":{"path":"/"},"user_id":"ada"}',
    "plain": b'["ws1",1700000000.0,null,{"user_id":"ada"}]',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_security_51_a_record_that_is_not_ours_is_no_session(caplog, kind):
    """SECURITY 51: told and logged without its bytes; no other decoder is tried; destroy needs none."""
    events = []
    key = KEY if kind == "plain" else None
    site = Site(WatchedStore(), on_event=events.append, encryption_key=key)
    browser = site.logged_in(secret=MARKER)
    handle = browser.handle
    replaced(site, handle, UNREADABLE[kind])
    assert browser.visit(read) == {}
    assert browser.sent is None
    assert [(event.handle, event.reason) for event in events if event.name == "rejected"] == [(handle, "undecodable")]
    assert handle in caplog.text
    assert "ada" not in caplog.text
    browser.visit(logout)
    assert handles(site) == set()


def test_security_51_a_record_of_another_key_is_no_session():
    """SECURITY 51."""
    site = Site(WatchedStore(), encryption_key=KEY)
    browser = site.logged_in()
    other = Browser(Site(site.store, encryption_key=KEY[::-1]))
    other.jar.update(browser.jar)
    assert other.visit(read) == {}
    assert browser.data == {"user_id": "ada"}


def test_security_52_a_session_that_is_too_large_is_refused_before_the_headers(site):
    """SECURITY 52: the app gets the error, and the old session stays as it was."""
    browser = site.browser()
    browser.put(a=1)
    with pytest.raises(SerializationError, match="too large"):
        browser.put(a=2, large="x" * 2_000_000)
    assert browser.data == {"a": 1}


@pytest.mark.parametrize(
    ("verb", "order"),
    [
        ("load", read),
        ("replace", lambda session: session.update(a=2)),
        ("create", lambda session: session.regenerate()),
        ("delete", logout),
    ],
)
@pytest.mark.parametrize("policy", ["raise", "unavailable"])
def test_security_53_a_store_that_fails_is_neither_a_logout_nor_a_success(verb, order, policy):
    """SECURITY 53."""
    site = Site(WatchedStore(), on_store_error=policy)
    browser = site.logged_in()
    site.store.before[verb] = fail
    if policy == "raise":
        with pytest.raises(StoreError):
            browser.visit(order)
    else:
        browser.visit(order)
        assert browser.response.status_code == 503
        assert browser.response.headers["Retry-After"]
        assert browser.sent is None
    assert browser.data == {"user_id": "ada"}


def fail() -> None:
    raise StoreError("the store is down")


# J. Caches.


@pytest.mark.parametrize(
    ("own", "merged"),
    [
        (None, "no-store"),
        ("no-store", "no-store"),
        ("public, max-age=60, s-maxage=600", "private, max-age=60"),
        ("private, no-cache", "private, no-cache"),
        ('no-cache="Set-Cookie"', 'private, no-cache="Set-Cookie"'),
    ],
)
def test_security_54_a_response_with_the_cookie_stays_out_of_shared_caches(own, merged):
    """SECURITY 54."""
    browser = Site().browser()
    for order in (lambda session: session.login("ada"), logout):
        browser.visit(order, answer=[("Cache-Control", own)] if own else [])
        assert browser.sent is not None
        assert browser.response.headers.getlist("Cache-Control") == [merged]


def test_security_54_a_response_without_the_cookie_is_cached_as_the_app_says():
    """SECURITY 54."""
    browser = Site().logged_in()
    browser.visit(read, answer=[("Cache-Control", "public")])
    assert browser.response.headers.getlist("Cache-Control") == ["public"]
    browser.visit(read)
    assert "Cache-Control" not in browser.response.headers


@pytest.mark.parametrize(("own", "merged"), [([], "Cookie"), (["Accept"], "Accept, Cookie"), (["cookie"], "cookie")])
def test_security_55_a_response_whose_session_was_read_varies_by_cookie(own, merged):
    """SECURITY 55."""
    browser = Site().browser()
    for order in (read, lambda session: session.update(a=1), lambda session: "a" in session, logout):
        browser.visit(order, answer=[("Vary", value) for value in own])
        assert browser.response.headers.getlist("Vary") == [merged]
    browser.visit(None, answer=[("Vary", value) for value in own])
    assert browser.response.headers.getlist("Vary") == own


# K. Logs and events.


def test_security_56_neither_log_nor_repr_tells_a_secret(store, caplog):
    """SECURITY 56: no ID, signature, payload or key, at any level, from a session's begin to its end."""
    caplog.set_level(logging.DEBUG, "wsgisession")
    shown: list[object] = []
    site = Site(store, encryption_key=KEY, on_event=shown.append)
    browser = site.browser()

    def look(session: Session) -> None:
        shown.extend([session, session.cookie, session._visit, session._visit.values])

    for order in (
        lambda session: session.update(secret=MARKER),
        lambda session: session.login("ada", secret=MARKER),
        look,
        lambda session: session.transaction(lambda session: session.update(secret=MARKER * 2)),
    ):
        browser.visit(order)
    shown += [site.manager, site.middleware, site.manager._services.signer, site.manager.store]
    shown += [*site.manager.sessions_for("ada"), *site.store.scan(now=time.time())]
    with suppress(SerializationError):
        browser.put(secret=MARKER, bad=object())
    browser.visit(read, cookies=f"{browser.jar.header[:-2]}AE")
    browser.visit(logout)
    told = caplog.text + repr(shown)
    assert "session created" in told
    assert MARKER not in told
    assert SECRET not in told
    assert repr(KEY)[2:-1] not in told
    for cookie in browser.had:
        for part in cookie.split("."):
            assert part not in told


def test_security_56_the_trap_of_the_whole_suite_catches(id_trap):
    """SECURITY 56: `tests/leaks.py` fails every test that reveals an ID. This checks that it does."""
    session_id = Site().logged_in().session_id
    logger = logging.getLogger("wsgisession")
    assert id_trap.take() == []
    for tell in (
        lambda: logger.debug("the session %s", session_id),
        lambda: logger.warning("sid=%s.signature", session_id),
        lambda: logging.getLogger("pymongo.command").debug("find %s", session_id),
        lambda: StoreError(f"GET sess:{session_id}"),
        lambda: raised_from(KeyError(session_id)),
    ):
        tell()
        assert len(id_trap.take()) == 1
    logger.warning("the session %s", secrets.token_urlsafe(32))
    assert id_trap.take() == []


def raised_from(cause: Exception) -> None:
    with suppress(StoreError):
        try:
            raise cause
        except type(cause) as error:
            raise StoreError("the store refused") from error


def test_security_57_what_happens_to_a_session_is_told_with_its_handle():
    """SECURITY 57; a callable that fails breaks no request."""
    events = []

    def tell(event: Any) -> None:
        events.append(event)
        raise ZeroDivisionError

    site = Site(on_event=tell)
    browser = site.browser()
    browser.put(a=1)
    browser.visit(lambda session: session.login("ada"))
    forged = f"{browser.session_id}.{ANY_SIGNATURE}"
    dead = browser.twin()
    browser.visit(logout)
    for cookies in ("sid=x", f"sid={forged}", dead.jar.header):
        dead.visit(read, cookies=cookies)
    told = [(event.name, event.reason) for event in events if event.name != "loaded"]
    assert told[:2] == [("created", None), ("regenerated", None)]
    assert told[-4:] == [("destroyed", None), *(("rejected", why) for why in ("malformed", "bad signature", "unknown"))]
    assert all(event.handle for event in events if event.name != "rejected")
    assert all(event.at.tzinfo is not None for event in events)


def wait(site: Site, seconds: float) -> None:
    site.manager._services.clock.now += seconds


def revoked(site: Site, browser: Browser) -> None:
    site.manager.revoke(browser.handle, user_id="ada")


def undecodable(site: Site, browser: Browser) -> None:
    handle = browser.handle
    site.store.delete(handle, now=NOW)
    site.store.create(handle, Record(b"not of ours", DAY), now=NOW)
    browser.visit(read)


def renewed(site: Site, browser: Browser) -> None:
    wait(site, 601)
    browser.visit(read)


def stale(site: Site, browser: Browser) -> None:
    late = browser.twin()
    renewed(site, browser)
    browser.visit(read)
    wait(site, 31)
    late.visit(read)


def expired(site: Site, browser: Browser) -> None:
    for _ in range(5):
        wait(site, 599)
        browser.visit(read)


def store_error(site: Site, browser: Browser) -> None:
    def fail() -> None:
        raise StoreError("the store is down")

    site.store.before["load"] = fail
    with pytest.raises(StoreError):
        browser.visit(read)


def gone(site: Site, browser: Browser) -> None:
    site.store.before["replace"] = lambda: site.manager.revoke_user("ada")
    browser.put(late=1)


HAPPENINGS: dict[str, tuple[Any, Any]] = {
    "created": (lambda site, browser: site.browser().put(a=1), None),
    "regenerated": (lambda site, browser: browser.visit(lambda session: session.regenerate()), None),
    "renewed": (renewed, None),
    "destroyed": (lambda site, browser: browser.visit(logout), None),
    "revoked": (revoked, None),
    "expired": (expired, None),
    "gone": (gone, None),
    "store_error": (store_error, None),
    "malformed": (lambda site, browser: browser.visit(read, cookies="sid=x"), "rejected"),
    "bad signature": (
        lambda site, browser: browser.visit(read, cookies=f"sid={browser.session_id}.{ANY_SIGNATURE}"),
        "rejected",
    ),
    "unknown": (lambda site, browser: (revoked(site, browser), browser.visit(read)), "rejected"),
    "stale": (stale, "rejected"),
    "undecodable": (undecodable, "rejected"),
}


@pytest.mark.parametrize("what", HAPPENINGS)
def test_security_57_each_thing_that_happens_is_told_once_with_its_time(what):
    """SECURITY 57: what was meant for a record, and what was presented without one, by its reason."""
    clock, events = Clock(), []
    options = {"renewal_timeout": 600, "idle_timeout": 700, "absolute_timeout": 2400}
    site = Site(WatchedStore(), clock=clock, on_event=events.append, **options)
    browser = site.logged_in("ada")
    events.clear()
    happen, name = HAPPENINGS[what]
    happen(site, browser)
    (told,) = [event for event in events if what in (event.name, event.reason)]
    assert told.name == (name or what)
    assert told.at.timestamp() == clock.now
    assert told.handle or what in ("malformed", "bad signature", "store_error")


def test_security_58_what_a_client_says_of_itself_is_cut_and_cleaned():
    """SECURITY 58: and a forwarded address is not trusted, also not with a line break, which few servers accept."""
    site = Site(track_client=True)
    hostile = "Mozilla\r\nSet-Cookie: sid=1\x01\x1b[31m" + "x" * 100_000
    site.browser().visit(
        lambda session: session.login("ada"),
        headers={"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"},
        environ_base={"REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": hostile},
    )
    (info,) = site.manager.sessions_for("ada")
    assert info.ip_address == "127.0.0.1"
    assert len(info.user_agent) <= 256
    assert info.user_agent.isprintable()
    assert info.user_agent.startswith("MozillaSet-Cookie")


# L. Defaults.


@pytest.mark.parametrize(
    "options",
    [
        {"secret": None},
        {"secret": "keyboard cat"},
        {"cookie": {"same_site": "None", "secure": False}},
        {"cookie": {"partitioned": True, "secure": False}},
        {"cookie": {"max_age": 0}},
        {"cookie": {"max_age": -1}},
        {"cookie": {"max_age": timedelta(days=401)}},
        {"idle_timeout": 100, "absolute_timeout": 50},
        {"idle_timeout": 0},
        {"idle_timeout": -1},
        {"idle_timeout": float("inf")},
        {"absolute_timeout": 0},
        {"absolute_timeout": timedelta(days=10_000)},
        {"touch_after": -1},
        {"touch_after": DAY},
        {"renewal_timeout": 0},
        {"renewal_timeout": 10, "renewal_grace": 10},
        {"renewal_grace": -1},
        {"max_size": 0},
        {"max_sessions_per_user": 0},
        {"encryption_key": b"short"},
    ],
    ids=repr,
)
def test_security_59_an_unsafe_setting_is_refused_when_the_middleware_is_built(monkeypatch, options):
    """SECURITY 59."""
    monkeypatch.delenv("SESSION_SECRET", raising=False)
    with pytest.raises(ConfigurationError):
        Site(**options)


def test_security_59_the_middleware_needs_a_secret_and_is_safe(monkeypatch):
    """SECURITY 59, in the contract's form: plain http to this machine needs no switch, and to any other has none."""
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    manager = SessionMiddleware(print).manager
    assert (manager.name, manager.cookie) == ("sid", CookieOptions())
    assert isinstance(open_store("memory://"), type(manager.store))
    assert manager.is_lazy
