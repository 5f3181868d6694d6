"""What only the Redis store promises: its keys, its round trips, and the sets of its users."""

from __future__ import annotations

import re
import secrets

import pytest
import redis

from tests import servers
from tests.redis_tools import NOW, record, watched
from wsgisession.stores.redis.cluster import Cluster
from wsgisession.stores.redis.store import RedisStore
from wsgisession.testing import SharedStoreContract


class TestOneServer(SharedStoreContract):
    password = "hush-hush"

    @pytest.fixture
    def store(self, opened) -> RedisStore:
        return opened(timeout=10)

    @pytest.fixture
    def other_store(self, opened) -> RedisStore:
        return opened(timeout=10)

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[RedisStore, float]:
        return opened(f"redis://me:{self.password}@127.0.0.1:1/0", timeout=1), 1.0


class TestBehindSentinels(TestOneServer):
    @pytest.fixture
    def store(self, opened, redis_sentinel) -> RedisStore:
        return opened(redis_sentinel.url, timeout=10)

    @pytest.fixture
    def other_store(self, opened, redis_sentinel) -> RedisStore:
        return opened(redis_sentinel.url.replace("redis+", "valkey+"), timeout=10)

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[RedisStore, float]:
        return opened(f"redis+sentinel://me:{self.password}@127.0.0.1:1,127.0.0.1:2/mymaster", timeout=1), 1.0


class TestInACluster(TestOneServer):
    @pytest.fixture
    def store(self, opened, redis_cluster) -> RedisStore:
        return opened(redis_cluster.url, timeout=10)

    @pytest.fixture
    def other_store(self, opened, redis_cluster) -> RedisStore:
        return opened(redis_cluster.url.replace("redis+", "valkey+"), timeout=10)

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[RedisStore, float]:
        return opened(f"redis+cluster://me:{self.password}@127.0.0.1:1,127.0.0.1:2", timeout=1), 1.0


# The keys


def test_a_session_is_one_key_with_a_header_before_the_data(opened, client, prefix):
    opened().create("s", record(b'{"a":1}', ttl=50, user_id="ünï"), now=NOW)
    value = client.get(f"{prefix}s")
    assert re.fullmatch(rb'S11800000050250[\w-]{8}50000;5;[ -/][0-9a-f]{12}\xc3\xbcn\xc3\xaf{"a":1}', value)
    assert 49_000 < client.pttl(f"{prefix}s") <= 50_000


def test_a_session_costs_at_most_420_bytes(opened, client, prefix):
    handle = secrets.token_urlsafe(33)
    opened(prefix="sess:").create(handle, record(b"x" * 219, ttl=86400), now=NOW)
    try:
        assert client.memory_usage(f"sess:{handle}") <= 420
    finally:
        client.delete(f"sess:{handle}")


def test_a_read_restarts_the_key_with_the_records_own_ttl(opened, client, prefix):
    store = opened()
    store.create("s", record(ttl=50), now=NOW)
    client.pexpire(f"{prefix}s", 5000)
    store.load("s", now=NOW, touch_after=None)
    assert client.pttl(f"{prefix}s") <= 5000
    store.load("s", now=NOW + 24, touch_after=0.5)
    assert client.pttl(f"{prefix}s") <= 5000
    store.load("s", now=NOW + 25, touch_after=0.5)
    assert 49_000 < client.pttl(f"{prefix}s") <= 50_000


def test_a_touch_that_changes_the_length_of_the_header_keeps_the_rest(opened, client, prefix):
    store = opened()
    made = store.create("s", record(b'{"a":1}', ttl=99, user_id="u"), now=NOW)
    for ttl in (100_000, 7, 1000.001):
        assert store.touch("s", ttl=ttl, now=NOW) is True
        found = store.load("s", now=NOW, touch_after=None)
        assert (found.data, found.user_id, found.version, found.ttl) == (b'{"a":1}', "u", made.version, ttl)
        store.touch("s", ttl=99, now=NOW)
    assert 98_000 < client.pttl(f"{prefix}s") <= 99_000


@pytest.mark.parametrize(
    "value", [b"", b"text", b'{"cookie":{}}', b"S1", b"S1800000000250", b"S1" + b"9" * 13, ["a list"]]
)
def test_what_another_program_keeps_under_a_key_is_absent_and_left_alone(opened, client, prefix, value):
    key = f"{prefix}s"
    client.rpush(key, *value) if isinstance(value, list) else client.set(key, value)
    before = client.dump(key)
    store = opened()
    assert store.load("s", now=NOW, touch_after=None) is None
    assert store.load("s", now=NOW, touch_after=0) is None
    assert store.touch("s", ttl=5, now=NOW) is False
    assert store.create("s", record(user_id="u"), now=NOW) is None
    assert store.replace("s", record(version="abcdefgh"), now=NOW) is None
    assert store.delete("s", now=NOW) is False
    client.zadd(f"{prefix[:-1]}-user:u", {"s": NOW * 2000})
    assert store.find_user("u", now=NOW).records == []
    assert store.delete_user("u", now=NOW) == ([], False)
    assert list(store.scan(now=NOW)) == []
    assert client.dump(key) == before
    assert client.ttl(key) == -1


