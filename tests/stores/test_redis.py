"""What only the Redis store promises: its keys, its deadline, its connections, Sentinels and clusters."""

from __future__ import annotations

import re
import secrets
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from wsgisession.stores.redis.wire import Cluster, _Socket

from tests import servers
from wsgisession.errors import ConfigurationError, StoreError
from wsgisession.stores import Record, open_store
from wsgisession.stores.redis.store import RedisStore
from wsgisession.testing import SharedStoreContract

NOW = 1_800_000_000.25


def record(data: bytes = b"{}", *, ttl: float = 100.0, user_id: str | None = None, version: object = None) -> Record:
    return Record(data, ttl, user_id, version)


@contextmanager
def watched(client: redis.Redis, prefix: str) -> Iterator[list[list[str]]]:
    """Collects the commands that name the prefix, as the server receives them; not what its scripts run."""
    commands: list[list[str]] = []
    with client.monitor() as monitor:
        yield commands
        client.echo("the end")
        for each in monitor.listen():
            if "the end" in each["command"]:
                return
            if each["client_type"] != "lua" and prefix[:-1] in each["command"]:
                commands.append(each["command"].split())


@pytest.fixture
def client(redis_server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


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
    assert store.delete_user("u", now=NOW).handles == []
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
    assert store.delete_user("u", now=NOW + 11).handles == ["longer"]
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


def test_a_thousand_sessions_of_a_user_are_deleted_at_once(opened, client, prefix):
    store = opened()
    for number in range(1000):
        store.create(f"s{number}", record(user_id="u"), now=NOW)
    with watched(client, prefix) as commands:
        assert len(store.delete_user("u", now=NOW).handles) == 1000
    assert len(commands) <= 2


def test_more_sessions_than_lua_unpacks_are_deleted_at_once(opened, client, prefix):
    store = opened()
    store.create("s", record(user_id="u"), now=NOW)
    value = client.get(f"{prefix}s")
    handles = [f"copy{number}" for number in range(12_000)]
    client.mset({f"{prefix}{handle}": value for handle in handles})
    client.zadd(f"{prefix[:-1]}-user:u", dict.fromkeys(handles, NOW * 2000))
    assert len(store.delete_user("u", now=NOW).handles) == 12_001
    assert list(store.scan(now=NOW)) == []


# Time


FAULTS = {
    "hangs": {"stall": True},
    "does not answer": {"lose_replies": True},
    "answers a byte at a time": {"dribble": 0.05},
    "pauses after a byte": {"dribble": 0.4},
    "answers late": {"latency": 1.0},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "connecting"])
def test_a_call_ends_in_time(opened, redis_server, tcp_proxy, fault, is_connected):
    proxy = tcp_proxy(redis_server.url)
    store = opened(proxy.url, timeout=0.6)
    if is_connected:
        store.create("s", record(), now=NOW)
    for name, value in fault.items():
        setattr(proxy, name, value)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"has not answered within 0\.6 s"):
        store.load("s", now=NOW, touch_after=0)
    assert 0.55 < time.monotonic() - started < 0.75


def test_a_late_answer_is_never_the_next_calls(opened, redis_server, tcp_proxy):
    proxy = tcp_proxy(redis_server.url)
    store = opened(proxy.url, timeout=0.3, max_connections=1)
    store.create("one", record(b'{"one":1}'), now=NOW)
    store.create("two", record(b'{"two":2}'), now=NOW)
    proxy.latency = 0.5
    with pytest.raises(StoreError):
        store.load("one", now=NOW, touch_after=0)
    proxy.latency = 0
    assert store.load("two", now=NOW, touch_after=0).data == b'{"two":2}'


def test_an_interrupted_call_leaves_no_connection_behind(opened, monkeypatch):
    store = opened(max_connections=1, timeout=1)
    store.create("one", record(b'{"one":1}'), now=NOW)
    store.create("two", record(b'{"two":2}'), now=NOW)

    (connection,) = store._client()._idle

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_Socket, "recv", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.load("one", now=NOW, touch_after=0)
    assert connection.wire.fileno() == -1
    assert store.load("two", now=NOW, touch_after=0).data == b'{"two":2}'


def test_a_sentinel_that_hangs_takes_its_share_of_the_time_only(opened, redis_sentinel):
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        url = redis_sentinel.url.replace("://", f"://127.0.0.1:{hangs.getsockname()[1]},")
        store = opened(url, timeout=2)
        store.create("s", record(), now=NOW)
        store.close()
        assert store.load("s", now=NOW, touch_after=0) is not None


