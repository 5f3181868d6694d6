"""No store keeps more after thousands of calls than after a hundred: no object, no descriptor, no memory."""

from __future__ import annotations

import gc
import os
import tracemalloc
from contextlib import closing

import pytest

from wsgisession.stores import Record, Store, open_store

NOW = 4_000_000_000.0
CALLS = 1500


def use(store: Store, number: int) -> None:
    made = store.create("s", Record(b'{"n":1}', 100.0, "u"), now=NOW)
    assert made is not None
    assert store.load("s", now=NOW + 50, touch_after=0.05) is not None
    assert store.replace("s", Record(b'{"n":2}', 100.0, "u", made.version, order=made.order), now=NOW + 50)
    assert store.replace("s", Record(b'{"n":3}', 100.0, "u", made.version, order=made.order), now=NOW + 50) is None
    assert len(store.find_user("u", now=NOW).records) == 1
    assert store.load(f"absent{number}", now=NOW, touch_after=0) is None
    assert store.delete("s", now=NOW + 50)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "postgresql"])
def test_thousands_of_calls_leave_nothing_behind(request, kind):
    with closing(open_store(request.getfixturevalue(f"{kind}_url"))) as store:
        for number in range(100):
            use(store, number)
        gc.collect()
        objects, files = len(gc.get_objects()), descriptors()
        tracemalloc.start()
        try:
            for number in range(100):
                use(store, number)
            began, _ = tracemalloc.get_traced_memory()
            for number in range(CALLS // 7):
                use(store, number)
            gc.collect()
            ended, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert descriptors() <= files
        assert len(gc.get_objects()) < objects + 200
        assert ended - began < 50_000
