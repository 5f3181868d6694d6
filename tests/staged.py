"""Requests of one browser that interleave at every call of the store, against a model of what must remain.

Each request runs in a greenlet that stops before each call of the store and between the steps of the app, so that the
dice decide whose turn comes next. The model holds what was acknowledged, and what has ended.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from tests.environs import request
from tests.passing import PassingStore
from tests.visits import SECRET, Clock
from wsgisession import Session, SessionEvent, SessionGone, SessionManager, Store
from wsgisession._core.content import Snapshot

RUNS = {"memory": 3000, "sqlite": 1000, "redis": 1000, "postgresql": 600, "mongodb": 150}
STEPS = {
    "own": 5,
    "nested": 4,
    "append": 4,
    "delete": 3,
    "clear": 1,
    "count": 3,
    "save": 2,
    "touch": 1,
    "reload": 1,
    "regenerate": 2,
    "login": 2,
    "destroy": 1,
}
"""What an app may do to its session, and how often it does."""

USERS = ["ada", "bob"]
RENEWAL, GRACE, FOREVER = 1000, 30, 100_000

_MARK = re.compile(rb'\\?"mark\\?":(\d+)')


class StagedStore(PassingStore):
    """Stops before each call until its turn comes, and tells the race what it wrote and deleted."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.race: Race | None = None

    def load(self, handle, **options):
        turn()
        return self.inner.load(handle, **options)

    def create(self, handle, record, **options):
        turn()
        who = getcurrent()
        if isinstance(who, Request):
            who.created.add(handle)
        return self._wrote(handle, record, self.inner.create(handle, record, **options))

    def replace(self, handle, record, **options):
        turn()
        return self._wrote(handle, record, self.inner.replace(handle, record, **options))

    def _wrote(self, handle, record, stored):
        if stored is not None and self.race is not None:
            found = _MARK.search(record.data)
            self.race.wrote(handle, int(found[1]) if found else None)
        return stored

    def touch(self, handle, **options):
        turn()
        return self.inner.touch(handle, **options)

    def delete(self, handle, **options):
        turn()
        was_there = self.inner.delete(handle, **options)
        who = getcurrent()
        if was_there and isinstance(who, Request) and handle not in who.created | who.race.pointers:
            who.deleted.add(who.race.marks[handle])
        return was_there

    def find_user(self, user_id, **options):
        turn()
        return self.inner.find_user(user_id, **options)

    def delete_user(self, user_id, **options):
        turn()
        return self.inner.delete_user(user_id, **options)


def turn() -> None:
    """Wait until it is this greenlet's turn again."""
    parent = getcurrent().parent
    if parent is not None:
        parent.switch()


class Lineage:
    """A session as its browser sees it, under whatever IDs: what must stand in it.

    :ivar moved_to: the number of the one that a login put in its place.
    """

    def __init__(self) -> None:
        self.effects: list[tuple[Any, ...]] = []
        self.cookies: list[str] = []
        self.has_begun = self.has_ended = self.is_outlived = False
        self.moved_to: int | None = None


