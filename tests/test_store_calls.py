"""How often a request asks the store, and for what: no change may add a call without saying so here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.test import Client

from wsgisession import Session, SessionManager, SessionMiddleware, get_session
from wsgisession.observed import ObservedStore
from wsgisession.testing import FakeClock

SECRET = "a secret for counting store calls"
RENEWAL = 3600.0

Act = Callable[[Session], object]


class Site:
    """An app that does what a test says, on a store that writes down what it is asked for."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[str] = []
        self.clock = FakeClock(1_700_000_000.0)
        store = ObservedStore("memory://", self._observe)
        known = {"secret": SECRET, "store": store, "clock": self.clock}
        self.manager = SessionManager(**{**known, **options})
        self.act: Act | None = None
        self.client = Client(SessionMiddleware(self._answer, self.manager))

    @contextmanager
    def _observe(self, verb: str, kind: str) -> Iterator[None]:
        self.calls.append(verb)
        yield

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if self.act is not None:
            self.act(get_session(environ))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def calls_of(self, act: Act | None) -> list[str]:
        """Make a request, and return what the store was asked for."""
        self.calls.clear()
        self.act = act
        assert self.client.get("/").status_code == 200
        return list(self.calls)

    def forge(self) -> None:
        cookie = self.client.get_cookie("sid")
        assert cookie is not None
        self.client.set_cookie("sid", cookie.value[:-8] + "AAAAAAAA")


def begin(session: Session) -> None:
    session.update(n=1, cart={"items": [1]})


def read(session: Session) -> None:
    assert session.get("n") in (None, 1)


def nested_read(session: Session) -> None:
    assert session["cart"]["items"] == [1]


def change(session: Session) -> None:
    session["n"] += 1


def nested_change(session: Session) -> None:
    session["cart"]["items"].append(2)


def save(session: Session) -> None:
    session["n"] = 5
    session.save()


def save_and_change(session: Session) -> None:
    save(session)
    session["n"] = 6


def count(session: Session) -> None:
    session.transaction(lambda session: session.update(n=session.get("n", 0) + 1))


def two_saves(session: Session) -> None:
    save(session)
    session["n"] = 6
    session.save()


WITHOUT_A_SESSION: dict[str, tuple[Act | None, list[str]]] = {
    "untouched": (None, []),
    "read": (read, []),
    "written": (begin, ["create"]),
    "login": (lambda session: session.login(7), ["create"]),
    "login with data": (lambda session: session.login(7, rights=["admin"]), ["create"]),
    "logout": (lambda session: session.logout(), []),
    "regenerate": (lambda session: session.regenerate(), ["create"]),
    "save": (save, ["create"]),
    "save, then a change": (save_and_change, ["create", "replace"]),
    "transaction": (count, ["create"]),
}
"""The calls of a request that comes without a cookie."""

WITH_A_SESSION: dict[str, tuple[Act | None, list[str]]] = {
    "untouched": (None, []),
    "read": (read, ["load"]),
    "nested read": (nested_read, ["load"]),
    "write": (change, ["load", "replace"]),
    "nested write": (nested_change, ["load", "replace"]),
    "the same value again": (lambda session: session.update(n=1), ["load"]),
    "login": (lambda session: session.login(7), ["load", "create", "delete"]),
    "logout": (lambda session: session.logout(), ["load", "delete"]),
    "destroy, then a new session": (lambda session: (session.destroy(), begin(session)), ["load", "delete", "create"]),
    "regenerate": (lambda session: session.regenerate(), ["load", "create", "delete"]),
    "regenerate without the data": (
        lambda session: session.regenerate(keep_data=False),
        ["load", "create", "delete"],
    ),
    "save": (save, ["load", "replace"]),
    "save, then a change": (save_and_change, ["load", "replace", "replace"]),
    "save twice": (two_saves, ["load", "replace", "replace"]),
    "transaction": (count, ["load", "replace"]),
    "touch": (lambda session: session.touch(), ["load", "touch"]),
    "reload": (lambda session: session.reload(), ["load", "load"]),
    "its own cookie settings": (lambda session: setattr(session.cookie, "max_age", 60), ["load", "replace"]),
    "clear": (lambda session: session.clear(), ["load", "replace"]),
}
"""The calls of a request that comes with the cookie of a session."""


@pytest.mark.parametrize("name", WITHOUT_A_SESSION)
def test_a_request_without_a_session_asks_the_store_for_this(name):
    act, calls = WITHOUT_A_SESSION[name]
    assert Site().calls_of(act) == calls


