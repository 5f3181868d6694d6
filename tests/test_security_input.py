"""The security checklist over HTTP, rows 44 to 53: what a stolen store reveals, and hostile input."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import stat
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dumps import dump_of
from tests.visitors import Browser, Site, handles
from tests.visits import DAY, NOW, Clock, WatchedStore
from wsgisession import (
    SerializationError,
    Session,
    StoreError,
)
from wsgisession.stores import Record, Store

KEY = bytes(range(32))

MARKER = "a-word-that-stands-nowhere-else"

ANY_SIGNATURE = "A" * 42 + "E"


@pytest.fixture
def site(store: Store) -> Site:
    """A site on a store of each kind."""
    return Site(store)


@pytest.fixture
def watched() -> Site:
    """A site whose store counts its calls."""
    return Site(WatchedStore())


def read(session: Session) -> dict[str, Any]:
    return dict(session)


def logout(session: Session) -> None:
    session.logout()


def replaced(site: Site, handle: str, data: bytes) -> None:
    """Put other bytes where a record was."""
    now = site.manager._services.clock()
    record = site.store.load(handle, now=now, touch_after=None)
    assert record is not None
    assert site.store.replace(handle, Record(data, record.ttl, record.user_id, record.version), now=now) is not None


# H. What a stolen store reveals.


def test_security_44_the_store_holds_no_cookie(store, store_url, caplog):
    """SECURITY 44: neither ID nor signature, of any time of the session's life, in any of its bytes."""
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    site = Site(store, clock=clock, renewal_timeout=60, renewal_grace=30, track_client=True)
    browser, told = site.browser(), []

    def look() -> None:
        told.append(dump_of(store, store_url))

    for order in (
        lambda session: session.update(secret=MARKER),
        lambda session: session.login("ada"),
        lambda session: session.transaction(lambda session: session.update(a=1)),
        read,
        lambda session: session.regenerate(),
    ):
        browser.visit(order)
        look()
        clock += 61
    cookies = [cookie.partition(".") for cookie in browser.had]
    browser.visit(logout)
    look()
    assert MARKER.encode() in told[1]
    assert len(cookies) > 3
    for session_id, _, signature in cookies:
        assert not any(session_id.encode() in dump or signature.encode() in dump for dump in told)
        assert session_id not in caplog.text


def test_security_45_nothing_that_the_store_holds_is_a_cookie(store, store_url):
    """SECURITY 45: not its keys, in whatever form, not even signed."""
    site = Site(store)
    browser = site.logged_in()
    handle, signature = browser.handle, browser.cookie.partition(".")[2]
    sign = site.manager._services.signer.sign
    assert handle.encode() in dump_of(store, store_url)
    for text in (handle, handle[1:], f"sess:{handle}", f"2::{handle}", browser.session_id):
        for value in (text, f"{text}.{signature}", f"s:{text}.{signature}", text and sign(text)):
            if value != browser.cookie:
                assert site.browser().visit(read, cookies=f"sid={value}") == {}


def test_security_46_an_encrypted_store_reveals_nothing(store, store_url):
    """SECURITY 46."""
    site = Site(store, encryption_key=KEY)
    browser = site.logged_in("ada-lovelace", secret=MARKER)
    dump = dump_of(store, store_url)
    assert browser.handle.encode() in dump
    assert MARKER.encode() not in dump
    assert b"ada-lovelace" not in dump
    assert len(site.manager.sessions_for("ada-lovelace")) == 1


def test_security_47_the_sqlite_file_is_its_owner_s_alone(tmp_path):
    """SECURITY 47."""
    before = os.umask(0)
    try:
        Site(f"sqlite:///{tmp_path / 'sessions.db'}").logged_in()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["sessions.db"] == 0o600
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..%2f..%2fx", "sessions.db", "x\0y"])
def test_security_47_an_id_is_never_a_path(tmp_path, name):
    """SECURITY 47."""
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)
    site = Site(f"sqlite:///{folder / 'sessions.db'}")
    site.logged_in()
    before = sorted(tmp_path.rglob("*"))
    for value in (name, f"{name}.{ANY_SIGNATURE}", site.manager._services.signer.sign(name)):
        browser = site.browser()
        browser.visit(lambda session: session.update(a=1), cookies=f"sid={value}")
        assert site.manager.load(name) is None
    assert sorted(tmp_path.rglob("*")) == before
    site.manager.close()


