"""Encrypted records through the middleware, on every store: bound to their handle, with rotation, and no way around.

What a single flipped bit does is seen to in `test_codec`.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.dumps import dump_of
from tests.visitors import Browser, Site
from tests.visits import Clock, WatchedStore
from wsgisession import ConfigurationError, Session
from wsgisession.stores import Record

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
MARKER = "a-word-that-stands-nowhere-else"


def read(session: Session) -> dict[str, Any]:
    return dict(session)


def record_of(site: Site, handle: str) -> Record:
    record = site.store.load(handle, now=site.manager._services.clock(), touch_after=None)
    assert record is not None
    return record


def put_in_place(site: Site, handle: str, data: bytes) -> None:
    record, now = record_of(site, handle), site.manager._services.clock()
    assert site.store.replace(handle, Record(data, record.ttl, record.user_id, record.version), now=now) is not None


def at(site: Site, browser: Browser) -> Browser:
    """Return the same browser at another site: the same store behind other settings."""
    moved = site.browser()
    moved.jar.update(browser.jar)
    return moved


@pytest.mark.parametrize("key", [bytes(32), b"k" * 32, "a" * 43, b"0123456701234567" * 2], ids=repr)
def test_a_key_that_is_obviously_not_random_is_refused(key):
    with pytest.raises(ConfigurationError, match="encryption_key is obviously not random; make one with"):
        Site(encryption_key=key)


def listed(site: Site, user_id: str) -> set[str]:
    return {info.handle for info in site.manager.sessions_for(user_id)}


def test_a_session_comes_back_as_it_was(store):
    browser = Site(store, encryption_key=OLD).browser()
    data = {"cart": [1, {"b": (2, b"\0")}], "name": "Zoë"}
    browser.put(**data)
    assert browser.data == data


def test_security_46_nothing_of_a_session_s_whole_life_can_be_read_in_the_store(store, store_url):
    """SECURITY 46: data, user, address and agent, before and after a renewal and a login."""
    clock = Clock()
    options = {"encryption_key": OLD, "renewal_timeout": 60, "track_client": True, "clock": clock}
    site = Site(store, **options)
    agent = {"User-Agent": f"agent-{MARKER}"}
    browser = site.browser()
    browser.visit(lambda session: session.login(f"user-{MARKER}", note=f"data-{MARKER}"), headers=agent)
    clock += 61
    browser.visit(lambda session: session.update(more=MARKER), headers=agent)
    handle = site.manager.sessions_for(f"user-{MARKER}")[0].handle
    dump = dump_of(store, store_url)
    assert handle.encode() in dump
    assert MARKER.encode() not in dump
    assert base64.b64encode(MARKER.encode())[:-4] not in dump
    assert OLD not in dump


def test_security_46_a_record_under_another_handle_is_not_a_session(store):
    """SECURITY 46: of two that change places, neither is one, and neither browser gets an error."""
    site = Site(store, encryption_key=OLD)
    one, other = site.logged_in("one"), site.logged_in("other")
    handles = one.handle, other.handle
    payloads = [record_of(site, handle).data for handle in handles]
    for handle, data in zip(handles, reversed(payloads), strict=True):
        put_in_place(site, handle, data)
    assert (one.data, other.data) == ({}, {})
    for handle, data in zip(handles, payloads, strict=True):
        put_in_place(site, handle, data)
    assert (one.data, other.data) == ({"user_id": "one"}, {"user_id": "other"})


def test_security_46_keys_rotate_without_a_logout(store):
    """SECURITY 46: [old] -> [new, old] -> [new]; what nobody wrote meanwhile is a clean miss at last."""
    before = Site(store, encryption_key=OLD)
    active, dormant = before.logged_in("active"), before.logged_in("dormant")
    during = Site(store, encryption_key=[NEW, OLD])
    active = at(during, active)
    assert active.data == {"user_id": "active"}
    active.put(n=1)
    after = Site(store, encryption_key=NEW)
    active, dormant = at(after, active), at(after, dormant)
    assert active.data == {"user_id": "active", "n": 1}
    assert dormant.visit(read) == {}
    assert dormant.response.status_code == 200


def test_security_46_51_there_is_no_way_around_a_key(store):
    """SECURITY 46, 51: a plain record is no session where a key is set, nor an encrypted one where none is."""
    plain, sealed = Site(store), Site(store, encryption_key=OLD)
    for there, here in ((plain, sealed), (sealed, plain)):
        browser = at(here, there.logged_in())
        assert browser.visit(read) == {}
        assert browser.response.status_code == 200


def test_an_unchanged_session_is_not_written_though_each_writing_looks_different():
    site = Site(WatchedStore(), encryption_key=[NEW, OLD])
    browser = site.browser()
    browser.put(n=1)
    payloads = set()
    for n in (2, 1, 2, 1):
        browser.put(n=n)
        payloads.add(record_of(site, browser.handle).data)
    assert len(payloads) == 4
    writes = site.store.calls["replace"]
    browser.visit(read)
    browser.visit(lambda session: session.update(n=1))
    assert site.store.calls["replace"] == writes == 4


def test_a_user_s_sessions_are_found_and_ended_across_a_rotation(store):
    before = Site(store, encryption_key=OLD)
    rewritten, dormant, other = before.logged_in("ada"), before.logged_in("ada"), before.logged_in("bob")
    during = Site(store, encryption_key=[NEW, OLD])
    fresh = during.logged_in("ada")
    everything = {browser.handle for browser in (rewritten, dormant, fresh)}
    at(during, rewritten).put(n=1)
    assert listed(during, "ada") == everything
    assert len(during.manager.sessions_for("ada")) == 3
    assert during.manager.revoke_user("ada", except_handle=fresh.handle) == 2
    assert listed(during, "ada") == {fresh.handle}
    assert [at(during, browser).data for browser in (rewritten, dormant)] == [{}, {}]
    assert at(during, other).data == {"user_id": "bob"}


def test_the_limit_of_sessions_counts_those_of_an_older_key(store):
    first = Site(store, encryption_key=OLD).logged_in("ada")
    during = Site(store, encryption_key=[NEW, OLD], max_sessions_per_user=1)
    second = during.logged_in("ada")
    assert listed(during, "ada") == {second.handle}
    assert at(during, first).data == {}


@pytest.mark.parametrize(
    "same",
    [OLD, base64.b64encode(OLD), base64.urlsafe_b64encode(OLD).decode(), base64.b64encode(OLD).decode().rstrip("=")],
)
def test_a_key_may_be_raw_or_base64(store, same):
    browser = Site(store, encryption_key=OLD).logged_in()
    assert at(Site(store, encryption_key=same), browser).data == {"user_id": "ada"}


@pytest.mark.parametrize(
    "bad",
    [
        "",
        b"",
        [],
        [OLD, b"short"],
        OLD + b"x",
        OLD[:31],
        "x" * 32,
        "not base64 at all, not at all, not at all!!",
        [None],
        7,
    ],
    ids=repr,
)
def test_a_bad_key_is_refused_at_start_and_not_shown(bad):
    with pytest.raises(ConfigurationError) as refused:
        Site(encryption_key=bad)
    assert "32 bytes" in str(refused.value) or "empty" in str(refused.value)
    assert "not base64" not in str(refused.value)
    assert "short" not in str(refused.value)
