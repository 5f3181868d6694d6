"""What only the memory store promises: it is bounded, cheap when full, and forgets what has expired."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from wsgisession.errors import ConfigurationError
from wsgisession.stores import Record, open_store
from wsgisession.stores.memory import MemoryStore
from wsgisession.testing.workbench import in_parallel

NOW = 1_000_000_000.0


def record(*, ttl: float = 100.0, user_id: str | None = None, version: object = None) -> Record:
    return Record(b"{}", ttl, user_id, version)


def handles(store: MemoryStore, *, now: float = NOW) -> list[str]:
    return sorted(handle for handle, _ in store.scan(now=now))


def test_a_full_store_drops_the_least_recently_used():
    store = MemoryStore(max_sessions=3)
    versions = {handle: store.create(handle, record(), now=NOW).version for handle in "abc"}
    store.load("a", now=NOW, touch_after=None)
    store.touch("b", ttl=100, now=NOW)
    store.create("d", record(), now=NOW)
    assert handles(store) == ["a", "b", "d"]
    store.replace("a", record(version=versions["a"]), now=NOW)
    store.create("e", record(), now=NOW)
    assert handles(store) == ["a", "d", "e"]


def test_a_dropped_session_leaves_the_user_index():
    store = MemoryStore(max_sessions=2)
    for handle in "abc":
        store.create(handle, record(user_id="u"), now=NOW)
    assert [handle for handle, _ in store.find_user("u", now=NOW).records] == ["c", "b"]


def test_a_write_to_a_full_store_drops_nothing_when_its_session_is_there():
    store = MemoryStore(max_sessions=2)
    store.create("b", record(), now=NOW)
    version = store.create("a", record(), now=NOW).version
    assert store.replace("a", record(version=version), now=NOW) is not None
    assert store.create("a", record(), now=NOW) is None
    assert handles(store) == ["a", "b"]


def test_a_full_store_gives_up_the_expired_before_the_live():
    store = MemoryStore(max_sessions=2)
    store.create("live", record(ttl=1000), now=NOW)
    store.create("expired", record(ttl=5), now=NOW)
    store.create("new", record(), now=NOW + 10)
    assert handles(store, now=NOW + 10) == ["live", "new"]


def test_new_sessions_sweep_out_the_expired():
    store = MemoryStore()
    for number in range(1000):
        store.create(f"old{number}", record(ttl=5, user_id=f"u{number}"), now=NOW)
    for number in range(200):
        store.create(f"new{number}", record(), now=NOW + 10)
    assert len(store._records) == 200
    assert store._logins == {}


@pytest.mark.parametrize("shorten", ["touch", "replace"])
def test_a_session_that_was_given_less_time_is_swept_by_it(shorten):
    store = MemoryStore()
    version = store.create("a", record(ttl=1000), now=NOW).version
    if shorten == "touch":
        store.touch("a", ttl=5, now=NOW)
    else:
        store.replace("a", record(ttl=5, version=version), now=NOW)
    assert store.purge(now=NOW + 10) == 1


def test_an_expired_session_is_gone_from_memory_when_it_is_asked_for():
    store = MemoryStore()
    store.create("a", record(user_id="u"), now=NOW)
    assert store.load("a", now=NOW + 200, touch_after=0) is None
    assert (dict(store._records), store._logins) == ({}, {})


def test_a_session_that_was_read_is_swept_at_its_new_expiry():
    store = MemoryStore()
    store.create("a", record(ttl=5), now=NOW)
    store.load("a", now=NOW + 4, touch_after=0)
    assert store.purge(now=NOW + 6) == 0
    assert store.purge(now=NOW + 10) == 1
    assert len(store._records) == 0


@pytest.mark.parametrize(
    "end",
    [lambda store: store.delete("a", now=NOW), lambda store: store.delete_user("u", now=NOW)],
    ids=["delete", "delete_user"],
)
def test_an_ended_session_leaves_nothing_in_memory(end):
    store = MemoryStore()
    store.create("a", record(user_id="u"), now=NOW)
    end(store)
    assert (dict(store._records), store._logins) == ({}, {})


def test_what_is_kept_for_sweeping_stays_in_proportion():
    store = MemoryStore(max_sessions=10)
    version = store.create("long", record(ttl=1e6), now=NOW).version
    for number in range(5000):
        store.create(f"s{number}", record(ttl=1e6), now=NOW)
        store.delete(f"s{number}", now=NOW)
        version = store.replace("long", record(ttl=1e6 - number, version=version), now=NOW).version
    assert len(store._due) <= 2 * 10 + 64 + 1


def test_reads_that_restart_add_nothing_to_memory():
    store = MemoryStore()
    store.create("a", record(), now=NOW)
    for second in range(1000):
        assert store.load("a", now=NOW + second, touch_after=0).expires_at == NOW + second + 100
    assert len(store._due) == 1


def _seconds_for_writes(count: int, *, full: int) -> float:
    store = MemoryStore(max_sessions=full)
    for number in range(full):
        store.create(f"old{number}", record(user_id="everybody"), now=NOW)
    started = time.thread_time()
    for number in range(count):
        store.create(f"new{number}", record(user_id="everybody"), now=NOW)
    return time.thread_time() - started


def test_a_write_to_a_full_store_costs_the_same_however_large_it_is():
    small = min(_seconds_for_writes(2000, full=500) for _ in range(3))
    large = min(_seconds_for_writes(2000, full=50_000) for _ in range(3))
    assert large < small * 8  # a search through the store, or through the user's sessions, would make it 100


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_parallel_use_keeps_the_store_and_its_index_in_step(restless_threads):
    store = MemoryStore(max_sessions=50)

    def work(thread: int) -> None:
        for number in range(500):
            handle = f"s{(thread * 7 + number) % 80}"
            store.create(handle, record(user_id=f"u{number % 5}", ttl=10 + number % 7), now=NOW + number % 20)
            store.load(handle, now=NOW + number % 20, touch_after=0)
            store.delete_user(f"u{thread}", now=NOW, keep=handle)

    in_parallel(work, count=5)
    assert len(store._records) <= 50
    indexed = {(user, handle) for user, found in store._logins.items() for _, handle in found}
    assert indexed == {(kept.user_id, handle) for handle, kept in store._records.items()}


def test_says_that_other_processes_do_not_see_it():
    assert MemoryStore.shared is False


def test_the_url_says_how_many_sessions():
    assert repr(open_store("memory://?max_sessions=5")) == "<MemoryStore of at most 5 sessions>"
    assert repr(open_store("memory://")) == "<MemoryStore of at most 100000 sessions>"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memory://?max_sessions=0", "max_sessions='0' cannot be used"),
        ("memory://?max_session=5", "unknown parameter 'max_session'; did you mean 'max_sessions'"),
        ("memory:///path/to.db", "a memory store has no location"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused(url, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        open_store(url)


def test_a_store_for_no_sessions_is_refused():
    with pytest.raises(ConfigurationError, match="max_sessions must be at least 1, not 0"):
        MemoryStore(max_sessions=0)
