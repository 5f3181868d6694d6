"""What it costs that many requests write one session at once: ``python -m benchmarks.contention``.

- writers: 32 writers in 4 processes, each of which sets its own key again and again, on Redis, in a session of 220
  bytes and in one of 10 KB. In the hand-written version, each takes a lock, reads, writes, and gives the lock back.
- large: the same 32 writers, each of which sets one key once, in a session of 0.9 MB.
- conflict: a request that changes a session of 900 KB, into which another request wrote in between; in memory.

Afterwards every key must be there. A part of it, which is only printed::

    python -m benchmarks.contention --only large
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import redis

from benchmarks import goals, report
from benchmarks.goals import Goal, must
from benchmarks.subjects import SECRET, data_of
from wsgisession import Session, SessionManager

PROCESSES, THREADS = 4, 8
WRITERS = PROCESSES * THREADS
ENVIRON = {"wsgi.url_scheme": "https", "HTTP_HOST": "example.com"}
KEPT = 30
"""Seconds after which a lock is free again, whatever became of its owner."""


@dataclass(frozen=True)
class Share:
    """What one process did: seconds of each write, tries, and seconds of CPU time."""

    taken: tuple[float, ...]
    tries: int
    cpu: float


class Ours:
    """A manager whose tries to write are counted."""

    def __init__(self, url: str, name: str) -> None:
        self._manager = SessionManager(secret=SECRET, store=url)
        self._cookie = name
        self._count = threading.Lock()
        self.tries = 0
        replace = self._manager.store.replace

        def counted(*arguments: Any, **options: Any) -> Any:
            with self._count:
                self.tries += 1
            return replace(*arguments, **options)

        self._manager.store.replace = counted  # type: ignore[method-assign]

    def create(self, data: dict[str, Any]) -> str:
        """Store a session, and return what the processes need to find it."""
        session = self._manager.open("", {})
        session.update(data)
        sent = self._manager.commit(session, ENVIRON).set_cookie
        self._cookie = str(sent).partition(";")[0]
        return self._cookie

    def write(self, key: str, value: int) -> None:
        session = self._manager.open(self._cookie, ENVIRON)
        session.get("n")
        session[key] = value
        self._manager.commit(session, ENVIRON)

    def content(self) -> dict[str, Any]:
        return dict(self._manager.open(self._cookie, ENVIRON))

    def close(self) -> None:
        self._manager.close()


class ByHand:
    """JSON in Redis, written by whoever has the lock of the session."""

    _RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"

    def __init__(self, url: str, name: str) -> None:
        self._client: redis.Redis[bytes] = redis.Redis.from_url(url)
        self._release = self._client.register_script(self._RELEASE)
        self._name = name
        self.tries = 0  # whoever has the lock needs one

    def create(self, data: dict[str, Any]) -> str:
        self._name = f"hand:{secrets.token_urlsafe(32)}"
        self._client.set(self._name, json.dumps(data))
        return self._name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        token = secrets.token_hex(8)
        while not self._client.set(f"lock:{self._name}", token, nx=True, ex=KEPT):
            time.sleep(random.uniform(0.001, 0.005))
        try:
            yield
        finally:
            self._release(keys=[f"lock:{self._name}"], args=[token])

    def write(self, key: str, value: int) -> None:
        with self._locked():
            data = self.content()
            data[key] = value
            self._client.set(self._name, json.dumps(data))

    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._client.get(self._name) or b"{}")
        return found

    def close(self) -> None:
        self._client.close()


KINDS: dict[str, Callable[[str, str], Ours | ByHand]] = {"wsgisession": Ours, "by hand, with a lock": ByHand}


def work(kind: str, url: str, name: str, process: int, writes: int, start: Any, results: Any) -> None:
    """Write from this process's threads, each its own key, and report."""
    with closing(KINDS[kind](url, name)) as sessions:
        taken: list[float] = []

        def write(number: int) -> None:
            for value in range(writes):
                begun = time.perf_counter()
                sessions.write(f"writer {process}-{number}", value)
                taken.append(time.perf_counter() - begun)

        with ThreadPoolExecutor(THREADS) as pool:
            start.wait()
            begun = time.process_time()
            list(pool.map(write, range(THREADS)))
        results.put(Share(tuple(taken), sessions.tries, time.process_time() - begun))


@dataclass(frozen=True)
class Outcome:
    """What all processes did together."""

    seconds: float
    taken: Sequence[float]
    tries: int
    cpu: float
    lost: int

    @property
    def rate(self) -> float:
        return len(self.taken) / self.seconds

    @property
    def p99(self) -> float:
        return sorted(self.taken)[int(len(self.taken) * 0.99)]


