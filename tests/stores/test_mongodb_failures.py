"""What the MongoDB store does when its server fails, and what it says then; URLs that cannot be right."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timezone
from urllib.parse import parse_qsl, urlencode, urlsplit

import dns.resolver
import pymongo
import pytest
from bson.codec_options import CodecOptions
from pymongo import errors
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from tests import servers
from wsgisession.errors import ConfigurationError, StoreError
from wsgisession.stores import Reader, Record, in_layout_of_express, open_store
from wsgisession.stores.base import WriteRefused
from wsgisession.stores.mongodb import failures
from wsgisession.stores.mongodb.store import MongoDBStore

NOW = 4_000_000_000.25  # so far ahead that no sweeper of the server's takes a live record for an old one


def record(data: bytes = b"{}", *, ttl: float = 100.0, user_id: str | None = None, version: object = None) -> Record:
    return Record(data, ttl, user_id, version)


@pytest.fixture
def url(mongodb_url) -> str:
    """The server and database, with the test's own collection and without our other parameters."""
    return mongodb_url


@pytest.fixture
def opened(url) -> Iterator[Callable[..., MongoDBStore]]:
    """Opens stores on the test's own collection, and closes them."""
    stores = []

    def make(at: str = url, **parameters: object) -> MongoDBStore:
        stores.append(open_store(f"{at}&{urlencode(parameters)}" if parameters else at))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def documents(url) -> Iterator[Collection]:
    """The test's own collection, seen by another client."""
    parts = urlsplit(url)
    with pymongo.MongoClient(url.partition("?")[0] + "?directConnection=true") as client:
        name = dict(parse_qsl(parts.query))["collection"]
        yield client[parts.path[1:]].get_collection(name, CodecOptions(tz_aware=True, tzinfo=timezone.utc))


@pytest.mark.parametrize("fault", [{"stall": True}, {"lose_replies": True}, {"dribble": 0.01}])
@pytest.mark.parametrize("fresh", [True, False], ids=["connecting", "connected"])
def test_a_server_that_hangs_is_a_store_error_within_the_timeout(opened, tcp_proxy, url, fault, fresh):
    opened().create("a", record(b'{"text":"' + b"x" * 1000 + b'"}'), now=NOW)
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=1)
    if not fresh:
        store.load("a", now=NOW, touch_after=None)
    for name, value in fault.items():
        setattr(proxy, name, value)
    for verb in (lambda: store.load("a", now=NOW, touch_after=0), lambda: store.create("b", record(), now=NOW)):
        began = time.monotonic()
        with pytest.raises(StoreError, match=rf"127\.0\.0\.1:{proxy.port}/.* within 1 s"):
            verb()
        assert time.monotonic() - began < 2
    began = time.monotonic()
    store.close()
    assert time.monotonic() - began < 2


def test_a_server_that_is_down_is_a_store_error_until_it_is_back(opened, tcp_proxy, url):
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=1.5)
    store.create("a", record(), now=NOW)
    proxy.refuse()
    proxy.reset()
    began = time.monotonic()
    with pytest.raises(StoreError, match="reached") as caught:
        store.load("a", now=NOW, touch_after=0)
    assert time.monotonic() - began < 2.2
    assert isinstance(caught.value.__cause__, errors.ConnectionFailure)
    proxy.accept()
    assert store.load("a", now=NOW, touch_after=0)


def test_a_restart_of_the_server_between_two_requests_causes_no_error(start_server, opened):
    server = start_server(servers.MongoDB)
    store = opened(server.url)
    store.create("a", record(), now=NOW)
    server.kill()
    server.start()
    assert store.load("a", now=NOW, touch_after=0) is None  # the stand-in's memory is lost with it
    assert store.create("a", record(), now=NOW)


def test_silently_dropped_connections_cause_no_failed_read(opened, tcp_proxy, url):
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=1)
    store.create("a", record(), now=NOW)
    proxy.latency = 0.05
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: store.load("a", now=NOW, touch_after=None), range(8)))
    proxy.latency = 0
    proxy.freeze()
    began = time.monotonic()
    assert store.load("a", now=NOW, touch_after=None)
    assert time.monotonic() - began < 1
    began = time.monotonic()
    for _ in range(10):
        assert store.load("a", now=NOW + 50, touch_after=0)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("verb", ["create", "create a login", "replace", "replace a login", "touch"])