@pytest.mark.parametrize("own", ["a*b?[c]\\{}:", "sess", "u", "ü ", ""])
def test_any_prefix_keeps_to_its_own_keys(start_server, opened, own):
    server = start_server(servers.Redis)
    others = [f"{own}x", own.replace("*", "z").replace("?", "y"), f"{own}-user:", f"{own}#user:", f"{own}:"]
    store, *rest = [opened(server.url, prefix=each) for each in [own, *(each for each in others if each != own)]]
    for number, each in enumerate([store, *rest]):
        each.create(f"s{number}", record(user_id="u"), now=NOW)
    assert ("s0" in dict(store.scan(now=NOW))) is True
    assert own == "" or [handle for handle in dict(store.scan(now=NOW)) if handle in ("s1", "s2")] == []
    for number, each in enumerate([store, *rest]):
        assert [handle for handle, _ in each.find_user("u", now=NOW).records] == [f"s{number}"]
        assert each.delete_user("u", now=NOW).handles == [f"s{number}"]
    assert server.call("DBSIZE") == 0


def test_scan_reads_in_pages(opened, client, prefix):
    store = opened()
    for number in range(120):
        store.create(f"s{number}", record(), now=NOW)
    with watched(client, prefix) as commands:
        assert len(list(store.scan(now=NOW))) == 120
    assert max(len(words) for words in commands) <= 51
    assert {words[0] for words in commands} == {"SCAN", "MGET"}


# Round trips


def test_every_verb_is_one_command_but_a_restart_is_a_second_one(opened, client, prefix):
    store = opened()
    made = store.create("s", record(user_id="u"), now=NOW)
    verbs = {
        "load": lambda: store.load("s", now=NOW, touch_after=None),
        "load and restart": lambda: store.load("s", now=NOW + 1, touch_after=0),
        "load and index": lambda: store.load("s", now=NOW + 99, touch_after=0),
        "replace": lambda: store.replace("s", record(user_id="v", version=made.version), now=NOW + 101),
        "touch": lambda: store.touch("s", ttl=500, now=NOW + 101),
        "find_user": lambda: store.find_user("v", now=NOW + 101),
        "delete": lambda: store.delete("s", now=NOW + 101),
        "create": lambda: store.create("s", record(user_id="u"), now=NOW),
        "delete_user": lambda: store.delete_user("u", now=NOW),
    }
    for verb in verbs.values():  # so that the server knows the scripts
        verb()
    made = store.create("s", record(user_id="u"), now=NOW)
    for name, verb in verbs.items():
        with watched(client, prefix) as commands:
            assert verb(), name
        assert len(commands) == (2 if name in ("load and restart", "load and index") else 1), name


def test_scripts_that_the_server_forgot_are_sent_again(opened, client):
    store = opened()
    store.create("s", record(), now=NOW)
    client.script_flush()
    assert store.load("s", now=NOW, touch_after=0) is not None


def test_in_a_cluster_a_set_is_asked_for_the_order_and_hears_of_the_record_afterwards(
    opened, redis_cluster, prefix, monkeypatch
):
    store = opened(redis_cluster.url)
    asked = []
    execute = Cluster.execute

    def watch(self, command, *rest, key=b"", **options):
        if command[0] != "EVAL":  # once, where a server does not know the script
            asked.append(key.decode().removeprefix(prefix[:-1]))
        return execute(self, command, *rest, key=key, **options)

    monkeypatch.setattr(Cluster, "execute", watch)
    made = store.create("s", record(user_id="u"), now=NOW)
    assert asked == ["-user:u", ":s", "-user:u"]
    asked.clear()
    store.create("moved", record(user_id="u", order=made.order), now=NOW)
    assert asked == [":moved", "-user:u"]
    asked.clear()
    for passed in (1, 2, 3):  # the set outlives the record
        made = store.replace("s", record(user_id="u", version=made.version, order=made.order), now=NOW + passed)
    assert asked == [":s", ":s", ":s"]
    asked.clear()
    made = store.replace("s", record(user_id="u", version=made.version, order=made.order), now=NOW + 90)
    assert asked == [":s", "-user:u"]
    asked.clear()
    store.replace("s", record(user_id="v", version=made.version), now=NOW + 90)
    assert asked == ["-user:v", "-user:v", ":s", "-user:v", "-user:u"]
    asked.clear()
    store.load("s", now=NOW + 91, touch_after=0)
    assert asked == [":s", ":s", "-user:v"]


