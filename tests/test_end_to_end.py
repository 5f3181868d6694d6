"""Sessions hold on a server of several processes, with real requests and every store that processes share."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import RUN, with_options
from tests.web import NO_ANSWER, Browser, Gunicorn, until

APP = "tests.apps.counter:app"
WORKERS = 4

STORES = ["sqlite", "redis", "postgresql", "mongodb"]
KINDS = ["--worker-class=sync", "--worker-class=gthread --threads=8 --preload", "--worker-class=gevent"]


def url_of(store: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """What the fixtures of the tests' own URLs do, for a server that several tests share."""
    if store == "sqlite":
        return f"sqlite:///{folder / 'sessions.db'}"
    url: str = request.getfixturevalue(f"{store}_server").url
    if store == "redis":
        return with_options(url, prefix=f"{RUN}:end_to_end:")
    if store == "postgresql":
        return with_options(url, schema=RUN, table="end_to_end")
    return with_options(urlsplit(url)._replace(path=f"/{RUN}").geturl(), collection="end_to_end")


@pytest.fixture(scope="module", params=itertools.product(STORES, KINDS), ids=" ".join)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    store, options = request.param
    url = url_of(store, request, tmp_path_factory.mktemp("sessions"))
    gunicorn = Gunicorn(APP, f"--workers={WORKERS}", *options.split(), STORE=url)
    try:
        yield gunicorn.start()
        assert "Traceback" not in gunicorn.log.read_text()
    finally:
        gunicorn.stop()


@pytest.fixture
def browser(server: Gunicorn) -> Browser:
    return Browser(server.url)


def at_once(function: Callable[[int], Any], times: int = 50) -> list[Any]:
    """Call it this many times in parallel, each with its number."""
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(function, range(times)))


def test_who_logged_in_at_one_worker_is_logged_in_at_another(browser):
    first = browser.get("/login", user="ada")
    other = until(lambda: (answer := browser.get("/read"))["pid"] != first["pid"] and answer)
    assert other["user"] == "ada"
    assert len(browser.jar) == 1


def test_a_nested_change_at_one_worker_is_seen_at_another(browser):
    first = browser.get("/append", item="apple")
    until(lambda: browser.get("/read")["pid"] != first["pid"])
    browser.get("/append", item="bread")
    assert browser.get("/read")["data"] == {"cart": {"items": ["apple", "bread"]}}


def test_fifty_parallel_requests_that_set_a_key_each_set_fifty_keys(browser):
    browser.get("/set", key="first")
    at_once(lambda number: browser.get("/set", key=number))
    assert set(browser.get("/read")["data"]) == {"first", *map(str, range(50))}


def test_fifty_parallel_requests_that_append_to_one_list_append_fifty_items(browser):
    browser.get("/append", item="first")
    at_once(lambda number: browser.get("/append", item=number))
    assert sorted(browser.get("/read")["data"]["cart"]["items"]) == sorted(["first", *map(str, range(50))])


def test_fifty_parallel_transactions_that_add_one_make_fifty(browser):
    browser.get("/set", key="first")
    at_once(lambda _: browser.get("/count"))
    assert browser.get("/read")["data"]["count"] == 50


def test_fifty_visitors_at_once_never_see_another(server):
    def visit(number: int) -> bool:
        browser = Browser(server.url)
        browser.get("/login", user=number)
        return all(browser.get("/read")["user"] == str(number) for _ in range(4))

    assert all(at_once(visit))


def test_a_cookie_replayed_after_the_logout_is_nobodys_at_any_worker(browser):
    browser.get("/login", user="ada")
    thief = browser.twin()
    assert thief.get("/read")["user"] == "ada"
    browser.get("/logout")
    assert not list(browser.jar)
    answered: set[int] = set()
    while len(answered) < 2:
        answer = thief.get("/read")
        assert (answer["user"], answer["data"]) == (None, {})
        answered.add(answer["pid"])


def test_a_cookie_from_before_the_login_is_nobodys_after_it(browser):
    browser.get("/set", key="anonymous")
    fixed = browser.twin()
    browser.get("/login", user="ada")
    assert fixed.get("/read")["data"] == {}
    assert set(browser.get("/read")["data"]) == {"anonymous", "user_id"}


def test_a_worker_that_is_killed_in_traffic_loses_nothing_that_was_answered(browser):
    victim = browser.get("/login", user="ada")["pid"]
    answered: set[str] = set()

    def visit(number: int) -> None:
        if number == 15:
            os.kill(victim, signal.SIGKILL)
        with suppress(*NO_ANSWER):
            browser.get("/set", key=number)
            answered.add(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(60)))
    end = until(lambda: answer_of(browser))
    assert end["user"] == "ada"
    assert answered <= set(end["data"])
    assert len(answered) > 30


def answer_of(browser: Browser) -> Any:
    with suppress(*NO_ANSWER):
        return browser.get("/read")
    return None


def test_a_browser_on_plain_http_of_this_machine_takes_the_cookie(browser):
    browser.get("/set", key="first")
    cookie = browser.cookie
    assert (cookie.name, cookie.path, cookie.secure, cookie.expires) == ("sid", "/", False, None)
    assert {name.lower() for name in cookie._rest} == {"httponly", "samesite"}


def test_a_visitor_who_leaves_nothing_gets_no_cookie(browser):
    browser.get("/read")
    assert not list(browser.jar)


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_is_warned_about_where_several_processes_serve(workers):
    gunicorn = Gunicorn(APP, f"--workers={workers}", STORE="memory://")
    try:
        gunicorn.start()
        warned = "memory:// keeps sessions in one process" in gunicorn.log.read_text()
    finally:
        gunicorn.stop()
    assert warned == (workers > 1)
