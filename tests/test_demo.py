"""The demonstration starts, does what its pages say, and keeps its sessions over a restart."""

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
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
import simple_websocket

from demo_flask.app import create_app
from demo_flask.devices import device_name
from tests.servers import ROOT, Server
from tests.web import NO_ANSWER, SECONDS, SECRET, Browser, is_alive, until
from wsgisession import open_store

PASSWORD = "difference engine"
PAGES = ["/", "/cart", "/live", "/devices", "/fixation", "/theft", "/timeouts", "/inside", "/admin"]
PAGES += ["/inside/untouched"]


class Demo(Server):
    """``python -m demo_flask`` in its own copy of the directory."""

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


class Visitor(Browser):
    """Fills in forms like a browser: with the CSRF token of their page."""

    def submit(self, path: str, *, of: str, **form: Any) -> str:
        return str(self.post(path, csrf_token=token_on(self.get(of)), **form))

    def sign_up(self, name: str, **more: str) -> str:
        return self.submit("/sign-up", of="/sign-up", name=name, password=PASSWORD, **more)

    def sign_in(self, name: str, password: str = PASSWORD) -> str:
        return self.submit("/sign-in", of="/sign-in", name=name, password=password)

    def add(self, item: str, change: int = 1) -> str:
        return self.submit("/cart", of="/cart", item=item, change=change)

    def sign_out(self) -> str:
        return self.submit("/sign-out", of="/")


def token_on(page: str) -> str:
    return re.findall(r'name="csrf_token"[^>]* value="([^"]+)"', page)[0]


def greeting_on(page: str) -> str:
    return re.findall(r"<h1>(.*?)</h1>", page)[0]


def apples_on(page: str) -> int:
    return int(re.findall(r'data-item="apple">(\d+)<', page)[0])


def handles_on(page: str) -> list[str]:
    return re.findall(r'name="handle" value="([^"]+)"', page)


