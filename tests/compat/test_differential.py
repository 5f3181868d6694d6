"""The same random requests to the old version and to today's: the same answers, events, and records.

Only deliberate differences may be seen. Each is in `DELIBERATE` with its reason, and where one is seen the rest of
that script is not compared, for from there on the two versions may go different ways.

A longer run: WSGISESSION_TEST_SCRIPTS=20000, and WSGISESSION_TEST_SEED for other scripts.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.compat.old_version import OldVersionUnavailable, old_python
from tests.compat.peer import play
from tests.compat.scripts import Script, Writer, smallest

SCRIPTS = int(os.environ.get("WSGISESSION_TEST_SCRIPTS", "800"))
SEED = os.environ.get("WSGISESSION_TEST_SEED", "")
PEER = Path(__file__).with_name("peer.py")

Entry = dict[str, Any]


class Deliberate(NamedTuple):
    """A difference that was made on purpose.

    :ivar reason: what today's version does instead, and why.
    :ivar is_seen: tells from the action, and from what the old and the new version told of it, whether this is it.
    """

    name: str
    reason: str
    is_seen: Callable[[list[Any], Entry, Entry], bool]


DELIBERATE: tuple[Deliberate, ...] = ()


class OldVersion:
    """A process of the old version, which plays scripts."""

    def __init__(self) -> None:
        try:
            python = old_python()
        except OldVersionUnavailable as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        self.process = subprocess.Popen(
            [python, "-W", "ignore", str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def play(self, script: dict[str, Any]) -> list[Entry]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(script) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the old version ended; its error is above"
        entries: list[Entry] = json.loads(line)
        return entries

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def old_version() -> Iterator[OldVersion]:
    process = OldVersion()
    yield process
    process.close()


@pytest.fixture(scope="module")
def seen() -> Iterator[Counter[str]]:
    """Count what was compared, and which deliberate differences were seen."""
    counter: Counter[str] = Counter()
    yield counter
    print(f"compared {dict(counter)}")


def compare(script: Script, old: OldVersion, seen: Counter[str]) -> str | None:
    """Play a script on both versions; return what differs without being deliberate."""
    theirs, ours = old.play(script), json.loads(json.dumps(play(script)))
    seen["scripts"] += 1
    for action, before, now in zip(script["actions"], theirs, ours, strict=True):
        if before != now:
            names = [one.name for one in DELIBERATE if one.is_seen(action, before, now)]
            seen.update(names)
            return None if names else unlike(action, before, now)
        seen["actions"] += 1
    return None


def unlike(action: list[Any], before: Entry, now: Entry) -> str:
    """Say what differs."""
    lines = [f"{action}:"]
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            lines += [f"  {name}, before: {before.get(name)}", f"  {name}, now:    {now.get(name)}"]
    return "\n".join(lines)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("express", "store", "share"),
    [
        pytest.param(False, "memory", 1, id="native"),
        pytest.param(True, "memory", 2, id="express"),
        pytest.param(False, "sqlite", 8, id="sqlite"),
    ],
)
def test_random_requests_are_answered_as_by_the_old_version(old_version, seen, caplog, express, store, share):
    caplog.set_level(logging.CRITICAL, logger="wsgisession")  # thousands of warnings that are expected
    for number in range(SCRIPTS // share):
        script = Writer(Random(f"{express} {store} {SEED} {number}"), express=express).script(store)
        if compare(script, old_version, seen) is not None:
            script = smallest(script, lambda part: compare(part, old_version, seen) is not None)
            pytest.fail(f"{compare(script, old_version, seen)}\n\nin the script {script}", pytrace=False)


def test_every_deliberate_difference_has_a_reason():
    assert all(one.name and one.reason.endswith(".") for one in DELIBERATE)
