"""Workers are killed at random in traffic: what was answered is stored, and what was ended stays ended."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.long.crowd import SECONDS, finish, visit
from tests.long.soak import parent_of
from tests.web import Gunicorn


@pytest.fixture(params=["sqlite", "redis", "postgresql", "mongodb"])
def server(request: pytest.FixtureRequest) -> Iterator[Gunicorn]:
    url = request.getfixturevalue(f"{request.param}_url")
    server = Gunicorn("tests.apps.counter:app", "--workers=3", "--threads=4", "--preload", STORE=url)
    yield server.start()
    server.stop()


@pytest.mark.timeout(0)
def test_workers_that_are_killed_in_traffic_lose_nothing_that_was_answered(server: Any) -> None:
    visitors, kills, dice = visit(server.url), 0, random.Random(7)
    while any(one.is_alive() for one in visitors):
        time.sleep(dice.uniform(0.3, 1.5))
        workers = [
            path.parent.name for path in Path("/proc").glob("[0-9]*/stat") if parent_of(path) == server.process.pid
        ]
        if workers:
            os.kill(int(dice.choice(workers)), signal.SIGKILL)
            kills += 1
    finish(visitors)
    print(f"{kills} workers killed in {SECONDS:.0f} s")
    assert kills > SECONDS / 4
