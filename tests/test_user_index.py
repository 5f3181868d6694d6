"""The list of a user's sessions is the live sessions of that user: on every store, whatever happened and wherever it
crashed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import redis

from tests.conftest import RUN, with_options
from tests.passing import PassingStore
from tests.visits import SECRET, Browser, Clock, Site
from wsgisession import Session, SessionGone, SessionManager, Store, StoreError, open_store

RUNS = {"memory": 300, "sqlite": 40, "redis": 40, "cluster": 15, "postgresql": 25, "mongodb": 4}
USERS = [7, 8, "ada"]
IDLE, RENEWAL, GRACE = 100, 50, 20

_numbers = itertools.count(1)


@pytest.fixture(params=list(RUNS))
def kind(request) -> str:
    return request.param


@pytest.fixture
def any_store(kind, request):
    """A store of each kind, a cluster included, empty and nobody else's."""
    if kind == "cluster":
        url = with_options(request.getfixturevalue("redis_cluster").url, prefix=f"{RUN}:users:{next(_numbers)}:")
    else:
        url = request.getfixturevalue(f"{kind}_url")
    store = open_store(url)
    yield store
    store.close()


class Crash:
    """One call that fails, before or after it was made; where the process died of it, so does every later one."""

    def __init__(self) -> None:
        self.calls_left = -1
        self.has_died = self.is_late = self.is_fatal = False

    def plan(self, dice: random.Random) -> None:
        self.calls_left = dice.randrange(1, 8)
        self.is_late, self.is_fatal = dice.random() < 0.5, dice.random() < 0.5

    def call_off(self) -> None:
        self.calls_left, self.has_died = -1, False

    def passes(self, call: Callable[[], Any]) -> Any:
        if self.has_died:
            raise StoreError("this process has died")
        self.calls_left -= 1
        if self.calls_left != 0:
            return call()
        self.has_died = self.is_fatal
        if self.is_late:
            call()
        raise StoreError("this call has failed")


def _crashing(verb: str) -> Callable[..., Any]:
    def call(self: CrashingStore, *args: Any, **options: Any) -> Any:
        return self.crash.passes(lambda: getattr(self.inner, verb)(*args, **options))

    return call


class CrashingStore(PassingStore):
    """Crashes between two verbs: each is one step at its server."""

    def __init__(self, inner: Store, crash: Crash) -> None:
        super().__init__(inner)
        self.crash = crash

    load, create, replace = _crashing("load"), _crashing("create"), _crashing("replace")
    touch, delete = _crashing("touch"), _crashing("delete")
    find_user, delete_user = _crashing("find_user"), _crashing("delete_user")


class CrashingClient:
    """Crashes between two commands: in a cluster, a user's set and the record are on different servers."""

    def __init__(self, inner: Any, crash: Crash) -> None:
        self.inner, self.crash = inner, crash

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in ("execute", "evaluate", "execute_many", "evaluate_many"):
            return found
        return lambda *args, **options: self.crash.passes(lambda: found(*args, **options))


class Life:
    """Three browsers that log in, change users, leave, idle and crash, as the dice want it."""

    def __init__(self, store: Store, dice: random.Random, crash: Crash, **options: Any) -> None:
        self.dice, self.crash, self.clock = dice, crash, Clock()
        timeouts = {"idle_timeout": IDLE, "absolute_timeout": 4 * IDLE, "renewal_timeout": RENEWAL}
        more = {**timeouts, "renewal_grace": GRACE, "clock": self.clock, **options}
        self.manager = SessionManager(secret=SECRET, store=store, **more)
        self.browsers = [Browser(self.manager) for _ in range(3)]

    def go_on(self) -> None:
        self.clock += self.dice.choice([0, 0, 5, GRACE + 1, RENEWAL + 1, IDLE + 1])
        one, other = self.dice.choices(self.browsers, k=2)
        first, second = one.open(), other.open()
        if self.dice.random() < 0.3:
            self.crash.plan(self.dice)
        self._end(other, second, self._write if self.dice.random() < 0.5 else self._read)
        self._end(one, first, getattr(self, self.dice.choice(STEPS)))
        self.crash.call_off()

    def _end(self, browser: Browser, session: Session, step: Callable[[Session, Any], object]) -> None:
        try:
            step(session, self.dice.choice(USERS))
            browser.end(session)
        except (StoreError, SessionGone):
            with suppress(StoreError):
                self.manager.abandon(session)  # as the middleware does

    def _read(self, session: Session, user: Any) -> None:
        dict(session)

    def _write(self, session: Session, user: Any) -> None:
        session["n"] = session.get("n", 0) + 1

    def log_in(self, session: Session, user: Any) -> None:
        session.login(user)

    def log_in_twice(self, session: Session, user: Any) -> None:
        session.login(user)
        session.save()
        session.login(user)

    def switch(self, session: Session, user: Any) -> None:
        session["user_id"] = user

    def leave(self, session: Session, user: Any) -> None:
        session.pop("user_id", None)

    def log_out(self, session: Session, user: Any) -> None:
        session.logout()

    def start_again(self, session: Session, user: Any) -> None:
        session.destroy()
        session["user_id"] = user

    def regenerate(self, session: Session, user: Any) -> None:
        session["user_id"] = user
        session.regenerate(keep_data=self.dice.random() < 0.7)

    def revoke(self, session: Session, user: Any) -> None:
        infos = self.manager.sessions_for(user)
        if infos:
            self.manager.revoke(self.dice.choice(infos).handle, user_id=self.dice.choice([user, None]))

    def revoke_user(self, session: Session, user: Any) -> None:
        self.manager.revoke_user(user, except_handle=self.dice.choice([None, session.handle]))

    def listed(self) -> list[tuple[str, Any]]:
        return [(info.handle, info.user_id) for user in USERS for info in self.manager.sessions_for(user)]

    def live(self) -> set[tuple[str, Any]]:
        """What a walk through the whole store finds, which asks no index."""
        found = {(info.handle, info.user_id) for info in self.manager.all_sessions()}
        return {pair for pair in found if pair[1] is not None}

    def known(self) -> set[tuple[str, Any]]:
        """What the browsers find."""
        sessions = [browser.twin().open() for browser in self.browsers]
        return {(session.handle or "", session.user_id) for session in sessions if session.user_id is not None}


