"""How the Redis store reaches its servers: in time, over TLS, after failures, in threads and greenlets."""

from __future__ import annotations

import gc
import re
import secrets
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests import servers
from tests.redis_tools import NOW, record
from wsgisession.errors import StoreError
from wsgisession.stores import redis as redis_package
from wsgisession.stores.redis.connection import Connection, Endpoint
from wsgisession.stores.redis.store import RedisStore

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

    ((connection, _),) = store._client()._idle

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_reply", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.load("one", now=NOW, touch_after=0)
    assert connection.fileno() == -1
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
    store = opened(proxy.url, timeout=1.2, max_connections=1)
    store.create("s", record(), now=NOW)
    proxy.latency = 0.25
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(store.load, "s", now=NOW, touch_after=None) for _ in range(2)]
        assert all(each.result() for each in both)
    assert proxy.accepted == 1
    proxy.latency = 0
    with (
        store._client().lend(time.monotonic() + 5),
        pytest.raises(StoreError, match="raise the store's max_connections"),
    ):
        store.load("s", now=NOW, touch_after=0)


# Connections that break


def test_a_connection_that_was_closed_in_the_meantime_is_replaced(opened, redis_server, tcp_proxy):
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
    with pytest.raises(StoreError, match="cannot be reached"):  # the second attempt cannot tell whether it was live
        store.delete("s", now=NOW)
    assert witness.load("s", now=NOW, touch_after=None) is None


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
    ((connection, _),) = store._client()._idle
    assert store.load("s", now=NOW, touch_after=0) is not None
    assert [each for each, _ in store._client()._idle] == [connection]
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
    deadline = time.monotonic() + 5
    with store._client().lend(deadline) as connection:
        store.close()
        assert connection.exchange(("PING",), deadline) == b"PONG"
    assert connection.fileno() == -1


# Connections that a firewall forgot, and servers that take no more of them


def warm(store: RedisStore, proxy: servers.TcpProxy, count: int = 8) -> None:
    """Open so many connections, and leave them idle."""
    proxy.latency = 0.05
    with ThreadPoolExecutor(count) as pool:
        assert all(pool.map(lambda _: store.load("s", now=NOW, touch_after=None), range(count)))
    proxy.latency = 0
    assert len(store._client()) == count


@pytest.mark.parametrize(
    "verb",
    [
        lambda store: store.load("s", now=NOW, touch_after=None),
        lambda store: store.load("s", now=NOW, touch_after=0),
        lambda store: store.touch("s", ttl=100, now=NOW),
        lambda store: store.create(secrets.token_hex(8), record(user_id="u"), now=NOW),
        lambda store: store.delete("s", now=NOW),
        lambda store: store.find_user("u", now=NOW).records,
        lambda store: store.delete_user("u", now=NOW).handles,
    ],
    ids=["load", "restart", "touch", "create", "delete", "find_user", "delete_user"],
)
def test_connections_that_were_dropped_without_a_word_cost_no_call(opened, redis_server, tcp_proxy, verb):
    """Eight idle connections lead nowhere: the call goes on with a fresh one, and no later call tries an old one."""
    proxy = tcp_proxy(redis_server.url)
    store = opened(proxy.url, timeout=1)
    store.create("s", record(user_id="u"), now=NOW)
    warm(store, proxy)
    proxy.freeze()
    started = time.monotonic()
    assert verb(store)
    assert 0.5 < time.monotonic() - started < 0.95
    for _ in range(9):
        started = time.monotonic()
        store.load("s", now=NOW, touch_after=None)
        assert time.monotonic() - started < 0.5


def test_idle_connections_are_closed_and_not_trusted_after_a_while(opened, redis_server, tcp_proxy):
    proxy = tcp_proxy(redis_server.url)
    store = opened(proxy.url, timeout=1, max_idle=0.3)
    store.create("s", record(), now=NOW)
    warm(store, proxy)
    time.sleep(0.35)
    proxy.freeze()
    started = time.monotonic()
    assert store.load("s", now=NOW, touch_after=None)
    assert time.monotonic() - started < 0.4
    assert len(store._client()) == 1


