"""What a request with a session costs Redis, by its own account: ``python -m benchmarks.redis_work``.

Three figures per request: microseconds in commands, from ``INFO commandstats``; microseconds of the server's CPU time,
from ``INFO cpu``; and bytes that the append-only file grows by, from ``INFO persistence``, which each replica gets too.
Every request has another session's cookie. A part of it, which is only printed::

    python -m benchmarks.redis_work --only write --subjects wsgisession "wsgisession in Flask" Flask-Session
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks import goals, report
from benchmarks.goals import OWN, must
from benchmarks.inprocess import SCENARIOS, prepared
from benchmarks.subjects import SUBJECTS, Stage
from tests import servers

ROWS = ("read", "write", "login", "read 100 KB", "write 100 KB")
LIBRARIES = [name for name, subject in SUBJECTS.items() if name != "Flask's cookie" and "redis" in subject.schemes]
REQUESTS = 1000


@dataclass(frozen=True)
class Work:
    """What a request costs the server, on average: microseconds, microseconds, and bytes."""

    commands: float
    cpu: float
    appended: float


def work_of(run: Callable[[], object], client: redis.Redis[Any], requests: int) -> Work:
    """Return what a request costs, without what is sent once."""
    run()
    _settle(client)
    before = _account(client)
    for _ in range(requests):
        run()
    _settle(client)
    after = _account(client)
    return Work(*((new - old) / requests for new, old in zip(after, before, strict=True)))


def _account(client: redis.Redis[Any]) -> tuple[float, float, float]:
    """Return the microseconds and bytes since the server began, without its answers to this question."""
    stats: dict[str, Any] = client.info("commandstats")
    cpu: dict[str, Any] = client.info("cpu")
    spent = sum(each["usec"] for name, each in stats.items() if name not in ("cmdstat_info", "cmdstat_ping"))
    seconds = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
    return spent, seconds * 1e6, client.info("persistence")["aof_current_size"]


def _settle(client: redis.Redis[Any]) -> None:
    """Wait until what was asked is in the file: it is written before the server takes the next turn."""
    client.ping()
    client.ping()


@contextmanager
def appending() -> Iterator[tuple[str, redis.Redis[Any]]]:
    """Start a server that keeps an append-only file."""
    server = servers.Redis("--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            yield server.url, client
    finally:
        server.stop()


def measured(rows: Sequence[str], libraries: Sequence[str], requests: int) -> dict[tuple[str, str], Work]:
    found = {}
    with appending() as (url, client):
        for library in libraries:
            stage = Stage()
            app = SUBJECTS[library].make(stage, url)
            for row in rows:
                count = max(2, round(requests * SCENARIOS[row].effort))
                run = prepared(app, stage, SCENARIOS[row], count)
                time.sleep(0.2)  # for the server's own chores after so many new keys
                found[row, library] = work_of(run, client, count)
    return found


KINDS: dict[str, Callable[[Work], float]] = {
    "µs in commands": lambda work: work.commands,
    "µs of CPU": lambda work: work.cpu,
    "bytes appended": lambda work: work.appended,
}


def table_of(found: dict[tuple[str, str], Work], rows: Sequence[str], libraries: Sequence[str]) -> str:
    lines = [
        [f"{row}, {kind}", *(f"{figure(found[row, library]):.0f}" for library in libraries)]
        for row in rows
        for kind, figure in KINDS.items()
    ]
    return report.table(["", *libraries], lines)


def table_of_goals(found: dict[tuple[str, str], Work]) -> str:
    """Return which of the goals that were measured are met."""
    rows: dict[str, tuple[goals.Goal, float, str]] = {}

    def add(name: str, row: str, figure: Callable[[Work], float], limit: float) -> None:
        if (row, OWN) in found:
            by_hand = found.get((row, "by hand"))
            rows[name] = must(limit), figure(found[row, OWN]), "" if by_hand is None else f"{figure(by_hand):.0f}"

    add("bytes that a read appends", "read", KINDS["bytes appended"], 0)
    add("a 100 KB write, µs in commands", "write 100 KB", KINDS["µs in commands"], 130)
    peer = found.get(("write", "Flask-Session"))
    if peer:
        add("a write, µs of CPU: at most Flask-Session's", "write", KINDS["µs of CPU"], round(peer.cpu))
    return goals.table(rows, lambda figure: f"{figure:.0f}")


def main(*, quick: bool = False, rows: Sequence[str] = (), libraries: Sequence[str] = (), requests: int = 0) -> None:
    is_part = bool(quick or rows or libraries or requests)
    rows = rows or (("read", "write") if quick else ROWS)
    libraries = libraries or LIBRARIES
    found = measured(rows, libraries, requests or (20 if quick else REQUESTS))
    report.publish("redis", table_of(found, rows, libraries), quick=is_part)
    report.publish("redis goals", table_of_goals(found), quick=is_part)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis_work", description="Measure what Redis does.")
    parser.add_argument("--quick", action="store_true", help="a small round, printed only")
    parser.add_argument("--only", nargs="+", default=[], choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    names = ", ".join(LIBRARIES)
    parser.add_argument("--subjects", nargs="+", default=[], choices=LIBRARIES, metavar="NAME", help=names)
    parser.add_argument("--requests", type=int, default=0, help=f"default: {REQUESTS}")
    return parser.parse_args()


if __name__ == "__main__":
    asked = arguments()
    main(quick=asked.quick, rows=asked.only, libraries=asked.subjects, requests=asked.requests)
