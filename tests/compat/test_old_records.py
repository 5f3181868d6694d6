"""Records and cookies that the old version wrote are found, read, changed, listed, and ended by today's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from tests.compat import contents
from tests.compat.generate import RECORDS, TASKS, files
from tests.compat.layouts import restore, restore_records
from tests.visits import Browser
from wsgisession import SessionManager
from wsgisession.stores import open_store

DAY = 86_400.0
READ_AT = contents.RENEWED_AT + 10.0  # while the ID that was renewed is still answered

OPTIONS: dict[str, dict[str, Any]] = {
    "native": {"renewal_timeout": contents.RENEWAL, "track_client": True},
    "encrypted": {
        "renewal_timeout": contents.RENEWAL,
        "track_client": True,
        "encryption_key": contents.ENCRYPTION_KEY,
    },
    "express": {"format": "express", "name": "connect.sid"},
    "express-dated": {"format": "express", "name": "connect.sid", "absolute_timeout": 30 * DAY},
    "express-objects": {"format": "express", "name": "connect.sid"},
}
"""The options of the manager for each name of files."""


class Clock:
    now = READ_AT

    def __call__(self) -> float:
        return self.now


class Old:
    """A store with records of the old version, and a manager of today's on it."""

    def __init__(self, url: str, written: dict[str, Any], options: dict[str, Any]) -> None:
        self.cookies: dict[str, str] = written["cookies"]
        self.clock, self.store = Clock(), open_store(url)
        if "records" in written:
            restore_records(self.store, written["records"], now=contents.RENEWED_AT)
        else:
            restore(url, written)
        self.manager = SessionManager(secret=contents.SECRET, store=self.store, clock=self.clock, **options)

    def browser(self, name: str) -> Browser:
        return Browser(self.manager, self.cookies[name])


def opened(request: pytest.FixtureRequest, store: str, name: str) -> Iterator[Old]:
    url: str = request.getfixturevalue(f"{store}_url") + ("&stringify=false" if name == "express-objects" else "")
    old = Old(url, written_by_the_old_version(store, name), OPTIONS[name])
    yield old
    old.manager.close()
    if (store, name) in EXPRESS:  # there a handle is the session ID, and at level DEBUG pymongo logs what it sends
        trap = request.getfixturevalue("id_trap")
        trap.caught = [line for line in trap.caught if not line.startswith("pymongo.command")]


def written_by_the_old_version(store: str, name: str) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((RECORDS / f"{store}-{name}.json").read_text())
    return written


NATIVE = [*files("native", "encrypted")]
EXPRESS = [*files("express", "express-dated", "express-objects")]
ON_CLOCK = [*NATIVE, *((store, name) for store, name in EXPRESS if store != "redis")]
"""Where a session expires by the manager's clock; what Express shares in Redis expires by the server's."""


@pytest.fixture(params=NATIVE, ids="-".join)
def native(request) -> Iterator[Old]:
    yield from opened(request, *request.param)


@pytest.fixture(params=[*NATIVE, *EXPRESS], ids="-".join)
def old(request) -> Iterator[Old]:
    yield from opened(request, *request.param)


def contents_of(old: Old) -> dict[str, dict[str, Any]]:
    return contents.EXPRESS if old.manager.name == "connect.sid" else contents.NATIVE


