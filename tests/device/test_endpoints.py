"""The endpoints: whatever is wrong with a request, no session is bound or opened by it, and no owner is logged out."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.device import keys
from tests.device.client import Browser, Client
from tests.device.keys import ECKey, RSAKey
from tests.device.site import SECRET, Site
from wsgisession import DeviceBinding
from wsgisession.testing import FakeClock

REGISTER, REFRESH = "/.session-device", "/.session-device/refresh"


@pytest.fixture
def site(store_url):
    site = Site(store_url)
    site.manager.store.prepare()
    yield site
    site.manager.close()


def ask(client: Client, path: str, token: str | None = None, method: str = "POST", **headers: str):
    more = {} if token is None else {"Secure-Session-Response": token}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.exchange(method, f"https://app.example.com{path}", {**more, **named}, top_level=False)


def refresh(client: Client, device_id: str, token: str | None = None, **headers: str):
    return ask(client, REFRESH, token, Sec_Secure_Session_Id=device_id, **headers)


def offered(site: Site, user: str = "ada") -> tuple[Client, str]:
    """A client that logged in, and the challenge of its offer."""
    client = site.old_browser()
    offer = client.get(f"/login?user={user}").get("Secure-Session-Registration")
    return client, offer.partition('challenge="')[2].rstrip('"')


def challenge_of(answer) -> str:
    return answer.get("Secure-Session-Challenge").partition(";")[0].strip('"')


# Registration.


def test_a_session_takes_one_key_and_no_second(site):
    client, challenge = offered(site)
    token = keys.registration(ECKey(), challenge)
    assert ask(client, REGISTER, token).status == 200
    assert ask(client, REGISTER, token).status == 403
    assert ask(client, REGISTER, keys.registration(ECKey(), challenge)).status == 403
    assert site.happened("device_bound", "device_refused") == ["device_bound", "device_refused", "device_refused"]


def test_a_stolen_cookie_binds_nothing_without_the_challenge(site):
    client, _ = offered(site)
    for guess in ("", "c1", "c1.a.x.1.AAAAAAAAAAAAAAAAAAAAAA." + "A" * 43):
        assert ask(client.copied(), REGISTER, keys.registration(ECKey(), guess)).status == 403
    assert site.happened("device_bound") == []


def test_the_challenge_of_another_session_binds_nothing(site):
    _, mine = offered(site, "mallory")
    victim, _ = offered(site)
    assert ask(victim, REGISTER, keys.registration(ECKey(), mine)).status == 403
    assert site.happened("device_bound") == []


def test_the_challenge_of_an_earlier_login_of_the_same_browser_binds_nothing(site):
    client, first = offered(site)
    client.get("/login")
    assert ask(client, REGISTER, keys.registration(ECKey(), first)).status == 403


def test_a_refresh_challenge_does_not_register(site):
    browser = site.bound_browser()
    client, _ = offered(site, "bob")
    assert ask(client, REGISTER, keys.registration(ECKey(), browser.session.challenge)).status == 403


def test_an_offer_is_good_for_two_minutes(site):
    client, challenge = offered(site)
    site.clock.advance(121)
    assert ask(client, REGISTER, keys.registration(ECKey(), challenge)).status == 403


def test_an_offer_survives_a_new_id(site):
    client, challenge = offered(site)
    client.get("/regenerate")
    assert ask(client, REGISTER, keys.registration(ECKey(), challenge)).status == 200


def test_a_login_by_a_link_at_another_site_registers_without_the_session_cookie(site):
    """Then a browser sends no SameSite=Lax cookie with the registration, because another site began the navigation."""
    browser = site.browser()
    browser.get("/login", site="cross-site")
    assert "Cookie" not in browser.sent[-1].headers
    site.clock.advance(20)
    assert browser.get("/").json["bound"]


@pytest.mark.parametrize("path", ["/logout", "/login?user=bob"])
def test_an_ended_session_cannot_be_bound(site, path):
    client, challenge = offered(site)
    client.get(path)
    token = keys.registration(ECKey(), challenge)
    assert ask(client, REGISTER, token).status == 403
    client.jar.clear()
    assert ask(client, REGISTER, token).status == 403


def test_a_revoked_session_cannot_be_bound(site):
    client, challenge = offered(site)
    site.manager.revoke_user("ada")
    assert ask(client, REGISTER, keys.registration(ECKey(), challenge)).status == 403


def test_a_script_cannot_register(site):
    client, challenge = offered(site)
    token = keys.registration(ECKey(), challenge)
    for mode in ("cors", "same-origin", "navigate"):
        assert ask(client, REGISTER, token, Sec_Fetch_Mode=mode).status == 403
    assert ask(client, REGISTER, token, Sec_Fetch_Mode="no-cors").status == 200


@pytest.mark.parametrize("user", ["nobody", "a login before the feature was enabled"])
def test_a_session_that_was_not_offered_it_cannot_be_bound(store_url, user):
    before = Site(store_url, binding=None)
    after = Site(before.manager.store)
    before.manager.store.prepare()
    client = before.old_browser()
    client.get("/write" if user == "nobody" else "/login")
    client.app = after.app
    _, challenge = offered(after, "mallory")
    assert ask(client, REGISTER, keys.registration(ECKey(), challenge)).status == 403
    before.manager.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("path", [REGISTER, REFRESH])
def test_other_methods_are_refused(site, path, method):
    answer = ask(site.old_browser(), path, method=method)
    assert (answer.status, answer.get("Allow")) == (405, "POST")


HOSTILE = {
    "none": lambda challenge: keys.signed(
        ECKey(), {"alg": "none", "typ": "dbsc+jwt"}, {"jti": challenge}, signature=b""
    ),
    "HS256": lambda challenge: keys.registration(ECKey(), challenge, header={"alg": "HS256"}),
    "P-384": lambda challenge: keys.registration(ECKey(ec.SECP384R1()), challenge),
    "RSA 1024": lambda challenge: keys.registration(RSAKey(1024), challenge),
    "another's key": lambda challenge: keys.registration(ECKey(), challenge, header={"jwk": ECKey().jwk}),
    "no key": lambda challenge: keys.refresh(ECKey(), challenge),
    "1 MB": lambda challenge: keys.registration(ECKey(), challenge, payload={"x": "y" * 1_000_000}),
    "no token": lambda challenge: "",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_registration_is_refused(hostile):
    site = Site()
    client, challenge = offered(site)
    answer = ask(client, REGISTER, hostile(challenge))
    assert (answer.status, answer.all("Set-Cookie")) == (403, [])
    assert client.get("/").json["bound"] is False
    assert site.happened("device_refused") == ["device_refused"]


# Refresh.


def robbed(site: Site) -> tuple[Browser, Client, str]:
    browser = site.bound_browser()
    thief = browser.copied()
    site.clock.advance(650)
    return browser, thief, browser.session.id


def test_a_thief_without_the_key_proves_nothing(site):
    browser, thief, device = robbed(site)
    challenge = challenge_of(refresh(thief, device))
    answer = refresh(thief, device, keys.refresh(ECKey(), challenge))
    assert (answer.status, answer.all("Set-Cookie")) == (403, [])
    assert site.happened("device_refused") == ["device_refused"]
    assert browser.get("/").json["user"] == "ada"


def test_a_signed_answer_counts_once(site):
    browser, thief, device = robbed(site)
    token = keys.refresh(browser.session.key, challenge_of(refresh(thief, device)))
    assert refresh(browser, device, token).status == 200
    replay = refresh(thief, device, token)
    assert (replay.status, replay.all("Set-Cookie")) == (403, [])
    assert site.happened("device_refused") == []
    assert browser.get("/").json["user"] == "ada"


def test_of_several_open_challenges_one_counts(site):
    browser, _, device = robbed(site)
    challenges = [challenge_of(refresh(browser, device)) for _ in range(3)]
    tokens = [keys.refresh(browser.session.key, one) for one in challenges]
    assert [refresh(browser, device, token).status for token in tokens] == [200, 403, 403]


def test_a_challenge_is_good_for_one_session(site):
    browser, _, device = robbed(site)
    other = site.browser()
    other.get("/login?user=bob")
    token = keys.refresh(browser.session.key, other.session.challenge)
    assert refresh(browser, device, token).status == 403


def test_a_registration_does_not_refresh(site):
    browser, _, device = robbed(site)
    token = keys.registration(browser.session.key, challenge_of(refresh(browser, device)))
    assert refresh(browser, device, token).status == 403


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256"}, {"typ": "JWT"}, {"jwk": {}}])
def test_a_hostile_refresh_is_refused_and_the_owner_continues(header):
    site = Site()
    browser, thief, device = robbed(site)
    token = keys.refresh(browser.session.key, challenge_of(refresh(thief, device)), header=header)
    assert refresh(thief, device, token).status == 403
    assert browser.get("/").json["user"] == "ada"


def test_an_old_challenge_leads_to_a_fresh_one(site):
    browser, _, device = robbed(site)
    token = keys.refresh(browser.session.key, challenge_of(refresh(browser, device)))
    site.clock.advance(700)
    answer = refresh(browser, device, token)
    assert answer.status == 403
    assert refresh(browser, device, keys.refresh(browser.session.key, challenge_of(answer))).status == 200


def test_a_refresh_without_the_browsers_header_is_refused(site):
    browser, _, device = robbed(site)
    token = keys.refresh(browser.session.key, challenge_of(refresh(browser, device)))
    assert ask(browser, REFRESH, token).status == 400


@pytest.mark.parametrize("device", ["x", "A" * 22])
def test_the_session_of_another_device_is_ended_in_the_browser_and_not_in_the_store(site, device):
    browser, thief, _ = robbed(site)
    answer = refresh(thief, device)
    assert (answer.status, answer.json) == (200, {"session_identifier": device, "continue": False})
    assert browser.get("/").json["user"] == "ada"


def test_a_refresh_after_the_logout_ends_the_browsers_session(site):
    browser = site.bound_browser()
    browser.get("/logout")
    assert "sid_device" not in browser.jar
    browser.get("/")
    assert (len(browser.ended), browser.sessions) == (1, {})


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_refresh_of_an_ended_session_ends_it_in_the_browser(site, how):
    browser = site.bound_browser()
    if how == "revoked":
        site.manager.revoke_user("ada")
    site.clock.advance(650 if how == "revoked" else 100_000)
    assert browser.get("/").json["user"] is None
    assert len(browser.ended) == 1


def test_a_login_over_a_bound_session_binds_the_new_one_and_ends_the_old(site):
    browser = site.bound_browser()
    browser.get("/login?user=bob")
    assert len(browser.sessions) == 2
    site.clock.advance(650)
    answer = browser.get("/").json
    assert (answer["user"], answer["bound"]) == ("bob", True)
    assert len(browser.sessions) == 1
    assert browser.get("/").json["user"] == "bob"


def test_revoking_all_other_sessions_keeps_this_one(site):
    browser, other = site.bound_browser(), site.bound_browser()
    handle = next(info.handle for info in site.manager.sessions_for("ada"))
    site.manager.revoke_user("ada", except_handle=handle)
    site.clock.advance(650)
    assert sorted(one.get("/").json["user"] or "" for one in (browser, other)) == ["", "ada"]


# Secrets.


def test_an_old_secret_still_counts_and_a_removed_one_ends_nothing(store_url):
    clock, new = FakeClock(), "another secret that is long enough"
    old = Site(store_url, clock=clock)
    both, only_new = (Site(old.manager.store, clock=clock, secret=one) for one in ([new, SECRET], new))
    old.manager.store.prepare()
    browser = old.bound_browser()
    clock.advance(650)
    browser.app = both.app
    assert browser.get("/").json["user"] == "ada"
    clock.advance(650)
    browser.app = only_new.app
    assert refresh(browser, browser.session.id).status == 503  # perhaps another worker can read the cookie
    browser.app = both.app
    assert browser.get("/").json["user"] == "ada"
    old.manager.close()


# Where the endpoints are.


@pytest.mark.parametrize("mount", ["", "/shop", "/a/b"])
@pytest.mark.parametrize("path", ["/.session-device", "/auth/device"])
def test_the_endpoints_are_below_the_mount_point(mount, path):
    site = Site(binding=DeviceBinding(path=path))
    inner = site.app

    def mounted(environ, start_response):
        assert environ["PATH_INFO"].startswith(mount)
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = mount, environ["PATH_INFO"].removeprefix(mount)
        return inner(environ, start_response)

    site.app = mounted
    browser = site.browser()
    browser.get(f"{mount}/login")
    site.clock.advance(650)
    browser.sent.clear()
    assert browser.get(f"{mount}/").json["user"] == "ada"
    assert browser.sent[0].path == f"{mount}{path}/refresh"


def test_a_session_that_is_renewed_during_a_refresh_is_followed(store_url):
    site = Site(store_url, renewal_timeout=3600)
    site.manager.store.prepare()
    browser = site.bound_browser()
    for _ in range(6):
        site.clock.advance(590)
        browser.get("/")
    late = browser.copied()
    site.clock.advance(590)
    old_id = browser.jar["sid"].value
    browser.get("/")
    assert browser.jar["sid"].value != old_id
    browser.get("/")
    site.clock.advance(25)
    answer = refresh(late, browser.session.id)
    assert answer.status == 403
    token = keys.refresh(browser.session.key, challenge_of(answer))
    assert refresh(late, browser.session.id, token).status == 200
    site.clock.advance(20)
    assert refresh(late, browser.session.id).json["continue"] is False
    site.manager.close()


TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(token=TOKENS, device=TOKENS, path=st.sampled_from([REGISTER, REFRESH]))
def test_no_request_breaks_the_endpoints(token, device, path):
    site = Site()
    browser = site.bound_browser()
    answer = ask(browser.copied(), path, token, Sec_Secure_Session_Id=device, Secure_Session_Skipped=device)
    assert answer.status in (200, 400, 403)
    assert not any(text.startswith("sid=") for text in answer.all("Set-Cookie"))
    assert browser.get("/").json["user"] == "ada"


def test_the_end_of_an_old_session_leaves_the_second_cookie_of_a_newer_one(site):
    browser = site.bound_browser()
    old = browser.session
    browser.get("/login?user=bob")
    newer = browser.jar["sid_device"].value
    assert refresh(browser, old.id).json["continue"] is False
    assert browser.jar["sid_device"].value == newer
    assert browser.get("/").json["user"] == "bob"
