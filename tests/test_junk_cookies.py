"""Cookies that do not verify lock nobody out, expire nothing, and cost little."""

from __future__ import annotations

import logging
import time

import pytest

from tests.visits import Site
from wsgisession import ConfigurationError, SessionManager

JUNK = ["x", "", '""', "A" * 43, f"{'A' * 43}.{'A' * 43}", "s%3Ax.y", "\xff"]


def forged(number: int) -> str:
    return f"{number:042d}A.{'A' * 43}"


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 300])
@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_junk_before_the_real_cookie_hides_and_expires_nothing(site, junk, count):
    browser = site.browser()
    browser.put(user_id="ada")
    session = site.manager.open("; ".join([f"sid={junk}"] * count + [f"sid={browser.cookie}"]), {})
    assert session["user_id"] == "ada"
    assert browser.end(session).set_cookie is None


def test_seven_other_cookies_that_verify_do_not_hide_the_real_one(site):
    others = [site.browser() for _ in range(7)]
    for other in others:
        other.put(n=1)
        site.manager.revoke(other.handle)
    browser = site.browser()
    browser.put(user_id="ada")
    header = "; ".join(f"sid={one.cookie}" for one in [*others, browser])
    assert site.manager.open(header, {})["user_id"] == "ada"


def test_more_than_eight_cookies_that_verify_are_an_event_and_expire_nothing(site):
    others = [site.browser() for _ in range(9)]
    for other in others:
        other.put(n=1)
        site.manager.revoke(other.handle)
    site.store.calls.clear()
    session = site.manager.open("; ".join(f"sid={one.cookie}" for one in others), {})
    assert session.get("n") is None
    assert site.store.calls["load"] == 8
    assert site.told("rejected")[-1].reason == "too many"
    session.destroy()
    assert others[0].end(session).set_cookie is None


def test_a_thousand_forged_cookies_take_bounded_time_and_report_each_reason_once(site):
    header = "; ".join(f"sid={forged(number)}" for number in range(500)) + "; " + "; ".join(["sid=x"] * 300)
    started = time.process_time()
    assert site.manager.open(header, {}).get("n") is None
    assert time.process_time() - started < 0.5
    assert sorted(event.reason for event in site.told("rejected")) == ["bad signature", "malformed"]
    assert not site.store.calls


def test_a_cookie_that_does_not_verify_is_left_alone_until_the_app_writes(site):
    browser = site.browser(forged(1))
    with browser.request() as session:
        assert session.get("n") is None
    assert browser.reply.set_cookie is None
    browser.put(n=1)
    assert browser.reply.set_cookie is not None


def test_changing_the_secret_in_two_steps_logs_nobody_out():
    old, new = "the secret of yesterday, long enough", "the secret of tomorrow, long enough"
    site = Site(secret=[old])
    browser = site.browser()
    browser.put(user_id="ada")
    for secrets in ([old, new], [new, old]):
        here, there = Site(store=site.store, secret=secrets), Site(store=site.store, secret=[old, new])
        for one in (here, there, here):
            browser.manager = one.manager
            browser.put(n=1)
            assert browser.data["user_id"] == "ada"
    late = Site(store=site.store, secret=[old])  # a worker that was not restarted yet
    browser = Site(store=site.store, secret=[new, old]).browser()
    browser.put(user_id="ada")
    cookie = browser.cookie
    browser.manager = late.manager
    with browser.request() as session:
        assert session.get("user_id") is None
    assert browser.cookie == cookie


def test_many_bad_signatures_are_reported_once_with_the_likely_cause(site, caplog):
    with caplog.at_level(logging.WARNING, "wsgisession"):
        for number in range(200):
            assert site.manager.open(f"sid={forged(number)}", {}).get("n") is None
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "same secret" in record.getMessage()


EASY = [
    "1234567890123456",
    "passwordpassword",
    "qwertyuiopasdfgh",
    "abcdefghijklmnop",
    "abcabcabcabcabcabc",
]


@pytest.mark.parametrize("secret", [*EASY, *(easy.upper() for easy in EASY[1:4])])
def test_a_secret_that_anybody_would_try_is_refused(secret):
    with pytest.raises(ConfigurationError, match="anybody would try"):
        SessionManager(secret=secret)


@pytest.mark.parametrize("key", [bytes(32), b"a" * 32, b"ab" * 16, b"password" * 4])
def test_an_encryption_key_that_is_obviously_not_random_is_refused(key):
    with pytest.raises(ConfigurationError, match="not random"):
        SessionManager(secret="a secret that is long enough", encryption_key=key)
