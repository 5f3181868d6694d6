"""What a Redis server refuses: reads go on, and each message says what to do and what the server said."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests import servers
from tests.redis_tools import NOW, record
from tests.visits import Browser
from wsgisession import SessionManager
from wsgisession.errors import StoreError
from wsgisession.stores.base import Unconfirmed, WriteRefused
from wsgisession.stores.redis.store import RedisStore
from wsgisession.testing import SharedStoreContract

DOCUMENT = Path(__file__).parents[3] / "docs" / "stores.md"


def out_of_memory(server):
    server.call("CONFIG", "SET", "maxmemory", 1)


def without_replicas(server):
    server.call("CONFIG", "SET", "min-replicas-to-write", 1)


def a_replica(server):
    server.call("REPLICAOF", "127.0.0.1", 1)


def unable_to_save(server):
    """Make the next snapshot fail: where it should go, there is a folder."""
    folder = server.call("CONFIG", "GET", "dir")["dir"]
    (Path(folder) / "taken.rdb").mkdir()
    server.call("CONFIG", "SET", "save", "3600 1000")
    server.call("BGSAVE")
    server.wait_until(lambda: server.call("INFO", "persistence")["rdb_last_bgsave_status"] == "err")


REFUSALS = {
    "OOM": (out_of_memory, "is out of memory: raise its maxmemory"),
    "NOREPLICAS": (without_replicas, "has too few replicas, and refuses to write: bring them back"),
    "READONLY": (a_replica, "is a read-only replica: name the master in the store's URL"),
    "MISCONF": (unable_to_save, "cannot save its data to disk, and refuses to write until it can"),
}


@pytest.mark.parametrize(("refuse", "words"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("format_", ["native", "express"])
def test_reads_go_on_while_the_server_refuses_to_write(start_server, caplog, refuse, words, format_):
    server = start_server(servers.Redis, "--dbfilename", "taken.rdb")
    now = [time.time()]
    manager = SessionManager(
        secret="a secret that is long enough", store=server.url, format=format_, clock=lambda: now[0], touch_after=0
    )
    browser = Browser(manager)
    browser.put(user_id=7)
    refuse(server)
    for _ in range(5):
        now[0] += 1
        with browser.request() as session:
            assert session["user_id"] == 7
    told = [each.getMessage() for each in caplog.records if "not restarted" in each.getMessage()]
    assert len(told) == 1
    assert words in told[0]
    code = next(name for name, (each, _) in REFUSALS.items() if each is refuse)
    with pytest.raises(WriteRefused, match=rf"{re.escape(words)}.*\(.*{code} ") as caught:
        browser.put(n=1)
    assert isinstance(caught.value.__cause__, redis.ResponseError)
    manager.close()


def test_what_was_refused_is_restarted_as_soon_as_the_server_writes_again(start_server, opened, caplog):
    server = start_server(servers.Redis)
    store = opened(server.url)
    store.create("s", record(user_id="u"), now=NOW)
    for outage in (1, 2):
        out_of_memory(server)
        assert store.load("s", now=NOW + 50 * outage, touch_after=0.1).expires_at == NOW + 50 * (outage + 1)
        assert len([each for each in caplog.records if "not restarted" in each.getMessage()]) == outage
        server.call("CONFIG", "SET", "maxmemory", 0)
        store._no_restart_before = 0.0  # a second has passed
        assert store.load("s", now=NOW + 50 * outage, touch_after=0.1).expires_at == NOW + 50 * outage + 100


def test_out_of_memory_a_session_can_still_be_ended(start_server, opened):
    server = start_server(servers.Redis)
    store = opened(server.url)
    for handle in ("one", "two"):
        store.create(handle, record(user_id="u"), now=NOW)
    out_of_memory(server)
    assert store.delete("one", now=NOW) is True
    assert store.delete_user("u", now=NOW) == (["two"], False)


def test_each_cause_has_its_own_message_with_the_fix_and_what_the_server_said(start_server, opened):
    server = start_server(servers.Redis, "--maxclients", "5")
    server.call("CONFIG", "SET", "requirepass", "hush-hush")
    place = f"127.0.0.1:{server.port}"
    with redis.Redis(port=server.port, password="hush-hush") as client:
        client.acl_setuser(
            "poor", enabled=True, passwords=["+poor-pw"], commands=["+mget", "+eval", "+evalsha"], keys=["*"]
        )
        for name, commands in (("mute", ["-eval", "-evalsha"]), ("keyless", [])):
            keys = ["*"] if name == "mute" else ["nothing"]
            client.acl_setuser(name, enabled=True, passwords=["+some-pw"], commands=["+@all", *commands], keys=keys)
        urls = {
            f"redis://{place}": (r"asks for a password: add it to the store's URL", "NOAUTH"),
            f"redis://me:wrong-pw@{place}": ("refused the user or the password: correct them", "WRONGPASS"),
            f"redis://:wrong-pw@{place}": ("refused the user or the password: correct them", "WRONGPASS"),
            f"redis://poor:poor-pw@{place}": (
                "forbids a command or a key to the store's user: extend",
                "ERR ACL failure|ERR Error running script|NOPERM",
            ),
            f"redis://keyless:some-pw@{place}": ("forbids a command or a key to the store's user: extend", "NOPERM"),
            f"redis://mute:some-pw@{place}": ("does not let the store's user run scripts.*allow EVAL", "NOPERM"),
            f"redis://:hush-hush@{place}/99": ("has no database of this number: correct that", "ERR DB index"),
            f"redis+cluster://:hush-hush@{place}": (
                "is not a cluster: write redis://",
                "ERR This instance has cluster",
            ),
            f"rediss://:hush-hush@{place}": ("cannot be reached with TLS as it is set up", r"\[SSL"),
            "redis://name-that-is-nowhere.invalid": ("has a host name that cannot be resolved", r"\[Errno"),
            "redis://127.0.0.1:1": ("nothing listens there: see that it runs", r"\[Errno 111\]"),
            "unix:///nowhere/redis.sock": ("there is no such socket", r"\[Errno 2\]"),
            f"rediss://{place}?ssl_ca_certs=/nowhere/ca.pem": ("no such file as ssl_ca_certs", r"\[Errno 2\]"),
        }
        for url, (words, said) in urls.items():
            with pytest.raises(StoreError, match=rf"{words}.*\((?:{said})") as caught:
                opened(url, timeout=5).touch("the-handle", ttl=5, now=NOW)
            assert not re.search("pw|hush|the-handle", str(caught.value)), url
        client.close()
        with ExitStack() as stack:
            for _ in range(3):  # until the server has noticed who has gone
                for _ in range(8):
                    stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                time.sleep(0.1)
            with pytest.raises(StoreError, match=r"raise its maxclients.*\(ERR max number of clients reached"):
                opened(f"redis://:hush-hush@{place}", timeout=0.3).load("s", now=NOW, touch_after=0)


def test_what_is_not_a_redis_server_is_recognized(opened):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer():
            with listener.accept()[0] as client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(StoreError, match="does not answer like a Redis server"):
            opened(f"redis://127.0.0.1:{port}").load("s", now=NOW, touch_after=0)
        thread.join()


# Rights


@pytest.fixture(scope="module")
def rights() -> list[str]:
    """The rules of the user that the document shows."""
    (line,) = re.findall("`(ACL SETUSER [^`]*)`", DOCUMENT.read_text())
    return line.split()[3:]


class TestWithTheRightsThatTheDocumentLists(SharedStoreContract):
    password = "password"

    @pytest.fixture
    def url(self, redis_server, client, prefix, rights) -> str:
        rules = [rule.replace("sess:", prefix).replace("sess-user:", f"{prefix[:-1]}-user:") for rule in rights]
        client.execute_command("ACL", "SETUSER", "shop", "reset", *rules)
        return f"redis://shop:password@{redis_server.url.partition('://')[2]}"

    @pytest.fixture
    def store(self, opened, url) -> RedisStore:
        return opened(url, timeout=10)

    @pytest.fixture
    def other_store(self, opened, url) -> RedisStore:
        return opened(url, timeout=10, client_name="other")

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[RedisStore, float]:
        return opened("redis://shop:password@127.0.0.1:1/0", timeout=1), 1.0


def test_the_document_lists_no_right_that_is_not_needed(redis_server, client, prefix, rights, opened):
    """Without any one of them, something that the store does is refused."""
    needed_elsewhere = {"+ping", "+select", "+get", "+expire", "+zscore", "+info", "+client|setname"}  # Express, URLs
    keys = [rule.replace("sess:", prefix).replace("sess-user:", f"{prefix[:-1]}-user:") for rule in rights]
    for right in [rule for rule in rights if rule.startswith("+") and rule not in needed_elsewhere]:
        client.execute_command("ACL", "SETUSER", "poor", "reset", *[rule for rule in keys if rule != right])
        store = opened(f"redis://poor:password@{redis_server.url.partition('://')[2]}")
        with pytest.raises(StoreError, match="forbids a command|run scripts"):
            everything(store, client, prefix)
            pytest.fail(f"nothing needs {right}")


def everything(store, client, prefix):
    """Do everything that needs a right of its own."""
    for key in client.scan_iter(f"{prefix[:-1]}*"):
        client.delete(key)
    client.script_flush()
    made = [store.create(handle, record(user_id="u"), now=NOW) for handle in ("one", "two")]
    store.load("one", now=NOW, touch_after=0)
    store.find_user("u", now=NOW, limit=1)
    store.find_user("u", now=NOW, limit=1, after=store.find_user("u", now=NOW, limit=1).after)
    store.replace("two", record(version=made[1].version), now=NOW)
    store.touch("one", ttl=5000, now=NOW)
    store.delete("two", now=NOW)
    store.delete_user("u", now=NOW)
    list(store.scan(now=NOW))
    client.set(f"{prefix}text", "S1")
    store.create("text", record(user_id="u"), now=NOW)


# Replicas


@pytest.mark.slow
def test_a_session_that_must_be_ended_on_replicas_is_ended_and_says_how_many_confirmed_it(start_server, opened):
    server = start_server(servers.Redis, "--repl-diskless-sync-delay", "0")
    replica = start_server(servers.Redis, "--replicaof", "127.0.0.1", str(server.port))
    server.wait_until(lambda: server.call("WAIT", 1, 100) == 1)
    one, two = opened(server.url, wait=1), opened(server.url, wait=2, timeout=0.5)
    for handle in ("a", "b", "c", "d"):
        one.create(handle, record(user_id="u"), now=NOW)
    assert one.delete("a", now=NOW) is True
    assert replica.call("DBSIZE") == 4  # three sessions and the user's set
    with pytest.raises(
        Unconfirmed, match=r"has ended the session, but 1 of 2 replicas have confirmed it within 0\.5 s"
    ):
        two.delete("b", now=NOW)
    assert one.load("b", now=NOW, touch_after=None) is None
    assert two.delete("unknown", now=NOW) is False
    with pytest.raises(Unconfirmed) as caught:
        two.delete_user("u", now=NOW, limit=1)
    assert (caught.value.handles, caught.value.more) == (["d"], True)
    replica.kill()
    with pytest.raises(Unconfirmed, match="0 of 1 replicas"):
        opened(server.url, wait=1, timeout=0.5).delete_user("u", now=NOW)
    assert one.delete_user("u", now=NOW) == ([], False)