def test_a_connection_is_kept_alive_by_tcp(opened):
    store = opened()
    store.create("s", record(), now=NOW)
    with store._client().lend(time.monotonic() + 5) as connection:
        assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60


def test_where_the_server_takes_no_more_connections_calls_share_those_that_are_there(start_server, opened):
    server = start_server(servers.Redis, "--maxclients", "20")
    store = opened(server.url, timeout=10)
    store.create("s", record(), now=NOW)

    def read(_: int) -> bool:
        return all(store.load("s", now=NOW, touch_after=None) for _ in range(20))

    with ThreadPoolExecutor(30) as pool:
        assert all(pool.map(read, range(30)))
    assert len(store._client()) <= 20


@pytest.mark.slow
def test_a_master_that_hangs_and_was_replaced_costs_no_call(start_server, opened):
    """Eight idle connections lead to the former master of the Sentinels."""
    sentinels = start_server(servers.RedisSentinel)
    store = opened(sentinels.url, timeout=2)
    store.create("s", record(), now=NOW)
    sentinels.replica.wait_until(lambda: sentinels.replica.call("DBSIZE") == 1)
    deadline = time.monotonic() + 5
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(store._client().lend(deadline))
    assert len(store._client()) == 8
    sentinels.master.pause()
    try:
        sentinels.replica.wait_until(lambda: sentinels.master_port() == sentinels.replica.port)
        for limit in (1.6, 0.5, 0.5):
            started = time.monotonic()
            assert store.load("s", now=NOW, touch_after=None)
            assert time.monotonic() - started < limit
    finally:
        sentinels.master.resume()


@pytest.mark.slow
def test_a_master_that_became_a_replica_is_left_at_the_first_write(start_server, opened):
    sentinels = start_server(servers.RedisSentinel)
    store = opened(sentinels.url)
    made = store.create("s", record(), now=NOW)
    sentinels.replica.wait_until(lambda: sentinels.replica.call("DBSIZE") == 1)
    old = store._client()._take(time.monotonic() + 5)[0]
    store._client().give_back(old)
    sentinels.replica.call("REPLICAOF", "NO", "ONE")
    sentinels.master.call("REPLICAOF", "127.0.0.1", sentinels.replica.port)
    store._client()._driver.connect = lambda until: Endpoint().connect(("127.0.0.1", sentinels.replica.port), until)
    assert store.replace("s", record(b'{"b":2}', version=made.version), now=NOW)
    assert old.fileno() == -1


@pytest.mark.slow
def test_in_a_cluster_dropped_connections_cost_no_call(start_server, opened):
    cluster = start_server(servers.RedisCluster)
    store = opened(cluster.url, timeout=2)
    store.create("s", record(user_id="u"), now=NOW)
    for node in cluster.nodes:
        node.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert store.load("s", now=NOW, touch_after=0)
    assert store.delete("s", now=NOW) is True


def test_of_redis_py_only_the_errors_are_used():
    """So that another version of it, which may change how it connects, changes nothing here."""
    sources = Path(redis_package.__file__).parent.glob("*.py")
    imported = {line for each in sources for line in re.findall(r"^(?:from|import) redis\b.*", each.read_text(), re.M)}
    assert imported == {"from redis import exceptions"}


def test_a_connection_that_the_garbage_collector_finds_in_a_cycle_closes_its_socket():
    """An app that is dropped without closing its store is such a cycle; a socket found open is a ResourceWarning."""
    for _ in range(5):
        one, other = socket.socketpair()
        connection = Connection(one)
        cycle = {"connection": connection}
        cycle["itself"] = cycle
        del one, connection, cycle
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            gc.collect()
        assert [str(each.message) for each in warned] == []
        other.close()
