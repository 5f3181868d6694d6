"""Parallel writers of one session take turns once they collided: nothing is lost, and the work does not multiply."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tests.visits import SECRET, WatchedStore
from wsgisession import SessionManager, open_store
from wsgisession._core.turns import Turns

ENVIRON = {"wsgi.url_scheme": "https", "HTTP_HOST": "example.com"}


class CountingStore(WatchedStore):
    """Counts, and lets other threads run in the middle of each call, as a server does."""

    def replace(self, *args, **options):
        time.sleep(0.001)
        return super().replace(*args, **options)


def test_sixteen_writers_of_one_session_in_one_process_lose_nothing_and_try_three_times_at_most_on_average():
    store = CountingStore()
    manager = SessionManager(secret=SECRET, store=store)
    session = manager.open("", {})
    session["n"] = 0
    cookie = manager.commit(session, ENVIRON).set_cookie.partition(";")[0]
    barrier = threading.Barrier(16)

    def write(number: int) -> None:
        mine = manager.open(cookie, {})
        assert mine["n"] == 0
        barrier.wait()
        mine[f"key{number}"] = number
        manager.commit(mine, ENVIRON)

    store.calls.clear()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    assert {key for key in manager.open(cookie, {}) if key != "n"} == {f"key{number}" for number in range(16)}
    assert store.calls["replace"] <= 3 * 16


def test_fifty_parallel_transactions_add_up_to_fifty():
    with closing(open_store("memory://")) as store:
        manager = SessionManager(secret=SECRET, store=store)
        session = manager.open("", {})
        session["n"] = 0
        cookie = manager.commit(session, ENVIRON).set_cookie.partition(";")[0]

        def add(_: int) -> None:
            mine = manager.open(cookie, {})
            mine.transaction(lambda session: session.update(n=session["n"] + 1))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(add, range(50)))
        assert manager.open(cookie, {})["n"] == 50


def test_a_turn_is_given_to_one_writer_of_a_session_at_a_time_and_forgotten_afterwards():
    turns, inside, most = Turns(), [], []

    def work(_: int) -> None:
        with turns.of("handle"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert set(most) == {1}
    assert turns._table()._waiting == {}


def test_writers_of_other_sessions_do_not_wait():
    turns = Turns()
    with turns.of("one"):
        done = threading.Event()
        thread = threading.Thread(target=lambda: turns.of("other").__enter__() or done.set())
        thread.start()
        assert done.wait(1)
        thread.join()


def test_an_app_that_writes_the_session_from_inside_its_own_turn_does_not_wait_for_itself():
    turns = Turns()
    with turns.of("handle"), turns.of("handle"):
        pass
