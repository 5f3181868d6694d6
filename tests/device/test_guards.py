"""Step-up: pages that ask for a bound session, or for a fresh proof of its device."""

from __future__ import annotations

import pytest

from tests.device.client import Client
from tests.device.site import Site, pages
from wsgisession import ConfigurationError
from wsgisession.guards import protect, require_device_proof, require_user


def bound_only(app):
    return require_user(app, bound=True)


@pytest.fixture
def site():
    guards = {"/bound": bound_only, "/pay": require_device_proof(max_age=60), "/any": require_device_proof()}
    return Site(app=protect(pages, guards))


@pytest.mark.parametrize("path", ["/bound", "/pay", "/any"])
def test_a_session_that_is_not_bound_is_refused(site, path):
    browser = site.old_browser()
    assert browser.get(path).status == 401
    browser.get("/login")
    assert browser.get(path).status == 403
    assert browser.get("/").status == 200


@pytest.mark.parametrize("path", ["/bound", "/pay", "/any"])
def test_a_bound_session_is_let_in(site, path):
    assert site.bound_browser().get(path).json["user"] == "ada"


def test_a_browser_proves_its_key_on_the_way_to_a_page_that_asks_for_a_fresh_proof(site):
    browser = site.bound_browser()
    site.clock.advance(100)
    browser.sent.clear()
    assert browser.get("/pay?to=bob").json["user"] == "ada"
    assert [(sent.path, sent.status) for sent in browser.sent] == [
        ("/pay", 307),
        ("/.session-device/refresh", 200),
        ("/pay", 200),
    ]
    browser.sent.clear()
    assert browser.get("/pay").status == 200
    assert len(browser.sent) == 1


def test_a_form_with_an_old_proof_is_refused_and_works_after_the_page(site):
    browser = site.bound_browser()
    site.clock.advance(100)
    assert browser.post("/pay").status == 401
    browser.get("/pay")
    assert browser.post("/pay").status == 200


def test_a_copied_pair_of_cookies_does_not_profit_from_the_owners_proof(site):
    browser = site.bound_browser()
    thief = browser.copied()
    site.clock.advance(100)
    assert browser.get("/pay").status == 200
    assert thief.get("/").json["user"] == "ada"
    assert thief.exchange("GET", "https://app.example.com/pay", {}).status == 401
    assert thief.get("/pay").status == 401


def test_the_redirect_leads_to_this_host(site):
    browser = site.bound_browser()
    site.clock.advance(100)
    answer = browser.get("/pay//evil.example/?x=%2F%2Fy", follow=False)
    assert answer.get("Location") == "/pay//evil.example/?x=%2F%2Fy"


@pytest.mark.parametrize("max_age", [0, 9, -1, True, "60", float("nan")])
def test_a_proof_must_be_allowed_to_be_some_seconds_old(max_age):
    with pytest.raises(ConfigurationError, match="at least 10 seconds"):
        require_device_proof(max_age=max_age)


def test_without_the_option_no_session_is_bound():
    site = Site(binding=None, app=protect(pages, {"/bound": bound_only}))
    browser = Client(site.app, site.clock)
    browser.get("/login")
    assert browser.get("/bound").status == 403


def test_servers_whose_clocks_differ_send_nobody_round_for_ever(site):
    browser = site.bound_browser()
    devices = site.manager._services.devices
    sign = devices.signer.cookie
    devices.signer.cookie = lambda device_id, *, now: sign(device_id, now=now - 90)
    site.clock.advance(100)
    assert browser.get("/pay").status == 401