STEPS = ["log_in", "log_in_twice", "switch", "leave", "log_out", "start_again", "regenerate", "revoke", "revoke_user"]
STEPS += ["log_in", "switch", "_write", "_read"]


@pytest.fixture
def crash() -> Crash:
    return Crash()


@pytest.fixture
def crashing_store(any_store, kind, crash, monkeypatch) -> Store:
    if kind != "cluster":
        return CrashingStore(any_store, crash)
    client = any_store._client
    for owner in (any_store, any_store._records):
        monkeypatch.setattr(owner, "_client", lambda: CrashingClient(client(), crash))
    return any_store


@pytest.mark.parametrize("limit", [None, 2])
def test_the_index_is_the_live_sessions_whatever_happens_and_wherever_it_crashes(crashing_store, kind, crash, limit):
    """SECURITY 35: after logins, user switches, renewals, expiry, logouts, revocations, and a crash at any call."""
    store = crashing_store
    for number in range(RUNS[kind] if limit is None else RUNS[kind] // 3 + 1):
        life = Life(store, random.Random(number), crash, max_sessions_per_user=limit)
        for _ in range(10):
            life.go_on()
            known, listed = life.known(), life.listed()
            live = life.live()
            if kind == "cluster":  # a crash may leave a session whose ID nobody knows outside of the index
                assert known <= set(listed) <= live, number
            else:
                assert sorted(listed, key=repr) == sorted(live, key=repr), number
            assert known <= set(listed), number
        life.clock += 100 * IDLE
        assert life.listed() == [], number
        for handle, _ in list(store.scan(now=0)):
            store.delete(handle, now=0)


def log_in(manager: SessionManager, user: Any = 7) -> Browser:
    browser = Browser(manager)
    with browser.request() as session:
        session.login(user)
    return browser


def test_of_twenty_parallel_logins_as_many_stay_as_are_allowed(any_store):
    """SECURITY 37."""
    manager = SessionManager(secret=SECRET, store=any_store, max_sessions_per_user=3)
    with ThreadPoolExecutor(20) as pool:
        browsers = list(pool.map(lambda _: log_in(manager), range(20)))
    assert len(manager.sessions_for(7)) == 3
    assert len([browser for browser in browsers if browser.data]) == 3


def fail() -> None:
    raise StoreError("the store is down")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["find_user", "delete_user"])
def test_a_limit_that_cannot_be_kept_logs_nobody_out_and_is_kept_at_the_next_login(verb, when):
    """SECURITY 37, 53."""
    site = Site(max_sessions_per_user=1)
    oldest = log_in(site.manager)
    site.clock += 1
    browser = Browser(site.manager)
    browser.put(cart=["tea"])
    session = browser.open()
    session.login(7)
    failing = {verb: fail}
    site.store.after["delete"] = lambda: getattr(site.store, when).update({verb: failing[verb]})  # after the swap
    browser.end(session)
    assert browser.data == {"cart": ["tea"], "user_id": 7}
    assert bool(oldest.data) is ((verb, when) != ("delete_user", "after"))
    assert len(site.told("store_error")) == 1
    site.clock += 1
    last = log_in(site.manager)
    assert [info.handle for info in site.manager.sessions_for(7)] == [last.handle]


def test_the_index_costs_a_read_nothing_and_a_login_two_round_trips_at_most(crashing_store, crash, kind):
    manager = SessionManager(secret=SECRET, store=crashing_store)
    browsers = [Browser(manager) for _ in range(2)]

    def calls_of(browser: Browser, step: Callable[[Session], object]) -> int:
        before = crash.calls_left
        with browser.request() as session:
            step(session)
        return before - crash.calls_left

    for browser in browsers:
        browser.put(n=1)
    plain = calls_of(browsers[0], lambda session: session.regenerate())
    assert calls_of(browsers[1], lambda session: session.login(7)) - plain == (2 if kind == "cluster" else 0)
    for step in (dict, lambda session: session.update(n=session["n"] + 1)):
        nobody_s, a_user_s = (calls_of(browser, step) for browser in browsers)
        assert a_user_s == nobody_s


def test_a_limit_costs_a_login_one_look_and_no_other_request_anything():
    site = Site(max_sessions_per_user=3)
    browser = log_in(site.manager)
    assert site.store.calls == {"create": 1, "find_user": 1}
    site.store.calls.clear()
    for change in ({}, {"n": 2}):
        with browser.request() as session:
            session.update(change, user_id=session["user_id"])
    assert site.store.calls == {"load": 2, "replace": 1}


def test_whatever_happened_nothing_stays_in_redis_for_good(redis_url, redis_server):
    """SECURITY 35: records, users' sets and what leads to a renewed ID all have an end that the server keeps."""
    with closing(open_store(redis_url)) as store, redis.Redis.from_url(redis_server.url) as client:
        for number in range(20):
            life = Life(store, random.Random(number), Crash())
            for _ in range(10):
                life.go_on()
        keys = list(client.scan_iter(f"{dict(parse_qsl(urlsplit(redis_url).query))['prefix'][:-1]}*"))
        assert any(client.type(key) == b"zset" for key in keys)
        assert all(0 < client.pttl(key) <= 3_700_000 for key in keys)