def test_a_call_waits_for_a_connection_no_longer_than_its_time(opened, redis_server, tcp_proxy):
    proxy = tcp_proxy(redis_server.url)
    store = opened(proxy.url, timeout=0.6, max_connections=1)
    store.create("s", record(), now=NOW)
    proxy.latency = 0.25
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(store.load, "s", now=NOW, touch_after=None) for _ in range(2)]
        assert all(each.result() for each in both)
    assert proxy.accepted == 1
    proxy.latency = 0
    taken = store._client()._free.get()
    try:
        with pytest.raises(StoreError, match="raise its max_connections"):
            store.load("s", now=NOW, touch_after=0)
    finally:
        store._client()._free.put(taken)


# Connections that break


def test_a_connection_that_was_closed_meanwhile_is_replaced(opened, redis_server, tcp_proxy):
    proxy = tcp_proxy(redis_server.url)
    store = opened(proxy.url)
    for fault in (proxy.drop, proxy.reset):
        store.create("s", record(), now=NOW)
        fault()
        time.sleep(0.05)  # for it to arrive
        assert store.delete("s", now=NOW) is True
    assert proxy.accepted == 3


def test_a_restart_of_the_server_goes_unnoticed(start_server, opened):
    server = start_server(servers.Redis)
    store = opened(server.url)
    made = store.create("s", record(), now=NOW)
    server.kill()
    server.start()
    assert store.replace("s", record(version=made.version), now=NOW) is None
    assert store.create("s", record(), now=NOW) is not None


def test_a_write_whose_answer_was_lost_is_made_once(opened, redis_server, tcp_proxy):
    proxy = tcp_proxy(redis_server.url)
    store, witness = opened(proxy.url), opened()
    store.load("s", now=NOW, touch_after=0)
    proxy.cut_after = 1
    made = store.create("s", record(user_id="u"), now=NOW)
    assert witness.load("s", now=NOW, touch_after=None) == made
    proxy.cut_after = 1
    changed = store.replace("s", record(b'{"b":2}', version=made.version), now=NOW)
    assert witness.load("s", now=NOW, touch_after=None) == changed
    proxy.cut_after = 1
    with pytest.raises(StoreError, match="cannot be reached"):  # a second attempt could not tell whether it was live
        store.delete("s", now=NOW)


# What the server refuses


def test_a_server_out_of_memory_can_still_be_read(start_server, opened):
    server = start_server(servers.Redis)
    store = opened(server.url)
    for handle, user in (("s", "u"), ("nobody's", None)):
        store.create(handle, record(user_id=user), now=NOW)
    server.call("CONFIG", "SET", "maxmemory", 1)
    for handle in ("s", "nobody's"):
        for passed in (10, 90):
            found = store.load(handle, now=NOW + passed, touch_after=0)
            assert found.expires_at == NOW + 100
    for call in (
        lambda: store.create("t", record(user_id="u"), now=NOW),
        lambda: store.touch("s", ttl=5, now=NOW),
        lambda: store.replace("nobody's", record(version=found.version), now=NOW),
    ):
        with pytest.raises(StoreError, match="out of memory: raise its maxmemory"):
            call()
    assert store.delete("s", now=NOW) is True


def test_a_replica_is_no_place_for_sessions(start_server, opened):
    server = start_server(servers.Redis)
    store = opened(server.url)
    store.create("s", record(), now=NOW)
    server.call("REPLICAOF", "127.0.0.1", 1)
    for call in (
        lambda: store.load("s", now=NOW, touch_after=0),
        lambda: store.delete("s", now=NOW),
        lambda: store.create("t", record(), now=NOW),
    ):
        with pytest.raises(StoreError, match="is a read-only replica: name the master"):
            call()
    server.call("REPLICAOF", "NO", "ONE")
    assert store.delete("s", now=NOW) is True


def test_what_is_refused_says_what_to_do(start_server, opened):
    server = start_server(servers.Redis, "--maxclients", "5")
    server.call("CONFIG", "SET", "requirepass", "hush-hush")
    place = f"127.0.0.1:{server.port}"
    with redis.Redis(port=server.port, password="hush-hush") as client:
        client.acl_setuser("poor", enabled=True, passwords=["+poor-pw"], commands=["+get"], keys=["nothing"])
        urls = {
            f"redis://{place}": "refuses the user or the password",
            f"redis://me:wrong-pw@{place}": "refuses the user or the password",
            f"redis://:wrong-pw@{place}": "refuses the user or the password",
            f"redis://poor:poor-pw@{place}": "forbids a command or a key",
            f"redis://:hush-hush@{place}/99": "has no database of this number",
        }
        for url, words in urls.items():
            with pytest.raises(StoreError, match=words) as caught:
                opened(url).load("the-handle", now=NOW, touch_after=0)
            shown = f"{caught.value}"
            assert shown.startswith(f"redis://{place}")
            assert not re.search("pw|hush|the-handle", shown)
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            time.sleep(0.05)
            with pytest.raises(StoreError, match="takes no more connections|cannot be reached"):
                opened(f"redis://:hush-hush@{place}").load("s", now=NOW, touch_after=0)


