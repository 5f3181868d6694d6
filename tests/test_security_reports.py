"""The security checklist over HTTP, rows 54 to 59: caches, logs, events, and defaults."""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.visitors import Browser, Site
from tests.visits import DAY, NOW, SECRET, Clock, WatchedStore
from wsgisession import (
    ConfigurationError,
    CookieOptions,
    SerializationError,
    Session,
    SessionMiddleware,
    StoreError,
)
from wsgisession.stores import Record, Store, open_store

KEY = bytes(range(32))

MARKER = "a-word-that-stands-nowhere-else"

ANY_SIGNATURE = "A" * 42 + "E"


@pytest.fixture
def site(store: Store) -> Site:
    """A site on a store of each kind."""
    return Site(store)


def read(session: Session) -> dict[str, Any]:
    return dict(session)


def logout(session: Session) -> None:
    session.logout()


def fail() -> None:
    raise StoreError("the store is down")


# J. Caches.


@pytest.mark.parametrize(
    ("own", "merged"),
    [
        (None, "no-store"),
        ("no-store", "no-store"),
        ("public, max-age=60, s-maxage=600", "private, max-age=60"),
        ("private, no-cache", "private, no-cache"),
        ('no-cache="Set-Cookie"', 'private, no-cache="Set-Cookie"'),
    ],
)
def test_security_54_a_response_with_the_cookie_stays_out_of_shared_caches(own, merged):
    """SECURITY 54."""
    browser = Site().browser()
    for order in (lambda session: session.login("ada"), logout):
        browser.visit(order, answer=[("Cache-Control", own)] if own else [])
        assert browser.sent is not None
        assert browser.response.headers.getlist("Cache-Control") == [merged]


def test_security_54_a_response_without_the_cookie_is_cached_as_the_app_says():
    """SECURITY 54."""
    browser = Site().logged_in()
    browser.visit(read, answer=[("Cache-Control", "public")])
    assert browser.response.headers.getlist("Cache-Control") == ["public"]
    browser.visit(read)
    assert "Cache-Control" not in browser.response.headers


@pytest.mark.parametrize(("own", "merged"), [([], "Cookie"), (["Accept"], "Accept, Cookie"), (["cookie"], "cookie")])
def test_security_55_a_response_whose_session_was_read_varies_by_cookie(own, merged):
    """SECURITY 55."""
    browser = Site().browser()
    for order in (read, lambda session: session.update(a=1), lambda session: "a" in session, logout):
        browser.visit(order, answer=[("Vary", value) for value in own])
        assert browser.response.headers.getlist("Vary") == [merged]
    browser.visit(None, answer=[("Vary", value) for value in own])
    assert browser.response.headers.getlist("Vary") == own


# K. Logs and events.


def test_security_56_neither_log_nor_repr_contains_a_secret(store, caplog):
    """SECURITY 56: no ID, signature, payload or key, at any level, from a session's begin to its end."""
    caplog.set_level(logging.DEBUG, "wsgisession")
    shown: list[object] = []
    site = Site(store, encryption_key=KEY, on_event=shown.append)
    browser = site.browser()

    def look(session: Session) -> None:
        shown.extend([session, session.cookie, session._visit, session._visit.values])

    for order in (
        lambda session: session.update(secret=MARKER),
        lambda session: session.login("ada", secret=MARKER),
        look,
        lambda session: session.transaction(lambda session: session.update(secret=MARKER * 2)),
    ):
        browser.visit(order)
    shown += [site.manager, site.middleware, site.manager._services.signer, site.manager.store]
    shown += [*site.manager.sessions_for("ada"), *site.store.scan(now=time.time())]
    with suppress(SerializationError):
        browser.put(secret=MARKER, bad=object())
    browser.visit(read, cookies=f"{browser.jar.header[:-2]}AE")
    browser.visit(logout)
    told = caplog.text + repr(shown)
    assert "session created" in told
    assert MARKER not in told
    assert SECRET not in told
    assert repr(KEY)[2:-1] not in told
    for cookie in browser.had:
        for part in cookie.split("."):
            assert part not in told


def test_security_56_the_trap_of_the_whole_suite_catches(id_trap):
    """SECURITY 56: `tests/leaks.py` fails every test that reveals an ID. This checks that it does."""
    session_id = Site().logged_in().session_id
    logger = logging.getLogger("wsgisession")
    assert id_trap.take() == []
    for tell in (
        lambda: logger.debug("the session %s", session_id),
        lambda: logger.warning("sid=%s.signature", session_id),
        lambda: logging.getLogger("pymongo.command").debug("find %s", session_id),
        lambda: StoreError(f"GET sess:{session_id}"),
        lambda: raised_from(KeyError(session_id)),
    ):
        tell()
        assert len(id_trap.take()) == 1
    logger.warning("the session %s", secrets.token_urlsafe(32))
    assert id_trap.take() == []


def raised_from(cause: Exception) -> None:
    with suppress(StoreError):
        try:
            raise cause
        except type(cause) as error:
            raise StoreError("the store refused") from error


def test_security_57_what_happens_to_a_session_is_reported_with_its_handle():
    """SECURITY 57; a callable that fails breaks no request."""
    events = []

    def tell(event: Any) -> None:
        events.append(event)
        raise ZeroDivisionError

    site = Site(on_event=tell)
    browser = site.browser()
    browser.put(a=1)
    browser.visit(lambda session: session.login("ada"))
    forged = f"{browser.session_id}.{ANY_SIGNATURE}"
    dead = browser.twin()
    browser.visit(logout)
    for cookies in ("sid=x", f"sid={forged}", dead.jar.header):
        dead.visit(read, cookies=cookies)
    told = [(event.name, event.reason) for event in events if event.name != "loaded"]
    assert told[:2] == [("created", None), ("regenerated", None)]
    assert told[-4:] == [("destroyed", None), *(("rejected", why) for why in ("malformed", "bad signature", "unknown"))]
    assert all(event.handle for event in events if event.name != "rejected")
    assert all(event.at.tzinfo is not None for event in events)


