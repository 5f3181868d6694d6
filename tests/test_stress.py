"""Thousands of parallel requests of a few sessions, at four processes of four threads: no change is lost."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.web import Browser, Gunicorn

SESSIONS, CLIENTS, REQUESTS = 3, 18, 60


@pytest.fixture(params=["sqlite", "redis", "postgresql", "mongodb"])
def server(request):
    url = request.getfixturevalue(f"{request.param}_url")
    server = Gunicorn("tests.apps.counter:app", "--workers=4", "--threads=4", STORE=url)
    yield server.start()
    server.stop()


class Client:
    """One of those that share a session: it has keys of its own, and knows what was acknowledged of them."""

    def __init__(self, browser: Browser, number: int) -> None:
        self.browser, self.number, self.dice = browser, number, random.Random(number)
        self.kept: dict[str, str] = {}
        self.counted = 0

    def run(self) -> None:
        for step in range(REQUESTS):
            if step % 6 == 5:
                self.browser.get("/count")
                self.counted += 1
            elif self.kept and self.dice.random() < 0.4:
                key = self.dice.choice(sorted(self.kept))
                self.browser.get("/delete", key=key)
                del self.kept[key]
            else:
                key, value = f"{self.number}-{self.dice.randrange(8)}", str(step)
                self.browser.get("/set", key=key, value=value)
                self.kept[key] = value


def test_every_acknowledged_change_is_there_in_the_end(server):
    browsers = [Browser(server.url) for _ in range(SESSIONS)]
    for browser in browsers:
        browser.get("/set", key="first", value="1")
    clients = [Client(browsers[number % SESSIONS].twin(), number) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(Client.run, clients))
    for number, browser in enumerate(browsers):
        want = {"first": "1", "count": 0}
        for client in clients[number::SESSIONS]:
            want |= client.kept
            want["count"] += client.counted
        assert browser.get("/show")["data"] == want
