"""What a request costs with a thousand to a million sessions in the store: ``python -m benchmarks.growth``.

The store is filled by its server, with copies of one session; then a request is timed, as a multiple of a bare Flask
request in the same round. The store in memory holds no more than it has, so that each new session takes an old one's
place. It also measures the bytes per session in Redis, according to the server.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import redis
from werkzeug.test import create_environ

from benchmarks import report
from benchmarks.inprocess import Scenario, ask, prepared
from benchmarks.subjects import DATA, SUBJECTS, Stage, bare_flask_app, log_in, own_app, read, write
from wsgisession import SessionMiddleware
from wsgisession.stores import Record

SIZES = (1_000, 10_000, 100_000, 1_000_000)
REQUESTS = {"read": Scenario("good", read), "write": Scenario("good", write), "new session": Scenario("none", log_in)}
STORES = {"memory": "memory", "redis": "Redis", "sqlite": "SQLite", "postgresql": "PostgreSQL"}

COPY_IN_REDIS = """
local value = redis.call('GET', KEYS[1])
for number = ARGV[1], ARGV[2] - 1 do redis.call('SET', 'sess:copy-' .. number, value, 'PX', 86400000) end
"""
COPY_IN_SQLITE = """
WITH RECURSIVE numbers (number) AS (SELECT ? UNION ALL SELECT number + 1 FROM numbers WHERE number + 1 < ?)
INSERT INTO session (handle, user_id, version, ttl, expires_at, data)
SELECT 'copy-' || number, 'user-' || number, version, ttl, expires_at + number * 1e-4, data
FROM numbers, (SELECT * FROM session LIMIT 1)
"""
COPY_IN_POSTGRESQL = """
INSERT INTO session (sid, sess, expire, expires_at, ttl, user_id)
SELECT 'copy-' || number, sess, expire, expires_at, ttl, 'user-' || number
FROM generate_series(%s::int, %s::int - 1) AS number, (SELECT * FROM session LIMIT 1) AS one
"""


# Each copies a session that is there, under these numbers.


def fill_memory(app: SessionMiddleware, url: str, numbers: range) -> None:
    store, now = app.manager.store, time.time()
    data = next(store.scan(now=now))[1].data
    for number in numbers:
        store.create(f"copy-{number}", Record(data, 86_400.0), now=now)


def fill_redis(app: SessionMiddleware, url: str, numbers: range) -> None:
    with redis.Redis.from_url(url) as client:
        key = next(client.scan_iter("sess:*"))
        for start in numbers[::50_000]:
            client.eval(COPY_IN_REDIS, 1, key, start, min(start + 50_000, numbers.stop))


def fill_sqlite(app: SessionMiddleware, url: str, numbers: range) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(COPY_IN_SQLITE, (numbers.start, numbers.stop))


def fill_postgresql(app: SessionMiddleware, url: str, numbers: range) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute(COPY_IN_POSTGRESQL, (numbers.start, numbers.stop))
        connection.execute("VACUUM ANALYZE session")


FILLERS = {"memory": fill_memory, "redis": fill_redis, "sqlite": fill_sqlite, "postgresql": fill_postgresql}


def growth(url: str, sizes: tuple[int, ...], rounds: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield, for each size, what each request takes as a multiple of a bare Flask request."""
    scheme = url.partition(":")[0]
    filled = 0
    for size in sizes:
        stage = Stage()
        app = own_app(stage, f"{url}?max_sessions={size}" if scheme == "memory" else url)
        prepared(app, stage, REQUESTS["read"])  # one to copy
        FILLERS[scheme](app, url, range(0 if scheme == "memory" else filled, size))
        filled = size
        yield size, timed({name: prepared(app, stage, scenario) for name, scenario in REQUESTS.items()}, rounds)
        app.manager.close()


def timed(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    bare = functools.partial(ask, bare_flask_app(Stage(), ""), create_environ())
    return {name: median(seconds(run) / seconds(bare) for _ in range(rounds + 1)) for name, run in runs.items()}


def seconds(run: Callable[[], object], calls: int = 20) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - start


def memory_of_a_session(url: str, count: int) -> Iterator[tuple[str, str, float]]:
    """Yield the bytes that a session of each library takes in Redis, for a user each and for nobody."""
    client: Any = redis.Redis.from_url(url)
    numbers = itertools.count()
    for name, subject in SUBJECTS.items():
        if name in ("Flask's cookie", "by hand") or " in " in name:
            continue
        for whose in ("without a user", "with a user"):
            stage = Stage()
            app = subject.make(stage, url)
            client.execute_command("FLUSHDB", "SYNC")
            stage.act = lambda session, whose=whose: session.update(contents(next(numbers), whose))
            ask(app, create_environ())
            before = used(client)
            for _ in range(count):
                ask(app, create_environ())
            yield name, whose, (used(client) - before) / count


def contents(number: int, whose: str) -> dict[str, Any]:
    data = {**DATA, "user_id": f"u-{number:07}"}
    return data if whose == "a user's" else {"visitor": data.pop("user_id"), **data}


def used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def main(*, quick: bool = False) -> None:
    sizes = SIZES[:2] if quick else SIZES
    with report.running("memory", "redis", "postgresql") as urls, tempfile.TemporaryDirectory() as folder:
        places = {**urls, "sqlite": f"sqlite:///{Path(folder, 'sessions.db')}"}
        bytes_taken = list(memory_of_a_session(urls["redis"], 300 if quick else 8192))
        found = {scheme: dict(growth(places[scheme], sizes, 3 if quick else 40)) for scheme in STORES}
    rows = [
        [f"{request}, {store}", *(f"{found[scheme][size][request]:.2f}" for size in sizes)]
        for scheme, store in STORES.items()
        for request in REQUESTS
    ]
    report.publish("growth", report.table(["", *(f"{size:,}" for size in sizes)], rows), quick=quick)
    names = dict.fromkeys(name for name, _, _ in bytes_taken)
    taken = {(name, whose): figure for name, whose, figure in bytes_taken}
    rows = [[whose, *(f"{taken[name, whose]:.0f}" for name in names)] for whose in ("without a user", "with a user")]
    report.publish("memory", report.table(["", *names], rows), quick=quick)
    if not quick:
        series = {store: {size: found[scheme][size]["write"] for size in sizes} for scheme, store in STORES.items()}
        report.lines("growth", series, ("sessions in the store", "a write, in bare Flask requests"))


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