def test_a_refusal_without_a_cure_here_shows_its_code_alone(start_server, opened):
    server = start_server(servers.Redis)
    server.call("CONFIG", "SET", "min-replicas-to-write", 1)
    with pytest.raises(StoreError, match="refuses with NOREPLICAS: see the error that caused this one$"):
        opened(server.url).create("s", record(), now=NOW)


# URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h?sokcet_timeout=1", "unknown parameter 'sokcet_timeout'; it takes prefix, timeout, max_connections"),
        ("redis://h?socket_timeout=1", "unknown parameter 'socket_timeout'"),
        ("redis://h?ssl_ca_certs=x", "unknown parameter 'ssl_ca_certs'"),
        ("rediss://h?ssl_cert_reqs=bogus", "cannot be used"),
        ("redis://h?timeout=0", "give a positive number"),
        ("redis://h?max_connections=0", "give a whole number of at least 1"),
        ("redis://h/sessions", "is no number of a database"),
        ("redis://h:port", "cannot be used"),
        ("redis://a,b", "several servers"),
        ("unix://run/redis.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("redis+cluster://", "the name of a server is missing"),
        ("redis+cluster://a/3", "no database but 0"),
        ("redis+sentinel://a,b", "the name of the service is missing"),
        ("redis+sentinel:///mymaster", "the name of a server is missing"),
        ("redis+sentinel://a/mymaster/x", "is no number of a database"),
        ("redis+sentinel://a/mymaster?ssl=maybe", "give true or false"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused_at_start(url, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://me:hush@h:7/3?client_name=app&ssl=true&ssl_ca_certs=/x",
        "rediss://[::1]:7?ssl_ca_certs=/x",
        "valkey://h",
        "valkeys://h",
        "unix://me:hush@/run/redis.sock?db=3",
        "redis+sentinel://me:hush@a,[::1]:7/mymaster/3?sentinel_password=hush&ssl=true",
        "valkey+sentinel://a/mymaster",
        "redis+cluster://me:hush@a:7,b/0?ssl=1",
        "valkey+cluster://a",
    ],
)
def test_a_store_opens_without_connecting_and_hides_the_password(url):
    store = open_store(url)
    assert isinstance(store, RedisStore)
    assert "hush" not in repr(store)
    assert url.partition(":")[0] in repr(store)


def test_a_database_is_a_namespace(start_server, opened):
    server = start_server(servers.Redis)
    zero, three = opened(server.url), opened(server.url.removesuffix("0") + "3")
    zero.create("s", record(), now=NOW)
    assert three.load("s", now=NOW, touch_after=0) is None


def test_a_socket_of_unix_is_an_address(start_server, opened, tmp_path):
    path = tmp_path / "s"
    start_server(servers.Redis, "--unixsocket", str(path))
    store = opened(f"unix://{path}")
    store.create("s", record(), now=NOW)
    assert store.load("s", now=NOW, touch_after=0) is not None


# TLS


@pytest.fixture
def certificate(tmp_path) -> str:
    """The path of a certificate for localhost, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(timezone.utc)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today, today + timedelta(days=1))
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    bare = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, *bare))
    return str(path)


@pytest.fixture
def tls_port(certificate, redis_server) -> Iterator[int]:
    """The port of a server that speaks TLS, and hands on to the Redis server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    target = ("127.0.0.1", int(redis_server.url.rpartition(":")[2].partition("/")[0]))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(target) as server,
            ):
                while request := client.recv(65536):
                    server.sendall(request)
                    client.sendall(server.recv(65536))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_tls_checks_the_certificate_and_keeps_its_connection(opened, tls_port, certificate):
    store = opened(f"rediss://localhost:{tls_port}", ssl_ca_certs=certificate)
    store.create("s", record(), now=NOW)
    assert store.load("s", now=NOW, touch_after=0) is not None
    connection = store._client()._idle[0]
    assert store.load("s", now=NOW, touch_after=0) is not None
    assert store._client()._idle == [connection]
    assert opened(f"valkeys://localhost:{tls_port}", ssl_cert_reqs="none").delete("s", now=NOW) is True
    with pytest.raises(StoreError, match="cannot be reached"):
        opened(f"rediss://localhost:{tls_port}").load("s", now=NOW, touch_after=0)


