"""What the Redis store does in the layout of connect-redis, which Express shares: sets, searches, and commands."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from tests import servers
from tests.conftest import with_options
from tests.redis_tools import watched
from tests.test_user_index import USERS, Crash, Life
from wsgisession.stores import Reader, Record, Store, in_layout_of_express, open_store
from wsgisession.stores.base import Unconfirmed
from wsgisession.testing.workbench import end_user, sessions_of

NOW = time.time()  # here, sessions expire by the server's clock


def glance(data: bytes) -> tuple[float, str | None]:
    session = json.loads(data)
    user = session.get("user_id")
    return session["cookie"]["originalMaxAge"] / 1000, None if user is None else str(user)


def text(user: object = "u", **data: object) -> bytes:
    cookie = {"originalMaxAge": 600_000, "path": "/"}
    return json.dumps({"cookie": cookie, "user_id": user, **data}, ensure_ascii=False).encode()


def record(user: object = "u", *, version: Any = None, **data: object) -> Record:
    return Record(text(user, **data), 600.0, None if user is None else str(user), version)


@pytest.fixture(params=["one server", "cluster"])
def url(request, redis_url, redis_cluster, prefix) -> str:
    if request.param == "cluster":
        return with_options(redis_cluster.url, prefix=prefix)
    return redis_url


@pytest.fixture
def store(url) -> Iterator[Store]:
    store = in_layout_of_express(open_store(url), Reader(glance, ("user_id",)))
    yield store
    store.close()


def put_by_express(store: Any, handle: str, data: bytes) -> None:
    """Write a session as connect-redis does."""
    with store._call() as deadline:
        key = store._prefix + handle.encode()
        store._client().execute(("SET", key, data, "EX", 600), deadline, key=key)


def test_a_read_is_one_round_trip_that_writes_nothing(opened, client, prefix):
    store = in_layout_of_express(opened(), Reader(glance, ("user_id",)))
    put_by_express(store, "s", text())
    with watched(client, prefix) as commands:
        assert store.load("s", now=NOW, touch_after=0.05).user_id == "u"
    assert [words[0] for words in commands] == ["MGET", "PTTL"]


def test_sessions_that_only_express_wrote_are_ended_with_the_others(store):
    store.create("known", record(), now=NOW)
    for number in range(3):
        put_by_express(store, f"express{number}", text(n=number))
        put_by_express(store, f"of another{number}", text("v", about="u"))
    put_by_express(store, "nobody's", text(None))
    put_by_express(store, "kept", text())
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW)] == ["known"]
    ended = end_user(store, "u", now=NOW, keep="kept")
    assert sorted(ended) == ["express0", "express1", "express2", "known"]
    left = {handle for handle, _ in store.scan(now=NOW)}
    assert left == {"of another0", "of another1", "of another2", "nobody's", "kept"}


@pytest.mark.parametrize("user", [7, "7", 'a "b" \\ c', "ünï", "\U0001f600", "a/b", "a*?[b]"])
def test_a_user_is_found_in_the_text_of_a_session_whatever_the_name(store, user):
    put_by_express(store, "s", text(user))
    put_by_express(store, "other", text(f"{user}x"))
    assert end_user(store, str(user), now=NOW) == ["s"]


def test_a_search_goes_on_in_short_steps_and_begins_anew_for_the_next_revocation(store):
    for number in range(1500):
        put_by_express(store, f"other{number}", text("v"))
    steps = [store.delete_user("u", now=NOW)]
    while steps[-1].more:
        steps.append(store.delete_user("u", now=NOW))
    assert [handle for step in steps for handle in step.handles] == []
    put_by_express(store, "late", text())
    assert end_user(store, "u", now=NOW) == ["late"]


def test_what_is_ended_beyond_a_limit_is_not_searched_for(store):
    for number in range(4):
        store.create(f"s{number}", record(n=number), now=NOW)
    put_by_express(store, "express", text())
    page = store.find_user("u", now=NOW, limit=2)
    assert [handle for handle, _ in page.records] == ["s3", "s2"]
    step = store.delete_user("u", now=NOW, after=page.after)
    assert (sorted(step.handles), step.more) == (["s0", "s1"], False)


def test_sessions_are_listed_in_the_order_in_which_they_came_into_the_set(store):
    for number in range(5):
        store.create(f"s{number}", record(), now=NOW - number)
    made = store.load("s1", now=NOW, touch_after=None)
    assert store.replace("s1", record(version=made.version, n=1), now=NOW)
    pages, after = [], None
    while True:
        page = store.find_user("u", now=NOW, after=after, limit=2)
        pages.append([handle for handle, _ in page.records])
        if (after := page.after) is None:
            break
    assert pages == [["s4", "s3"], ["s2", "s1"], ["s0"]]


def test_a_set_of_the_previous_version_is_read_and_not_emptied_by_its_workers(opened, client, prefix):
    store, key = in_layout_of_express(opened(), Reader(glance, ("user_id",))), f"{prefix[:-1]}-user:u"
    put_by_express(store, "old", text())
    client.zadd(key, {"old": round(1000 * (NOW + 1200))})
    store.create("new", record(), now=NOW)
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW)] == ["new", "old"]
    assert store.load("old", now=NOW, touch_after=0)
    client.zremrangebyscore(key, "-inf", round(1000 * NOW) + 10**10)
    assert [handle for handle, _ in sessions_of(store, "u", now=NOW)] == ["old", "new"]


def test_a_session_that_went_over_to_another_user_leaves_the_set_of_the_first(store):
    made = store.create("s", record(), now=NOW)
    assert store.replace("s", record("v", version=made.version), now=NOW)
    assert sessions_of(store, "u", now=NOW) == []
    assert end_user(store, "u", now=NOW) == []
    assert end_user(store, "v", now=NOW) == ["s"]


@pytest.mark.slow
def test_a_revocation_that_replicas_do_not_confirm_says_so(start_server, opened):
    server = start_server(servers.Redis)
    store = in_layout_of_express(opened(server.url, wait=1, timeout=1), Reader(glance, ("user_id",)))
    for number in range(2):
        store.create(f"s{number}", record(n=number), now=NOW)
    with pytest.raises(Unconfirmed, match="0 of 1 replicas") as caught:
        store.delete("s0", now=NOW)
    assert caught.value.handles == ["s0"]
    with pytest.raises(Unconfirmed, match="0 of 1 replicas") as caught:
        store.delete_user("u", now=NOW)
    assert caught.value.handles == ["s1"]
    assert list(store.scan(now=NOW)) == []


@pytest.mark.slow
def test_thousands_of_sessions_are_ended_although_the_server_is_far_away(start_server, tcp_proxy):
    server = start_server(servers.Redis)
    proxy = tcp_proxy(server.url)
    store = in_layout_of_express(open_store(with_options(proxy.url, timeout="2")), Reader(glance, ("user_id",)))
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"sess:s{number}": text(n=number) for number in range(5000)})
        client.zadd("sess-user:u", {f"s{number}": 10**15 + number for number in range(5000)})
        for number in range(5000):
            client.expire(f"sess:s{number}", 600)
        proxy.latency = 0.001
        assert len(sessions_of(store, "u", now=NOW)) == 5000
        assert len(end_user(store, "u", now=NOW)) == 5000
        assert client.dbsize() == 0
    store.close()


def test_whatever_sessions_do_their_user_has_them_listed(url):
    """Logins, other users, new IDs, logouts, and revocations at random: what a browser has is listed, and is live."""
    with closing(open_store(url)) as store:
        for number in range(12):
            options = {"format": "express", "renewal_timeout": None, "renewal_grace": None}
            life = Life(store, random.Random(number), Crash(), **options)
            for _ in range(10):
                life.go_on()
                assert life.known() <= set(life.listed()) <= life.live(), number
            for user in USERS:
                life.manager.revoke_user(user)
            assert life.known() == life.live() == set(), number
