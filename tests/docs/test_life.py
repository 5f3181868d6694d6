"""Each row of the table in "The life of a session" is what happens."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.docs.pages import rows
from tests.visits import Browser, Site
from wsgisession._core.reply import Reply

# How it decides to write: for each row what happened before, and what the request does.


def a_visitor_with_a_session(site: Site) -> Browser:
    browser = site.browser()
    browser.put(cart={"apples": [1]})
    return browser


def a_visitor_without_a_record(site: Site) -> Browser:
    browser = a_visitor_with_a_session(site)
    site.manager.revoke(browser.handle)
    return browser


def read(session: Any) -> None:
    assert session.get("nothing") is None


def change(session: Any) -> None:
    session["cart"]["apples"].append(2)


def change_and_back(session: Any) -> None:
    session["cart"]["apples"].append(2)
    session["cart"]["apples"].pop()


ROWS: dict[str, tuple[Callable[[Site], Browser], Callable[[Any], Any]]] = {
    "does not touch the session": (a_visitor_with_a_session, lambda session: None),
    "reads the session, and there is no cookie": (Site.browser, read),
    "reads an existing session": (a_visitor_with_a_session, read),
    "writes to a new session": (Site.browser, lambda session: session.update(a=1)),
    "changes an existing session, at any depth": (a_visitor_with_a_session, change),
    "changes it and undoes the change": (a_visitor_with_a_session, change_and_back),
    "calls `login` or `regenerate`": (a_visitor_with_a_session, lambda session: session.login("ada")),
    "calls `logout` or `destroy`": (a_visitor_with_a_session, lambda session: session.logout()),
    "changes a session that another request ends in the meantime": (a_visitor_with_a_session, change),
    "reads a session whose record was deleted": (a_visitor_without_a_record, read),
    "reads the session, and the cookie is forged": (lambda site: site.browser("forged"), read),
    "writes to the session, and the cookie is forged": (
        lambda site: site.browser("forged"),
        lambda session: session.update(a=1),
    ),
}


@pytest.mark.parametrize(("does", "asked", "cookie"), rows("life.md", "What is written and sent"))
def test_it_decides_as_the_table_says(does, asked, cookie):
    site = Site()
    before, act = ROWS[does]
    browser = before(site)
    if "in the meantime" in does:
        handle = browser.handle
        site.store.before["replace"] = lambda: site.store.delete(handle, now=site.clock())
    site.store.calls.clear()
    with browser.request() as session:
        act(session)
    calls = set(site.store.calls) - ({"delete"} if "in the meantime" in does else set())
    assert calls == set(re.findall(r"`(\w+)`", asked))
    assert fate_of_the_cookie(browser.reply) == cookie.partition(",")[0]


def fate_of_the_cookie(reply: Reply) -> str:
    if reply.set_cookie is None:
        return "left alone"
    return "expired" if "Max-Age=0" in reply.set_cookie else "sent"


def test_a_change_sends_a_cookie_that_has_a_max_age():
    browser = Site(cookie={"max_age": 60}).browser()
    browser.put(a=1)
    browser.put(a=2)
    assert fate_of_the_cookie(browser.reply) == "sent"
