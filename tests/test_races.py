"""A model of one browser's session, and requests of it that Hypothesis interleaves as it likes, on every store."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.environs import request
from tests.test_interleavings import Blind
from tests.visits import SECRET, Clock
from wsgisession import Session, SessionGone, SessionManager, Store, open_store

KEYS = st.sampled_from(["a", "b", "c", "cart"])
IDLE = 86_400.0
EXAMPLES = {"memory": 150, "sqlite": 60, "redis": 60, "postgresql": 50, "mongodb": 25}


class Request:
    """One request on its way: what it saw, and what it did since."""

    def __init__(self, session: Session, generation: int) -> None:
        self.session, self.generation = session, generation
        self.seen: dict[str, Any] = dict(session)
        self.changes: dict[str, Any] = {}
        self.moves = self.logs_in = self.is_over = False


class Races(RuleBasedStateMachine):
    """What must remain is kept in ``want``; ``dead`` are the cookies that must open nothing any more."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.manager = SessionManager(secret=SECRET, store=self.store, clock=self.clock)
        self.requests: list[Request] = []
        self.dead: set[str] = set()
        self.number = 0
        self.begin({"a": 0, "cart": {}})

    def begin(self, data: dict[str, Any]) -> None:
        session = self.manager.open("", {})
        session.update(data)
        self.want: dict[str, Any] = dict(data)
        self.generation, self.is_alive = getattr(self, "generation", 0) + 1, True
        self.cookie = self.sent(session)

    def sent(self, session: Session) -> str:
        header = self.manager.commit(session, request()).set_cookie
        return "" if header is None or "Max-Age=0" in header else header.partition(";")[0]

    def pick(self, index: int) -> Request:
        return self.requests[index % len(self.requests)]

    def end(self) -> None:
        self.dead.add(self.cookie)
        self.is_alive = False
        self.generation += 1

    # What the requests do.

    @precondition(lambda self: self.is_alive and len(self.requests) < 4)
    @rule()
    def arrive(self):
        self.requests.append(Request(self.manager.open(self.cookie, {}), self.generation))

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3), key=KEYS)
    def set_a_key(self, index, key):
        request, self.number = self.pick(index), self.number + 1
        if key == "cart":
            name = str(self.number)
            request.session.setdefault("cart", {})[name] = self.number
            request.changes.setdefault("cart", {})
            if isinstance(request.changes["cart"], dict):
                request.changes["cart"][name] = self.number
        else:
            request.session[key] = request.changes[key] = self.number

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3), key=st.sampled_from(["a", "b", "c"]))
    def delete_a_key(self, index, key):
        request = self.pick(index)
        request.session.pop(key, None)
        request.changes[key] = None

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3))
    def regenerate(self, index):
        request = self.pick(index)
        request.session.regenerate()
        request.moves = True

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3))
    def log_in(self, index):
        request, self.number = self.pick(index), self.number + 1
        request.session.login("ann", logins=self.number)  # always her: another user's data would not be inherited
        request.changes |= {"user_id": "ann", "logins": self.number}
        request.moves = request.logs_in = True

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3))
    def save(self, index):
        request = self.pick(index)
        if request.moves:
            return
        if request.generation == self.generation:
            request.session.save()
            self.acknowledge(request)
            request.seen, request.changes = dict(request.session), {}
        else:
            with pytest.raises(SessionGone):
                request.session.save()
            self.requests.remove(request)

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3))
    def count(self, index):
        request = self.pick(index)
        if request.moves:
            return

        def add_one(session):
            session["n"] = session.get("n", 0) + 1

        if request.generation == self.generation:
            request.session.transaction(add_one)
            self.acknowledge(request)
            self.want["n"] = self.want.get("n", 0) + 1
            request.seen, request.changes = dict(request.session), {}
        else:
            with pytest.raises(SessionGone):
                request.session.transaction(add_one)
            self.requests.remove(request)

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3))
    def answer(self, index):
        request = self.pick(index)
        self.requests.remove(request)
        cookie = self.sent(request.session)
        if request.generation == self.generation:
            self.acknowledge(request)
            if request.moves:
                self.dead.add(self.cookie)
                self.cookie, self.generation = cookie, self.generation + 1
            assert bool(cookie) == request.moves
        elif request.logs_in:  # never lost: a new session, with nothing of the one that ended
            assert cookie
            if self.is_alive:  # the browser forgets the cookie of the session that others moved: it has a newer one
                self.revoke()
            self.want = {}
            self.acknowledge(request, seen={})
            self.cookie, self.generation, self.is_alive = cookie, self.generation + 1, True
        else:
            assert not cookie, "a late answer neither replaces nor brings back"

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 3))
    def log_out(self, index):
        request = self.pick(index)
        self.requests.remove(request)
        request.session.logout()
        assert not self.sent(request.session)
        if request.generation == self.generation:
            self.end()

    # What happens to them.

    @precondition(lambda self: self.is_alive)
    @rule()
    def revoke(self):
        assert self.manager.revoke(self.manager.open(self.cookie, {}).handle)
        self.end()

    @precondition(lambda self: self.is_alive)
    @rule()
    def expire(self):
        self.clock += IDLE + 1
        self.end()

    @precondition(lambda self: not self.is_alive and not self.requests)
    @rule()
    def come_again(self):
        self.begin({"a": 0, "cart": {}})

    def acknowledge(self, request: Request, seen: dict[str, Any] | None = None) -> None:
        seen = request.seen if seen is None else seen
        for key, value in request.changes.items():
            if key == "cart":
                self.want.setdefault("cart", {}).update(value)
            elif value is not None:
                self.want[key] = value
            elif key in seen and self.want.get(key) == seen[key]:  # else another request changed it, and that stays
                self.want.pop(key, None)

    # What must be so at every moment.

    @invariant()
    def nothing_is_lost(self):
        if self.is_alive:
            assert dict(self.manager.open(self.cookie, {})) == self.want

    @invariant()
    def nothing_comes_back(self):
        for cookie in self.dead:
            assert dict(self.manager.open(cookie, {})) == {}


def test_no_order_of_requests_loses_or_brings_back_anything(store_url):
    with closing(open_store(store_url)) as store:
        machine = type("RacesOnThisStore", (Races,), {"store": store})
        examples = EXAMPLES[store_url.partition(":")[0]]
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_the_model_sees_what_a_blind_write_does():
    with closing(Blind(open_store("memory://"))) as store:
        machine = type("RacesOnABlindStore", (Races,), {"store": store})
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=500,
                    stateful_step_count=30,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
