"""A login offers registration, the browser binds the session to its key, and refreshes the second cookie with it."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest

from tests.device.client import attributes_of
from tests.device.keys import RSAKey
from tests.device.site import BOUND_SECONDS, Site
from wsgisession import CookieOptions

OFFER = "Secure-Session-Registration"


@pytest.fixture
def site(store_url):
    site = Site(store_url)
    site.manager.store.prepare()
    yield site
    site.manager.close()


def test_a_login_is_offered_registration_and_nothing_else_is(site):
    browser = site.old_browser()
    assert browser.get("/write").get(OFFER) is None
    offer = browser.get("/login").get(OFFER)
    assert re.fullmatch(r'\(ES256 RS256\);path="/\.session-device";challenge="[A-Za-z0-9_.-]+"', offer)
    for path in ("/", "/write", "/regenerate", "/untouched", "/logout", "/write"):
        assert browser.get(path).get(OFFER) is None


def test_a_browser_that_knows_nothing_of_it_notices_nothing(site):
    browser, plain = site.old_browser(), Site(site.manager.store, binding=None).old_browser()
    for path in ("/write", "/login", "/", "/write?value=2", "/regenerate", "/logout"):
        ours, theirs = browser.get(path), plain.get(path)
        assert ours.status == theirs.status
        assert ours.body == theirs.body
        assert [name for name, _ in ours.headers if name != OFFER] == [name for name, _ in theirs.headers]
        assert list(browser.jar) == list(plain.jar)


@pytest.mark.parametrize("quoted", [False, True], ids=["bare", "quoted"])
@pytest.mark.parametrize("habits", [{}, {"new_key": RSAKey}], ids=["ES256", "RS256"])
def test_a_login_binds_the_session_to_the_browsers_key(site, habits, quoted):
    browser = site.browser(quoted=quoted, **habits)
    browser.get("/login")
    answer = browser.get("/").json
    assert answer == {"user": "ada", "data": {"secret": "the data", "user_id": "ada"}, "bound": True}
    assert site.happened("device_bound", "device_refused") == ["device_bound"]
    (info,) = site.manager.sessions_for("ada")
    assert info.is_bound
    assert info.device.algorithm == browser.session.key.algorithm


def test_registration_is_one_post_without_a_second_visit_to_the_app(site):
    browser = site.browser()
    browser.get("/login")
    assert [(sent.method, sent.path, sent.status) for sent in browser.sent] == [
        ("GET", "/login", 200),
        ("POST", "/.session-device", 200),
    ]


def test_the_answers_are_kept_by_nobody(site):
    browser = site.browser()
    offer = browser.get("/login").get(OFFER)
    assert offer is not None
    answer = browser.exchange("POST", "https://app.example.com/.session-device", {})
    assert answer.get("Cache-Control") == "no-store"
    assert answer.get("Access-Control-Allow-Origin") is None


def test_an_expired_second_cookie_is_refreshed_before_the_request_goes_out(site):
    browser = site.bound_browser()
    site.clock.advance(600)
    browser.sent.clear()
    assert browser.get("/").json["user"] == "ada"
    assert [(sent.path, sent.status) for sent in browser.sent] == [("/.session-device/refresh", 200), ("/", 200)]
    assert site.happened("device_refreshed", "unproven") == ["device_refreshed"]


def test_a_refresh_without_a_challenge_gets_one(site):
    browser = site.bound_browser()
    site.clock.advance(700)
    browser.session.challenge = None
    browser.sent.clear()
    assert browser.get("/").json["user"] == "ada"
    assert [sent.status for sent in browser.sent] == [403, 200, 200]


def test_a_session_is_refreshed_for_days(site):
    browser = site.bound_browser()
    for _ in range(100):
        site.clock.advance(3000)
        assert browser.get("/").json["user"] == "ada"
    assert browser.ended == []
    assert len(browser.sent) == 2 + 200 + 100  # from the second refresh on, the challenge is too old each time


def test_refreshes_before_the_cookie_has_expired_are_accepted(site):
    browser = site.bound_browser(proactive=120)
    site.clock.advance(500)
    browser.get("/")
    assert site.happened("device_refreshed") == ["device_refreshed"]


def test_the_attributes_in_the_instructions_are_those_of_the_cookie(site):
    browser = site.bound_browser()
    assert browser.jar[browser.session.cookie].attributes == browser.session.attributes
    assert browser.session.cookie == "sid_device"


@pytest.mark.parametrize("path", ["/", "/shop"])
@pytest.mark.parametrize("domain", [None, "example.com"])
@pytest.mark.parametrize("same_site", ["Lax", "Strict", "None"])
@pytest.mark.parametrize("http_only", [True, False])
def test_the_attributes_agree_for_every_cookie(path, domain, same_site, http_only):
    cookie = CookieOptions(path=path, domain=domain, same_site=same_site, http_only=http_only, max_age=86_400)
    site = Site(cookie=cookie)
    browser = site.browser()
    browser.get(f"{path.rstrip('/')}/x", follow=False)
    site.app.app = logging_in
    browser.get(f"{path.rstrip('/')}/x")
    kept, session = browser.jar["sid_device"], browser.session
    assert kept.attributes == session.attributes
    assert attributes_of("Secure; HttpOnly") <= kept.attributes
    assert session.refresh_url == f"https://app.example.com{path.rstrip('/')}/.session-device/refresh"


def logging_in(environ, start_response):
    from wsgisession import get_session

    get_session(environ).login("ada")
    start_response("200 OK", [])
    return [b""]


def test_a_copied_pair_of_cookies_works_until_the_second_expires_and_then_never(site):
    browser = site.bound_browser()
    thief = browser.copied()
    site.clock.advance(BOUND_SECONDS - 21)
    assert thief.get("/").json["user"] == "ada"
    site.clock.advance(2)
    assert thief.get("/", site="none", headers=[("Sec-Fetch-Mode", "cors")]).json["user"] is None
    assert browser.get("/").json["user"] == "ada"
    assert thief.get("/").json["user"] is None


def test_the_app_sees_the_device(site):
    browser = site.bound_browser()
    session = site.manager.load(site.record().handle)
    assert session.device.thumbprint
    assert session.device.bound_at == session.device.proven_at
    site.clock.advance(700)
    browser.get("/")
    session = site.manager.load(site.record().handle)
    assert (session.device.proven_at - session.device.bound_at).total_seconds() == 720


def test_an_encrypted_record_shows_nothing_of_the_key(store_url):
    site = Site(store_url, encryption_key=sha256(b"for the tests").digest())
    site.manager.store.prepare()
    browser = site.bound_browser()
    (record,) = site.manager.all_records()
    device = site.manager.sessions_for("ada")[0].device
    assert device.thumbprint.encode() not in record.data
    assert browser.session.key.jwk["x"].encode() not in record.data
    site.clock.advance(640)
    assert browser.get("/").json["user"] == "ada"
    site.manager.close()
