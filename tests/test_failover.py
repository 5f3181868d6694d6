"""Failover of Redis under visitors: errors while it lasts, and afterwards nothing lost that was answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests import servers
from tests.conftest import with_options
from tests.visitors import Browser, Site
from wsgisession import Session
from wsgisession.stores import open_store


class Visitor(threading.Thread):
    """Writes to its session again and again, and notes what it was told.

    :ivar answered: the last number whose response was a success.
    :ivar least: what the next success must find at least.
    :ivar failures: when each 503 came.
    """

    def __init__(self, site: Site, ends: threading.Event) -> None:
        super().__init__(daemon=True)
        self.browser, self.ends = site.browser(), ends
        self.answered = self.least = 0
        self.failures: list[float] = []
        self.statuses: set[int] = set()
        self.lost: list[int] = []
        self.broken: BaseException | None = None
        self.count()

    def run(self) -> None:
        try:
            while not self.ends.wait(0.005):
                self.count()
        except BaseException as error:
            self.broken = error

    def count(self) -> None:
        def order(session: Session) -> Any:
            found = session.get("n", 0)
            session["n"] = self.answered + 1
            return found

        found = self.browser.visit(order)
        status = self.browser.response.status_code
        self.statuses.add(status)
        if status == 200:
            if not self.least <= found <= self.answered + 1:  # one more by a write whose answer was lost
                self.lost.append(found)
            self.answered += 1
            self.least = self.answered
        else:
            assert self.browser.sent is None
            self.failures.append(time.monotonic())
            self.least = 1  # Redis answers before its replica has it: the last writes may go with the master


@contextmanager
def visitors(url: str, number: int = 4) -> Iterator[list[Visitor]]:
    ends = threading.Event()
    with closing(open_store(with_options(url, timeout="1"))) as store:
        site = Site(store, on_store_error="unavailable")
        crowd = [Visitor(site, ends) for _ in range(number)]
        for visitor in crowd:
            visitor.start()
        try:
            yield crowd
        finally:
            ends.set()
            for visitor in crowd:
                visitor.join(10)


def until(condition: Callable[[], Any], *, seconds: float = 25) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def all_go_on(crowd: list[Visitor], *, by: int = 20) -> None:
    """Wait until each has had so many more successes."""
    wanted = [visitor.answered + by for visitor in crowd]
    until(lambda: all(visitor.answered >= n for visitor, n in zip(crowd, wanted, strict=True)))


def data_of(browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = browser.visit(dict)
    return found


@pytest.mark.slow
def test_a_master_killed_under_its_visitors_costs_errors_while_it_lasts_and_no_session(start_server, record_property):
    setup = start_server(servers.RedisSentinel)
    with visitors(setup.url) as crowd:
        all_go_on(crowd)
        setup.replica.wait_until(lambda: setup.replica.call("DBSIZE") >= len(crowd))
        setup.master.kill()
        killed = time.monotonic()
        until(lambda: setup.master_port() == setup.replica.port)
        until(lambda: setup.replica.call("ROLE")[0] == "master")
        all_go_on(crowd)
    assert [visitor.broken for visitor in crowd] == [None] * len(crowd)
    assert {status for visitor in crowd for status in visitor.statuses} == {200, 503}
    seen = max(at for visitor in crowd for at in visitor.failures) - killed
    record_property("failover seen by clients, in seconds", round(seen, 2))
    print(f"failover seen by clients: {seen:.2f} s, {sum(len(visitor.failures) for visitor in crowd)} errors")
    assert seen < 20
    for visitor in crowd:
        assert visitor.lost == []
        assert data_of(visitor.browser)["n"] in (visitor.answered, visitor.answered + 1)


def test_a_slot_that_moves_while_its_sessions_are_used_loses_none(start_server):
    """Key by key, from one master to another, with the redirections ASK and MOVED on the way, and no error."""
    cluster = start_server(servers.RedisCluster)
    with visitors(cluster.url, 6) as crowd:
        all_go_on(crowd, by=5)
        source, target, other = sorted(cluster.nodes, key=lambda node: node.call("DBSIZE"), reverse=True)
        source_id, target_id = source.call("CLUSTER", "MYID"), target.call("CLUSTER", "MYID")
        keys = source.call("KEYS", "*")
        slots = sorted({source.call("CLUSTER", "KEYSLOT", key) for key in keys})
        for slot in slots:
            target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        all_go_on(crowd, by=5)
        for slot in slots:
            for key in source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
                source.call("MIGRATE", servers.HOST, target.port, key, 0, 5000)
        all_go_on(crowd, by=5)
        for slot in slots:
            for node in (target, source, other):
                node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        all_go_on(crowd)
    assert [visitor.broken for visitor in crowd] == [None] * len(crowd)
    assert {status for visitor in crowd for status in visitor.statuses} == {200}
    for visitor in crowd:
        assert visitor.lost == []
        assert data_of(visitor.browser) == {"n": visitor.answered}
    assert source.call("DBSIZE") == 0