class Request(greenlet):
    """One request from its cookie to its answer."""

    def __init__(self, race: Race, lineage: int, steps: list[str]) -> None:
        super().__init__(self._run)
        self.race, self.number = race, next(race.numbers)
        self.cookie = race.lineages[lineage].cookies[-1] if lineage in race.lineages else ""
        self.todo = steps
        self.pending: list[tuple[Any, ...]] = []
        self.created: set[str] = set()
        self.deleted: set[int] = set()
        self.is_gone = self.has_moved = self.has_destroyed = False
        self.logged_in_from: int | None = None
        self.mark = -1

    def _run(self) -> None:
        manager = self.race.manager
        session = manager.open(self.cookie, {})
        self._begin(session)
        try:
            for step in self.todo:
                turn()
                getattr(self, step)(session)
            turn()
            reply = manager.commit(session, request())
        except SessionGone:
            manager.abandon(session)
            return
        if self.is_gone:
            assert reply.set_cookie is None, "a session that has ended was answered with a cookie"
            return
        self._answered(reply.set_cookie)

    def _begin(self, session: Session) -> None:
        mark = session.get("mark")
        if mark is None:
            mark = self._start(session)
        self.mark = mark

    def _start(self, session: Session) -> int:
        self.has_moved = True
        self.mark = session["mark"] = self.race.begin()
        session["list"] = []
        return self.mark

    def _answered(self, header: str | None) -> None:
        if self.logged_in_from is not None:
            old = self.race.lineages[self.logged_in_from]
            if self.logged_in_from in self.deleted:
                old.moved_to = self.mark
            elif old.has_begun:
                self.lineage.is_outlived = True
        self.acknowledge()
        if header is None:
            return
        if "Max-Age=0" in header:
            assert self.has_destroyed, "a cookie was expired by a request that ended nothing"
            return
        self.lineage.has_begun = True
        self.lineage.cookies.append(header.partition(";")[0])

    @property
    def lineage(self) -> Lineage:
        return self.race.lineages[self.mark]

    def acknowledge(self) -> None:
        self.lineage.effects += self.pending
        self.pending = []

    # What the app does.

    def own(self, session: Session) -> None:
        session[f"r{self.number}"] = self.race.value()
        self.pending.append(("is", f"r{self.number}", session[f"r{self.number}"]))

    def nested(self, session: Session) -> None:
        value = self.race.value()
        session.setdefault("nested", {})[f"r{self.number}"] = value
        self.pending.append(("nested", f"r{self.number}", value))

    def append(self, session: Session) -> None:
        value = self.race.value()
        session.setdefault("list", []).append(value)
        self.pending.append(("append", value))

    def delete(self, session: Session) -> None:
        for key in session:
            if self.race.is_settled(key):
                del session[key]
                self.pending.append(("gone", key))
                return

    def clear(self, session: Session) -> None:
        self.pending += [
            ("gone" if self.race.is_settled(key) else "unknown", key)
            for key in session
            if key not in ("mark", "user_id")
        ]
        self.pending += [("unknown", f"r{self.number}"), ("clear",)]
        kept = {key: session[key] for key in ("mark", "user_id") if key in session}
        session.clear()
        session.update(kept)

    def count(self, session: Session) -> None:
        if self.has_moved:
            return

        def add(session: Session) -> None:
            session["count"] = session.get("count", 0) + 1

        session.transaction(add)
        self.pending.append(("count",))
        self._written()

    def save(self, session: Session) -> None:
        session.save()
        self._written()

    def _written(self) -> None:
        if not self.has_moved:
            self.acknowledge()

    def touch(self, session: Session) -> None:
        session.touch()

    def reload(self, session: Session) -> None:
        if not self.has_moved:
            session.reload()
            self.pending = []

    def regenerate(self, session: Session) -> None:
        session.regenerate()
        self.has_moved = True

    def login(self, session: Session) -> None:
        if self.logged_in_from is None and not self.has_destroyed and not self.created:
            self.logged_in_from, self.mark = self.mark, self.race.begin()
            user = session.user_id or USERS[self.number % 2]  # another user would not inherit the data
            session.login(user, mark=self.mark)
            self.has_moved = True

    def destroy(self, session: Session) -> None:
        session.destroy()
        self.has_destroyed = True
        self.pending, self.logged_in_from = [], None
        self._start(session)


