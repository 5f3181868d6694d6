"""A store that is observed keeps the promises of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from wsgisession import ConfigurationError, StoreError
from wsgisession.observed import ObservedStore
from wsgisession.stores import StoreURL
from wsgisession.stores.memory import MemoryStore
from wsgisession.testing import StoreContract
from wsgisession.testing.contract import CALLS


class Watch:
    """Records when a call begins and ends."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def __call__(self, verb: str, kind: str) -> Iterator[None]:
        self.seen.append(f"{kind} {verb}")
        try:
            yield
        finally:
            self.seen.append("end")


class TestObservedStore(StoreContract):
    @pytest.fixture
    def store(self) -> ObservedStore:
        return ObservedStore("memory://", lambda verb, kind: nullcontext())


@pytest.mark.parametrize("verb", [verb for verb in CALLS if verb != "scan"])
def test_each_verb_is_called_inside_the_observers_context_manager(verb):
    watch = Watch()
    CALLS[verb](ObservedStore("memory://", watch))
    assert watch.seen == [f"memory {verb}", "end"]


def test_a_scan_is_not_observed():
    watch = Watch()
    CALLS["scan"](ObservedStore("memory://", watch))
    assert watch.seen == []


def test_the_observer_sees_the_end_of_a_call_that_fails():
    class Broken(MemoryStore):
        def load(self, handle, **options):
            raise StoreError("the store is down")

    watch = Watch()
    with pytest.raises(StoreError):
        CALLS["load"](ObservedStore(Broken(), watch))
    assert watch.seen == ["broken load", "end"]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", "memory"),
        ("sqlite:///sessions.db", "sqlite"),
        ("rediss://localhost", "redis"),
        ("valkey+cluster://localhost", "redis"),
        ("postgresql://localhost/app", "postgresql"),
        ("mongodb://localhost/app", "mongodb"),
    ],
)
def test_the_kind_of_a_store_is_one_word_and_never_its_address(url, kind):
    once = ObservedStore(url, Watch())
    assert (once.kind, ObservedStore(once, Watch()).kind) == (kind, kind)
    assert once.shared is (kind != "memory")


def test_what_the_store_needs_on_its_server_can_be_asked_and_created():
    store = ObservedStore("postgresql://localhost/app", Watch())
    assert "CREATE TABLE" in str(store.ddl)
    assert repr(store).startswith("<PostgreSQLStore ")


def test_an_observed_store_has_no_url():
    with pytest.raises(ConfigurationError, match="store to observe"):
        ObservedStore.from_url(StoreURL("observed://x"))