def receipt_on(page: str) -> str:
    """What the receipt says, as one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.split('<aside class="receipt"')[1].split(">", 1)[1]).split())


def worker_of(page: str) -> int:
    return int(re.findall(r"by worker (\d+)", page)[0])


def page_of(browser: Browser) -> str:
    """The page, or nothing while a worker is starting."""
    with suppress(*NO_ANSWER):
        return str(browser.get("/"))
    return ""


def started(**variables: str) -> Iterator[Demo]:
    demo = Demo(**variables)
    try:
        yield demo.start()
    finally:
        demo.stop()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    yield from started()


@pytest.fixture
def own_demo() -> Iterator[Demo]:
    """A demonstration that the test may damage."""
    yield from started()


def test_it_shows_an_operator_its_figures(demo):
    Browser(demo.url).get("/")
    figures = Browser(demo.url).get("/metrics")
    assert 'wsgisession_events_total{event="created",reason=""}' in figures
    assert 'wsgisession_store_duration_seconds_count{store="sqlite",verb="create"}' in figures


def test_it_counts_visits(demo):
    browser = Browser(demo.url)
    assert "visit number 1 of" in browser.get("/")
    assert "visit number 2 of" in browser.get("/")
    assert "visit number 1 of" in Browser(demo.url).get("/")


def test_a_login_and_a_cart_outlive_a_killed_worker_and_a_restart(own_demo):
    visitor = Visitor(own_demo.url)
    visitor.add("apple")
    visitor.sign_up("Ada")
    os.kill(worker_of(visitor.get("/")), signal.SIGKILL)
    assert greeting_on(until(lambda: page_of(visitor))) == "Hello, Ada"
    assert apples_on(visitor.get("/cart")) == 1

    assert own_demo.interrupt() == 0
    visitor.url = own_demo.start().url.rstrip("/")
    assert greeting_on(visitor.get("/")) == "Hello, Ada"
    assert apples_on(visitor.get("/cart")) == 1


def test_security_32_a_copied_cookie_is_useless_after_the_sign_out(demo):
    visitor = Visitor(demo.url)
    visitor.sign_up("Barbara")
    thief = visitor.twin()
    assert greeting_on(thief.get("/")) == "Hello, Barbara"
    assert greeting_on(visitor.sign_out()) == "Hello, stranger"
    assert greeting_on(thief.get("/")) == "Hello, stranger"


def test_users_see_their_devices_and_end_one_of_them(demo):
    desk, phone = (Visitor(demo.url, User_Agent=f"{name}/1") for name in ("Desk", "Phone"))
    desk.sign_up("Carol")
    phone.sign_in("carol")
    page = desk.get("/devices")
    assert "Desk/1" in page
    assert "Phone/1" in page
    (handle,) = handles_on(page)
    assert "That device is signed out" in desk.submit("/devices/end", of="/devices", handle=handle)
    assert greeting_on(phone.get("/")) == "Hello, stranger"
    assert greeting_on(desk.get("/")) == "Hello, Carol"


def test_a_user_ends_all_devices_but_this_one(demo):
    desk, *others = (Visitor(demo.url) for _ in range(3))
    desk.sign_up("Dorothy")
    for each in others:
        each.sign_in("Dorothy")
    assert "2 other devices are signed out" in desk.submit("/devices/end-others", of="/devices")
    assert {greeting_on(each.get("/")) for each in others} == {"Hello, stranger"}
    assert greeting_on(desk.get("/")) == "Hello, Dorothy"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/156.0 Safari/537.36 Edg/156.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari on iPhone"),
        ("curl/8.9.1", "curl/8.9.1"),
        (None, "Unknown program"),
    ],
)
def test_a_device_has_a_readable_name(user_agent, name):
    assert device_name(user_agent) == name


def test_a_user_cannot_end_the_session_of_another_user(demo):
    emmy, other_emmy, eve = (Visitor(demo.url) for _ in range(3))
    emmy.sign_up("Emmy")
    other_emmy.sign_in("Emmy")
    eve.sign_up("Eve")
    (handle,) = handles_on(other_emmy.get("/devices"))
    assert "That device is signed out" not in eve.submit("/devices/end", of="/devices", handle=handle)
    assert greeting_on(emmy.get("/")) == "Hello, Emmy"


def test_twenty_clicks_at_once_are_twenty_apples(demo):
    browser = Browser(demo.url)
    token = token_on(browser.get("/cart"))
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: browser.post("/cart", csrf_token=token, item="apple", change=1), range(20)))
    page = browser.get("/cart")
    assert apples_on(page) == 20


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda visitor: visitor.add("yacht"), 400),
        (lambda visitor: visitor.add("apple", 1000), 400),
        (lambda visitor: visitor.post("/cart", item="apple", change=1), 400),
        (lambda visitor: visitor.get("/sign-out"), 405),
        (lambda visitor: visitor.submit("/inside/explode", of="/inside"), 404),
    ],
    ids=[
        "unknown goods",
        "a change of a thousand",
        "a form without a token",
        "a logout by a link",
        "an unknown action",
    ],
)
def test_a_request_that_no_form_sends_is_refused(demo, send: Callable[[Visitor], object], status):
    assert refusal_of(lambda: send(Visitor(demo.url))) == status


def refusal_of(request: Callable[[], object]) -> int:
    with pytest.raises(HTTPError) as refused:
        request()
    refused.value.close()
    return refused.value.code


def test_an_account_needs_a_free_name_and_a_long_enough_password(demo):
    visitor = Visitor(demo.url)
    assert "Field must be" in visitor.submit("/sign-up", of="/sign-up", name="Grace", password="short")
    assert greeting_on(visitor.sign_up("Grace")) == "Hello, Grace"
    assert "This name is taken" in Visitor(demo.url).sign_up("GRACE")


def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(demo):
    Visitor(demo.url).sign_up("Hedy")
    for name, password in (("Hedy", "guessed it?"), ("Nobody", PASSWORD)):
        assert "No account has this name and password" in Visitor(demo.url).sign_in(name, password)


def test_passwords_are_stored_as_argon2_hashes_in_a_private_file(demo):
    Visitor(demo.url).sign_up("Ida")
    file = demo.instance / "users.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSWORD.encode() not in file.read_bytes()
    assert b"$argon2id$" in file.read_bytes()


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/",
        "/\\evil.example/",
        "https://evil.example/",
        "/\t/evil.example",
        "/\t/[",
        "/\r\nSet-Cookie: a=b",
    ],
)
def test_a_sign_in_never_redirects_to_another_site(app, target):
    with app.test_client() as client:
        client.post("/sign-up", data={"name": "Joan", "password": PASSWORD})
        answer = client.post("/sign-in", query_string={"next": target}, data={"name": "Joan", "password": PASSWORD})
    assert answer.location == "/"


def test_a_sign_in_redirects_to_the_page_that_the_visitor_was_going_to(demo):
    visitor = Visitor(demo.url)
    visitor.sign_up("Kathleen")
    other = Visitor(demo.url)
    assert greeting_on(other.get("/devices")) == "Sign in"
    page = other.submit("/sign-in?next=/devices", of="/devices", name="Kathleen", password=PASSWORD)
    assert greeting_on(page) == "Your devices"


def test_the_admin_page_is_for_admins(demo):
    stranger, user, admin = (Visitor(demo.url) for _ in range(3))
    assert greeting_on(stranger.get("/admin")) == "Sign in"
    user.sign_up("Lise")
    assert refusal_of(lambda: user.get("/admin")) == 403
    admin.sign_up("Maria", is_admin="y")
    page = admin.get("/admin")
    assert greeting_on(page) == "All sessions"
    (handle,) = re.findall(r'<b>Lise</b>.*?name="handle" value="([^"]+)"', page, re.DOTALL)
    admin.submit("/admin/end", of="/admin", handle=handle)
    assert greeting_on(user.get("/")) == "Hello, stranger"


@pytest.mark.parametrize(
    ("action", "calls", "written", "cookie"),
    [
        ("read", "load", "no", "left alone"),
        ("change", "load replace", "yes", "left alone"),
        ("deep", "load replace", "yes", "left alone"),
        ("back", "load", "no", "left alone"),
        ("id", "load create delete", "yes", "sent"),
        ("keep", "load replace", "yes", "sent"),
        ("end", "load delete create", "yes", "sent"),
    ],
)
def test_the_receipt_says_what_a_request_cost_and_what_was_decided(demo, action, calls, written, cookie):
    visitor = Visitor(demo.url)
    visitor.get("/inside")
    receipt = receipt_on(visitor.submit(f"/inside/{action}", of="/inside"))
    assert re.findall("load|create|replace|touch|delete", receipt.partition(" store call")[0]) == calls.split()
    assert f"Written {written} Cookie {cookie}" in receipt


def test_a_page_that_does_not_touch_the_session_makes_no_store_call(demo):
    visitor = Visitor(demo.url)
    visitor.sign_up("Nettie")
    assert "0 store calls" in receipt_on(visitor.get("/inside/untouched"))


def test_the_fixation_page_shows_one_attack_that_works_and_one_that_fails(demo):
    visitor = Visitor(demo.url)
    page = visitor.submit("/fixation", of="/fixation")
    assert re.findall(r"attacker is now</dt><dd><b>(.*?)</b>", page) == ["Ada", "not signed in"]
    visitor.sign_up("Olga")
    assert "— dead" in visitor.get("/fixation")


def test_no_page_shows_the_cookie_or_the_session_id(demo):
    visitor = Visitor(demo.url)
    visitor.sign_up("Rosalind", is_admin="y")
    value = visitor.cookie.value
    assert value
    shown = "".join(visitor.get(page) for page in PAGES)
    assert value not in shown
    assert value.partition(".")[0] not in shown


def test_pages_are_not_cached_and_run_no_script_of_another_site(app):
    with app.test_client() as client:
        client.post("/sign-up", data={"name": "Sofia", "password": PASSWORD, "is_admin": "y"})
        answers = [client.get(page) for page in PAGES]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert all("default-src 'self'" in answer.headers["Content-Security-Policy"] for answer in answers)


def test_security_32_a_sign_out_clears_the_data_of_the_site_in_the_browser(app):
    with app.test_client() as client:
        client.post("/sign-up", data={"name": "Tatyana", "password": PASSWORD})
        answer = client.post("/sign-out")
    assert answer.headers["Clear-Site-Data"] == '"cache", "cookies", "storage"'
    assert answer.headers["Cache-Control"] == "no-store"


def test_devices_ask_for_the_password_again_when_the_sign_in_is_old(app):
    app.config["FRESH_FOR"] = timedelta(0)
    with app.test_client() as client:
        client.post("/sign-up", data={"name": "Ursula", "password": PASSWORD})
        assert client.get("/devices").location == "/confirm?next=/devices"
        ended = client.post("/devices/end-others", headers={"Referer": "http://["})
        assert ended.location == "/confirm?next=/devices"
        assert "This is not your password" in client.post("/confirm", data={"password": "guessed it?"}).text
        app.config["FRESH_FOR"] = timedelta(minutes=10)
        assert client.post("/confirm?next=/devices", data={"password": PASSWORD}).location == "/devices"
        assert client.get("/devices").status_code == 200


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return create_app(SECRET_KEY=SECRET, SESSION_STORE="memory://", USERS=tmp_path / "users.db", WTF_CSRF_ENABLED=False)


def socket_of(demo: Demo, browser: Browser) -> simple_websocket.Client:
    cookie = f"{browser.cookie.name}={browser.cookie.value}"
    url = f"{demo.url.replace('http', 'ws')}socket.io/?EIO=4&transport=websocket"
    socket = simple_websocket.Client(url, headers={"Cookie": cookie})
    answer_to("40", socket, begins="40")
    return socket


def answer_to(frame: str, socket: simple_websocket.Client, *, begins: str) -> str:
    """Send a frame, and return the first answer that begins this way."""
    socket.send(frame)
    while not (answer := socket.receive(SECONDS)).startswith(begins):
        pass
    return str(answer)


def test_the_socket_counts_in_the_session_of_the_pages(demo):
    browser = Browser(demo.url)
    browser.get("/live")
    socket = socket_of(demo, browser)
    assert answer_to('421["count"]', socket, begins="431") == "431[1]"
    assert '<output id="count" aria-live="polite">1</output>' in browser.get("/live")
    socket.close()


def test_the_socket_of_a_session_that_has_ended_counts_nothing(demo):
    visitor = Visitor(demo.url)
    visitor.sign_up("Vera")
    socket = socket_of(demo, visitor)
    visitor.sign_out()
    assert answer_to('421["count"]', socket, begins="431") == "431[]"
    socket.close()


@pytest.mark.parametrize(("origin", "status"), [("own", 101), ("http://evil.example", 400)])
def test_only_the_pages_of_this_site_open_the_socket(demo, origin, status):
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    headers = {"Origin": demo.url.rstrip("/") if origin == "own" else origin, **key}
    connection = HTTPConnection(urlsplit(demo.url).netloc, timeout=5)
    try:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        connection.request("GET", "/socket.io/?EIO=4&transport=websocket", headers={**upgrade, **headers})
        assert connection.getresponse().status == status
    finally:
        connection.close()


def test_the_secret_is_created_once_and_private(own_demo):
    file = own_demo.instance / "secret"
    secret = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    own_demo.interrupt()
    own_demo.start()
    assert file.read_text() == secret


def test_ctrl_c_leaves_no_process_behind_not_even_one_with_an_open_socket(own_demo):
    browser = Browser(own_demo.url)
    workers = {worker_of(browser.get("/")) for _ in range(20)}
    socket = socket_of(own_demo, browser)
    assert own_demo.interrupt() == 0
    assert not [worker for worker in workers if is_alive(worker)]
    with suppress(simple_websocket.ConnectionClosed, OSError):
        socket.close()


def test_it_keeps_its_sessions_in_the_store_of_the_environment(redis_url):
    for demo in started(STORE=redis_url):
        before = count_in(redis_url)
        Browser(demo.url).get("/")
        assert count_in(redis_url) == before + 1
        files = {file.name.partition("-")[0] for file in demo.instance.iterdir()}
        assert files == {"secret", "users.db", "figures"}


def count_in(url: str) -> int:
    store = open_store(url)
    try:
        return len(list(store.scan(now=0)))
    finally:
        store.close()