# Users


def test_the_set_of_a_user_does_not_grow_and_ends_automatically(opened, client, prefix):
    store, key = opened(), f"{prefix[:-1]}-user:u"
    for number in range(30):
        store.create(f"deleted{number}", record(user_id="u"), now=NOW)
        store.delete(f"deleted{number}", now=NOW)
        store.create(f"expired{number}", record(user_id="u", ttl=5), now=NOW)
    assert client.zcard(key) == 30
    client.delete(*(f"{prefix}expired{number}" for number in range(30)))  # as the server does by itself
    for number in range(20):  # each login takes some of the dead out
        store.create(f"s{number}", record(user_id="u"), now=NOW + 11)
    assert client.zcard(key) <= 25
    assert 200_000 < client.pttl(key) <= 260_000  # twice the ttl and a minute
    store.create("longer", record(user_id="u", ttl=1000), now=NOW + 11)
    store.create("shorter", record(user_id="u", ttl=1), now=NOW + 11)
    assert client.pttl(key) > 2_000_000
    assert len(store.delete_user("u", now=NOW + 11, keep="longer").handles) == 21
    assert client.pttl(key) > 2_000_000
    assert store.delete_user("u", now=NOW + 11).handles == ["longer"]
    assert client.exists(key) == 0


def test_in_a_cluster_the_set_does_not_grow_and_ends_automatically(opened, redis_cluster, prefix):
    store, key = opened(redis_cluster.url), f"{prefix[:-1]}-user:u"
    for number in range(10):
        store.create(f"deleted{number}", record(user_id="u"), now=NOW)
        store.delete(f"deleted{number}", now=NOW)
        store.create(f"expired{number}", record(user_id="u", ttl=5), now=NOW)
    with redis.RedisCluster.from_url(redis_cluster.url.replace("redis+cluster", "redis")) as cluster:
        assert cluster.zcard(key) == 10
        for number in range(10):
            cluster.delete(f"{prefix}expired{number}")
        for number in range(20):
            store.create(f"s{number}", record(user_id="u"), now=NOW + 11)
        assert cluster.zcard(key) <= 25
        assert cluster.pttl(key) > 200_000


@pytest.mark.parametrize("place", ["one server", "cluster"])
def test_a_session_that_is_only_read_stays_in_the_set_when_others_join(opened, redis_cluster, place):
    store = opened(redis_cluster.url) if place == "cluster" else opened()
    store.create("s", record(user_id="u"), now=NOW)
    for passed in range(90, 1000, 90):
        assert store.load("s", now=NOW + passed, touch_after=0) is not None
        store.create(f"other{passed}", record(user_id="u", ttl=1), now=NOW + passed)  # which clears the set of the dead
        assert "s" in dict(store.find_user("u", now=NOW + passed).records)


def test_a_set_that_names_the_session_of_another_user_gives_nothing_away(opened, client, prefix):
    store, key = opened(), f"{prefix[:-1]}-user:u"
    made = store.create("s", record(user_id="u"), now=NOW)
    store.replace("s", record(user_id="v", version=made.version), now=NOW)
    assert client.exists(key) == 0
    for verb in (store.find_user, store.delete_user):
        client.zadd(key, {"s": NOW * 2000})
        assert verb("u", now=NOW)[0] == []
        assert client.exists(key) == 0
    assert [handle for handle, _ in store.find_user("v", now=NOW).records] == ["s"]


def test_a_find_that_meets_the_dead_forgets_them(opened, client, prefix):
    store = opened()
    store.create("s", record(user_id="u"), now=NOW)
    client.delete(f"{prefix}s")
    assert store.find_user("u", now=NOW).records == []
    assert client.exists(f"{prefix[:-1]}-user:u") == 0


@pytest.mark.parametrize("place", ["one server", "cluster"])
def test_a_user_whose_name_is_empty_is_a_user(opened, redis_cluster, place):
    store = opened(redis_cluster.url) if place == "cluster" else opened()
    store.create("s", record(user_id=""), now=NOW)
    store.create("nobody's", record(), now=NOW)
    assert store.load("s", now=NOW + 99, touch_after=0) is not None
    assert store.load("s", now=NOW + 190, touch_after=0) is not None
    assert [handle for handle, _ in store.find_user("", now=NOW + 190).records] == ["s"]
    assert store.delete_user("", now=NOW + 190).handles == ["s"]
