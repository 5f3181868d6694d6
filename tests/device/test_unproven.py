"""A request with the cookie of a bound session, but without a proof, gets nothing; its browser gets a way back."""

from __future__ import annotations

import pytest

from tests.device.client import Client, Cookie
from tests.device.site import BOUND_SECONDS, Site
from wsgisession import DeviceBinding

SCRIPT = [("Sec-Fetch-Mode", "cors")]


@pytest.fixture
def site(store_url):
    site = Site(store_url)
    site.manager.store.prepare()
    yield site
    site.manager.close()


def robbed(site: Site) -> tuple[object, Client]:
    """The owner's browser, and a thief with its cookies of long ago, who sends no Fetch metadata."""
    browser = site.bound_browser()
    thief = browser.copied()
    site.clock.advance(BOUND_SECONDS + 1)
    return browser, thief


def ask(thief: Client, path: str, method: str = "GET", **headers: str):
    """Ask as a program does that is no browser."""
    return thief.exchange(method, f"https://app.example.com{path}", headers)


def test_it_sees_no_data(site):
    _, thief = robbed(site)
    answer = ask(thief, "/")
    assert answer.json == {"user": None, "data": {}, "bound": False}
    assert answer.all("Set-Cookie") == []


def test_it_is_reported_with_the_reason(site):
    browser, thief = robbed(site)
    ask(thief, "/")
    del thief.jar["sid_device"]
    ask(thief, "/")
    other = site.browser()
    other.get("/login?user=bob")
    thief.jar["sid_device"] = other.jar["sid_device"]
    ask(thief, "/")
    assert site.reasons("unproven") == ["old proof", "no proof", "other device"]


def test_a_thief_with_a_bound_session_of_his_own_gets_nothing_from_another(site):
    _, thief = robbed(site)
    own = site.browser()
    own.get("/login?user=mallory")
    own.jar["sid"] = thief.jar["sid"]
    assert ask(own, "/").json["user"] is None


@pytest.mark.parametrize("path", ["/", "/write", "/regenerate", "/clear", "/logout", "/logout?clear=1"])
def test_it_changes_nothing_and_gets_no_cookie(site, path):
    browser, thief = robbed(site)
    before = site.record()
    answer = ask(thief, path)
    assert answer.all("Set-Cookie") == []
    assert answer.get("Clear-Site-Data") is None
    after = site.record()
    assert (after.record.version, after.record.expires_at) == (before.record.version, before.record.expires_at)
    assert len(list(site.manager.all_sessions())) == 1
    assert browser.get("/").json["user"] == "ada"


def test_it_does_not_restart_the_idle_timeout(store_url):
    site = Site(store_url, idle_timeout=3600, touch_after=0)
    site.manager.store.prepare()
    browser, thief = robbed(site)
    before = site.record().record.expires_at
    for _ in range(4):
        site.clock.advance(600)
        ask(thief, "/")
    assert site.record().record.expires_at == before
    site.clock.advance(700)
    assert browser.get("/").json["user"] is None
    site.manager.close()


def test_a_proven_request_restarts_the_idle_timeout(store_url):
    site = Site(store_url, idle_timeout=3600)
    site.manager.store.prepare()
    browser = site.bound_browser()
    for _ in range(10):
        site.clock.advance(3000)
        assert browser.get("/").json["user"] == "ada"
    assert site.record().record.ttl == 3600
    site.manager.close()


def test_a_refresh_alone_does_not_restart_the_idle_timeout(store_url):
    site = Site(store_url, idle_timeout=3600)
    site.manager.store.prepare()
    browser = site.bound_browser()
    before = site.record().record.expires_at
    for _ in range(5):
        site.clock.advance(600)
        assert browser.refresh(browser.session) == ""
    assert site.record().record.expires_at == pytest.approx(before)
    site.clock.advance(600)
    assert browser.get("/").json["user"] is None
    site.manager.close()


def test_it_does_not_renew_the_id_nor_count_as_presenting_it(store_url):
    site = Site(store_url, renewal_timeout=3600)
    site.manager.store.prepare()
    browser = site.bound_browser()
    first = browser.copied()
    site.clock.advance(4000)
    handle = site.record().handle
    ask(first, "/")
    assert site.record().handle == handle
    browser.get("/")
    assert site.record().handle != handle
    second = browser.copied()
    del second.jar["sid_device"]
    site.clock.advance(20)
    ask(second, "/")
    site.clock.advance(3000)
    assert not site.record().content.presented_at
    browser.get("/")
    assert site.record().content.presented_at
    site.manager.close()


def test_a_login_gives_the_visitor_a_session_of_his_own_and_leaves_the_owners(site):
    browser, thief = robbed(site)
    assert ask(thief, "/login?user=mallory").json["user"] == "mallory"
    assert ask(thief, "/").json["user"] == "mallory"
    assert browser.get("/").json["user"] == "ada"


