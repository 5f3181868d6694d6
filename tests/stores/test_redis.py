"""What only the Redis store promises: its keys, its deadline, its connections, Sentinels and clusters."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode

import pytest

from wsgisession.stores import open_store
from wsgisession.stores.redis import RedisStore
from wsgisession.testing import StoreContract


@pytest.fixture
def prefix() -> str:
    return f"wsgisession_test_{secrets.token_hex(4)}:"


@pytest.fixture
def opened(redis_server, prefix) -> Iterator[Callable[..., RedisStore]]:
    """Opens stores with the test's own prefix, and closes them."""
    stores = []

    def make(at: str = redis_server.url, **parameters: object) -> RedisStore:
        query = urlencode({"prefix": prefix, **parameters}, quote_via=quote)
        stores.append(open_store(f"{at}{'&' if '?' in at else '?'}{query}"))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


class TestOneServer(StoreContract):
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
    assert re.fullmatch(rb'S11800000050250[\w-]{8}50000;5;1800000100250\xc3\xbcn\xc3\xaf{"a":1}', value)
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
    store.load("s", now=NOW, touch_after=0.5)
    assert 49_000 < client.pttl(f"{prefix}s") <= 50_000


def test_a_touch_that_changes_the_length_of_the_header_keeps_the_rest(opened, client, prefix):
    store = opened()
    made = store.create("s", record(b'{"a":1}', ttl=99, user_id="u"), now=NOW)
    for ttl in (100_000, 0.001, 7):
        assert store.touch("s", ttl=ttl, now=NOW) is True
        found = store.load("s", now=NOW, touch_after=None)
        assert (found.data, found.user_id, found.version, found.ttl) == (b'{"a":1}', "u", made.version, ttl)
        store.touch("s", ttl=99, now=NOW)
    assert 98_000 < client.pttl(f"{prefix}s") <= 99_000


@pytest.mark.parametrize("value", [b"", b"text", b'{"cookie":{}}', b"S1", b"S1800000000250", b"S1" + b"9" * 13, ["a list"]])
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
    assert store.find_user("u", now=NOW) == []
    assert store.delete_user("u", now=NOW) == []
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
        assert [handle for handle, _ in each.find_user("u", now=NOW)] == [f"s{number}"]
        assert each.delete_user("u", now=NOW) == [f"s{number}"]
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


def test_every_verb_is_one_command(opened, client, prefix):
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
        assert len(commands) == 1, name


def test_scripts_that_the_server_forgot_are_sent_again(opened, client):
    store = opened()
    store.create("s", record(), now=NOW)
    client.script_flush()
    assert store.load("s", now=NOW, touch_after=0) is not None


def test_in_a_cluster_the_set_is_written_before_the_record(opened, redis_cluster, prefix, monkeypatch):
    store = opened(redis_cluster.url)
    evaluated = []
    evaluate = Cluster.evaluate

    def watch(self, script, key, *rest, **options):
        evaluated.append(key.decode().removeprefix(prefix[:-1]))
        return evaluate(self, script, key, *rest, **options)

    monkeypatch.setattr(Cluster, "evaluate", watch)
    made = store.create("s", record(user_id="u"), now=NOW)
    store.replace("s", record(user_id="v", version=made.version), now=NOW)
    assert evaluated == ["-user:u", ":s", "-user:v", ":s"]
    evaluated.clear()
    for passed in (10, 90, 110):  # the first restart beyond what the set was told tells it before
        store.load("s", now=NOW + passed, touch_after=0)
    assert evaluated == [":s", ":s", ":s", "-user:v", ":s"]


# Users


def test_the_set_of_a_user_does_not_grow_and_ends_by_itself(opened, client, prefix):
    store, key = opened(), f"{prefix[:-1]}-user:u"
    for number in range(30):
        store.create(f"deleted{number}", record(user_id="u"), now=NOW)
        store.delete(f"deleted{number}", now=NOW)
        store.create(f"expired{number}", record(user_id="u", ttl=5), now=NOW)
    assert client.zcard(key) == 30
    store.create("s", record(user_id="u"), now=NOW + 11)
    assert client.zrange(key, 0, -1) == [b"s"]
    assert 200_000 < client.pttl(key) <= 260_000  # twice the ttl and a minute
    store.create("longer", record(user_id="u", ttl=1000), now=NOW + 11)
    store.create("shorter", record(user_id="u", ttl=1), now=NOW + 11)
    assert client.pttl(key) > 2_000_000
    store.delete_user("u", now=NOW + 11, keep="longer")
    assert client.pttl(key) > 2_000_000
    assert store.delete_user("u", now=NOW + 11) == ["longer"]
    assert client.exists(key) == 0


def test_in_a_cluster_the_set_does_not_grow_and_ends_by_itself(opened, redis_cluster, prefix):
    store, key = opened(redis_cluster.url), f"{prefix[:-1]}-user:u"
    for number in range(10):
        store.create(f"deleted{number}", record(user_id="u"), now=NOW)
        store.delete(f"deleted{number}", now=NOW)
        store.create(f"expired{number}", record(user_id="u", ttl=5), now=NOW)
    store.create("s", record(user_id="u"), now=NOW + 11)
    with redis.RedisCluster.from_url(redis_cluster.url.replace("redis+cluster", "redis")) as cluster:
        assert cluster.zrange(key, 0, -1) == [b"s"]
        assert cluster.pttl(key) > 200_000


def test_a_find_that_meets_the_dead_forgets_them(opened, client, prefix):
    store = opened()
    store.create("s", record(user_id="u"), now=NOW)
    client.delete(f"{prefix}s")
    assert store.find_user("u", now=NOW) == []
    assert client.exists(f"{prefix[:-1]}-user:u") == 0


@pytest.mark.parametrize("place", ["one server", "cluster"])
def test_a_user_whose_name_is_empty_is_a_user(opened, redis_cluster, place):
    store = opened(redis_cluster.url) if place == "cluster" else opened()
    store.create("s", record(user_id=""), now=NOW)
    store.create("nobody's", record(), now=NOW)
    assert store.load("s", now=NOW + 99, touch_after=0) is not None
    assert store.load("s", now=NOW + 190, touch_after=0) is not None
    assert [handle for handle, _ in store.find_user("", now=NOW + 190)] == ["s"]
    assert store.delete_user("", now=NOW + 190) == ["s"]


def test_a_thousand_sessions_of_a_user_are_deleted_at_once(opened, client, prefix):
    store = opened()
    for number in range(1000):
        store.create(f"s{number}", record(user_id="u"), now=NOW)
    with watched(client, prefix) as commands:
        assert len(store.delete_user("u", now=NOW)) == 1000
    assert len(commands) <= 2


def test_more_sessions_than_lua_unpacks_are_deleted_at_once(opened, client, prefix):
    value = re.sub(rb".*", client.get(f"{prefix}s") or b"", b"")
    store = opened()
    store.create("s", record(user_id="u"), now=NOW)
    value = client.get(f"{prefix}s")
    handles = [f"copy{number}" for number in range(12_000)]
    client.mset({f"{prefix}{handle}": value for handle in handles})
    client.zadd(f"{prefix[:-1]}-user:u", dict.fromkeys(handles, NOW * 2000))
    assert len(store.delete_user("u", now=NOW)) == 12_001
    assert list(store.scan(now=NOW)) == []
