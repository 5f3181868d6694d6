"""What only the MongoDB store promises: its documents, indexes, and commands, and how it works in processes."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from urllib.parse import parse_qsl, urlencode, urlsplit

import pymongo
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import errors
from pymongo.collection import Collection

from tests import servers
from wsgisession.errors import StoreError
from wsgisession.stores import Record, open_store
from wsgisession.stores.base import Page
from wsgisession.stores.mongodb import documents as documents_module
from wsgisession.stores.mongodb import store as mongodb
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


@pytest.fixture
def commands(caplog) -> Callable[..., list[str]]:
    """Runs a function, and returns the names of the commands that pymongo sent."""

    def run(function: Callable[[], object]) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "pymongo.command"):
            function()
        started = [entry.getMessage() for entry in caplog.records if "Command started" in entry.getMessage()]
        return [message.split('"commandName": "')[1].split('"')[0] for message in started]

    return run


# Documents


def test_a_record_is_a_document_of_connect_mongo_with_five_more_fields(opened, documents):
    stored = opened().create("the-handle", record('{"a":"ü"}'.encode(), user_id="7"), now=NOW)
    found = documents.find_one()
    assert found.pop("expires").timestamp() == NOW + 100
    assert isinstance(found["version"], ObjectId)
    assert found == {
        "_id": "the-handle",
        "session": '{"a":"ü"}',
        "ttl": 100.0,
        "user_id": "7",
        "version": stored.version,
        "expires_at": NOW + 100,
        "order": stored.order,
    }


def test_a_record_of_nobody_has_no_user_and_no_order(opened, documents):
    store = opened()
    stored = store.create("a", record(user_id="u"), now=NOW)
    store.replace("a", record(version=stored.version), now=NOW)
    assert not {"user_id", "order"} & documents.find_one().keys()


def test_a_text_with_a_dollar_sign_stays_a_text(opened, documents):
    """A login is written with an expression, in which "$name" would be the value of a field."""
    store = opened()
    assert store.create("$_id", record(b'"$session"', user_id="$ttl"), now=NOW).order > 0
    assert store.load("$_id", now=NOW, touch_after=None).data == b'"$session"'
    assert documents.find_one()["user_id"] == "$ttl"


def test_the_order_of_a_login_is_the_time_of_the_server(opened):
    began = time.time()
    order = opened().create("a", record(user_id="u"), now=NOW).order
    assert began - 1 < order / 1e6 < time.time() + 1


def test_a_document_of_connect_mongo_is_absent_and_survives_every_verb(opened, documents):
    foreign = {"_id": "a", "session": '{"cookie":{}}', "expires": datetime.fromtimestamp(NOW, timezone.utc)}
    documents.insert_one(foreign)
    documents.insert_one({"_id": ObjectId(), "session": "{}", "user_id": "u"})
    before = list(documents.find())
    store = opened()
    assert store.load("a", now=NOW, touch_after=0) is None
    assert store.create("a", record(), now=NOW) is None
    assert store.replace("a", record(), now=NOW) is None
    assert store.touch("a", ttl=9, now=NOW) is False
    assert store.delete("a", now=NOW) is False
    assert store.find_user("u", now=NOW).records == []
    assert store.delete_user("u", now=NOW).handles == []
    assert list(store.scan(now=NOW)) == []
    assert store.purge(now=NOW) == 0
    assert list(documents.find()) == before


def test_a_record_that_connect_mongo_made_an_object_is_absent(opened, documents):
    store = opened()
    store.create("a", record(user_id="u"), now=NOW)
    documents.update_one({"_id": "a"}, {"$set": {"session": {"cookie": {}}}})
    assert store.load("a", now=NOW, touch_after=0) is None
    assert store.find_user("u", now=NOW).records == []
    assert list(store.scan(now=NOW)) == []
    assert store.create("a", record(), now=NOW) is None


@pytest.mark.parametrize("fraction", [0.0, 0.1234567, 0.0004, 0.9999])
def test_no_fraction_of_a_millisecond_makes_a_record_expire_early_or_late(opened, documents, fraction):
    store, now = opened(), NOW + fraction
    end = store.create("a", record(ttl=7.0001), now=now).expires_at
    assert end == now + 7.0001
    assert documents.find_one()["expires"].timestamp() >= end - 1e-6
    assert store.load("a", now=end - 1e-5, touch_after=None).expires_at == end
    assert store.load("a", now=end, touch_after=None) is None
    assert store.touch("a", ttl=7, now=end) is False
    assert store.purge(now=end - 1e-5) == 0
    assert store.purge(now=end) == 1


def test_the_ttl_date_is_never_early_if_the_applications_clock_is_behind(opened, documents):
    began = time.time()
    opened().create("a", record(ttl=50), now=began - 3600)
    assert documents.find_one()["expires_at"] == began - 3550
    assert documents.find_one()["expires"].timestamp() > began + 49.9


def test_records_of_the_previous_version_have_no_order_and_come_last(opened, documents):
    store = opened()
    for number in range(3):
        store.create(f"s{number}", record(user_id="u"), now=NOW)
    documents.update_many({"_id": {"$in": ["s0", "s2"]}}, {"$unset": {"order": ""}})
    found, page = [], store.find_user("u", now=NOW, limit=1)
    while page.records:
        found += [(handle, one.order > 0) for handle, one in page.records]
        page = store.find_user("u", now=NOW, after=page.after, limit=1) if page.after else Page([])
    assert found == [("s1", True), ("s2", False), ("s0", False)]
    assert store.delete_user("u", now=NOW).handles == ["s1", "s2", "s0"]


def test_a_page_of_large_sessions_ends_after_some_megabytes(opened, monkeypatch):
    monkeypatch.setattr(documents_module, "_PAGE_BYTES", 1000)
    store = opened()
    for number in range(4):
        store.create(f"s{number}", record(b'"' + b"x" * 600 + b'"', user_id="u"), now=NOW)
    page = store.find_user("u", now=NOW)
    assert [handle for handle, _ in page.records] == ["s3", "s2"]
    assert [handle for handle, _ in store.find_user("u", now=NOW, after=page.after).records] == ["s1", "s0"]


def test_a_slow_step_ends_some_sessions_and_reports_more(opened, monkeypatch):
    monkeypatch.setattr(mongodb, "_DELETED_AT_ONCE", 2)
    store = opened(timeout=2)
    for number in range(7):
        store.create(f"s{number}", record(user_id="u"), now=NOW)
    times = itertools.count(0, 0.3)
    monkeypatch.setattr(mongodb, "monotonic", lambda: next(times))
    step = store.delete_user("u", now=NOW)
    assert step.handles == ["s6", "s5", "s4", "s3"]
    assert step.more is True


# Indexes


def test_the_first_record_creates_the_indexes(opened, documents):
    opened().create("a", record(), now=NOW)
    indexes = documents.index_information()
    assert indexes["expires_1"]["expireAfterSeconds"] == 0
    assert indexes["expires_1"]["key"] == [("expires", 1)]
    assert indexes["user_id_1_order_-1__id_-1"]["key"] == [("user_id", 1), ("order", -1), ("_id", -1)]


def test_the_indexes_are_created_once_in_a_process(opened, commands):
    store = opened()
    assert commands(lambda: store.create("a", record(), now=NOW)) == ["update", "createIndexes", "createIndexes"]
    assert commands(lambda: store.create("b", record(), now=NOW)) == ["update"]


def test_an_index_with_other_options_stays_as_it_is(opened, documents):
    documents.create_index("expires", name="expires_1", expireAfterSeconds=3600)
    store = opened()
    assert store.create("a", record(), now=NOW)
    store.prepare()
    indexes = documents.index_information()
    assert indexes["expires_1"]["expireAfterSeconds"] == 3600
    assert "user_id_1_order_-1__id_-1" in indexes


def test_indexes_that_cannot_be_created_are_logged_and_sessions_work(opened, monkeypatch, caplog):
    def refuse(*_: object, **__: object) -> None:
        raise errors.OperationFailure("not authorized", 13)

    monkeypatch.setattr(Collection, "create_index", refuse)
    store = opened()
    assert store.create("a", record(), now=NOW)
    assert store.create("b", record(), now=NOW)
    (message,) = [entry.getMessage() for entry in caplog.records if entry.name == "wsgisession"]
    assert "requires a login" in message
    assert "wsgisession init URL" in message
    with pytest.raises(StoreError, match="requires a login"):
        store.prepare()


def test_parallel_first_uses_all_succeed(opened, documents):
    store = opened()
    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda number: store.create(f"s{number}", record(), now=NOW), range(24)))
    assert all(results)
    assert documents.count_documents({}) == 24
    assert {"expires_1", "user_id_1_order_-1__id_-1"} <= set(documents.index_information())


# Commands


def test_each_verb_is_one_command_or_two_if_necessary(opened, commands):
    store = opened()
    version = store.create("a", record(user_id="u"), now=NOW).version
    later = NOW + 50
    assert commands(lambda: store.load("a", now=NOW, touch_after=0.05)) == ["find"]
    assert commands(lambda: store.load("a", now=later, touch_after=None)) == ["find"]
    assert commands(lambda: store.load("a", now=later, touch_after=0.05)) == ["find", "update"]
    assert commands(lambda: store.replace("a", record(version=version), now=NOW)) == ["update"]
    assert commands(lambda: store.touch("a", ttl=5, now=NOW)) == ["update"]
    assert commands(lambda: store.create("a", record(), now=later)) == ["update"]  # over the expired one
    assert commands(lambda: store.delete("a", now=later)) == ["delete"]
    store.create("a", record(user_id="u"), now=NOW)
    assert commands(lambda: store.find_user("u", now=NOW)) == ["find"]
    assert commands(lambda: list(store.scan(now=NOW))) == ["find"]
    assert commands(lambda: store.delete_user("u", now=NOW)) == ["find", "delete"]
    assert commands(lambda: store.delete_user("u", now=NOW)) == ["find"]
    assert commands(lambda: store.purge(now=NOW)) == ["find"]


def test_a_record_that_changes_between_a_read_and_its_restart_is_still_found(opened, monkeypatch):
    store = opened()
    store.create("a", record(), now=NOW)
    sessions = store._client().sessions
    read = sessions.find_one

    class Interrupted:
        update_one = sessions.update_one

        def find_one(self, *args: object) -> object:
            found = read(*args)
            assert store.touch("a", ttl=30, now=NOW + 50)
            return found

    monkeypatch.setattr(store._client(), "sessions", Interrupted())
    assert store.load("a", now=NOW + 50, touch_after=0) is not None
    monkeypatch.setattr(store._client(), "sessions", sessions)
    assert store.load("a", now=NOW + 50, touch_after=None).expires_at == NOW + 80


def test_purge_and_scan_handle_more_documents_than_one_batch_or_page(opened, monkeypatch, commands):
    monkeypatch.setattr(mongodb, "_BATCH", 2)
    monkeypatch.setattr(mongodb, "_PAGE", 2)
    store = opened()
    for number in range(5):
        store.create(f"s{number}", record(), now=NOW)
    scanned, removed = [], []
    assert commands(lambda: scanned.extend(store.scan(now=NOW))) == ["find"] * 3
    assert [handle for handle, _ in scanned] == ["s0", "s1", "s2", "s3", "s4"]
    assert commands(lambda: removed.append(store.purge(now=NOW + 101, limit=3))) == ["find", "delete"] * 2
    assert removed == [3]
    assert store.purge(now=NOW + 101) == 2


@pytest.mark.parametrize("preference", ["secondary", "secondaryPreferred&readPreferenceTags=dc:ny,rack:1", "nearest"])
def test_sessions_are_read_from_the_primary_even_if_the_url_prefers_another(opened, url, preference):
    store = opened(f"{url}&readPreference={preference}")
    assert store._client().sessions.read_preference == pymongo.ReadPreference.PRIMARY


# Processes


FORK = """
import os, sys
from wsgisession.stores import Record, open_store
from wsgisession.stores.base import Page
store = open_store(sys.argv[1])
assert store.create("parent", Record(b"{}", 100.0), now=4e9)
child = os.fork()
assert store.load("parent", now=4e9, touch_after=0)
assert store.create(f"of {child > 0}", Record(b"{}", 100.0), now=4e9)
store.close()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)
"""

GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from wsgisession.errors import StoreError
from wsgisession.stores import Record, open_store
from wsgisession.stores.base import Page
store = open_store(sys.argv[1])
tasks = [gevent.spawn(store.create, f"s{n}", Record(b"{}", 100.0), now=4e9) for n in range(50)]
gevent.joinall(tasks, timeout=20, raise_error=True)
assert all(task.value for task in tasks)
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
ticking = gevent.spawn(tick)
silent = open_store(sys.argv[2])
try:
    silent.load("a", now=4e9, touch_after=0)
except StoreError:
    assert len(ticks) > 10, ticks
else:
    raise AssertionError("it answered")
silent.close()
store.close()
"""


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=servers.ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def test_a_store_used_before_a_fork_keeps_working_in_both_processes_without_a_warning(url, documents):
    assert run(FORK, url) == ""
    assert {found["_id"] for found in documents.find()} == {"parent", "of True", "of False"}


def test_other_greenlets_run_while_a_call_waits(url, tcp_proxy):
    proxy = tcp_proxy(url)
    proxy.stall = True
    assert run(GEVENT, url, f"{proxy.url}&timeout=0.4") == ""
