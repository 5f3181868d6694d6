"""The same random requests to the old version and to today's: the same answers, events, and records.

Only deliberate differences may be seen. Each is in `DELIBERATE` with its reason, and where one is seen the rest of
that script is not compared, for from there on the two versions may go different ways.

Three deliberate differences are kept out of every comparison instead: what `Session.touch` returns; the handle in
events of the Express format, which was the session ID; and that memory:// restarted a session at every read, whatever
``touch_after`` said.

A longer run: WSGISESSION_TEST_SCRIPTS=20000, and WSGISESSION_TEST_SEED for other scripts.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.compat.old_process import OldVersion
from tests.compat.peer import play
from tests.compat.scripts import Script, Writer, smallest

SCRIPTS = int(os.environ.get("WSGISESSION_TEST_SCRIPTS", "800"))
SEED = os.environ.get("WSGISESSION_TEST_SEED", "")

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


@pytest.fixture(scope="module")
def seen() -> Iterator[Counter[str]]:
    """Count what was compared, and which deliberate differences were seen."""
    counter: Counter[str] = Counter()
    yield counter
    print(f"compared {dict(counter)}")


def compare(script: Script, old: OldVersion, seen: Counter[str]) -> str | None:
    """Play a script on both versions; return what differs without being deliberate."""
    theirs, ours = old.ask(script), json.loads(json.dumps(play(script)))
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