def contend(kind: str, url: str, size: int, writes: int) -> Outcome:
    """Let all writers write this often, at once, and count what is lost."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(PROCESSES + 1), context.Queue()
    with closing(KINDS[kind](url, "")) as sessions:
        name = sessions.create(data_of(1, size))
        workers = [
            context.Process(target=work, args=(kind, url, name, number, writes, start, results))
            for number in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        start.wait(60)
        begun = time.perf_counter()
        shares = [results.get(timeout=300) for _ in workers]
        seconds = time.perf_counter() - begun
        for worker in workers:
            worker.join()
        content = sessions.content()
    expected = (f"writer {process}-{number}" for process in range(PROCESSES) for number in range(THREADS))
    lost = sum(1 for key in expected if content.get(key) != writes - 1)
    taken = [each for share in shares for each in share.taken]
    return Outcome(seconds, taken, sum(share.tries for share in shares), sum(share.cpu for share in shares), lost)


def set_key(session: Session, name: str, number: int) -> None:
    session[name] = number + session["n"]


def append_line(session: Session, name: str, number: int) -> None:
    session["lines"].append({"sku": f"{name}-{number}"})


CONFLICTS: dict[str, Callable[[Session, str, int], None]] = {
    "sets one key": set_key,
    "appends to the long list": append_line,
}


def conflict(change: Callable[[Session, str, int], None], rounds: int) -> float:
    """Return the milliseconds of CPU time of a request that meets another's write, in a session of 900 KB.

    :param change: what both do.
    """
    with closing(SessionManager(secret=SECRET)) as manager:
        taken = []
        for number in range(rounds):
            session = manager.open("", {})
            session.update(data_of(number, 900_000))
            cookie = str(manager.commit(session, ENVIRON).set_cookie).partition(";")[0]
            begun = time.process_time()
            mine = manager.open(cookie, ENVIRON)
            change(mine, "mine", number)
            paused = time.process_time()
            other = manager.open(cookie, ENVIRON)
            change(other, "other", number)
            manager.commit(other, ENVIRON)
            resumed = time.process_time()
            manager.commit(mine, ENVIRON)
            taken.append(time.process_time() - resumed + paused - begun)
            _check(dict(manager.open(cookie, ENVIRON)), change, number)
    return 1000 * median(taken)


def _check(merged: dict[str, Any], change: Callable[[Session, str, int], None], number: int) -> None:
    if change is set_key:
        kept = (merged["mine"], merged["other"]) == (2 * number, 2 * number)
    else:
        kept = {line["sku"] for line in merged["lines"][-2:]} == {f"mine-{number}", f"other-{number}"}
    if not kept:
        raise RuntimeError("a write was lost")


SIZES = {"220 bytes": 0, "10 KB": 10_000}
LARGE = "32 writes of one key, 0.9 MB"
ROWS = ("writers", "large", "conflict")


def outcomes(rows: Sequence[str], writes: int) -> dict[tuple[str, str], Outcome]:
    """Return what became of the writers, by session and kind."""
    asked = {name: (size, writes) for name, size in SIZES.items() if "writers" in rows}
    if "large" in rows:
        asked[LARGE] = 900_000, 1
    if not asked:
        return {}
    with report.running("redis") as urls:
        return {
            (name, kind): contend(kind, urls["redis"], size, times)
            for name, (size, times) in asked.items()
            for kind in KINDS
        }


def table_of(found: dict[tuple[str, str], Outcome]) -> str:
    rows = [
        [
            f"{name}: {kind}",
            f"{outcome.tries / len(outcome.taken):.1f}" if outcome.tries else "1.0",
            f"{outcome.rate:.0f}",
            f"{1000 * outcome.p99:.0f} ms",
            f"{outcome.cpu:.2f} s",
            str(outcome.lost),
        ]
        for (name, kind), outcome in found.items()
    ]
    return report.table(["", "tries per write", "writes per second", "p99", "CPU time", "writers that lost"], rows)


def table_of_goals(found: dict[tuple[str, str], Outcome], conflicts: dict[str, float]) -> str:
    """Return which of the goals that were measured are met."""
    rows: dict[str, tuple[Goal, float, str]] = {}
    for name in SIZES:
        if (name, "wsgisession") in found:
            ours, by_hand = (found[name, kind] for kind in KINDS)
            rows[f"tries per write, {name}"] = must(3), ours.tries / len(ours.taken), "1"
            half = must(round(by_hand.rate / 2, 1), at_least=True)
            rows[f"writes per second, {name}: half of the lock's"] = half, ours.rate, f"{by_hand.rate:.1f}"
    if (LARGE, "wsgisession") in found:
        ours, by_hand = (found[LARGE, kind] for kind in KINDS)
        rows[f"{LARGE}: seconds of CPU time"] = must(5), ours.cpu, f"{by_hand.cpu:.1f}"
    for name, milliseconds in conflicts.items():
        rows[f"a conflict at 900 KB, each {name}: ms of CPU time"] = must(20), milliseconds, ""
    return goals.table(rows, lambda figure: f"{figure:.1f}")


def main(*, quick: bool = False, rows: Sequence[str] = (), writes: int = 0) -> None:
    is_part = bool(quick or rows or writes)
    rows = rows or ROWS
    found = outcomes(rows, writes or (2 if quick else 20))
    if found:
        report.publish("contention", table_of(found), quick=is_part)
    asked = CONFLICTS if "conflict" in rows else {}
    conflicts = {name: conflict(change, 3 if quick else 15) for name, change in asked.items()}
    report.publish("contention goals", table_of_goals(found, conflicts), quick=is_part)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contention", description="Measure writers at once.")
    parser.add_argument("--quick", action="store_true", help="a small round, printed only")
    parser.add_argument("--only", nargs="+", default=[], choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--writes", type=int, default=0, help="of each writer; default: 20")
    return parser.parse_args()


if __name__ == "__main__":
    asked = arguments()
    main(quick=asked.quick, rows=asked.only, writes=asked.writes)