@pytest.mark.parametrize("fault", ["freeze", "reset"])
def test_dead_connections_cause_no_failed_write_that_can_be_repeated(opened, tcp_proxy, url, verb, fault):
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=1)
    version = store.create("a", record(), now=NOW).version
    getattr(proxy, fault)()
    user = "u" if "login" in verb else None
    if verb == "touch":
        assert store.touch("a", ttl=7, now=NOW) is True
    elif verb.startswith("create"):
        assert store.create("b", record(user_id=user), now=NOW)
    else:
        assert store.replace("a", record(user_id=user, version=version), now=NOW)
    assert store.load("b" if verb.startswith("create") else "a", now=NOW, touch_after=None)


@pytest.mark.parametrize("express", [False, True], ids=["native", "express"])
@pytest.mark.parametrize("user", [None, "u"])
def test_a_write_whose_answer_is_lost_is_recognized_as_ours(opened, monkeypatch, express, user):
    store = opened()
    if express:
        store = in_layout_of_express(store, Reader(lambda data: (100.0, user), ("user_id",)))
    assert store.load("a", now=NOW, touch_after=None) is None  # the server is known to answer
    lose_an_answer(monkeypatch)
    created = store.create("a", record(b'{"n":1}', user_id=user), now=NOW)
    assert created == store.load("a", now=NOW, touch_after=None)
    assert store.create("a", record(b'{"n":9}', user_id=user), now=NOW) is None
    lose_an_answer(monkeypatch)
    changed = record(b'{"n":2}', user_id=user, version=created.version)
    assert store.replace("a", changed, now=NOW) == store.load("a", now=NOW, touch_after=None)
    assert store.replace("a", record(b'{"n":9}', version=created.version), now=NOW) is None


def lose_an_answer(monkeypatch) -> None:
    """Let the next write take effect and fail."""
    monkeypatch.undo()
    for name in ("replace_one", "find_one_and_update"):
        monkeypatch.setattr(Collection, name, once_without_an_answer(getattr(Collection, name)))


def once_without_an_answer(method: Callable[..., object]) -> Callable[..., object]:
    """Return the method of a collection, which takes effect but fails the first time."""
    calls = itertools.count(1)

    def call(*arguments: object, **options: object) -> object:
        result = method(*arguments, **options)
        if next(calls) == 1:
            raise errors.NetworkTimeout("timed out")
        return result

    return call


def test_many_readers_on_dead_connections_all_get_an_answer(opened, tcp_proxy, url):
    proxy = tcp_proxy(url)
    store = opened(proxy.url, timeout=2)
    store.create("a", record(), now=NOW)
    proxy.latency = 0.1
    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(lambda _: store.load("a", now=NOW, touch_after=None), range(20)))
    proxy.latency = 0
    proxy.freeze()
    with ThreadPoolExecutor(5) as pool:  # there are more dead connections than readers
        assert all(pool.map(lambda _: store.load("a", now=NOW, touch_after=None), range(10)))


@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_a_connection_that_broke_is_replaced_silently_for_a_read(opened, tcp_proxy, url, fault):
    proxy = tcp_proxy(url)
    store = opened(proxy.url)
    store.create("a", record(), now=NOW)
    getattr(proxy, fault)()
    assert store.load("a", now=NOW, touch_after=0)