@pytest.mark.parametrize("name", WITH_A_SESSION)
def test_a_request_with_a_session_asks_the_store_for_this(name):
    act, calls = WITH_A_SESSION[name]
    site = Site()
    site.calls_of(begin)
    assert site.calls_of(act) == calls


@pytest.mark.parametrize("act", [None, read], ids=["untouched", "read"])
def test_a_forged_cookie_asks_the_store_for_nothing(act):
    site = Site()
    site.calls_of(begin)
    site.forge()
    assert site.calls_of(act) == []


def test_a_write_with_a_forged_cookie_only_creates_a_record():
    site = Site()
    site.calls_of(begin)
    site.forge()
    assert site.calls_of(begin) == ["create"]


def test_a_cookie_without_a_record_is_looked_up_once():
    site = Site()
    site.calls_of(begin)
    for info in list(site.manager.all_sessions()):
        site.manager.revoke(info.handle)
    assert site.calls_of(read) == ["load"]
    assert site.calls_of(begin) == ["load", "create"]


def test_a_lasting_cookie_is_sent_again_without_another_call():
    site = Site(cookie={"max_age": 60})
    assert site.calls_of(begin) == ["create"]
    assert site.calls_of(read) == ["load"]
    assert site.calls_of(change) == ["load", "replace"]


def test_a_rolling_cookie_costs_a_touch_when_nothing_is_written():
    site = Site(cookie={"max_age": 60}, rolling=True)
    site.calls_of(begin)
    assert site.calls_of(read) == ["load", "touch"]
    assert site.calls_of(None) == ["load", "touch"]
    assert site.calls_of(change) == ["load", "replace"]


def test_resave_writes_an_unmodified_session():
    site = Site(resave=True)
    site.calls_of(begin)
    assert site.calls_of(read) == ["load", "replace"]


def test_save_uninitialized_creates_a_record_for_every_visitor():
    site = Site(save_uninitialized=True)
    assert site.calls_of(None) == ["create"]


def test_a_renewal_creates_the_new_record_and_points_to_it():
    site = Site(renewal_timeout=RENEWAL)
    site.calls_of(begin)
    site.clock.advance(RENEWAL)
    assert site.calls_of(read) == ["load", "create", "replace"]
    assert site.calls_of(read) == ["load", "replace"]  # the first request with the new ID notes that it was presented
    assert site.calls_of(read) == ["load"]


def test_the_old_id_of_a_renewed_session_costs_a_second_look():
    site = Site(renewal_timeout=RENEWAL)
    site.calls_of(begin)
    old = site.client.get_cookie("sid")
    assert old is not None
    site.clock.advance(RENEWAL)
    site.calls_of(read)
    site.client.set_cookie("sid", old.value)
    assert site.calls_of(read) == ["load", "load", "touch", "load"]  # to follow it, to send the cookie again


def test_a_conflict_costs_one_more_look_and_one_more_write():
    site = Site()
    site.calls_of(begin)
    other = Client(site.client.application)
    cookie = site.client.get_cookie("sid")
    assert cookie is not None
    other.set_cookie("sid", cookie.value)

    def act(session: Session) -> None:
        session["mine"] = 1
        site.act = change
        other.get("/")
        site.calls.clear()

    assert site.calls_of(act) == ["replace", "load", "replace"]


def test_a_limit_of_sessions_costs_a_look_at_the_user_s_sessions_at_login_only():
    site = Site(max_sessions_per_user=2)
    assert site.calls_of(lambda session: session.login(7)) == ["create", "find_user"]
    assert site.calls_of(read) == ["load"]
    assert site.calls_of(begin) == ["load", "replace"]


def test_the_methods_outside_of_a_request_ask_once():
    site = Site()
    site.calls_of(lambda session: session.login(7))
    (info,) = site.manager.sessions_for(7)
    assert site.calls[-1:] == ["find_user"]
    site.calls.clear()
    assert site.manager.load(info.handle) is not None
    assert site.manager.info(info.handle) is not None
    assert site.calls == ["load", "load"]
    site.calls.clear()
    with site.manager.edit(info.handle) as session:
        session["n"] = 1
    assert site.calls == ["load", "replace"]
    site.calls.clear()
    assert site.manager.revoke(info.handle)
    assert site.calls[-1:] == ["delete"]