class Race:
    """Requests of a browser on their way at the same time, and what must come of them."""

    def __init__(self, store: StagedStore) -> None:
        self.clock = Clock()
        self.manager = SessionManager(
            secret=SECRET,
            store=store,
            clock=self.clock,
            on_event=self._note,
            idle_timeout=20_000,
            absolute_timeout=50_000,
            renewal_timeout=RENEWAL,
            renewal_grace=GRACE,
        )
        self.store = store
        store.race = self
        self.marks: dict[str, int] = {}
        self.pointers: set[str] = set()
        self.lineages: dict[int, Lineage] = {}
        self.on_the_way: list[greenlet] = []
        self.finished: set[int] = set()
        self.numbers = iter(range(1, 1 << 30))
        self.values = iter(range(1, 1 << 30))
        self.waited = 0

    def _note(self, event: SessionEvent) -> None:
        who = getcurrent()
        if event.name == "gone" and isinstance(who, Request):
            who.is_gone = True
        if event.name in ("destroyed", "revoked"):
            mark = self.marks.get(event.handle or "")
            if mark is not None:
                self.lineages[mark].has_ended = True

    def wrote(self, handle: str, mark: int | None) -> None:
        if mark is None:
            self.pointers.add(handle)
        else:
            self.marks[handle] = mark

    def begin(self) -> int:
        number = len(self.lineages) + 1
        self.lineages[number] = Lineage()
        return number

    def value(self) -> int:
        return next(self.values)

    def is_settled(self, key: str) -> bool:
        """Whether a key is one that nobody writes any more."""
        return key[0] == "r" and int(key[1:]) in self.finished

    # What happens.

    def start(self, lineage: int, steps: list[str]) -> None:
        self._go(Request(self, lineage, steps))

    def revoke(self, number: int) -> None:
        untold = {handle for who in self.on_the_way if isinstance(who, Request) for handle in who.created}
        handles = [handle for handle in self.marks if handle not in untold]
        if handles:
            self._go(greenlet(lambda: self.manager.revoke(handles[number % len(handles)])))

    def revoke_user(self, user: str) -> None:
        now = self.clock()
        there = [self.marks[handle] for handle, record in self.store.scan(now=now) if record.user_id == user]

        def run() -> None:
            self.manager.revoke_user(user)
            for mark in there:
                self.lineages[mark].has_ended = True

        self._go(greenlet(run))

    def _go(self, who: greenlet) -> None:
        self.on_the_way.append(who)
        self.step(len(self.on_the_way) - 1)

    def step(self, number: int) -> None:
        who = self.on_the_way[number % len(self.on_the_way)]
        who.parent = getcurrent()
        who.switch()
        if who.dead:
            self.on_the_way.remove(who)
            if isinstance(who, Request):
                self.finished.add(who.number)

    def wait(self, seconds: int) -> None:
        self.clock += seconds
        if seconds == FOREVER:
            for lineage in self.lineages.values():
                lineage.has_ended = True

    def finish(self, choose: Callable[[int], int]) -> None:
        while self.on_the_way:
            self.step(choose(len(self.on_the_way)))

    # What must remain.

    def judge(self) -> list[str]:
        """Return what is wrong: losses and resurrections."""
        wrong: list[str] = []
        live = self._live()
        for mark in live.keys() - self.lineages.keys():
            wrong.append(f"resurrected: a record of no session: {mark}")
        for number, lineage in self.lineages.items():
            is_over = lineage.has_ended or lineage.moved_to is not None or not lineage.has_begun
            if live[number] != (not is_over):
                said = "resurrected" if live[number] else "lost"
                wrong.append(f"{said}: session {number} has {live[number]} records, {vars(lineage)}")
            for cookie in lineage.cookies:
                data = self._opened(cookie)
                if data and (is_over or data["mark"] != number):
                    wrong.append(f"resurrected: a cookie of session {number} opens {data}")
            if not is_over:
                wrong += self._differences(number, self._opened(lineage.cookies[-1]))
        return wrong

    def _live(self) -> Counter[int | None]:
        found: Counter[int | None] = Counter()
        for handle, _ in self.store.scan(now=self.clock()):
            loaded = self.manager._services.records.find(handle, restart=False)
            if isinstance(loaded, Snapshot):
                found[json.loads(loaded.content.texts.get("mark", b"null"))] += 1
        return found

    def _opened(self, cookie: str) -> dict[str, Any]:
        return dict(self.manager.open(cookie, {}))

    def _effects(self, number: int) -> list[tuple[Any, ...]]:
        before = [old for old, lineage in self.lineages.items() if lineage.moved_to == number]
        return [effect for old in before for effect in self._effects(old)] + self.lineages[number].effects

    def _differences(self, number: int, data: dict[str, Any]) -> list[str]:
        effects = self._effects(number)
        unknown = {effect[1] for effect in effects if effect[0] == "unknown"}
        if ("clear",) in effects:  # final: what others wrote before it, or beside it, may be gone
            unknown |= {"list", "count", "nested"} | {f"r{number}" for number in range(100)}
        gone = {effect[1] for effect in effects if effect[0] == "gone"}
        is_outlived = self.lineages[number].is_outlived
        want: dict[str, Any] = {"mark": number, "list": []}
        for kind, *rest in effects:
            if kind == "is":
                want[rest[0]] = rest[1]
            elif kind == "nested":
                want.setdefault("nested", {})[rest[0]] = rest[1]
            elif kind == "append":
                want["list"].append(rest[0])
            elif kind == "count":
                want["count"] = want.get("count", 0) + 1
        if is_outlived and not data.get("list"):
            want.pop("list")
            data.pop("list", None)
        have = {key: sorted(value) if key == "list" else value for key, value in data.items() if key != "user_id"}
        want = {key: sorted(value) if key == "list" else value for key, value in want.items()}
        for side in (have, want):
            for key in unknown:
                side.pop(key, None)
        for key in gone:
            want.pop(key, None)
        if have == want:
            return []
        return [f"lost: session {number} has {have} and should have {want}; effects {effects}"]


def drive(store: Store, runs: int) -> tuple[Counter[str], list[str]]:
    """Run so many races; return how much was found of what, and the words for it."""
    found: Counter[str] = Counter()
    words: list[str] = []
    for number in range(runs):
        race = Race(StagedStore(store))
        wrong = play(race, random.Random(number))
        found.update(["races"], requests=len(race.finished))
        found.update(line.partition(":")[0] for line in wrong)
        words += [f"race {number}: {line}" for line in wrong]
        for handle, _ in list(store.scan(now=0)):
            store.delete(handle, now=0)
    return found, words


def play(race: Race, dice: random.Random) -> list[str]:
    """Run one race as the dice want it; return what is wrong in the end."""
    race.start(0, dice.choice([["own"], ["login", "own"]]))
    race.finish(dice.randrange)
    for _ in range(dice.randint(2, 25)):
        happen(race, dice)
    race.finish(dice.randrange)
    return race.judge()


def happen(race: Race, dice: random.Random) -> None:
    what = dice.choices(["start", "step", "revoke", "revoke_user", "wait"], [25, 60, 3, 2, 4])[0]
    if what == "step" and race.on_the_way:
        race.step(dice.randrange(100))
    elif what == "revoke":
        race.revoke(dice.randrange(100))
    elif what == "revoke_user":
        race.revoke_user(dice.choice(USERS))
    elif what == "wait":
        race.wait(dice.choice([GRACE + 1, RENEWAL + 1, RENEWAL + 1, FOREVER]))
    elif len(race.on_the_way) < 5:
        known = [number for number, lineage in race.lineages.items() if lineage.cookies]
        steps = dice.choices(list(STEPS), list(STEPS.values()), k=dice.randint(0, 3))
        race.start(dice.choice([*known, 0]), steps)
