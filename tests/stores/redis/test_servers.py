"""The URLs of Redis servers, Sentinels, and clusters."""

from __future__ import annotations

import re
import time

import pytest

from tests import servers
from tests.redis_tools import NOW, record
from wsgisession.errors import ConfigurationError, StoreError
from wsgisession.stores import open_store
from wsgisession.stores.redis.store import RedisStore

# URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "redis://h?sokcet_timeout=1",
            "unknown parameter 'sokcet_timeout'; did you mean 'timeout'",
        ),
        ("redis://h?socket_timeout=1", "unknown parameter 'socket_timeout'"),
        ("redis://h?ssl_ca_certs=x", "unknown parameter 'ssl_ca_certs'"),
        ("rediss://h?ssl_cert_reqs=bogus", "cannot be used"),
        ("redis://h?timeout=0", "give a positive number"),
        ("redis://h?max_connections=0", "give a whole number of at least 1"),
        ("redis://h/sessions", "is not the number of a database"),
        ("redis://h:port", "cannot be used"),
        ("redis://a,b", "several servers"),
        ("unix://run/redis.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("redis+cluster://", "the name of a server is missing"),
        ("redis+cluster://a/3", "no database but 0"),
        ("redis+sentinel://a,b", "the name of the service is missing"),
        ("redis+sentinel:///mymaster", "the name of a server is missing"),
        ("redis+sentinel://a/mymaster/x", "is not the number of a database"),
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
            assert time.monotonic() - started < 1.1
        return seen

    assert outcomes() == {"found"}
    lost.pause()
    refused = {"has not answered within 0.5 s", "has slots without a master"}
    seen = outcomes()
    assert seen & refused
    assert seen <= {"found", *refused}
    lost.resume()
    for each in cluster.nodes:
        each.wait_until(lambda each=each: "cluster_state:ok" in str(each.call("CLUSTER", "INFO")))
    assert outcomes() == {"found"}
