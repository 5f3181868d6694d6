"""The demonstration over https: the page on which you are the thief of your own cookies."""

from __future__ import annotations

import re
import shlex
import ssl
from collections.abc import Iterator
from html import unescape
from urllib.request import Request, urlopen

import pytest

from tests.chromium import binary
from tests.conftest import unavailable
from tests.device.chromium import Observed, binding_chromium
from tests.device.test_browser import NONE_TO_BE_HAD, wait_for
from tests.servers import ServerUnavailable
from tests.test_demo import PASSWORD, Demo, Visitor


class DemoOverTLS(Demo):
    def __init__(self) -> None:
        super().__init__(TLS="1")

    def answers(self) -> bool:
        self.url = re.findall(r"https://localhost:\d+/", self.log.read_text())[0]
        return b"wsgisession" in self.asked("")

    def asked(self, path: str, cookies: str = "") -> bytes:
        request = Request(self.url + path, headers={"Cookie": cookies} if cookies else {})
        with urlopen(request, context=ssl._create_unverified_context(), timeout=5) as response:
            return bytes(response.read())


@pytest.fixture
def demo() -> Iterator[DemoOverTLS]:
    demo = DemoOverTLS()
    try:
        yield demo.start()
    finally:
        demo.stop()


def cookies_of(command: str) -> str:
    return shlex.split(unescape(command))[3]


def test_a_visitor_is_the_thief_of_his_own_cookies(demo, tmp_path):
    try:
        binary("")
    except ServerUnavailable as reason:
        if NONE_TO_BE_HAD.exists():
            pytest.skip(NONE_TO_BE_HAD.read_text().strip())
        unavailable(reason)
    certificate = demo.instance / "certificate.pem"
    with binding_chromium(certificate, tmp_path / "profile") as context:
        page = context.pages[0]
        observed = Observed(page)
        page.goto(demo.url + "sign-up")
        page.get_by_label("Name").fill("Ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("main").get_by_role("button", name="Sign up").click()
        wait_for(lambda: observed.of("creation"), page)
        assert observed.results("creation", "fetchResult") == ["Success"]
        page.goto(demo.url + "theft")
        assert "Bound to the key" in page.inner_text("main")
        page.get_by_role("button", name="Show my cookies").click()
        both, alone = (cookies_of(one) for one in page.locator("pre").all_inner_texts())
        assert "sid_device=" in both
        assert "sid_device=" not in alone
        assert demo.asked("theft/who", both) == b"You are signed in as Ada.\n"
        page.wait_for_timeout(10_500)  # until requests that were on their way at the registration need a proof too
        assert demo.asked("theft/who", alone) == b"You are nobody.\n"
        page.goto(demo.url + "devices")
        assert "bound to this device's key" in page.inner_text("main")


def test_over_http_the_page_says_what_to_do():
    demo = Demo()
    try:
        visitor = Visitor(demo.start().url)
        assert "Sign in first" in visitor.get("/theft")
        visitor.sign_up("Ada")
        page = visitor.get("/theft")
        assert "make demo TLS=1" in page
        shown = visitor.submit("/theft", of="/theft")
        (command,) = re.findall(r"<pre><code>(curl.*?)</code></pre>", shown)
        assert shlex.split(unescape(command))[2].startswith("sid=")
    finally:
        demo.stop()
