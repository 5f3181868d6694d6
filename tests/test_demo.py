"""The demonstration starts, does what its page says, and starts again where it was."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.error import HTTPError

import pytest

from tests.servers import ROOT, Server
from tests.web import NO_ANSWER, Browser, is_alive, until


class Demo(Server):
    """``python -m demo_flask`` in a checkout of its own."""

    stop_signal = signal.SIGINT

    def __init__(self, **variables: str) -> None:
        super().__init__()
        shutil.copytree(ROOT / "demo_flask", self.folder / "demo_flask", ignore=shutil.ignore_patterns("instance"))
        known = {name: value for name, value in os.environ.items() if name not in ("SESSION_SECRET", "STORE")}
        at_home = {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}  # where gunicorn leaves a socket
        self.environment = {**known, **at_home, "PYTHONPATH": str(ROOT), **variables}
        self.instance = self.folder / "demo_flask" / "instance"

    def command(self) -> list[str]:
        self.log.write_text("")
        return [sys.executable, "-m", "demo_flask"]

    def answers(self) -> bool:
        """Whether it serves at the address that it prints."""
        self.url = re.findall(r"http://127\.0\.0\.1:\d+/", self.log.read_text())[0]
        return bool(Browser(self.url).get("/"))

    def interrupt(self) -> int:
        """Press Ctrl-C, and return what the process ended with."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@pytest.fixture
def demo() -> Iterator[Demo]:
    yield from started()


def started(**variables: str) -> Iterator[Demo]:
    demo = Demo(**variables)
    try:
        yield demo.start()
    finally:
        demo.stop()


def worker_of(page: str) -> int:
    return int(re.findall(r"by worker (\d+)", page)[0])


def apples_on(page: str) -> int:
    return int(re.findall(r'value="apple">.*?</button>\s*(\d+)', page, re.DOTALL)[0])


def page_of(browser: Browser) -> str:
    """The page, also where a worker is only starting."""
    with suppress(*NO_ANSWER):
        return str(browser.get("/"))
    return ""


def test_it_counts_visits(demo):
    browser = Browser(demo.url)
    assert "Visit number 1 of" in browser.get("/")
    assert "Visit number 2 of" in browser.get("/")
    assert "Visit number 1 of" in Browser(demo.url).get("/")


def test_a_login_and_a_cart_outlive_a_killed_worker_and_a_restart(demo):
    browser = Browser(demo.url)
    browser.post("/cart", item="apple", change=1)
    page = browser.post("/login", name="Ada")
    os.kill(worker_of(page), signal.SIGKILL)
    page = until(lambda: page_of(browser))
    assert "Hello, Ada" in page
    assert apples_on(page) == 1

    assert demo.interrupt() == 0
    browser.url = demo.start().url.rstrip("/")
    page = browser.get("/")
    assert "Hello, Ada" in page
    assert apples_on(page) == 1


def test_a_copied_cookie_is_worth_nothing_after_the_logout(demo):
    browser = Browser(demo.url)
    browser.post("/login", name="Ada")
    thief = browser.twin()
    assert "Hello, Ada" in thief.get("/")
    assert "Hello, stranger" in browser.post("/logout")
    assert "Hello, stranger" in thief.get("/")


def test_a_user_sees_his_sessions_and_ends_another_of_them(demo):
    desk, phone = Browser(demo.url, User_Agent="Desk/1"), Browser(demo.url, User_Agent="Phone/1")
    for browser in (desk, phone):
        browser.post("/login", name="Ada")
    page = desk.get("/")
    assert "Desk/1" in page
    assert "Phone/1" in page
    (handle,) = re.findall(r'name="handle" value="([^"]+)"', page)
    desk.post("/revoke", handle=handle)
    assert "Hello, stranger" in phone.get("/")
    assert "Hello, Ada" in desk.get("/")


def test_a_user_cannot_end_a_session_of_somebody_else(demo):
    ada, other_ada, eve = Browser(demo.url), Browser(demo.url), Browser(demo.url)
    for browser, name in ((ada, "Ada"), (other_ada, "Ada"), (eve, "Eve")):
        browser.post("/login", name=name)
    (handle,) = re.findall(r'name="handle" value="([^"]+)"', other_ada.get("/"))
    eve.post("/revoke", handle=handle)
    assert "Hello, Ada" in ada.get("/")


def test_twenty_clicks_at_once_are_twenty_apples(demo):
    browser = Browser(demo.url)
    browser.get("/")
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: browser.post("/cart", item="apple", change=1), range(20)))
    assert apples_on(browser.get("/")) == 20


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda browser: browser.post("/cart", item="yacht", change=1), 400),
        (lambda browser: browser.post("/cart", item="apple", change=1000), 400),
        (lambda browser: browser.post("/login"), 400),
        (lambda browser: browser.get("/logout"), 405),
    ],
    ids=["unknown goods", "a change of a thousand", "a login without a name", "a logout by a link"],
)
def test_what_no_form_of_its_page_sends_is_refused(demo, send: Callable[[Browser], object], status):
    assert refusal_of(lambda: send(Browser(demo.url))) == status


def test_the_form_of_another_site_is_refused(demo):
    browser = Browser(demo.url, Sec_Fetch_Site="same-site")
    assert refusal_of(lambda: browser.post("/login", name="Ada")) == 403


def refusal_of(request: Callable[[], object]) -> int:
    with pytest.raises(HTTPError) as refused:
        request()
    refused.value.close()
    return refused.value.code


def test_its_secret_is_made_once_and_for_its_owner_alone(demo):
    file = demo.instance / "secret"
    secret = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    demo.interrupt()
    demo.start()
    assert file.read_text() == secret


def test_ctrl_c_leaves_no_process_behind(demo):
    browser = Browser(demo.url)
    workers = {worker_of(browser.get("/")) for _ in range(20)}
    assert demo.interrupt() == 0
    assert not [worker for worker in workers if is_alive(worker)]


def test_it_keeps_its_sessions_in_the_store_that_is_named(redis_url):
    for demo in started(STORE=redis_url):
        assert "kept by &lt;RedisStore" in Browser(demo.url).get("/")
        assert {file.name for file in demo.instance.iterdir()} == {"secret"}