def wait(site: Site, seconds: float) -> None:
    site.manager._services.clock.now += seconds


def revoked(site: Site, browser: Browser) -> None:
    site.manager.revoke(browser.handle, user_id="ada")


def undecodable(site: Site, browser: Browser) -> None:
    handle = browser.handle
    site.store.delete(handle, now=NOW)
    site.store.create(handle, Record(b"not of ours", DAY), now=NOW)
    browser.visit(read)


def renewed(site: Site, browser: Browser) -> None:
    wait(site, 601)
    browser.visit(read)


def stale(site: Site, browser: Browser) -> None:
    late = browser.twin()
    renewed(site, browser)
    browser.visit(read)
    wait(site, 31)
    late.visit(read)


def expired(site: Site, browser: Browser) -> None:
    for _ in range(5):
        wait(site, 599)
        browser.visit(read)


def store_error(site: Site, browser: Browser) -> None:
    def fail() -> None:
        raise StoreError("the store is down")

    site.store.before["load"] = fail
    with pytest.raises(StoreError):
        browser.visit(read)


def gone(site: Site, browser: Browser) -> None:
    site.store.before["replace"] = lambda: site.manager.revoke_user("ada")
    browser.put(late=1)


HAPPENINGS: dict[str, tuple[Any, Any]] = {
    "created": (lambda site, browser: site.browser().put(a=1), None),
    "regenerated": (lambda site, browser: browser.visit(lambda session: session.regenerate()), None),
    "renewed": (renewed, None),
    "destroyed": (lambda site, browser: browser.visit(logout), None),
    "revoked": (revoked, None),
    "expired": (expired, None),
    "gone": (gone, None),
    "store_error": (store_error, None),
    "malformed": (lambda site, browser: browser.visit(read, cookies="sid=x"), "rejected"),
    "bad signature": (
        lambda site, browser: browser.visit(read, cookies=f"sid={browser.session_id}.{ANY_SIGNATURE}"),
        "rejected",
    ),
    "unknown": (lambda site, browser: (revoked(site, browser), browser.visit(read)), "rejected"),
    "stale": (stale, "rejected"),
    "undecodable": (undecodable, "rejected"),
}


@pytest.mark.parametrize("what", HAPPENINGS)
def test_security_57_each_thing_that_happens_is_reported_once_with_its_time(what):
    """SECURITY 57: what was meant for a record, and what was presented without one, by its reason."""
    clock, events = Clock(), []
    options = {"renewal_timeout": 600, "idle_timeout": 700, "absolute_timeout": 2400}
    site = Site(WatchedStore(), clock=clock, on_event=events.append, **options)
    browser = site.logged_in("ada")
    events.clear()
    happen, name = HAPPENINGS[what]
    happen(site, browser)
    (told,) = [event for event in events if what in (event.name, event.reason)]
    assert told.name == (name or what)
    assert told.at.timestamp() == clock.now
    assert told.handle or what in ("malformed", "bad signature", "store_error")


def test_security_58_what_a_client_says_of_itself_is_cut_and_cleaned():
    """SECURITY 58: and a forwarded address is not trusted, also not with a line break, which few servers accept."""
    site = Site(track_client=True)
    hostile = "Mozilla\r\nSet-Cookie: sid=1\x01\x1b[31m" + "x" * 100_000
    site.browser().visit(
        lambda session: session.login("ada"),
        headers={"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"},
        environ_base={"REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": hostile},
    )
    (info,) = site.manager.sessions_for("ada")
    assert info.ip_address == "127.0.0.1"
    assert len(info.user_agent) <= 256
    assert info.user_agent.isprintable()
    assert info.user_agent.startswith("MozillaSet-Cookie")


# L. Defaults.


@pytest.mark.parametrize(
    "options",
    [
        {"secret": None},
        {"secret": "keyboard cat"},
        {"cookie": {"same_site": "None", "secure": False}},
        {"cookie": {"partitioned": True, "secure": False}},
        {"cookie": {"max_age": 0}},
        {"cookie": {"max_age": -1}},
        {"cookie": {"max_age": timedelta(days=401)}},
        {"idle_timeout": 100, "absolute_timeout": 50},
        {"idle_timeout": 0},
        {"idle_timeout": -1},
        {"idle_timeout": float("inf")},
        {"absolute_timeout": 0},
        {"absolute_timeout": timedelta(days=10_000)},
        {"touch_after": -1},
        {"touch_after": DAY},
        {"renewal_timeout": 0},
        {"renewal_timeout": 10, "renewal_grace": 10},
        {"renewal_grace": -1},
        {"max_size": 0},
        {"max_sessions_per_user": 0},
        {"encryption_key": b"short"},
    ],
    ids=repr,
)
def test_security_59_an_unsafe_setting_is_refused_when_the_middleware_is_built(monkeypatch, options):
    """SECURITY 59."""
    monkeypatch.delenv("SESSION_SECRET", raising=False)
    with pytest.raises(ConfigurationError):
        Site(**options)


def test_security_59_the_middleware_needs_a_secret_and_is_safe(monkeypatch):
    """SECURITY 59, in the contract's form: plain http to this machine needs no switch, and to any other has none."""
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    manager = SessionMiddleware(print).manager
    assert (manager.name, manager.cookie) == ("sid", CookieOptions())
    assert isinstance(open_store("memory://"), type(manager.store))
    assert manager._services.is_lazy
