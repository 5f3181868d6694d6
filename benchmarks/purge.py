"""How long a purge of a million rows takes, and how long a writer waits next to it: ``python -m benchmarks.purge``.

One purger, then two at once, each in its own process, and a writer that changes one live session again and again.
An argument is another number of rows.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.loading import DATA, Row, load_postgresql, load_sqlite, rows
from tests import servers
from wsgisession.stores import Record, open_store

TTL = 3600.0


def purge(url: str, results: Any) -> None:
    store = open_store(url)
    began = time.monotonic()
    results.put(("purged", store.purge(now=time.time()), time.monotonic() - began))
    store.close()


def write(url: str, ended: Any, results: Any) -> None:
    store = open_store(url)
    live = f"live {time.time()}"
    record = store.create(live, Record(DATA, TTL), now=time.time())
    waits = []
    while not ended.is_set():
        began = time.monotonic()
        assert record is not None
        record = store.replace(live, record, now=time.time())
        waits.append(time.monotonic() - began)
        time.sleep(0.002)
    waits.sort()
    results.put(("written", len(waits), waits[-1], waits[len(waits) * 99 // 100]))
    store.close()


def measure(url: str, load: Callable[[str, Iterator[Row]], None], count: int, *, purgers: int) -> None:
    load(url, rows(count, per_user=None, ttl=1.0, now=time.time() - TTL))
    results: Any = multiprocessing.Queue()
    ended = multiprocessing.Event()
    writer = multiprocessing.Process(target=write, args=(url, ended, results), daemon=True)
    running = [multiprocessing.Process(target=purge, args=(url, results), daemon=True) for _ in range(purgers)]
    for process in (writer, *running):
        process.start()
    purged = [results.get(timeout=600) for _ in running]
    ended.set()
    _, writes, longest, usual = results.get(timeout=10)
    for process in (writer, *running):
        process.join()
    seconds = max(took for _, _, took in purged)
    shares = " + ".join(f"{number:,}" for _, number, _ in purged)
    name = url.partition(":")[0]
    print(f"{name:11} {shares:20} purged in {seconds:6.1f} s; {writes} writes, p99 {usual * 1000:.1f} ms,"
          f" longest {longest * 1000:.0f} ms")  # fmt: skip


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    server = servers.PostgreSQL().start()
    try:
        for purgers in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                measure(f"sqlite:///{folder}/sessions.db", load_sqlite, count, purgers=purgers)
            measure(server.url, load_postgresql, count, purgers=purgers)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
