"""The pool of connections, with connections that are made up, and a clock that is set by hand."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic

import pytest

from tests.visits import Clock
from wsgisession.stores.pool import AllBusyError, Fault, PerProcess, Pool
from wsgisession.testing.workbench import in_fork, in_parallel


class Full(Exception):
    """The server has no free slot."""


class Lost(Exception):
    """The connection is lost."""


class Moved(Exception):
    """The server is no longer the primary."""


class Refused(Exception):
    """The server does not do this."""


class Connection:
    is_open = True
    is_alive = True


class Server:
    """Hands out connections, as many as it has slots."""

    def __init__(self, slots: int = 1000) -> None:
        self.slots = slots
        self.opened: list[Connection] = []
        self.attempts = 0
        self.lock = threading.Lock()

    def connect(self, deadline: float) -> Connection:
        with self.lock:
            self.attempts += 1
            if len(self.open) >= self.slots:
                raise Full
            self.opened.append(Connection())
            return self.opened[-1]

    def close(self, connection: Connection) -> None:
        connection.is_open = False

    def is_alive(self, connection: Connection) -> bool:
        return connection.is_alive

    def is_full(self, error: Exception) -> bool:
        return isinstance(error, Full)

    def fault(self, error: Exception, connection: Connection) -> Fault:
        return {Lost: Fault.LOST, TimeoutError: Fault.LOST, Moved: Fault.MISPLACED}.get(type(error), Fault.NONE)

    @property
    def open(self) -> list[Connection]:
        return [connection for connection in self.opened if connection.is_open]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pool(server, clock):
    return Pool(server, max_connections=8, max_idle=60.0, clock=clock)


def soon(seconds: float = 5.0) -> float:
    return monotonic() + seconds


def burst(pool, count, deadline=float("inf")):
    """Use so many connections at once."""
    taken = [pool._take(deadline)[0] for _ in range(count)]
    for connection in taken:
        pool.give_back(connection)
    return taken


def itself(connection, deadline):
    return connection


# One after the other


def test_a_connection_is_used_again(pool, server):
    assert {pool.run(itself, float("inf")) for _ in range(5)} == set(server.opened)
    assert len(server.opened) == len(pool) == 1


def test_the_last_one_given_back_is_the_first_one_taken(pool):
    burst(pool, 3)
    last = burst(pool, 1)
    assert burst(pool, 1) == last


def test_what_was_idle_for_too_long_is_closed_at_the_next_call(pool, server, clock):
    burst(pool, 8)
    for _ in range(4):
        clock += 20
        pool.run(itself, float("inf"))
    assert len(server.open) == len(pool) == 1
    assert len(server.opened) == 8


def test_what_was_idle_for_too_long_is_not_trusted(pool, server, clock):
    old = burst(pool, 3)
    clock += 60
    assert pool.run(itself, float("inf")) not in old
    assert len(server.open) == 1


def test_a_connection_that_died_while_it_was_idle_is_not_used(pool, server):
    (dead,) = burst(pool, 1)
    dead.is_alive = False
    assert pool.run(itself, float("inf")) is not dead
    assert not dead.is_open


# Failures


def failing(error, *, times=1):
    """Return a call that fails so many times, and then returns its connection."""
    left = [times]

    def call(connection, deadline):
        if left[0]:
            left[0] -= 1
            raise error
        return connection

    return call


@pytest.mark.parametrize("error", [Lost(), TimeoutError(), Moved()])
def test_a_dead_connection_costs_no_call_and_no_older_one_is_tried(pool, server, error):
    old = burst(pool, 8)
    assert pool.run(failing(error), float("inf")) not in old
    assert [each.is_open for each in old] == 8 * [False]
    assert len(server.open) == 1


def test_the_first_try_on_an_old_connection_leaves_time_for_a_second_one(pool, clock):
    deadlines = []

    def call(connection, deadline):
        deadlines.append(deadline - clock())
        if len(deadlines) == 2:
            clock.now += deadlines[-1]
            raise Lost

    pool.run(call, clock() + 2)
    pool.run(call, clock() + 2)
    assert deadlines == pytest.approx([2.0, 1.2, 0.8])


def test_what_must_not_be_repeated_has_all_the_time_and_one_try(pool, clock):
    burst(pool, 1)
    tries = []

    def call(connection, deadline):
        tries.append(deadline - clock())
        raise Lost

    with pytest.raises(Lost):
        pool.run(call, clock() + 2, repeat=False)
    assert tries == [2.0]


def test_what_must_not_be_repeated_is_repeated_where_the_server_did_nothing(pool):
    burst(pool, 1)
    assert pool.run(failing(Moved()), float("inf"), repeat=False)


def test_a_fresh_connection_that_fails_is_not_tried_again(pool, server):
    with pytest.raises(Lost):
        pool.run(failing(Lost()), float("inf"))
    assert (len(server.opened), len(pool)) == (1, 0)


def test_a_second_failure_is_raised(pool):
    burst(pool, 3)
    with pytest.raises(Lost):
        pool.run(failing(Lost(), times=2), float("inf"))
    assert len(pool) == 0


def test_a_refusal_keeps_the_connection(pool):
    (connection,) = burst(pool, 1)
    with pytest.raises(Refused):
        pool.run(failing(Refused()), float("inf"))
    assert pool.run(itself, float("inf")) is connection


def test_what_interrupts_a_call_closes_its_connection(pool, server):
    class Interrupt(BaseException):
        pass

    for use in (lambda: pool.run(failing(Interrupt()), float("inf")), lambda: interrupted(pool, Interrupt())):
        with pytest.raises(Interrupt):
            use()
        assert server.open == []


def interrupted(pool, error):
    with pool.lend(float("inf")):
        raise error


def test_a_lent_connection_is_kept_after_a_refusal_and_dropped_after_a_loss(pool, server):
    with pytest.raises(Refused):
        interrupted(pool, Refused())
    assert len(server.open) == 1
    with pytest.raises(Lost):
        interrupted(pool, Lost())
    assert server.open == []


def test_a_connection_in_use_while_others_are_discarded_is_closed_when_it_comes_back(pool, server):
    burst(pool, 2)
    with pool.lend(float("inf")) as used:
        pool.discard_idle()
        assert server.open == [used]
    assert server.open == []


def test_a_late_failure_of_an_old_connection_leaves_the_young_ones(pool, server):
    with pytest.raises(Lost), pool.lend(float("inf")):
        pool.discard_idle()
        (young,) = burst(pool, 1)
        raise Lost
    assert server.open == [young]


def test_close_closes_the_idle_now_and_those_in_use_when_they_come_back(pool, server):
    burst(pool, 2)
    with pool.lend(float("inf")) as used:
        pool.close()
        assert server.open == [used]
    assert server.open == []


# Many at once


def test_a_call_waits_for_a_connection_that_comes_free(server):
    pool = Pool(server, max_connections=2)
    with ThreadPoolExecutor(30) as threads:
        done = list(
            threads.map(lambda _: [pool.run(lambda *_: time.sleep(0.001), soon()) for _ in range(10)], range(30))
        )
    assert len(done) == 30
    assert len(server.opened) <= 2


def test_no_call_waits_longer_than_its_deadline(server):
    pool = Pool(server, max_connections=1)
    with pool.lend(soon()):
        began = monotonic()
        with pytest.raises(AllBusyError):
            pool.run(itself, soon(0.05))
        assert 0.04 < monotonic() - began < 1
    assert pool.run(itself, soon())


def test_those_who_wait_are_served_in_turn(server):
    pool = Pool(server, max_connections=1)
    served = []
    with pool.lend(soon()), ThreadPoolExecutor(5) as threads:
        for number in range(5):
            threads.submit(pool.run, lambda *_, number=number: served.append(number), soon())
            until(lambda number=number: len(pool._waiters) == number + 1)
        (connection,) = server.opened
        pool.give_back(connection)
        until(lambda: len(served) == 5)
        pool._take(soon())
    assert served == [0, 1, 2, 3, 4]


def until(is_so):
    deadline = soon()
    while not is_so():
        assert monotonic() < deadline
        time.sleep(0.001)


def test_a_lost_connection_makes_room_for_those_who_wait(server):
    pool = Pool(server, max_connections=1)
    connection, _ = pool._take(soon())
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.run, itself, soon())
        until(lambda: pool._waiters)
        pool.drop(connection)
        assert waiting.result() is server.opened[1]


def test_where_the_server_has_no_more_slots_calls_share_the_connections_that_are_there():
    server = Server(slots=3)
    pool = Pool(server, max_connections=10)
    with ThreadPoolExecutor(30) as threads:
        done = list(
            threads.map(lambda _: [pool.run(lambda *_: time.sleep(0.001), soon()) for _ in range(10)], range(30))
        )
    assert len(done) == 30
    assert len(server.opened) == 3


def test_a_server_without_slots_is_asked_now_and_then_until_one_comes_free():
    server = Server(slots=0)
    pool = Pool(server, max_connections=10)
    with ThreadPoolExecutor(10) as threads:
        waiting = [threads.submit(pool.run, itself, soon()) for _ in range(10)]
        time.sleep(0.25)
        assert server.attempts <= 40
        server.slots = 1
        assert len({each.result() for each in waiting}) == 1


def test_a_server_that_stays_full_is_what_the_call_fails_with():
    pool = Pool(Server(slots=0), max_connections=10)
    began = monotonic()
    with pytest.raises(Full):
        pool.run(itself, soon(0.25))
    assert 0.2 < monotonic() - began < 1


def test_a_server_that_cannot_be_reached_is_not_waited_for(pool, server, monkeypatch):
    def connect(deadline):
        raise Refused

    monkeypatch.setattr(server, "connect", connect)
    with pytest.raises(Refused):
        pool.run(itself, float("inf"))
    monkeypatch.undo()
    assert burst(pool, 8)


@pytest.fixture
def restless_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_in_a_crowd_with_failures_no_connection_is_lost_or_used_twice(server, restless_threads):
    pool = Pool(server, max_connections=4)
    using = set()

    def call(connection, deadline):
        assert connection not in using
        using.add(connection)
        time.sleep(0)
        using.remove(connection)
        if next(numbers) % 13 == 0:
            raise Lost

    numbers = iter(range(10**9))

    def work(_):
        for _ in range(200):
            with suppress(Lost):
                pool.run(call, soon())

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert len(pool) == len(server.open) == len(pool._idle) <= 4
    assert not pool._waiters


# One opening a process


def test_opens_once_and_at_the_first_use():
    opened = []
    thing = PerProcess(lambda: opened.append("open") or object())
    assert opened == []
    assert thing() is thing()
    assert opened == ["open"]


def test_threads_that_come_together_open_once():
    opened = []
    another = threading.Event()

    def open_it():
        opened.append("open")
        another.wait(0.05)  # long enough for the others to come in, if they were let
        return object()

    thing = PerProcess(open_it)
    assert len(set(in_parallel(lambda _: thing(), count=8))) == 1
    assert opened == ["open"]


def test_a_failed_opening_is_tried_again():
    results = iter([OSError("not yet"), "open"])

    def open_it():
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    thing = PerProcess(open_it)
    with pytest.raises(OSError, match="not yet"):
        thing()
    assert thing() == "open"


def test_take_gives_what_was_opened_once():
    thing = PerProcess(object)
    assert thing.take() is None
    opened = thing()
    assert thing.take() is opened
    assert thing.take() is None
    assert thing() is not opened


def test_a_forked_process_opens_its_own():
    thing = PerProcess(os.getpid)
    assert thing() == os.getpid()

    def use():
        assert thing() == os.getpid()

    def take():
        assert thing.take() is None

    in_fork(use)
    in_fork(take)


def test_a_fork_while_another_thread_is_opening_leaves_no_lock_behind():
    opening, forked = threading.Event(), threading.Event()
    parent = os.getpid()

    def open_it():
        if os.getpid() == parent:
            opening.set()
            assert forked.wait(30)
        return os.getpid()

    thing = PerProcess(open_it)
    thread = threading.Thread(target=thing)
    thread.start()
    assert opening.wait(10)
    try:
        in_fork(lambda: thing(), seconds=10)
    finally:
        forked.set()
        thread.join()
