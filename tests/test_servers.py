"""The servers and the faults that the other tests rely on do what they say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests import conftest, servers


def client_of(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0))


@pytest.fixture
def proxy(redis_server: Any, tcp_proxy: Callable[[str], servers.TcpProxy]) -> servers.TcpProxy:
    return tcp_proxy(redis_server.url)


@pytest.fixture
def client(proxy: servers.TcpProxy):
    with client_of(proxy.url) as connected:
        connected.ping()
        yield connected


def test_redis_answers(redis_server):
    with client_of(redis_server.url) as client:
        assert client.ping()


def test_postgresql_answers(postgresql_server):
    with psycopg.connect(postgresql_server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_mongodb_answers(mongodb_server):
    with pymongo.MongoClient(mongodb_server.url) as client:
        collection = client[conftest.RUN].answers
        collection.insert_one({"_id": 1})
        assert collection.find_one() == {"_id": 1}


def test_a_cluster_spreads_keys_over_its_nodes(redis_cluster):
    with redis.RedisCluster(host=servers.HOST, port=redis_cluster.nodes[0].port) as client:
        for number in range(30):
            client.set(f"spread:{number}", number)
    assert all(node.call("DBSIZE") for node in redis_cluster.nodes)


def test_sentinels_name_the_master(redis_sentinel):
    assert redis_sentinel.master_port() in (redis_sentinel.master.port, redis_sentinel.replica.port)


def test_each_test_has_its_own_namespace(redis_url, postgresql_url, mongodb_url, sqlite_url):
    for url in (redis_url, postgresql_url, mongodb_url):
        assert conftest.RUN in url
    assert sqlite_url.startswith("sqlite:////")


def test_a_killed_server_comes_back_on_its_port(start_server):
    server = start_server(servers.Redis)
    server.kill()
    with client_of(server.url) as client:
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.ping()


def test_a_killed_postgresql_comes_back_with_its_data(start_server):
    server = start_server(servers.PostgreSQL, "max_connections=20")
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept ()")
    server.kill()
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT FROM kept").fetchall() == []
        assert connection.execute("SHOW max_connections").fetchone() == ("20",)


def test_a_paused_server_hangs_until_it_is_resumed(start_server):
    server = start_server(servers.Redis)
    server.pause()
    with client_of(server.url) as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a child with its parent")
def test_a_server_ends_with_a_run_that_is_killed(tmp_path):
    program = """
        import os, signal
        from tests.servers import Redis
        print(Redis().start().process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, cwd=servers.ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    process = Path("/proc", ended.stdout.strip(), "stat")
    deadline = time.monotonic() + 10
    while process.exists() and process.read_text().rpartition(") ")[2][0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_port_is_given_to_one_run_only(monkeypatch):
    taken = servers.free_port()
    ports = iter([taken, 22499, 22498, 22497])
    monkeypatch.setattr(servers.random, "randrange", lambda *_: next(ports))
    assert servers.free_port() != taken


def test_a_server_that_is_not_to_be_had_fails_the_test(monkeypatch):
    monkeypatch.delenv("WSGISESSION_TEST_ALLOW_SKIP", raising=False)
    with pytest.raises(pytest.fail.Exception, match="pip install it"):
        conftest.unavailable(servers.ServerUnavailable("pip install it"))


def test_a_developer_may_skip_what_is_not_to_be_had(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("WSGISESSION_TEST_ALLOW_SKIP", "1")
    with pytest.raises(pytest.skip.Exception):
        conftest.unavailable(servers.ServerUnavailable("pip install it"))


def test_ci_may_not_skip(monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("WSGISESSION_TEST_ALLOW_SKIP", "1")
    with pytest.raises(pytest.fail.Exception):
        conftest.unavailable(servers.ServerUnavailable("pip install it"))


def test_a_given_server_is_used_and_not_stopped(monkeypatch):
    monkeypatch.setenv("WSGISESSION_TEST_REDIS_URL", "redis://given/0")
    assert [server.url for server in conftest.given_or_running("REDIS", servers.Redis)] == ["redis://given/0"]


def test_a_proxy_keeps_user_path_and_options_of_the_url():
    proxy = servers.TcpProxy("postgresql://who:word@127.0.0.1:5432/base?schema=s")
    assert proxy.url == f"postgresql://who:word@127.0.0.1:{proxy.port}/base?schema=s"


@pytest.mark.parametrize("fault", ["stall", "lose_replies"])
def test_behind_the_fault_the_client_waits_in_vain(proxy, client, fault):
    setattr(proxy, fault, True)
    with pytest.raises(redis.TimeoutError):
        client.ping()
    setattr(proxy, fault, False)
    assert client.ping()


def test_behind_lose_replies_the_write_happens(proxy, client, redis_server):
    proxy.lose_replies = True
    with pytest.raises(redis.TimeoutError):
        client.set(f"{conftest.RUN}:lost", "written")
    with client_of(redis_server.url) as direct:
        assert direct.get(f"{conftest.RUN}:lost") == b"written"


def test_behind_latency_the_answer_is_late(proxy, client):
    proxy.latency = 0.4
    with pytest.raises(redis.TimeoutError):
        client.ping()


def test_behind_dribble_no_single_read_is_late_and_all_of_it_is(proxy, client):
    proxy.dribble = 0.05
    started = time.monotonic()
    assert client.ping()
    assert time.monotonic() - started > 7 * 0.05  # "+PONG" and the end of the line


def test_behind_cut_after_the_answer_is_truncated(proxy):
    with socket.create_connection((servers.HOST, proxy.port), 2) as plain:
        proxy.cut_after = 3
        plain.sendall(b"PING\r\n")
        assert plain.recv(100) == b"+PO"
        with pytest.raises(ConnectionResetError):
            plain.recv(100)


def test_behind_refuse_the_connection_is_refused_until_accept(proxy):
    proxy.refuse()
    with client_of(proxy.url) as client:
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.ping()
        proxy.accept()
        assert client.ping()


def test_reset_breaks_open_connections(proxy):
    with socket.create_connection((servers.HOST, proxy.port), 2) as plain:
        plain.sendall(b"PING\r\n")
        assert plain.recv(100) == b"+PONG\r\n"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            plain.recv(100)


def test_drop_closes_open_connections(proxy):
    with socket.create_connection((servers.HOST, proxy.port), 2) as plain:
        plain.sendall(b"PING\r\n")
        assert plain.recv(100) == b"+PONG\r\n"
        proxy.drop()
        assert plain.recv(100) == b""


def test_servers_run_as_an_ordinary_user_where_they_must(start_server):
    server = start_server(servers.PostgreSQL)
    assert os.stat(server.data).st_uid != 0
