"""One app under each WSGI server: its sessions work with every one. Run by nox; a plain pytest does not collect it.

WSGI leaves much open, such as threads or processes, and who asks for ``close`` when; each server has its own answer.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import HOST, ROOT
from tests.test_end_to_end import url_of
from tests.web import Browser, Gunicorn, until

APP = "tests.apps.tour:app"
BIN = Path(sys.executable).parent


def gunicorn(*options: str) -> Callable[[int, Path], list[str]]:
    own = ["--workers=2", "--graceful-timeout=1", *options, APP]
    return lambda port, folder: [sys.executable, "-m", "gunicorn", f"--bind={HOST}:{port}", *own]


def uwsgi(port: int, folder: Path) -> list[str]:
    workers = ["--master", "--processes=2", "--threads=2", "--die-on-term"]
    place = [f"--http-socket={HOST}:{port}", f"--virtualenv={sys.prefix}", f"--pythonpath={ROOT}"]
    return [str(BIN / "uwsgi"), "--need-app", *workers, *place, f"--module={APP}"]


def waitress(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "waitress", f"--listen={HOST}:{port}", "--threads=4", APP]


def cheroot(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "cheroot", f"--bind={HOST}:{port}", "--threads=4", APP]


def granian(port: int, folder: Path) -> list[str]:
    listening = [f"--host={HOST}", f"--port={port}", "--workers=2", "--blocking-threads=2"]
    return [sys.executable, "-m", "granian", "--interface=wsgi", *listening, APP]


def mod_wsgi(port: int, folder: Path) -> list[str]:
    place = [f"--host={HOST}", f"--port={port}", f"--server-root={folder}", f"--python-path={ROOT}"]
    # Apache never serves as root; whom it becomes must be able to read the interpreter, which is not so in root's home.
    user = ["--user=nobody", "--group=nogroup"] if os.geteuid() == 0 else []
    module = ["--application-type=module", APP.partition(":")[0], "--callable-object=app"]
    workers = ["--processes=2", "--threads=2", "--log-to-terminal"]
    return [str(BIN / "mod_wsgi-express"), "start-server", *place, *user, *workers, *module]


COMMANDS = {
    "gunicorn-sync": gunicorn("--worker-class=sync"),
    "gunicorn-gthread": gunicorn("--worker-class=gthread", "--threads=4"),
    "gunicorn-gevent": gunicorn("--worker-class=gevent"),
    "uwsgi": uwsgi,
    "waitress": waitress,
    "cheroot": cheroot,
    "granian": granian,
    "mod_wsgi": mod_wsgi,
}


class WebServer(Gunicorn):
    def __init__(self, name: str) -> None:
        super().__init__(APP)
        self.name = name
        self.folder.chmod(0o777)  # what root starts may run as another user
        if name in ("uwsgi", "mod_wsgi"):
            self.stop_signal = signal.SIGTERM

    def command(self) -> list[str]:
        return COMMANDS[self.name](self.port, self.folder)


@pytest.fixture(scope="module", params=itertools.product(COMMANDS, ["sqlite", "redis"]), ids=" ".join)
def server(request):
    name, store = request.param
    server = WebServer(name)
    server.environment = {**server.environment, "STORE": url_of(store, request, server.folder)}
    try:
        yield server.start()
        assert "Traceback" not in server.log.read_text()
    finally:
        server.stop()


@pytest.fixture
def browser(server) -> Browser:
    return Browser(server.url)


def test_a_visitor_counts_logs_in_and_out(browser):
    assert [browser.get("/count") for _ in range(3)] == [1, 2, 3]
    before = browser.cookie.value
    browser.post("/login", user="ada")
    assert browser.cookie.value != before
    shown = browser.get("/show")
    assert (shown["user"], shown["data"]["count"]) == ("ada", 3)
    thief = browser.twin()
    browser.get("/logout")
    assert not list(browser.jar)
    assert thief.get("/show")["data"] == {}


def test_a_stream_brings_the_cookie_and_keeps_what_it_changes_on_the_way(browser):
    assert browser.get("/stream") == "one two"
    until(lambda: browser.get("/show")["data"] == {"streams": [1, 2]})


def test_a_file_brings_the_cookie(browser):
    assert browser.get("/file") == "a file"
    assert browser.get("/show")["data"] == {"file": True}


def test_what_is_written_brings_the_cookie(server, browser):
    if server.name == "granian":
        pytest.skip("its start_response returns no write()")
    assert browser.get("/write") == "written out"
    assert browser.get("/show")["data"] == {"written": True}


def test_a_session_that_is_revoked_elsewhere_is_over(browser):
    browser.get("/login", user="ada")
    other = Browser(browser.url)
    other.get("/login", user="ada")
    assert other.get("/revoke", handle=browser.get("/show")["handle"]) is True
    assert (browser.get("/show")["user"], other.get("/show")["user"]) == (None, "ada")


def test_parallel_requests_lose_nothing(browser):
    browser.get("/count")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: browser.get("/count"), range(24)))
    assert browser.get("/count") == 26


def test_a_forged_cookie_opens_nothing(browser):
    browser.get("/login", user="ada")
    browser.cookie.value = browser.cookie.value[:-4] + "AAAA"
    assert browser.get("/show")["user"] is None