def test_an_error_about_a_document_does_not_quote_it(opened, documents):
    documents.create_index("user_id", unique=True, sparse=True, name="mine")
    store = opened()
    store.create("a", record(user_id="the-user"), now=NOW)
    version = store.create("b", record(), now=NOW).version
    with pytest.raises(StoreError, match="refused the command") as caught:
        store.replace("b", record(b'"the-payload"', user_id="the-user", version=version), now=NOW)
    shown = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__cause__.details}"
    assert "11000" in shown
    assert "the-" not in shown


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (OperationFailure("Authentication failed.", 18), "check user 'ali', the password, and authSource in its URL"),
        (OperationFailure("bad auth", 8000), "authSource"),
        (OperationFailure("not authorized", 13), "let user 'ali' use the collection 'sessions': grant it readWrite"),
        (OperationFailure("Unrecognized", 9), "refused the command: see the server's log"),
        (OperationFailure("No space left on device", 14031), "refuses to write: free or add disk space"),
        (OperationFailure("you are over your space quota", 8000), "refuses to write: free or add disk space"),
        (errors.ExecutionTimeout("operation exceeded time limit", 50), "raise timeout"),
        (errors.WriteConcernError("waiting for replication timed out", 64), "check that its replicas are running"),
        (errors.NotPrimaryError("not primary"), "without directConnection"),
        (errors.WaitQueueTimeoutError("Timed out"), "raise max_connections"),
        (errors.AutoReconnect("h:1: connection closed"), "needs tls=true, and whether it has too many connections"),
        (errors.AutoReconnect("h:1: [Errno 111] Connection refused"), "start the server, or correct host and port"),
        (errors.AutoReconnect("h:1: [Errno -2] Name or service not known"), "a host name is unknown"),
        (errors.ServerSelectionTimeoutError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "tlsCAFile"),
        (errors.ServerSelectionTimeoutError("h:1: [SSL: WRONG_VERSION_NUMBER]"), "tls=true or tls=false"),
        (errors.ServerSelectionTimeoutError("No primary available for writes"), "has no primary: check whether"),
        (errors.ServerSelectionTimeoutError('for replica set name "rs0"'), "check replicaSet in the store's URL"),
        (errors.ServerSelectionTimeoutError("No servers found yet"), "host and port in the store's URL, and the fire"),
    ],
)
def test_an_error_says_what_to_do_and_what_the_driver_said(monkeypatch, error, cure):
    def fail() -> None:
        raise error

    store = MongoDBStore("mongodb://ali:sesame@h")
    monkeypatch.setattr(store, "_client", fail)
    with pytest.raises(StoreError, match=cure) as caught:
        store.load("a", now=NOW, touch_after=0)
    assert caught.value.__cause__ is error
    assert str(caught.value).endswith(f" ({error})")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "first_line"),
    [
        ("one\ntwo", "one"),
        ("h:1: refused (configured timeouts: 1), Timeout: 0.9s, Topology Description: <...>", "h:1: refused"),
        ("failed, full error: {'ok': 0.0, 'keyValue': {'user_id': 'ada'}}", "failed"),
        ("x" * 500, "x" * 300 + "..."),
    ],
)
def test_a_message_contains_the_first_line_of_the_drivers_error(said, first_line):
    assert failures.first_line(errors.AutoReconnect(said)) == first_line


def test_without_a_user_in_the_url_a_refusal_says_how_to_name_one(monkeypatch):
    store = MongoDBStore("mongodb://h")
    monkeypatch.setattr(store, "_client", lambda: (_ for _ in ()).throw(OperationFailure("needs authentication", 13)))
    with pytest.raises(StoreError, match="requires a login: write mongodb://user:password@host/database"):
        store.load("a", now=NOW, touch_after=0)


@pytest.mark.parametrize("code", [14031, 371, 100])
def test_a_server_that_refuses_writes_still_reads_and_that_is_logged_once(opened, monkeypatch, caplog, code):
    def refuse(*_: object, **__: object) -> None:
        raise OperationFailure("No space left on device", code)

    store = opened()
    stored = store.create("a", record(), now=NOW)
    monkeypatch.setattr(Collection, "update_one", refuse)
    for _ in range(3):
        assert store.load("a", now=NOW + 50, touch_after=0.05) == stored
    (message,) = [entry.getMessage() for entry in caplog.records if entry.name == "wsgisession"]
    assert "refuses to write" in message
    assert "reads do not restart idle timeouts" in message
    with pytest.raises(WriteRefused, match="No space left on device"):
        store.touch("a", ttl=5, now=NOW)


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://a.example:27017,b.example:27018,[::1]:27019/app?replicaSet=rs0&w=majority&readConcernLevel=majority",
        "mongodb://ali:open%2Fsesame@a.example/app?authSource=admin&tls=true&maxPoolSize=5&appName=shop",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock/app",
        "mongodb+srv://ali:sesame@sessions.example.com/app?retryWrites=true&srvMaxHosts=2",
    ],
)
def test_urls_that_pymongo_accepts_are_accepted_without_a_lookup_or_connection(monkeypatch, url):
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", touched)
    monkeypatch.setattr(socket, "socket", touched)
    monkeypatch.setattr(dns.resolver, "resolve", touched)
    store = open_store(url)
    assert "sesame" not in repr(store)
    store.close()