def test_tls_that_does_not_begin_ends_in_time(opened, certificate):
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        store = opened(f"rediss://localhost:{hangs.getsockname()[1]}", ssl_ca_certs=certificate, timeout=0.4)
        started = time.monotonic()
        with pytest.raises(StoreError, match="has not answered"):
            store.load("s", now=NOW, touch_after=0)
        assert time.monotonic() - started < 0.7


# Failover


@pytest.mark.slow
def test_after_a_failover_the_new_master_is_found(start_server, opened):
    sentinels = start_server(servers.RedisSentinel)
    store = opened(sentinels.url, timeout=1)
    store.create("s", record(), now=NOW)
    sentinels.replica.wait_until(lambda: sentinels.replica.call("DBSIZE") == 1)
    sentinels.master.kill()
    with pytest.raises(StoreError):
        store.load("s", now=NOW, touch_after=0)
    sentinels.replica.wait_until(lambda: sentinels.master_port() == sentinels.replica.port)
    assert store.load("s", now=NOW, touch_after=0) is not None
    assert store.delete("s", now=NOW) is True


@pytest.mark.slow
def test_in_a_cluster_a_lost_master_is_a_store_error_in_time(start_server, opened):
    cluster = start_server(servers.RedisCluster)
    store = opened(cluster.url, timeout=0.5)
    handles = [f"s{number}" for number in range(12)]
    for handle in handles:
        store.create(handle, record(user_id="u"), now=NOW)
    lost = cluster.nodes[2]

    def outcomes() -> set[str]:
        seen = set()
        for handle in handles:
            started = time.monotonic()
            try:
                seen.add("found" if store.load(handle, now=NOW, touch_after=0) else "gone")
            except StoreError as error:
                seen.add(str(error).partition(" ")[2].partition(":")[0])
            assert time.monotonic() - started < 1.1  # redis-py waits 0.25 s more before it asks for the slots again
        return seen

    assert outcomes() == {"found"}
    lost.pause()
    assert {"found"} < outcomes() <= {"found", "has not answered within 0.5 s", "has slots without a master"}
    lost.resume()
    for each in cluster.nodes:
        each.wait_until(lambda each=each: "cluster_state:ok" in str(each.call("CLUSTER", "INFO")))
    assert outcomes() == {"found"}


# Processes, threads, greenlets


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys
import gevent
from gevent.pool import Pool
from wsgisession.stores import Record, open_store

url, slow_url = sys.argv[1:]
store = open_store(url + "&max_connections=3")
for number in range(50):
    assert store.create(f"s{number}", Record(b"%d" % number, 100.0), now=1e9)
pool = Pool(50)
read = lambda number: store.load(f"s{number}", now=1e9, touch_after=0).data
assert pool.map(read, range(50)) == [b"%d" % number for number in range(50)]
assert len(store._client()._idle) <= 3

slow = open_store(slow_url + "&max_connections=1&timeout=5")
try:
    with gevent.Timeout(0.1):
        slow.load("s1", now=1e9, touch_after=0)
except gevent.Timeout:
    print("interrupted")
assert slow.load("s2", now=1e9, touch_after=0).data == b"2"
store.close()
slow.close()
print("done")
"""


def test_works_under_gevent(redis_url, redis_server, tcp_proxy):
    proxy = tcp_proxy(redis_url)
    proxy.latency = 0.25
    command = [sys.executable, "-W", "error", "-c", GEVENT, redis_url, proxy.url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert run.stdout.split() == ["interrupted", "done"], run.stderr


def test_threads_share_the_connections_there_are(opened, redis_server, tcp_proxy):
    proxy = tcp_proxy(redis_server.url)
    store = opened(proxy.url, max_connections=4, timeout=10)
    for number in range(20):
        store.create(f"s{number}", record(b"%d" % number), now=NOW)

    def read(number: int) -> bytes:
        return store.load(f"s{number % 20}", now=NOW, touch_after=0).data

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(read, range(400))) == [b"%d" % (number % 20) for number in range(400)]
    assert proxy.accepted <= 4


def test_close_closes_what_is_in_use_when_it_comes_back(opened, client):
    store = opened(client_name="to_be_closed")
    store.create("s", record(), now=NOW)
    server = store._client()
    connection = server._idle.pop()
    store.close()
    with store._call():
        server._exchange_on(connection, ("PING",))
    assert connection.wire.fileno() == -1
