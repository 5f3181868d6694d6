"""The sets of users: repaired, read in short steps, and emptied however quickly sessions change their IDs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from tests import servers
from tests.conftest import with_options
from tests.redis_tools import NOW, record
from tests.visits import SECRET, Browser
from wsgisession import SessionGone, SessionManager, open_store
from wsgisession.stores.pool import PerProcess
from wsgisession.testing.workbench import end_user, sessions_of

# The version before this one


def as_before(data: bytes, *, expires: float, ttl: float, user: bytes, until: float) -> bytes:
    """Return a record as the previous version wrote it."""
    head = b"S1%013d%b%d;%d;%013d" % (round(1000 * expires), b"abcdefgh", round(1000 * ttl), len(user), 1000 * until)
    return head + user + data


@pytest.fixture
def before(client, prefix) -> None:
    """One session of the previous version."""
    old = as_before(b'{"a":1}', expires=NOW + 100, ttl=100, user=b"u", until=NOW + 200)
    client.set(f"{prefix}old", old, px=100_000)
    client.zadd(f"{prefix[:-1]}-user:u", {"old": round(1000 * (NOW + 200))})


def test_a_record_of_the_previous_version_is_read_restarted_and_written(opened, client, prefix, before):
    store = opened()
    found = store.load("old", now=NOW, touch_after=None)
    assert (found.data, found.ttl, found.user_id, found.version, found.order) == (b'{"a":1}', 100, "u", "abcdefgh", 0)
    assert store.load("old", now=NOW + 50, touch_after=0).expires_at == NOW + 150
    assert store.touch("old", ttl=5, now=NOW + 50) is True
    assert store.touch("old", ttl=123_456, now=NOW + 50) is True
    found = store.load("old", now=NOW + 50, touch_after=None)
    assert (found.data, found.ttl, found.user_id, found.version) == (b'{"a":1}', 123_456, "u", "abcdefgh")
    changed = store.replace("old", record(b'{"a":2}', user_id="u", version="abcdefgh"), now=NOW + 50)
    assert changed.order > 0
    assert store.load("old", now=NOW + 50, touch_after=None) == changed


def test_a_session_of_the_previous_version_is_its_users_oldest(opened, before):
    store = opened()
    store.create("new", record(user_id="u"), now=NOW)
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW)] == ["new", "old"]
    page = store.find_user("u", now=NOW, limit=1)
    assert store.delete_user("u", now=NOW, after=page.after) == (["old"], False)
    assert end_user(store, "u", now=NOW) == ["new"]


def test_a_worker_of_the_previous_version_clears_no_session_of_today_out_of_a_set(opened, client, prefix):
    store = opened()
    store.create("s", record(user_id="u"), now=time.time())
    assert client.zremrangebyscore(f"{prefix[:-1]}-user:u", "-inf", round(1000 * time.time()) + 10**10) == 0


# What the server does


@pytest.fixture
def done(client, prefix) -> Callable[[Callable[[], object]], list[str]]:
    """Returns the names of the commands that the server executes for a call, also in scripts."""

    def commands_of(call: Callable[[], object]) -> list[str]:
        names = []
        with client.monitor() as monitor:
            call()
            client.echo("the end")
            for each in monitor.listen():
                words = each["command"].split()
                if words[0].upper() == "ECHO":
                    return names
                if words[0].upper() not in ("HELLO", "CLIENT"):  # of the client that watches
                    names.append(words[0].upper())
        return names

    return commands_of


def test_a_read_is_one_command_that_writes_nothing(opened, client, prefix, done):
    store = opened()
    store.create("s", record(user_id="u"), now=NOW)
    before = client.dump(f"{prefix}s")
    for touch_after in (None, 0.05):
        assert done(lambda touch_after=touch_after: store.load("s", now=NOW + 4, touch_after=touch_after)) == ["MGET"]
    assert client.dump(f"{prefix}s") == before


def test_a_write_reads_the_header_alone_and_leaves_a_set_alone_that_outlives_the_record(opened, done):
    store = opened()
    made = store.create("s", record(b"x" * 100_000, user_id="u"), now=NOW)

    def write(passed: float) -> None:
        nonlocal made
        new = record(b"x" * 100_000, user_id="u", version=made.version, order=made.order)
        made = store.replace("s", new, now=NOW + passed)

    write(1)
    assert done(lambda: write(2)) == ["EVALSHA", "GETRANGE", "SET"]
    assert "ZADD" in done(lambda: write(90))
    assert done(lambda: write(91)) == ["EVALSHA", "GETRANGE", "SET"]


@pytest.mark.parametrize("format_", ["native", "express"])
def test_a_read_adds_nothing_to_the_append_only_file(start_server, format_):
    server = start_server(servers.Redis, "--appendonly", "yes", "--appendfsync", "always")
    manager = SessionManager(secret=SECRET, store=server.url, format=format_)
    browser = Browser(manager)
    browser.put(user_id=7)

    def size() -> int:
        return server.call("INFO", "persistence")["aof_current_size"]

    before = size()
    for _ in range(50):
        assert browser.data["user_id"] == 7
    assert size() == before
    manager.close()


def test_however_long_a_session_is_written_only_its_user_set_outlives_it(opened, client, prefix):
    """The set hears of a session twice in each ttl, which is enough: it always lives longer."""
    store, key = opened(), f"{prefix[:-1]}-user:u"
    made = store.create("s", record(user_id="u"), now=NOW)
    now, set_ends = NOW, NOW + 260
    for step in range(200):
        now += (1, 7, 48, 99)[step % 4]
        client.pexpire(key, round(1000 * (set_ends - now)))  # as the server's clock would have it by now
        made = store.replace("s", record(user_id="u", version=made.version, order=made.order), now=now)
        set_ends = now + client.pttl(key) / 1000
        assert set_ends > made.expires_at


# Sets that were evicted


@pytest.mark.parametrize("format_", ["native", "express"])
@pytest.mark.parametrize("place", ["one server", "cluster"])
def test_a_read_that_restarts_a_session_puts_it_back_into_an_evicted_set(
    redis_url, redis_cluster, prefix, place, format_
):
    url = redis_url if place == "one server" else with_options(redis_cluster.url, prefix=prefix)
    now = [time.time()]
    manager = SessionManager(secret=SECRET, store=url, format=format_, touch_after=60, clock=lambda: now[0])
    browser = Browser(manager)
    browser.put(user_id=7)
    store: Any = manager.store
    with store._call() as deadline:
        store._client().execute(("DEL", store._sets + b"7"), deadline, key=store._sets + b"7")
    assert manager.sessions_for(7) == []
    assert browser.data["user_id"] == 7
    now[0] += 61
    if format_ == "express":  # where the server's clock counts
        with store._call() as deadline:
            key = store._prefix + browser.twin().open().handle.encode()
            store._client().execute(("EXPIRE", key, 80_000), deadline, key=key)
    assert browser.data["user_id"] == 7
    assert len(manager.sessions_for(7)) == 1
    assert manager.revoke_user(7) == 1
    assert browser.data == {}
    manager.close()


# Many sessions


@pytest.mark.slow
def test_no_step_holds_the_server_up_however_many_sessions_a_user_has(start_server):
    server = start_server(servers.Redis)
    with closing(open_store(server.url)) as store, redis.Redis.from_url(server.url) as client:
        store.create("s", record(b"x" * 500, user_id="u", ttl=86_400), now=NOW)
        value = client.get("sess:s")
        for first in range(0, 30_000, 1000):
            handles = [f"copy{number:06}" for number in range(first, first + 1000)]
            client.mset({f"sess:{handle}": value for handle in handles})
            client.zadd("sess-user:u", {handle: 10**15 + number for number, handle in enumerate(handles, first)})
        client.config_resetstat()
        assert len(sessions_of(store, "u", now=NOW)) == 30_001
        kept = store.find_user("u", now=NOW, limit=5)
        ended = [step := store.delete_user("u", now=NOW, after=kept.after)]
        while step.more:
            ended.append(step := store.delete_user("u", now=NOW, after=kept.after))
        assert sum(len(each.handles) for each in ended) == 29_996
        assert max(len(each.handles) for each in ended) <= 250
        assert sorted(end_user(store, "u", now=NOW)) == sorted(handle for handle, _ in kept.records)
        assert client.dbsize() == 0
        calls = {name: each["calls"] for name, each in client.info("commandstats").items()}
        assert sum(calls.values()) < 600 * calls["cmdstat_evalsha"]  # of which each is one step


# Revocation, while sessions change their IDs


class Meddler:
    """Stands before a client, and does something before the nth command."""

    def __init__(self, client: Any, number: int, act: Callable[[], object]) -> None:
        self._client, self._left, self._act = client, number, act
        self.commands = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in ("execute", "evaluate", "execute_many", "evaluate_many"):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self.commands += 1
            if self.commands == self._left:
                self._act()
            return found(*args, **options)

        return call


def with_meddler(manager: SessionManager, number: int, act: Callable[[], object]) -> Meddler:
    store: Any = manager.store
    client = store._client()
    meddler = Meddler(client, number, act)
    for owner in (store, store._records):
        owner._client = PerProcess(lambda: meddler)
    return meddler


PLACES = ["one server", "cluster", "express", "express in a cluster"]


@pytest.fixture(params=PLACES)
def managers(request, redis_url, redis_cluster, prefix) -> Iterator[Callable[..., SessionManager]]:
    """Makes managers of different processes on one store."""
    url = with_options(redis_cluster.url, prefix=prefix) if "cluster" in request.param else redis_url
    url = with_options(url, timeout="20")  # on a busy machine, too
    format_ = "express" if "express" in request.param else "native"
    made = []

    def make(**options: Any) -> SessionManager:
        made.append(SessionManager(secret=SECRET, store=url, format=format_, **options))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


def log_in(manager: SessionManager) -> Browser:
    browser = Browser(manager)
    with browser.request() as session:
        session.login(7)
    return browser


def regenerate(browser: Browser) -> None:
    try:
        with browser.request() as session:
            if session.user_id is not None:
                session.regenerate()
    except SessionGone:
        pass


def test_whoever_changes_the_id_at_any_moment_of_a_revocation_is_logged_out(managers):
    """The revocation looks at the user's set until it is empty, not until a step has deleted nothing.

    In the Express layout it also searches the whole server, so the number of commands depends on other keys.
    """
    for number in range(1, 300):
        browser = log_in(managers())
        operator = managers()
        meddler = with_meddler(operator, number, lambda browser=browser: regenerate(browser))
        assert operator.revoke_user(7) >= 1, number
        assert browser.data == {}, number
        if meddler.commands < number:
            return
    pytest.fail("a revocation takes more commands than this test thought")


def test_whose_id_changes_while_a_revocation_takes_place_is_logged_out(managers):
    for number in range(1, 30):
        browser = log_in(managers())
        operator = managers()
        meddler = with_meddler(browser.manager, number, lambda operator=operator: operator.revoke_user(7))
        regenerate(browser)
        if meddler.commands < number:
            return
        assert browser.data == {}, number
        assert operator.sessions_for(7) == [], number
    pytest.fail("a new ID takes more commands than this test thought")
