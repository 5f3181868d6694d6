"""A revocation counts at once, in every worker of a web server, whichever process made it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.web import SECRET, Browser, Gunicorn, until
from wsgisession import SessionManager

WORKERS = 4


@pytest.fixture(params=["sqlite", "redis", "postgresql", "mongodb"])
def url(request) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def server(url) -> Iterator[Gunicorn]:
    server = Gunicorn("tests.apps.counter:app", f"--workers={WORKERS}", STORE=url)
    yield server.start()
    server.stop()


@pytest.fixture
def other_process(url) -> Iterator[SessionManager]:
    """What a job or a command line has: the same store, and no worker."""
    manager = SessionManager(secret=SECRET, store=url)
    yield manager
    manager.close()


def logged_in(server: Gunicorn) -> Browser:
    browser = Browser(server.url)
    browser.get("/login", user="ada")
    return browser


def answers_of_every_worker(browser: Browser, path: str = "/show") -> list[Any]:
    """Ask until each worker has answered."""
    answers: list[Any] = []

    def have_all_answered() -> bool:
        with ThreadPoolExecutor(2 * WORKERS) as pool:
            answers.extend(pool.map(lambda _: browser.twin().get(path), range(2 * WORKERS)))
        return len({answer["pid"] for answer in answers}) == WORKERS

    until(have_all_answered)
    return answers


def users(browser: Browser) -> set[Any]:
    return {answer["user"] for answer in answers_of_every_worker(browser)}


def handle_of(browser: Browser) -> str:
    handle: str = browser.get("/handle")["handle"]
    return handle


def by_another_process(manager: SessionManager, kept: Browser, ended: Browser) -> None:
    assert manager.revoke(handle_of(ended), user_id="ada")


def by_another_process_for_all_but_one(manager: SessionManager, kept: Browser, ended: Browser) -> None:
    assert manager.revoke_user("ada", except_handle=handle_of(kept)) == 1


def by_a_worker(manager: SessionManager, kept: Browser, ended: Browser) -> None:
    kept.get("/revoke", handle=handle_of(ended))


def by_a_worker_for_all_but_one(manager: SessionManager, kept: Browser, ended: Browser) -> None:
    kept.get("/revoke-others")


WAYS = [by_another_process, by_another_process_for_all_but_one, by_a_worker, by_a_worker_for_all_but_one]


def test_the_next_request_to_each_worker_is_not_logged_in(server, other_process):
    """SECURITY 33, 36: with whatever a worker may have kept of the session, since each has just served it."""
    for revoke in WAYS:
        kept, ended = logged_in(server), logged_in(server)
        assert users(kept) == users(ended) == {"ada"}
        revoke(other_process, kept, ended)
        assert (users(kept), users(ended)) == ({"ada"}, {None}), revoke.__name__
        other_process.revoke_user("ada")
        assert users(kept) == {None}, revoke.__name__