# I. Hostile input.


HOSTILE = [
    "x" * 10_000,
    "\0",
    "%00",
    "'",
    '"',
    '"' * 50,
    "*",
    "sess:*",
    "é\xff",
    "' OR '1'='1",
    "$where",
    "{}",
    "../" * 14 + "x",
    "A" * 43,
    "A" * 42 + "B." + ANY_SIGNATURE,
    "A" * 43 + "." + ANY_SIGNATURE + "A",
    "A" * 43 + "\n." + ANY_SIGNATURE,
    "A" * 43 + "." + ANY_SIGNATURE + "\n",
    "A" * 43 + ".." + ANY_SIGNATURE,
]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_security_48_a_value_of_another_shape_reaches_no_store(watched, caplog, value):
    """SECURITY 48."""
    caplog.set_level(logging.DEBUG)
    browser = watched.browser()
    assert browser.visit(read, cookies=f"sid={value}") == {}
    assert browser.response.status_code == 200
    assert not watched.store.calls
    assert len(value) < 3 or value not in caplog.text


_pieces = st.sampled_from(["sid", "=", ";", " ", '"', "\\", ",", "\t", "\0", "\x7f", "é", "x", ".", ANY_SIGNATURE])


@settings(max_examples=300, deadline=None)
@given(st.lists(_pieces | st.characters(max_codepoint=255)).map("".join))
def test_security_49_a_broken_header_raises_nothing(header):
    """SECURITY 49."""
    browser = Site(WatchedStore()).browser()
    assert browser.visit(read, cookies=header) == {}
    assert browser.response.status_code == 200


def test_security_49_of_many_cookies_of_our_name_eight_are_tried(watched):
    """SECURITY 49: the first that verifies and has its record counts."""
    sign, new_id = watched.manager._services.signer.sign, watched.manager._services.signer.new_id
    browser = watched.logged_in()
    dead = [f"sid={sign(new_id(os.urandom(32)))}" for _ in range(20)]
    for before, found in ((0, {"user_id": "ada"}), (7, {"user_id": "ada"}), (8, {})):
        watched.store.calls.clear()
        header = "; ".join([*dead[:before], f"sid={browser.cookie}", *dead[before:]])
        assert watched.browser().visit(read, cookies=header) == found
        assert watched.store.calls == {"load": min(before + 1, 8)}


def test_security_49_hundreds_of_cookies_cost_little(watched):
    """SECURITY 49."""
    browser = watched.logged_in()
    watched.store.calls.clear()
    others = "; ".join(f"cookie{number}={'v' * 60}" for number in range(500))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        assert browser.visit(read, cookies=f"{others}; {browser.jar.header}") == {"user_id": "ada"}
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05
    assert watched.store.calls == {"load": 5}


exploded: list[int] = []


def explode() -> None:
    exploded.append(1)


class _Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


BOMBS = {
    "pickle": pickle.dumps(_Bomb(), 0),
    "binary pickle": pickle.dumps(_Bomb()),
    "jsonpickle": b'{"py/reduce": [{"py/function": "os.abort"}, {"py/tuple": []}]}',
    "yaml": b'["ws1", 1, null, "!!python/object/apply:os.abort []"]',
    "tag": b'["ws1", 1700000000.0, null, {"a": {"~eval": "os.abort()"}}]',
}


def test_security_50_the_bomb_is_one():
    pickle.loads(BOMBS["pickle"])
    assert exploded.pop() == 1


@pytest.mark.parametrize("bomb", BOMBS)
def test_security_50_a_record_runs_no_code(store, bomb):
    """SECURITY 50: a store that keeps text alone, or JSON alone, refuses the bomb itself."""
    site = Site(store)
    browser = site.logged_in()
    with suppress(StoreError, UnicodeDecodeError):
        replaced(site, browser.handle, BOMBS[bomb])
        assert browser.visit(read) == {}
    assert browser.response.status_code == 200
    assert exploded == []