def test_a_browser_that_lost_its_key_can_log_in_again_with_a_form_that_needs_a_session(site):
    browser = site.bound_browser()
    site.clock.advance(BOUND_SECONDS + 1)
    browser.sessions.clear()
    assert browser.get("/write?key=csrf_token", site="none").json["user"] is None
    assert browser.get("/").json["data"] == {"csrf_token": "1"}
    assert browser.get("/login").json["data"]["csrf_token"] == "1"
    assert len(browser.sessions) == 1


@pytest.mark.parametrize("fetch_site", ["cross-site", "same-site"])
def test_another_site_cannot_replace_the_cookie(site, fetch_site):
    browser = site.bound_browser()
    site.clock.advance(BOUND_SECONDS + 1)
    cookies = "; ".join(f"{name}={one.value}" for name, one in browser.jar.items())
    headers = {"Cookie": cookies, "Sec-Fetch-Site": fetch_site, "Sec-Fetch-Mode": "no-cors"}
    assert ask(Client(site.app, site.clock), "/write", "POST", **headers).all("Set-Cookie") == []
    assert browser.get("/").json["user"] == "ada"


# The four answers.


@pytest.mark.parametrize("reason", ["unreachable", "server_error", "quota_exceeded"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_browser_that_skipped_the_refresh_is_asked_to_try_later(site, reason, method):
    browser = site.bound_browser()
    site.clock.advance(700)
    cookies = f"sid={browser.jar['sid'].value}"
    skipped = f'{reason};session_identifier="{browser.session.id}"'
    answer = ask(
        Client(site.app, site.clock), "/write", method, **{"Cookie": cookies, "Secure-Session-Skipped": skipped}
    )
    assert answer.status == 503
    assert answer.get("Retry-After") == "5"
    assert answer.all("Set-Cookie") == []
    assert browser.get("/").json["user"] == "ada"


def test_a_browser_at_its_quota_keeps_its_login(site):
    browser = site.bound_browser(has_quota=True)
    for _ in range(5):
        site.clock.advance(5)
        browser.jar.pop("sid_device")
        assert browser.get("/").json["user"] == "ada"
    browser.jar.pop("sid_device")
    assert browser.get("/").status == 503
    site.clock.advance(540)
    assert browser.get("/").json["user"] == "ada"


def test_the_skipped_session_must_be_this_one(site):
    browser = site.bound_browser()
    site.clock.advance(700)
    headers = {
        "Cookie": f"sid={browser.jar['sid'].value}",
        "Secure-Session-Skipped": "unreachable;session_identifier=x",
    }
    assert ask(Client(site.app, site.clock), "/", **headers).json["user"] is None


@pytest.mark.parametrize("fetch_site", ["cross-site", "same-site"])
def test_a_link_from_another_site_gets_a_page_that_reloads_itself(site, fetch_site):
    browser = site.bound_browser()
    site.clock.advance(610)
    first = browser.get("/?a=b", site=fetch_site, follow=False)
    assert (first.status, first.get("Cache-Control")) == (200, "no-store")
    assert b'<meta http-equiv="refresh" content="0">' in first.body
    assert b"<script" not in first.body
    browser.sent.clear()
    assert browser.get("/?a=b", site=fetch_site).json["user"] == "ada"
    assert [sent.path for sent in browser.sent] == ["/", "/.session-device/refresh", "/"]


def test_the_reload_page_does_not_repeat_itself(site):
    browser = site.bound_browser()
    site.clock.advance(700)
    browser.sessions.clear()
    assert browser.get("/", site="cross-site").json["user"] is None


def test_a_head_request_gets_the_same_answer_without_a_body(site):
    browser = site.bound_browser()
    site.clock.advance(700)
    answer = browser.visit("HEAD", "/", site="cross-site", follow=False)
    assert (answer.status, answer.body) == (200, b"")


def test_a_form_from_another_site_gets_no_page(site):
    browser = site.bound_browser()
    site.clock.advance(700)
    browser.jar["sid"].same_site = "None"
    assert browser.post("/", site="cross-site").json["user"] is None


def test_a_stale_second_cookie_is_dropped_and_the_request_repeated(site):
    browser = site.bound_browser()
    browser.jar["sid_device"].expires = None
    site.clock.advance(BOUND_SECONDS + 1)
    browser.sent.clear()
    assert browser.get("/?a=b").json["user"] == "ada"
    assert [(sent.path, sent.status) for sent in browser.sent] == [
        ("/", 307),
        ("/.session-device/refresh", 200),
        ("/", 200),
    ]


def test_an_unreadable_second_cookie_is_dropped_and_the_request_repeated(site):
    browser = site.bound_browser()
    browser.jar["sid_device"].value = "of another program"
    assert browser.get("/?a=b").json["user"] == "ada"


def test_a_clock_moved_back_logs_nobody_out(site):
    """The browser thinks that its second cookie is good for long, and the server knows better."""
    browser = site.bound_browser()
    browser.jar["sid_device"].expires = None
    site.clock.advance(5000)
    assert browser.get("/").json["user"] == "ada"


def test_a_post_with_a_stale_second_cookie_is_not_repeated(site):
    browser = site.bound_browser()
    browser.jar["sid_device"].expires = None
    site.clock.advance(5000)
    assert browser.post("/write").json["user"] is None


def test_the_redirect_stays_on_this_host(site):
    browser = site.bound_browser()
    browser.jar["sid_device"].expires = None
    site.clock.advance(5000)
    answer = ask(browser, "//evil.example/x?y=z", **{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"})
    assert (answer.status, answer.get("Location")) == (307, "/evil.example/x?y=z")


def test_none_of_the_answers_is_given_if_the_app_chose_anonymous(store_url):
    site = Site(store_url, binding=DeviceBinding(on_unproven="anonymous"))
    site.manager.store.prepare()
    browser = site.bound_browser()
    site.clock.advance(700)
    assert browser.get("/", site="cross-site").json["user"] is None
    site.manager.close()


def test_paths_that_are_excluded_get_neither_data_nor_answers():
    site = Site(binding=DeviceBinding(exclude=("/static",)))
    browser = site.bound_browser()
    site.clock.advance(700)
    browser.sent.clear()
    assert browser.get("/static/a.css", site="cross-site").json["user"] is None
    assert browser.get("/static").json["user"] is None
    assert [sent.path for sent in browser.sent] == ["/static/a.css", "/static"]
    assert browser.get("/static-old").json["user"] == "ada"


def test_an_untouched_session_costs_no_look(site):
    browser = site.bound_browser()
    site.clock.advance(700)
    browser.jar.pop("sid_device", None)
    loads = []
    inner = site.manager.store.load
    site.manager.store.load = lambda *args, **options: loads.append(1) or inner(*args, **options)
    Client.request(browser, "GET", "https://app.example.com/untouched", site="same-origin", mode="cors")
    assert loads == []


def test_requests_on_their_way_at_the_registration_need_no_proof(site):
    browser = site.browser()
    browser.get("/login")
    late = browser.copied()
    del late.jar["sid_device"]
    assert ask(late, "/").json["user"] == "ada"
    site.clock.advance(11)
    assert ask(late, "/").json["user"] is None


def test_a_second_cookie_of_the_same_name_that_is_not_bound_is_used(site):
    """Such as a new login under another path, while the browser still sends the old cookie first."""
    _, thief = robbed(site)
    other = site.old_browser()
    other.get("/login?user=bob")
    cookies = f"sid={thief.jar['sid'].value}; sid={other.jar['sid'].value}"
    assert ask(thief, "/write", Cookie=cookies).json["user"] == "bob"
    assert site.manager.sessions_for("bob")[0].data["n"] == "1"


def test_a_second_cookie_that_cannot_be_dropped_sends_nobody_round_for_ever(site):
    """Such as one that a subdomain planted for the whole domain, in a browser that has lost its key."""
    browser = site.bound_browser()
    site.clock.advance(BOUND_SECONDS + 1)
    browser.sessions.clear()
    keep = browser.keep
    browser.keep = lambda text: None if text.startswith("sid_device=;") else keep(text)
    browser.jar["sid_device"] = browser.copied().jar.get("sid_device") or Cookie("x", frozenset(), "Lax", "/", None)
    assert browser.get("/").json["user"] is None
    assert [sent.status for sent in browser.sent[-2:]] == [307, 200]


def test_last_seen_is_the_last_request_and_not_the_last_proof(store_url):
    site = Site(store_url, touch_after=0)
    site.manager.store.prepare()
    browser = site.bound_browser()
    browser.get("/")
    seen = site.manager.sessions_for("ada")[0].last_seen_at
    for _ in range(3):
        site.clock.advance(600)
        assert browser.refresh(browser.session) == ""
    (info,) = site.manager.sessions_for("ada")
    assert abs((info.last_seen_at - seen).total_seconds()) < 1
    browser.get("/")
    (info,) = site.manager.sessions_for("ada")
    assert (info.last_seen_at - seen).total_seconds() >= 1799
    site.manager.close()


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("sid_device=a", ["a"]),
        ("sid=x; sid_device=a; y=z", ["a"]),
        ('sid_device="a"', ["a"]),
        ("sid_device=a;sid_device=b", ["a", "b"]),
        ("xsid_device=a", []),
        ("x=sid_device=a", []),
        ("sid_device_old=a; SID_DEVICE=b", []),
        ("x=y sid_device=a", ["a"]),
        ("sid_device=", [""]),
        ("", []),
        (";".join(f"sid_device={number}" for number in range(20)), [str(number) for number in range(8)]),
        ("sid_device=a; x=" + "y" * 70_000, []),
    ],
)
def test_the_second_cookie_is_found_by_its_whole_name(header, values):
    assert list(Site().manager._services.devices._values(header)) == values
