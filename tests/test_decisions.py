"""When the store is written and when the cookie is sent: every combination, through the middleware, over HTTP."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import NamedTuple

import pytest
from werkzeug.test import Client

from tests.visits import SECRET, WatchedStore
from wsgisession import SessionMiddleware, get_session
from wsgisession.decisions import Facts, Send, Write, decide
from wsgisession.environ import KEY
from wsgisession.session import Origin

ORIGINS = ("new", "loaded", "unknown", "forged")
ACTIONS = ("nothing", "read", "change", "change nested", "change back", "none", "delete")
OPTIONS = ("resave", "save_uninitialized", "rolling")
WRITES = ("create", "replace", "delete")


class Outcome(NamedTuple):
    """What was done to the store, how often it was read, and what the response does to the cookie."""

    writes: tuple[str, ...]
    loads: int
    cookie: str


def act(environ, action: str) -> None:
    if action == "none":
        environ[KEY] = None
    elif action == "delete":
        del environ[KEY]
    elif action == "read":
        get_session(environ).get("a")
    elif action == "change":
        get_session(environ)["a"] = "changed"
    elif action == "change nested":
        get_session(environ).setdefault("nested", []).append("more")
    elif action == "change back":
        session = get_session(environ)
        session["b"] = 1
        del session["b"]


class Site:
    """An app that does what its caller says, on a store that counts."""

    def __init__(self, **options):
        self.store, self.action = WatchedStore(), lambda environ: None
        self.middleware = SessionMiddleware(self._app, secret=SECRET, store=self.store, **options)
        self.client = Client(self.middleware)

    def _app(self, environ, start_response):
        self.action(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def request(self, action):
        self.action = action
        return self.client.get("/")

    def come_as(self, origin: str) -> None:
        if origin == "new":
            return
        self.request(lambda environ: get_session(environ).update(a=1, nested=[1]))
        value = self.client.get_cookie("sid").value
        if origin == "forged":
            self.client.set_cookie("sid", value[:-8] + "AAAAAAAA")
        if origin == "unknown":
            self.middleware.manager.revoke(self.handle)

    @property
    def handle(self) -> str:
        (handle,) = [handle for handle, _ in self.store.scan(now=0)]
        return handle

    def outcome(self, action) -> Outcome:
        before = Counter(self.store.calls)
        response = self.request(action)
        calls = self.store.calls - before
        sent = response.headers.getlist("Set-Cookie")
        assert len(sent) <= 1, "SECURITY 13: at most one Set-Cookie"
        cookie = "kept" if not sent else "expired" if "Max-Age=0" in sent[0] else "sent"
        return Outcome(tuple(verb for verb in WRITES for _ in range(calls[verb])), calls["load"], cookie)


def expected(
    origin: str, action: str, *, resave: bool, save_uninitialized: bool, rolling: bool, unset: str, lasting: bool
):
    """What express-session does (its documented rules), with our deliberate differences. Not the code's own table."""
    has_cookie = origin != "new"
    dropped = action in ("none", "delete")
    touched = action not in ("nothing",) and not dropped
    touched = touched or save_uninitialized or ((resave or rolling) and has_cookie)
    if dropped and unset == "keep":  # changes are ignored, the record stays
        return Outcome((), 0, "kept")
    if dropped:
        return {
            "new": Outcome((), 0, "kept"),
            "loaded": Outcome(("delete",), 1, "expired"),
            "unknown": Outcome(("delete",), 2, "kept"),  # nothing readable is there: delete whatever is
            "forged": Outcome((), 0, "expired"),
        }[origin]
    loads = 1 if touched and origin in ("loaded", "unknown") else 0
    changed = action in ("change", "change nested")
    if not touched:
        return Outcome((), 0, "kept")
    if origin == "loaded":
        write = ("replace",) if changed or resave else ()
        return Outcome(write, loads, "sent" if rolling or (changed and lasting) else "kept")
    if changed or save_uninitialized:
        return Outcome(("create",), loads, "sent")
    return Outcome((), loads, "expired" if origin == "forged" else "kept")


COMBINATIONS = [
    (origin, action, dict(zip(OPTIONS, flags, strict=True)), unset, lasting)
    for origin, action, flags, unset, lasting in itertools.product(
        ORIGINS, ACTIONS, itertools.product((False, True), repeat=3), ("keep", "destroy"), (False, True)
    )
]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_store_and_the_cookie_get_what_the_table_says(origin, action):
    """Every combination of the options, with and without a max_age (SECURITY 22, 39)."""
    for one_origin, one_action, options, unset, lasting in COMBINATIONS:
        if (one_origin, one_action) != (origin, action):
            continue
        site = Site(**options, unset=unset, cookie={"max_age": 600 if lasting else None})
        site.come_as(origin)
        got = site.outcome(lambda environ: act(environ, action))
        assert got == expected(origin, action, **options, unset=unset, lasting=lasting), (options, unset, lasting)


def test_there_are_as_many_combinations_as_the_options_make():
    assert len(COMBINATIONS) == 4 * 7 * 8 * 2 * 2


def test_every_set_of_facts_has_a_decision():
    decisions = [decide(Facts(*facts)) for facts in itertools.product(Origin, *[(False, True)] * 8)]
    assert len(decisions) == 4 * 2**8
    assert all(decision.send is Send.COOKIE for decision in decisions if decision.write is Write.CREATE)


# What the table of express-session has beside the options.


def outcome(origin, action, **options) -> Outcome:
    site = Site(**options)
    site.come_as(origin)
    return site.outcome(lambda environ: action(get_session(environ)))


def test_destroy_deletes_the_record_and_expires_the_cookie():
    assert outcome("loaded", lambda session: session.destroy()) == Outcome(("delete",), 1, "expired")


def test_destroy_of_a_session_whose_record_is_gone_leaves_the_cookie_alone():
    """The browser may have a newer one by now."""
    assert outcome("unknown", lambda session: session.destroy()).cookie == "kept"


def test_writing_after_destroy_starts_a_new_session():
    def renew(session):
        session.destroy()
        session["a"] = 1

    assert outcome("loaded", renew) == Outcome(("create", "delete"), 1, "sent")


def test_regenerate_stores_and_sends_even_an_empty_session():
    assert outcome("new", lambda session: session.regenerate()) == Outcome(("create",), 0, "sent")
    assert outcome("loaded", lambda session: session.regenerate(keep_data=False)).cookie == "sent"


def test_a_change_of_the_cookie_alone_is_stored_and_sent():
    def change(session):
        session.cookie.max_age = 60

    assert outcome("loaded", change) == Outcome(("replace",), 1, "sent")


def test_a_change_of_the_cookie_alone_starts_no_session():
    def change(session):
        session.cookie.max_age = 60

    assert outcome("new", change) == Outcome((), 0, "kept")


def test_an_untouched_new_session_that_was_saved_gets_its_cookie():
    assert outcome("new", lambda session: session.save()) == Outcome(("create",), 0, "sent")


def test_save_and_no_later_change_is_one_write():
    def save(session):
        session["a"] = 2
        session.save()

    assert outcome("new", save) == Outcome(("create",), 0, "sent")
    assert outcome("loaded", save).writes == ("replace",)


def test_regenerate_and_save_is_one_create():
    def renew(session):
        session.regenerate()
        session.save()

    assert outcome("loaded", renew).writes == ("create", "delete")


def test_the_same_values_in_another_order_are_no_change():
    def reorder(session):
        value = session.pop("a")
        session["a"] = value

    assert outcome("loaded", reorder) == Outcome((), 1, "kept")
