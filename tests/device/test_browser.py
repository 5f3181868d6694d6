"""In a real Chromium with software keys: each way through the flow that `Browser` in `client.py` plays.

The browser says itself, in events of the DevTools protocol, whether it accepted what the site sent.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page
from werkzeug.serving import make_server

from tests.chromium import make_certificate
from tests.conftest import unavailable
from tests.device.chromium import Observed, binding_chromium
from tests.device.client import Client, Cookie
from tests.device.site import Site, pages
from tests.servers import ROOT, ServerUnavailable
from wsgisession import CookieOptions, DeviceBinding
from wsgisession.testing import FakeClock

NONE_TO_BE_HAD = ROOT / ".venv" / "no-browser"
SHORT = DeviceBinding(lifetime=2, testing=True, grace=1)


class ShiftedClock(FakeClock):
    """The time, moved on by whatever a test does not want to wait for."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def __call__(self) -> float:
        return time.time() + self.now


class Served:
    """A site on TLS, what was asked of it, and what the test wants answered in its place."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.asked: list[tuple[str, int]] = []
        self.instead: dict[str, str] = {}
        self.before: dict[str, Callable[[dict[str, Any]], object]] = {}
        self.certificate, key = make_certificate(folder)
        self._server = make_server(
            "127.0.0.1", 0, self._app, threaded=True, ssl_context=(str(self.certificate), str(key))
        )
        self.url = f"https://localhost:{self._server.port}"
        self.other_site = f"https://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _app(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/link":
            start_response("200 OK", [("Content-Type", "text/html")])
            return [f'<a href="{self.url}/?from=link">there</a>'.encode()]
        if path == "/worker.js":
            start_response("200 OK", [("Content-Type", "text/javascript")])
            return [b'self.addEventListener("fetch", event => event.respondWith(fetch(event.request)))']
        if path == "/favicon.ico":
            start_response("404 Not Found", [])
            return [b""]
        if path in self.before:
            self.before[path](environ)

        def noting(status: str, headers: Any, *rest: Any) -> Any:
            self.asked.append((path, int(status.split()[0])))
            return start_response(status, headers, *rest)

        if path in self.instead:
            noting(self.instead[path], [("Retry-After", "1")])
            return [b""]
        return self.site.app(environ, noting)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve(binding: Any = SHORT, **options: Any) -> Served:
            served = Served(Site(binding=binding, clock=ShiftedClock(), **options), tmp_path)
            stack.callback(served.close)
            return served

        yield serve


@contextmanager
def chromium(served: Served, name: str = "profile", *, quota: bool = False) -> Iterator[BrowserContext]:
    with ExitStack() as stack:
        try:
            context = stack.enter_context(binding_chromium(served.certificate, served.folder / name, quota=quota))
        except ServerUnavailable as reason:
            if NONE_TO_BE_HAD.exists():  # as make browser found
                pytest.skip(NONE_TO_BE_HAD.read_text().strip())
            unavailable(reason)
        context.set_default_timeout(10_000)
        yield context


def content(page: Page, url: str) -> Any:
    page.goto(url)
    return json.loads(page.inner_text("body"))


def bound(context: BrowserContext, served: Served, path: str = "/login") -> tuple[Page, Observed]:
    """Log in, and wait until the browser has accepted the session."""
    page = context.pages[0]
    observed = Observed(page)
    page.goto(served.url + path)
    wait_for(lambda: observed.of("creation"), page)
    return page, observed


def wait_for(condition: Callable[[], Any], page: Page, seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, "it did not happen"
        page.wait_for_timeout(20)
    return answer


def wait_for_expiry(context: BrowserContext, page: Page) -> None:
    wait_for(lambda: not [one for one in context.cookies() if one["name"].endswith("_device")], page)


def thief_of(context: BrowserContext, served: Served) -> Client:
    """A program on another machine with all cookies of the browser."""
    thief = Client(served.site.app, served.site.clock, served.url)
    for one in context.cookies():
        thief.jar[one["name"]] = Cookie(one["value"], frozenset(), "None", one["path"], None)
    return thief


def test_a_login_is_bound_refreshed_and_worthless_to_a_thief(serve):
    served = serve()
    with chromium(served) as context:
        page, observed = bound(context, served)
        assert observed.results("creation", "fetchResult") == ["Success"]
        thief = thief_of(context, served)
        assert thief.get("/").json["user"] == "ada"
        wait_for_expiry(context, page)
        assert content(page, served.url)["user"] == "ada"
        assert ("/.session-device/refresh", 200) in served.asked
        served.site.clock.advance(40)
        assert thief.get("/").json["user"] is None
        assert content(page, served.url) == {
            "user": "ada",
            "data": {"secret": "the data", "user_id": "ada"},
            "bound": True,
        }
        assert "Success" in observed.results("refresh", "fetchResult")
        assert observed.of("termination") == []


@pytest.mark.parametrize(
    ("cookie", "name"),
    [
        ({}, "sid"),
        ({}, "__Host-sid"),
        ({"same_site": "Strict"}, "sid"),
        ({"same_site": "None"}, "sid"),
        ({"http_only": False, "max_age": 86_400}, "sid"),
        ({"path": "/shop"}, "sid"),
    ],
    ids=["default", "__Host-", "Strict", "None", "max_age", "path"],
)
def test_the_browser_accepts_the_instructions_and_does_not_refresh_before_every_request(serve, cookie, name):
    served = serve(
        DeviceBinding(lifetime=600, exclude=("/static",)), cookie=CookieOptions(**cookie), name=name, app=in_any_folder
    )
    folder = cookie.get("path", "")
    with chromium(served) as context:
        page, observed = bound(context, served, f"{folder}/login")
        assert observed.results("creation", "fetchResult") == ["Success"]
        for _ in range(3):
            assert content(page, f"{served.url}{folder}/")["user"] == "ada"
        assert [path for path, _ in served.asked if path.endswith("/refresh")] == []
        context.clear_cookies(name=f"{name}_device")
        assert content(page, f"{served.url}{folder}/")["user"] == "ada"
        assert (f"{folder}/.session-device/refresh", 200) in served.asked


def in_any_folder(environ: dict[str, Any], start_response: Any) -> Any:
    return pages({**environ, "PATH_INFO": environ["PATH_INFO"].removeprefix("/shop")}, start_response)


def test_requests_of_two_tabs_wait_for_one_refresh(serve):
    served = serve()
    with chromium(served) as context:
        page, _ = bound(context, served)
        other = context.new_page()
        assert content(other, served.url)["user"] == "ada"
        wait_for_expiry(context, page)
        served.asked.clear()
        served.before["/.session-device/refresh"] = lambda environ: time.sleep(0.5)
        fetches = (
            "Promise.all([1, 2, 3].map(n => fetch('/?n=' + n).then(r => r.json()))).then(all => all.map(a => a.user))"
        )
        page.evaluate(f"window.answers = {fetches}; 0")
        assert other.evaluate(fetches) == ["ada"] * 3
        assert page.evaluate("window.answers") == ["ada"] * 3
        assert [one for one in served.asked if one[0].endswith("/refresh")] == [("/.session-device/refresh", 200)]


@pytest.mark.parametrize("policy", [None, "default-src 'none'"])
def test_a_link_at_another_site_leads_to_the_users_page(serve, policy):
    """Also if a proxy adds a strict Content-Security-Policy to the page that reloads itself."""
    served = serve()
    inner = served.site.app

    def with_policy(environ: dict[str, Any], start_response: Any) -> Any:
        more = [] if policy is None else [("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer")]
        return inner(environ, lambda status, headers, *rest: start_response(status, [*headers, *more], *rest))

    served.site.app = with_policy
    with chromium(served) as context:
        page, _ = bound(context, served)
        wait_for_expiry(context, page)
        page.goto(f"{served.other_site}/link")
        served.asked.clear()
        page.click("a")
        wait_for(lambda: '"ada"' in page.inner_text("body"), page)
        assert page.url == f"{served.url}/?from=link"
        assert served.asked[:3] == [("/", 200), ("/.session-device/refresh", 200), ("/", 200)]
        page.go_back()
        assert page.url == f"{served.other_site}/link"


def test_a_login_by_a_link_at_another_site_is_bound(serve):
    served = serve()
    with chromium(served) as context:
        page = context.pages[0]
        observed = Observed(page)
        page.goto(f"{served.other_site}/link")
        page.evaluate(f"document.querySelector('a').href = '{served.url}/login'")
        page.click("a")
        wait_for(lambda: observed.of("creation"), page)
        assert observed.results("creation", "fetchResult") == ["Success"]
        assert content(page, served.url)["bound"] is True


def test_a_renewal_during_a_refresh_is_followed(serve):
    served = serve(renewal_timeout=60)
    renewed = threading.Event()

    def renew_first(environ: dict[str, Any]) -> None:
        """Let another request of this browser, with a proof of its own, renew the ID before the refresh is answered."""
        if not renewed.is_set():
            renewed.set()
            field = served.site.record().content.device
            proof = served.site.manager._services.devices.set_cookie(field)[1].partition(";")[0]
            cookie = f"{environ['HTTP_COOKIE']}; {proof}"
            answer = Client(served.site.app, served.site.clock).exchange("GET", served.url, {"Cookie": cookie})
            assert any(text.startswith("sid=") for text in answer.all("Set-Cookie"))

    with chromium(served) as context:
        page, observed = bound(context, served)
        wait_for_expiry(context, page)
        served.site.clock.advance(70)
        served.before["/.session-device/refresh"] = renew_first
        assert content(page, served.url)["user"] == "ada"
        assert renewed.is_set()
        assert content(page, served.url)["user"] == "ada"
        assert observed.of("termination") == []


def test_a_logout_ends_the_browsers_session(serve):
    served = serve()
    with chromium(served) as context:
        page, observed = bound(context, served)
        assert content(page, f"{served.url}/logout")["user"] is None
        assert [one["name"] for one in context.cookies()] == []
        assert content(page, served.url)["user"] is None
        wait_for(lambda: observed.of("termination"), page)
        assert observed.results("termination", "deletionReason") == ["ServerRequested"]
        served.asked.clear()
        content(page, served.url)
        assert served.asked == [("/", 200)]


def test_a_failing_refresh_is_503_and_recovers(serve):
    served = serve()
    with chromium(served) as context:
        page, observed = bound(context, served)
        wait_for_expiry(context, page)
        served.instead["/.session-device/refresh"] = "503 Service Unavailable"
        response = page.goto(served.url)
        assert response is not None
        assert (response.status, response.headers["retry-after"]) == (503, "5")
        assert "server_error" in (response.request.all_headers().get("secure-session-skipped") or "server_error")
        served.instead.clear()
        wait_for(lambda: page.goto(served.url).status == 200, page, seconds=20)
        assert content(page, served.url)["user"] == "ada"
        assert observed.of("termination") == []


def test_a_session_survives_a_restart_of_the_browser(serve):
    served = serve(cookie=CookieOptions(max_age=86_400))
    with chromium(served) as context:
        page, _ = bound(context, served)
        page.wait_for_timeout(1500)  # the browser writes its file in its own time
    with chromium(served) as context:
        page = context.pages[0]
        assert content(page, served.url)["user"] == "ada"
        assert ("/.session-device/refresh", 200) in served.asked


def test_a_browser_at_its_quota_keeps_the_login(serve):
    served = serve(DeviceBinding(lifetime=600, grace=0))
    with chromium(served, quota=True) as context:
        page, observed = bound(context, served)
        statuses = []
        for _ in range(8):
            context.clear_cookies(name="sid_device")
            statuses.append(page.goto(served.url).status)
            if statuses[-1] == 503:
                break
        assert statuses == [200] * 5 + [503]
        assert [one["name"] for one in context.cookies()] == ["sid"]
        assert observed.of("termination") == []


def test_a_stale_second_cookie_is_dropped_and_proved_again(serve):
    """The server's clock is ahead, or the client's was moved back: the browser thinks that its cookie is good."""
    served = serve(DeviceBinding(lifetime=600))
    with chromium(served) as context:
        page, observed = bound(context, served)
        served.site.clock.advance(5000)
        served.asked.clear()
        assert content(page, served.url)["user"] == "ada"
        assert [status for path, status in served.asked if path == "/"] == [307, 200]
        assert observed.of("termination") == []


def test_a_fetch_of_a_service_worker_waits_too(serve):
    served = serve()
    with chromium(served) as context:
        page, _ = bound(context, served)
        page.evaluate(
            "navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => 0)"
        )
        content(page, served.url)
        wait_for_expiry(context, page)
        assert page.evaluate("navigator.serviceWorker.controller !== null")
        assert page.evaluate("fetch('/').then(answer => answer.json()).then(answer => answer.user)") == "ada"


def test_a_browser_whose_session_is_lost_logs_in_again(serve):
    served = serve()
    with chromium(served) as context:
        page, observed = bound(context, served)
        served.instead["/.session-device/refresh"] = "404 Not Found"
        wait_for_expiry(context, page)
        assert content(page, f"{served.url}/write?key=csrf")["user"] is None
        assert len(observed.of("termination")) == 1
        served.instead.clear()
        assert content(page, served.url)["data"] == {"csrf": "1"}
        page.goto(f"{served.url}/login")
        wait_for(lambda: len(observed.of("creation")) == 2, page)
        assert content(page, served.url)["bound"] is True


def test_a_browser_without_the_feature_notices_nothing(serve):
    served = serve()
    from playwright.sync_api import sync_playwright

    from tests.chromium import binary
    from tests.device.chromium import key_hash

    with sync_playwright() as playwright:
        kind = playwright.chromium
        good = f"--ignore-certificate-errors-spki-list={key_hash(served.certificate)}"
        browser = kind.launch(executable_path=binary(kind.executable_path), args=[good])
        page = browser.new_page()
        assert content(page, f"{served.url}/login")["user"] == "ada"
        page.wait_for_timeout(500)
        assert content(page, served.url) == {
            "user": "ada",
            "data": {"secret": "the data", "user_id": "ada"},
            "bound": False,
        }
        assert [path for path, _ in served.asked] == ["/login", "/"]
        browser.close()
