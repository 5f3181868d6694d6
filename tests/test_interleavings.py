"""Requests of one session in every order: nothing acknowledged is lost, nothing that ended comes back.

Each run is a random schedule of a few requests, each of which loads, changes, perhaps moves or ends the session, and
commits. What must remain is kept beside it. The same drive on a store that writes blindly must find losses and
resurrections, or it would prove nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from tests.environs import request as environ
from tests.passing import PassingStore
from tests.visits import SECRET
from wsgisession import Session, SessionManager, Store, open_store
from wsgisession.stores import Record

RUNS = {"memory": 3000, "sqlite": 2000, "redis": 2000, "postgresql": 1500, "mongodb": 300}
KEYS = ["a", "b", "c", "d", "nested"]


class Blind(PassingStore):
    """A store as most session libraries have it: what is written stands there, whatever was there before."""

    def replace(self, handle: str, record: Record, *, now: float) -> Record | None:
        self.inner.delete(handle, now=now)
        return self.inner.create(handle, record, now=now)

    def delete(self, handle, **options):
        return self.inner.delete(handle, now=options["now"])


class Request:
    """One request on its way, a step at a time."""

    def __init__(self, run: Run, dice: random.Random, number: int) -> None:
        self.run, self.dice, self.number = run, dice, number
        self.ending = dice.choices(["commit", "login", "regenerate", "destroy", "revoke"], [70, 8, 8, 7, 7])[0]
        self.steps = iter(self._steps())

    def _steps(self) -> Iterator[None]:
        if not self.run.is_alive:
            return  # whoever comes now begins a session of its own
        session = self.run.open()
        seen = dict(session)
        generation = self.run.generation
        yield
        changes = {key: self._change(session, key) for key in self.dice.sample(KEYS, self.dice.randint(0, 3))}
        yield
        if self.ending == "revoke":
            if self.run.manager.revoke(session.handle):  # else it had moved or ended already
                self.run.ended()
            return
        if self.ending == "destroy":
            session.destroy()
            reply = self.run.manager.commit(session, environ())
            assert reply.set_cookie is None or "Max-Age=0" in reply.set_cookie
            if generation == self.run.generation:
                self.run.ended()
            return
        if self.ending in ("login", "regenerate"):
            session.regenerate()
        yield
        self._commit(session, changes, seen=seen, generation=generation)

    def _change(self, session: Session, key: str) -> Any:
        value = (self.number, self.dice.random())
        if key == "nested":
            session.setdefault("nested", {})[str(self.number)] = value
            return ("into", str(self.number), value)
        if self.dice.random() < 0.3:
            session.pop(key, None)
            return ("gone",)
        session[key] = value
        return ("is", value)

    def _commit(self, session: Session, changes: dict[str, Any], *, seen: dict[str, Any], generation: int) -> None:
        reply = self.run.manager.commit(session, environ())
        if generation != self.run.generation:
            # The session it had has ended or moved: nothing may be written, and no cookie may leave.
            if reply.set_cookie is not None and "Max-Age=0" not in reply.set_cookie:
                self.run.found["resurrected"] += 1
            return
        self.run.acknowledge(changes, seen)
        if reply.set_cookie is not None:
            self.run.cookie(reply.set_cookie)
            self.run.generation += 1


class Run:
    """One session, its browser, and what must remain of it."""

    def __init__(self, store: Store, found: Counter[str]) -> None:
        self.manager = SessionManager(secret=SECRET, store=store)
        self.found = found
        self.cookies: list[str] = []
        self.generation = 0
        self.is_alive = True
        self.want: dict[str, Any] = {}
        session = self.manager.open("", {})
        session.update({key: ("first", key) for key in KEYS[:3]}, nested={})
        self.want = dict(session)
        self.cookie(self.manager.commit(session, environ()).set_cookie or "")

    def cookie(self, header: str) -> None:
        self.cookies.append(header.partition(";")[0])

    def open(self) -> Session:
        return self.manager.open(self.cookies[-1], {})

    def ended(self) -> None:
        self.is_alive = False
        self.generation += 1

    def acknowledge(self, changes: dict[str, Any], seen: dict[str, Any]) -> None:
        for key, (kind, *rest) in changes.items():
            if kind == "gone" and key in seen and self.want.get(key) == seen[key]:  # else another request changed it
                self.want.pop(key, None)
            elif kind == "is":
                self.want[key] = rest[0]
            elif kind == "into":
                self.want.setdefault(key, {})[rest[0]] = rest[1]

    def go(self, dice: random.Random) -> None:
        requests = [Request(self, dice, number) for number in range(dice.randint(2, 4))]
        while requests and self.is_alive:
            self._step(requests, dice.choice(requests))
        for request in list(requests):  # whoever was on the way when it ended goes to the end, too
            while request in requests:
                self._step(requests, request)
        self.judge()

    @staticmethod
    def _step(requests: list[Request], request: Request) -> None:
        try:
            next(request.steps)
        except StopIteration:
            requests.remove(request)

    def judge(self) -> None:
        self.found["runs"] += 1
        alive = [cookie for cookie in self.cookies if dict(self.manager.open(cookie, {}))]
        if not self.is_alive:
            self.found["resurrected"] += len(alive)
            return
        if alive[:-1]:
            self.found["resurrected"] += 1
        if dict(self.open()) != self.want:
            self.found["lost"] += 1


def drive(store: Store, runs: int, seed: int) -> Counter[str]:
    found: Counter[str] = Counter()
    dice = random.Random(seed)
    for _ in range(runs):
        Run(store, found).go(dice)
    return found


def kind_of(url: str) -> str:
    return url.partition(":")[0]


def test_nothing_is_lost_and_nothing_comes_back_in_any_order(store_url, record_property):
    """SECURITY 27, 38, 40."""
    with closing(open_store(store_url)) as store:
        found = drive(store, RUNS[kind_of(store_url)], seed=1)
    record_property("interleavings", dict(found))
    assert +found == {"runs": RUNS[kind_of(store_url)]}


def test_the_same_drive_sees_what_a_blind_write_does(store_url):
    runs = RUNS[kind_of(store_url)] // 5
    with closing(Blind(open_store(store_url))) as store:
        found = drive(store, runs, seed=1)
    assert found["lost"] > 0
    assert found["resurrected"] > 0