@pytest.mark.parametrize("encryption_key", [None, KEY], ids=["plain", "encrypted"])
def test_security_51_whatever_a_byte_of_a_record_turns_into_nobody_gets_an_error(encryption_key):
    """SECURITY 51: encrypted, no record of which a byte is another is a session."""
    site = Site(WatchedStore(), encryption_key=encryption_key)
    browser = site.logged_in(n=1)
    handle, found = browser.handle, []
    whole = site.store.load(handle, now=NOW, touch_after=None).data
    for position, bit in itertools.product(range(len(whole)), (1, 0x20, 0x80)):
        flipped = bytearray(whole)
        flipped[position] ^= bit
        replaced(site, handle, bytes(flipped))
        found.append(browser.twin().visit(read))
    assert {} in found
    if encryption_key:
        assert all(data == {} for data in found)
    replaced(site, handle, whole)
    assert browser.data == {"user_id": "ada", "n": 1}


UNREADABLE = {
    "nothing": b"",
    "truncated": b'["ws1",1700000000.0,null,{"user_id":"ad',
    "later version": b'["ws2",1700000000.0,null,{"user_id":"ada"}]',
    "foreign": b'{"cookie":{"path":"/"},"user_id":"ada"}',
    "plain": b'["ws1",1700000000.0,null,{"user_id":"ada"}]',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_security_51_a_record_that_is_not_ours_is_not_a_session(caplog, kind):
    """SECURITY 51: told and logged without its bytes; no other decoder is tried; destroy needs none."""
    events = []
    key = KEY if kind == "plain" else None
    site = Site(WatchedStore(), on_event=events.append, encryption_key=key)
    browser = site.logged_in(secret=MARKER)
    handle = browser.handle
    replaced(site, handle, UNREADABLE[kind])
    assert browser.visit(read) == {}
    assert browser.sent is None
    assert [(event.handle, event.reason) for event in events if event.name == "rejected"] == [(handle, "undecodable")]
    assert handle in caplog.text
    assert "ada" not in caplog.text
    browser.visit(logout)
    assert handles(site) == set()


def test_security_51_a_record_of_another_key_is_not_a_session():
    """SECURITY 51."""
    site = Site(WatchedStore(), encryption_key=KEY)
    browser = site.logged_in()
    other = Browser(Site(site.store, encryption_key=KEY[::-1]))
    other.jar.update(browser.jar)
    assert other.visit(read) == {}
    assert browser.data == {"user_id": "ada"}


def test_security_52_a_session_that_is_too_large_is_refused_before_the_headers(site):
    """SECURITY 52: the app gets the error, and the old session stays as it was."""
    browser = site.browser()
    browser.put(a=1)
    with pytest.raises(SerializationError, match="too large"):
        browser.put(a=2, large="x" * 2_000_000)
    assert browser.data == {"a": 1}


@pytest.mark.parametrize(
    ("verb", "order"),
    [
        ("load", read),
        ("replace", lambda session: session.update(a=2)),
        ("create", lambda session: session.regenerate()),
        ("delete", logout),
    ],
)
@pytest.mark.parametrize("policy", ["raise", "unavailable"])
def test_security_53_a_store_that_fails_is_neither_a_logout_nor_a_success(verb, order, policy):
    """SECURITY 53."""
    site = Site(WatchedStore(), on_store_error=policy)
    browser = site.logged_in()
    site.store.before[verb] = fail
    if policy == "raise":
        with pytest.raises(StoreError):
            browser.visit(order)
    else:
        browser.visit(order)
        assert browser.response.status_code == 503
        assert browser.response.headers["Retry-After"]
        assert browser.sent is None
    assert browser.data == {"user_id": "ada"}


def fail() -> None:
    raise StoreError("the store is down")


def undecodable(site: Site, browser: Browser) -> None:
    handle = browser.handle
    site.store.delete(handle, now=NOW)
    site.store.create(handle, Record(b"not of ours", DAY), now=NOW)
    browser.visit(read)
