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


class Seen(NamedTuple):
    """A difference: the script, the number of its action, and what each version told of it."""

    script: Script
    number: int
    before: Entry
    now: Entry

    @property
    def options(self) -> dict[str, Any]:
        """The manager's options."""
        options: dict[str, Any] = self.script["options"]
        return options

    def steps(self, *names: str) -> list[Any]:
        """Return the steps and actions of these names up to here, those of requests inside others too."""
        return [step for step in _steps(self.script["actions"][: self.number + 1]) if step[0] in names]

    def happened(self, event: str) -> bool:
        """Whether either version told of this event in this action."""
        return any(one[0] == event for entry in (self.before, self.now) for one in entry["events"])

    def differ_only_in(self, *names: str) -> bool:
        """Whether what was told differs in nothing but these."""
        return all(self.before.get(name) == self.now.get(name) for name in self.before if name not in names)

    def overlap(self) -> bool:
        """Whether other requests came while the request of this action ran."""
        inside = list(_steps(self.script["actions"][self.number][1:]))
        return any(step[0] in ("request", "transaction") for step in inside)


def _as_created(event: list[Any]) -> list[Any]:
    return ["created", *event[1:]] if event[0] == "regenerated" else event


def _steps(value: Any) -> Iterator[Any]:
    if isinstance(value, list) and value and isinstance(value[0], str):
        yield value
    if isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _steps(item)


class Deliberate(NamedTuple):
    """A difference that was made on purpose.

    :ivar reason: what today's version does instead, and why.
    :ivar is_seen: tells whether this is it.
    """

    name: str
    reason: str
    is_seen: Callable[[Seen], bool]


DELIBERATE: tuple[Deliberate, ...] = (
    Deliberate(
        "a user key that the app writes",
        "A session whose user changes gets a new ID when it is written, however the user's key was set.",
        lambda seen: any(step[1] == "user_id" for step in seen.steps("set")),
    ),
    Deliberate(
        "several users",
        "What a session holds of one user is not inherited by another one.",
        lambda seen: len({str(step[1]) for step in seen.steps("login")}) > 1,
    ),
    Deliberate(
        "a cookie that does not verify",
        "It is left alone while the app only reads: it may be another app's, or signed with the next secret.",
        lambda seen: bool(seen.steps("forge")),
    ),
    Deliberate(
        "a cookie without a record",
        "It is left alone while the app does not write, whatever resave, rolling, and save_uninitialized say.",
        lambda seen: (
            seen.happened("rejected") and bool(seen.options.keys() & {"resave", "rolling", "save_uninitialized"})
        ),
    ),
    Deliberate(
        "the old ID of a renewed session",
        "It is accepted until the new one was presented, so its record is kept longer.",
        lambda seen: any("leads to another" in str(record) for record in seen.before["records"]),
    ),
    Deliberate(
        "a removal",
        "It removes only what the request saw: what others added to it in the meantime is kept, except after clear().",
        lambda seen: bool(seen.steps("delete", "pop", "remove", "set")) and seen.overlap(),
    ),
    Deliberate(
        "a transaction of a session that has ended",
        "It leaves the data as they were, so that the end of the request has nothing to write and to report as gone.",
        lambda seen: bool(seen.steps("transaction")) and seen.happened("gone"),
    ),
    Deliberate(
        "the oldest session",
        "Of logins at one time, the limit ends those that the store accepted first, whatever their handles are.",
        lambda seen: "max_sessions_per_user" in seen.options and seen.happened("revoked"),
    ),
    Deliberate(
        "a login in the Express format",
        "It picks up the manager's cookie settings, as Express's regenerate does.",
        lambda seen: seen.options.get("format") == "express" and bool(seen.steps("login")),
    ),
    Deliberate(
        "last_seen_at after a new ID",
        "It is when the new ID was asked for, as in the next request, and not when the session began.",
        lambda seen: (
            seen.differ_only_in("results") and bool(seen.steps("times")) and bool(seen.steps("login", "regenerate"))
        ),
    ),
    Deliberate(
        "the cookie of a session that ended",
        "It is expired with that session's own settings, such as its path, without which a browser keeps it.",
        lambda seen: seen.differ_only_in("responses", "results") and bool(seen.steps("destroy", "logout", "drop")),
    ),
    Deliberate(
        "a session that was dropped",
        "What the app did to a session before it dropped it stays unwritten, also if the app writes to it again later.",
        lambda seen: bool(seen.steps("drop")) and bool(seen.steps("clear", "pop", "delete", "remove")),
    ),
    Deliberate(
        "a record without a cookie",
        "A record that was created in a request whose response brings no cookie for it is removed again.",
        lambda seen: bool(seen.steps("drop", "raise")) and len(seen.now["records"]) < len(seen.before["records"]),
    ),
    Deliberate(
        "clear() is final",
        "What others wrote to a session in the meantime is removed too by clear().",
        lambda seen: bool(seen.steps("clear")) and seen.overlap(),
    ),
    Deliberate(
        "created in this request",
        "A new ID of a session that began in the same request is told as created, for nobody knew the ID before it.",
        lambda seen: seen.differ_only_in("events") and [*map(_as_created, seen.before["events"])] == seen.now["events"],
    ),
)


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
    for number, (action, before, now) in enumerate(zip(script["actions"], theirs, ours, strict=True)):
        if before != now:
            names = [one.name for one in DELIBERATE if one.is_seen(Seen(script, number, before, now))]
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