def test_the_path_names_the_database_and_the_default_is_test():
    stores = [open_store("mongodb://h/my%2Dapp"), open_store("mongodb://h?collection=logins")]
    assert [store._client().sessions.full_name for store in stores] == ["my-app.sessions", "test.logins"]
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mongodb://h/?colection=x", "mongodb store: unknown parameter 'colection'; did you mean 'collection'"),
        ("mongodb://h/?pool=1", "unknown parameter 'pool'; use collection, timeout, max_connections, max_idle"),
        ("mongodb://h/?max_idle=0", "max_idle='0' cannot be used: give a positive number of seconds"),
        ("mongodb://h/?collection=", "collection"),
        ("mongodb://h/?timeout=soon", "timeout"),
        ("mongodb://h/?maxPoolSize=many", "maxpoolsize must be an integer"),
        ("mongodb://h/?tls=true&tlsCAFile=/nowhere.pem", "nowhere.pem|tlscafile"),
        ("mongodb://h/?srvMaxHosts=2", "srvMaxHosts"),
        ("mongodb://h/?authMechanism=SCRAM-SHA-256", "requires a username"),
        ("mongodb://a,b/?directConnection=true", "directConnection"),
        ("mongodb://h/?w=0", "w=0"),
        ("mongodb://h/app.logins", "collection="),
        ("mongodb://", "Empty host"),
        ("mongodb://h/a b", "mongodb://user:password@host"),
        ("mongodb+srv://a.example.com,b.example.com/", "one host"),
        ("mongodb+srv://a.example.com:27017/", "without a port"),
        ("mongodb+srv://a.example.com/?serverMaxHosts=2", "unknown parameter 'serverMaxHosts'"),
    ],
)
def test_an_invalid_url_is_refused_at_startup(url, reason):
    with pytest.raises(ConfigurationError, match=reason):
        open_store(url)


@pytest.mark.parametrize(
    ("parameters", "most", "idle"),
    [
        ("", 100, 60.0),
        ("?max_connections=7&max_idle=5", 7, 5.0),
        ("?maxPoolSize=9&maxIdleTimeMS=2000", 9, 2.0),
    ],
)
def test_the_url_limits_connections_and_their_idle_time(parameters, most, idle):
    with closing(open_store(f"mongodb://h/{parameters}")) as store:
        options = store._client()._client.options.pool_options
        assert (options.max_pool_size, options.max_idle_time_seconds) == (most, idle)


def test_a_url_with_another_scheme_is_refused():
    with pytest.raises(ConfigurationError, match="must begin with mongodb"):
        MongoDBStore("redis://h")


@pytest.mark.parametrize("special", ["/", ":", "@", "%", "?", "?hush=", "#"])
def test_a_password_that_is_not_escaped_is_understood_or_refused_and_never_shown(special):
    url = f"mongodb://ali:hush{special}hush@h/app?replicaSet=rs0"
    if special in (":", "@", "%"):
        with pytest.raises(ConfigurationError) as caught:
            open_store(url)
        assert "hush" not in str(caught.value)
        return
    with closing(open_store(url)) as store:
        assert "hush" not in repr(store)
        assert store._client()._client.options.pool_options._credentials.password == f"hush{special}hush"


def test_a_name_server_that_does_not_answer_is_a_store_error_within_the_timeout(monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], silent.getsockname()[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        store = open_store("mongodb+srv://ali:sesame@sessions.example.com/app?timeout=0.4")
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"mongodb\+srv://sessions\.example\.com/app has no address") as caught:
            store.load("a", now=NOW, touch_after=0)
        assert time.monotonic() - began < 0.8
        assert "sesame" not in f"{caught.value!r} {caught.value.__cause__!r}"