def typed(value: Any) -> Any:
    """Return the value with the type of everything in it: 1, True, and 1.0 are equal, and not the same."""
    if isinstance(value, dict):
        return dict, {key: typed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [typed(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), {repr(typed(item)) for item in value}
    return type(value), repr(value)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def test_there_are_records_of_each_kind_of_store_and_format():
    assert {path.name for path in RECORDS.iterdir()} == {f"{store}-{name}.json" for store, name in files(*TASKS)}


def test_every_session_is_found_by_its_cookie_with_its_data(old):
    for name, data in contents_of(old).items():
        session = old.browser(name).open()
        assert typed(dict(session)) == typed(data), name
        assert not session.is_new, name


def test_a_session_knows_its_user(old):
    for name in contents_of(old):
        assert old.browser(name).open().user_id == contents.USERS.get(name), name


def test_a_native_session_knows_when_it_began_and_when_its_user_logged_in(native):
    session = native.browser("user").open()
    assert session.created_at == at(contents.BEGAN_BEFORE_LOGIN)
    assert session.authenticated_at == at(contents.RENEWED_AT)
    assert native.browser("plain").open().authenticated_at is None


def lifetime_of(old: Old, name: str) -> float:
    """Return how long a session lasts without activity; its own cookie counts first, and then the format."""
    if name == "own cookie":
        return contents.OWN_MAX_AGE
    return old.store.express_ttl if old.manager.name == "connect.sid" else DAY


@pytest.mark.parametrize("old", ON_CLOCK, ids="-".join, indirect=True)
def test_a_session_ends_when_the_old_version_would_have_ended_it(old):
    for name in contents_of(old):
        handle = old.browser(name).open().handle  # which may count as activity
        old.clock.now = contents.RENEWED_AT + lifetime_of(old, name) - 1
        assert old.manager.load(handle) is not None, name
        old.clock.now = READ_AT + lifetime_of(old, name)
        assert old.manager.load(handle) is None, name
        old.clock.now = READ_AT


def test_the_absolute_timeout_counts_from_the_old_login_or_creation(native):
    began = {"user": contents.RENEWED_AT, "plain": contents.RENEWED_AT, "renewed": contents.BEGIN}
    handles = {name: native.browser(name).open().handle for name in began}
    for name, since in began.items():
        native.clock.now = READ_AT
        deadline = since + 30 * DAY
        while native.clock.now + DAY / 2 < deadline:
            native.clock.now += DAY / 2
            session = native.manager.load(handles[name])
            assert session is not None, name
            assert session.touch() in (None, True)
        native.clock.now = deadline - 1
        assert native.manager.load(handles[name]) is not None, name
        native.clock.now = deadline
        assert native.manager.load(handles[name]) is None, name


def test_its_own_cookie_settings_are_in_force(old):
    cookie = old.browser("own cookie").open().cookie
    assert (cookie.max_age, cookie.same_site) == (contents.OWN_MAX_AGE, "Strict")
    browser = old.browser("own cookie")
    browser.put(changed=True)
    assert browser.reply.set_cookie is not None
    assert f"Max-Age={contents.OWN_MAX_AGE:.0f}" in browser.reply.set_cookie
    assert "SameSite=Strict" in browser.reply.set_cookie


def test_a_read_leaves_the_cookie_alone(old):
    for name in contents_of(old):
        browser = old.browser(name)
        with browser.request() as session:
            session.get("n")
        assert browser.reply.set_cookie is None, name


def test_every_session_can_be_changed_and_is_read_again(old):
    for name, data in contents_of(old).items():
        browser = old.browser(name)
        with browser.request() as session:
            session["added"] = {"by": ["today"]}
        with browser.request() as session:
            session["added"]["by"].append("again")
        assert typed(browser.data) == typed({**data, "added": {"by": ["today", "again"]}}), name


def test_a_change_inside_an_old_value_is_kept(old):
    browser = old.browser("plain")
    with browser.request() as session:
        session["cart"][0]["count"] += 1
    assert browser.data["cart"] == [{"id": 7, "count": 3}]


def test_two_requests_that_change_an_old_session_lose_nothing(old):
    one, other = old.browser("plain"), old.browser("plain")
    mine, theirs = one.open(), other.open()
    mine["cart"].append("mine")
    theirs["cart"].append("theirs")
    theirs["text"] = "changed"
    other.end(theirs)
    one.end(mine)
    data = one.data
    assert data["cart"] == [{"id": 7, "count": 2}, "theirs", "mine"]
    assert (data["text"], data["n"]) == ("changed", 1)


def test_a_login_keeps_an_old_visitor_s_data_and_ends_the_old_id(old):
    browser = old.browser("plain")
    thief = browser.twin()
    with browser.request() as session:
        session.login(11)
    assert (browser.data["cart"], browser.data["user_id"]) == ([{"id": 7, "count": 2}], 11)
    assert thief.open().is_new


def test_the_sessions_of_a_user_are_listed_and_revoked(old):
    for user_id in {str(user) for name, user in contents.USERS.items() if name in contents_of(old)}:
        found = old.manager.sessions_for(user_id)
        assert [str(info.user_id) for info in found] == [user_id]
        assert old.manager.revoke_user(user_id) == 1
        assert old.manager.sessions_for(user_id) == []
    for name in contents.USERS.keys() & contents_of(old).keys():
        assert old.browser(name).open().is_new, name


def test_a_logout_ends_an_old_session(old):
    browser = old.browser("user")
    thief = browser.twin()
    with browser.request() as session:
        session.logout()
    assert thief.open().is_new


def test_an_old_record_says_where_it_was_written_from(native):
    handle = native.browser("tracked").open().handle
    info = native.manager.info(handle)
    assert info is not None
    assert (info.ip_address, info.user_agent) == contents.CLIENT


def test_the_old_id_of_a_renewed_session_leads_to_it_and_brings_the_new_cookie(native):
    browser = native.browser("renewed, the old ID")
    with browser.request() as session:
        assert session["n"] == 4
    assert browser.cookie == native.cookies["renewed"]


def test_a_change_made_with_the_old_id_is_found_with_the_new_one(native):
    native.browser("renewed, the old ID").put(late=True)
    assert native.browser("renewed").data == {**contents.NATIVE["renewed"], "late": True}


def test_the_old_id_of_a_renewed_session_ends_with_it(native):
    with native.browser("renewed").request() as session:
        session.logout()
    assert native.browser("renewed, the old ID").open().is_new


def test_a_renewed_session_is_renewed_again_when_its_new_id_is_old(native):
    browser = native.browser("renewed")
    browser.put(presented=True)
    assert browser.cookie == native.cookies["renewed"]
    native.clock.now = contents.RENEWED_AT + contents.RENEWAL + 1
    browser.put(n=5)
    assert browser.cookie != native.cookies["renewed"]
    assert browser.data == {**contents.NATIVE["renewed"], "presented": True, "n": 5}
