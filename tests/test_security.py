"""The security checklist over HTTP, rows 1 to 22: session IDs, the cookie, and fixation."""

from __future__ import annotations

import base64
import inspect
import os
from datetime import timedelta
from typing import Any

import pytest

from tests.visitors import Browser, Cookie, Site, handles
from tests.visits import DAY, Clock
from wsgisession import (
    ConfigurationError,
    Session,
    SessionManager,
)
from wsgisession.stores import Store

MARKER = "a-word-that-stands-nowhere-else"

ANY_SIGNATURE = "A" * 42 + "E"


@pytest.fixture
def site(store: Store) -> Site:
    """A site on a store of each kind."""
    return Site(store)


def read(session: Session) -> dict[str, Any]:
    return dict(session)


def logout(session: Session) -> None:
    session.logout()


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


def wait(site: Site, seconds: float) -> None:
    site.manager._services.clock.now += seconds


def revoked(site: Site, browser: Browser) -> None:
    site.manager.revoke(browser.handle, user_id="ada")


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
