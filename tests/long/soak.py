"""Traffic for a while: no request fails, no worker grows, and the store holds no more than the sessions in use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.long.crowd import SECONDS, Visitor, finish, visit
from tests.web import Gunicorn
from wsgisession.stores import open_store


@pytest.fixture(params=["sqlite", "redis", "postgresql", "mongodb"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def server(url: str) -> Iterator[Gunicorn]:
    server = Gunicorn("tests.apps.counter:app", "--workers=2", "--threads=4", STORE=url)
    yield server.start()
    server.stop()


def memory_of(server: Gunicorn) -> int:
    """Return the resident memory of the server's workers, in KiB."""
    pids = [
        int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if parent_of(path) == server.process.pid
    ]
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in texts)


def parent_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(") ")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@pytest.mark.timeout(0)
def test_an_app_in_traffic_neither_fails_nor_grows(server: Any, url: str) -> None:
    visitors: list[Visitor] = visit(server.url)
    time.sleep(SECONDS / 3)  # until pools, caches, and the heap are as large as they get
    before = memory_of(server)
    finish(visitors)
    after = memory_of(server)
    assert sum(one.lost for one in visitors) == 0
    assert after < before * 1.15, f"the workers grew from {before} to {after} KiB"
    store = open_store(url)
    assert len(list(store.scan(now=time.time()))) <= len(visitors)
    store.close()
    print(f"the workers have {after} KiB, and had {before} after a third of the time")
