"""Nobody is locked out: a store that fails is 503, and the feature can be rolled out and back while sessions run."""

from __future__ import annotations

import itertools

import pytest

from tests.device import keys
from tests.device.keys import ECKey
from tests.device.site import Site
from tests.device.test_endpoints import REFRESH, REGISTER, ask, challenge_of, offered, refresh
from wsgisession import ConfigurationError, DeviceBinding, SessionManager, SessionMiddleware, StoreError
from wsgisession.stores.base import WriteRefused

VERBS = ("load", "replace")


def broken(site: Site, verb: str, error: type[StoreError] = StoreError):
    """Let a verb of the store fail until it is mended."""
    store = site.manager.store
    inner = getattr(store, verb)

    def failing(*args, **options):
        raise error("the server is down")

    setattr(store, verb, failing)
    return lambda: setattr(store, verb, inner)


@pytest.mark.parametrize("on_store_error", ["raise", "unavailable"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_registration_while_the_store_fails_is_503(verb, on_store_error):
    site = Site(on_store_error=on_store_error)
    client, challenge = offered(site)
    token = keys.registration(ECKey(), challenge)
    mend = broken(site, verb)
    answer = ask(client, REGISTER, token)
    assert (answer.status, answer.get("Retry-After")) == (503, "5")
    mend()
    assert ask(client, REGISTER, token).status == 200


@pytest.mark.parametrize("on_store_error", ["raise", "unavailable"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_refresh_while_the_store_fails_is_503_and_works_afterwards(verb, on_store_error):
    site = Site(on_store_error=on_store_error)
    browser = site.bound_browser()
    site.clock.advance(600)
    mend = broken(site, verb)
    assert browser.refresh(browser.session) == "server_error"
    mend()
    assert browser.get("/").json["user"] == "ada"
    assert browser.ended == []


def test_a_page_after_a_failed_refresh_is_503_and_keeps_the_login():
    site = Site()
    browser = site.bound_browser()
    site.clock.advance(610)
    mend = broken(site, "replace")
    answer = browser.get("/")
    assert (answer.status, answer.all("Set-Cookie")) == (503, [])
    mend()
    assert browser.get("/").json["user"] == "ada"


@pytest.mark.parametrize("fetch_site", ["cross-site", "none"])
def test_a_page_that_cannot_be_looked_up_is_the_stores_error_and_never_anonymous(fetch_site):
    site = Site(on_store_error="unavailable")
    browser = site.bound_browser()
    site.clock.advance(610)
    mend = broken(site, "load")
    assert browser.get("/", site=fetch_site).status == 503
    mend()
    assert browser.get("/").json["user"] == "ada"


def test_a_server_that_refuses_writes_still_serves_proven_requests():
    site = Site(touch_after=0)
    browser = site.bound_browser()
    mends = [broken(site, verb, WriteRefused) for verb in ("replace", "touch")]
    assert browser.get("/").json["user"] == "ada"
    for mend in mends:
        mend()


def test_a_write_that_keeps_losing_is_503():
    site = Site()
    browser = site.bound_browser()
    token = keys.refresh(browser.session.key, challenge_of(refresh(browser, browser.session.id)))
    site.manager.store.replace = lambda *args, **options: None
    assert refresh(browser, browser.session.id, token).status == 503


# Rolling out and back.


def one_behind_the_other(*apps):
    """A proxy before workers of different versions: each request goes to the next one."""
    turns = itertools.cycle(apps)
    return lambda environ, start_response: next(turns)(environ, start_response)


@pytest.mark.parametrize("order", [(0, 1, 1), (1, 0, 0)])
def test_rolling_out_behind_a_proxy_logs_nobody_out(store_url, order):
    """First every worker understands the feature and offers nothing; then some offer it, and all enforce it."""
    offering = Site(store_url)
    offering.manager.store.prepare()
    silent = Site(offering.manager.store, binding=DeviceBinding(offer="never"), clock=offering.clock)
    sites = [offering.app, silent.app]
    offering.app = one_behind_the_other(*[sites[place] for place in order])
    browsers = [offering.browser() for _ in range(4)]
    for number, browser in enumerate(browsers):
        browser.get(f"/login?user=u{number}")
    assert 0 < sum(bool(browser.sessions) for browser in browsers) < 4
    for _ in range(10):
        offering.clock.advance(605)
        for number, browser in enumerate(browsers):
            assert browser.get("/").json["user"] == f"u{number}"
    offering.manager.close()


def test_rolling_back_logs_nobody_out(store_url):
    before = Site(store_url)
    before.manager.store.prepare()
    after = Site(before.manager.store, binding=DeviceBinding(offer="never"), clock=before.clock)
    browser = before.bound_browser()
    thief = browser.copied()
    browser.app = thief.app = after.app
    for _ in range(5):
        before.clock.advance(700)
        assert browser.get("/").json == {"user": "ada", "data": {"secret": "the data", "user_id": "ada"}, "bound": True}
        assert thief.get("/").json["user"] is None
    browser.get("/logout")
    browser.get("/login")
    assert browser.get("/").json["bound"] is False
    before.manager.close()


def test_a_worker_without_the_option_keeps_the_binding_of_a_record_that_it_writes(store_url):
    with_it = Site(store_url)
    with_it.manager.store.prepare()
    without = Site(with_it.manager.store, binding=None, clock=with_it.clock)
    browser = with_it.bound_browser()
    browser.app = without.app
    browser.get("/write")
    assert "id" in with_it.record().content.device
    browser.app = with_it.app
    with_it.clock.advance(610)
    assert browser.get("/").json["user"] == "ada"
    with_it.manager.close()


# At startup.


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"format": "express"}, 'format="express"'),
        ({"cookie": {"secure": False}}, "secure=False"),
        ({"cookie": {"partitioned": True}}, "partitioned=True"),
        ({"device_binding": {"lifetime": 60}}, "testing=True"),
        ({"device_binding": "yes"}, "must be True, False, or a DeviceBinding"),
        ({"renewal_timeout": 3600, "renewal_grace": 5}, "renewal_grace"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fix(options, sentence):
    with pytest.raises(ConfigurationError) as caught:
        SessionManager(**{"secret": "for the tests, and long enough", "device_binding": True, **options})
    assert sentence in str(caught.value)


def test_sessions_in_the_memory_of_one_of_several_processes_are_refused():
    site = Site()

    def multiprocess(environ, start_response):
        return site.app({**environ, "wsgi.multiprocess": True}, start_response)

    with pytest.raises(ConfigurationError, match="device_binding needs a store that all processes share"):
        refreshing = Site()
        refreshing.app = multiprocess
        ask(refreshing.old_browser(), REFRESH)


def test_over_plain_http_nothing_is_offered():
    site = Site()
    browser = site.old_browser()
    browser.url = "http://localhost/"
    assert browser.get("/login").get("Secure-Session-Registration") is None


def test_the_middleware_takes_the_option_too():
    app = SessionMiddleware(lambda *_: [], secret="for the tests, and long enough", device_binding={"lifetime": 900})
    assert app.manager._services.devices.options.seconds == 900
