"""Visitors who do random things for a while, and know what was answered."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from typing import Any

from tests.web import NO_ANSWER, Browser, until

SECONDS = float(os.environ.get("WSGISESSION_TEST_SECONDS", "30"))
"""How long each test of ``make long`` sends requests."""


class Visitor(threading.Thread):
    """One visitor with one browser.

    :ivar kept: the keys that were answered as written, and not since removed.
    :ivar unsure: the keys whose last change was not answered: they may be there or not.
    :ivar ended: copies of browsers whose session was answered as ended, or whose ID was answered as replaced.
    :ivar lost: how many requests got no answer.
    """

    def __init__(self, url: str, number: int, *, seconds: float = SECONDS) -> None:
        super().__init__(name=f"visitor {number}")
        self.url, self.dice, self.ends_at = url, random.Random(number), time.monotonic() + seconds
        self.browser = Browser(url)
        self.kept: dict[str, str] = {}
        self.unsure: set[str] = set()
        self.ended: list[Browser] = []
        self.number, self.requests, self.lost, self.complaints = number, 0, 0, list[str]()
        self.is_known = False

    def run(self) -> None:
        """Visit until the time is over; a lost answer is followed by a look at what became of the session."""
        while time.monotonic() < self.ends_at:
            act = self.dice.choices([self.write, self.remove, self.login, self.logout], weights=[12, 3, 2, 1])[0]
            try:
                act()
                self.requests += 1
            except NO_ANSWER:
                self.lost += 1
                self.look_again(may_have_ended=act in (self.login, self.logout))

    def write(self) -> None:
        key, value = f"k{self.dice.randrange(10)}", str(self.dice.random())
        self.unsure.add(key)
        data = self.browser.get("/set", key=key, value=value)["data"]
        self.kept[key] = value
        self.is_known = True
        self.unsure.discard(key)
        self.compare(data)

    def remove(self) -> None:
        key = f"k{self.dice.randrange(10)}"
        self.unsure.add(key)
        self.browser.get("/delete", key=key)
        self.kept.pop(key, None)
        self.unsure.discard(key)

    def login(self) -> None:
        old = self.browser.twin()
        self.browser.get("/login", user=f"user-{self.number}")
        self.is_known = True
        if list(old.jar):
            self.ended.append(old)

    def logout(self) -> None:
        old = self.browser.twin()
        self.browser.get("/logout")
        self.forget()
        self.ended.append(old)

    def forget(self) -> None:
        self.kept.clear()
        self.unsure.clear()
        self.is_known = False

    def look_again(self, *, may_have_ended: bool) -> None:
        """After a lost answer, all that was answered is there, unless the request was to end or to replace the ID."""
        data = until(lambda: answer_of(self.browser))["data"]
        if not data and self.is_known:
            if not may_have_ended:
                self.complaints.append(f"{self.name}: the session was lost with a worker")
            self.browser = Browser(self.url)
            self.forget()
        self.compare(data)

    def compare(self, data: dict[str, str]) -> None:
        for key, value in self.kept.items():
            if key not in self.unsure and data.get(key) != value:
                self.complaints.append(f"{self.name}: {key} was answered as {value} and is {data.get(key)}")

    def check_what_ended(self) -> None:
        for browser in self.ended:
            if (found := until(lambda browser=browser: answer_of(browser)))["data"]:
                self.complaints.append(f"{self.name}: an ended session still holds {found['data']}")


def answer_of(browser: Browser) -> Any:
    """Return what a read finds, or None without an answer."""
    with suppress(*NO_ANSWER):
        return browser.get("/read")
    return None


def visit(url: str, number: int = 12) -> list[Visitor]:
    """Start visitors."""
    visitors = [Visitor(url, one) for one in range(number)]
    for one in visitors:
        one.start()
    return visitors


def finish(visitors: list[Visitor]) -> None:
    """Wait for the visitors, and check that nothing that was answered is lost, and nothing that ended is back."""
    for one in visitors:
        one.join()
    for one in visitors:
        one.check_what_ended()
    assert [complaint for one in visitors for complaint in one.complaints] == []
    answered, lost = sum(one.requests for one in visitors), sum(one.lost for one in visitors)
    print(f"{answered} requests answered, {lost} lost, {sum(len(one.ended) for one in visitors)} sessions ended")
    assert answered > 100
