"""A new ID takes over from an old one, and the store fails at each call in turn: exactly one ID stays usable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.visits import SECRET, Browser, Clock
from wsgisession import Session, SessionManager, StoreError
from wsgisession.stores.memory import MemoryStore


class Killed(BaseException):
    """The process is gone: nothing more is done, and nobody is answered."""


class FailingStore(MemoryStore):
    """Fails at one call: before it takes effect, after it, or by the end of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.fails_at, self.how, self.is_dead = 0, "", False

    def fail_at(self, call: int, how: str) -> None:
        self.calls, self.fails_at, self.how = 0, call, how

    def heal(self) -> None:
        self.fails_at, self.is_dead = 0, False


def _failing(verb: str) -> Callable[..., Any]:
    def call(self: FailingStore, *args: Any, **options: Any) -> Any:
        if self.is_dead:
            raise Killed
        self.calls += 1
        fails = self.calls == self.fails_at
        if fails and self.how == "before":
            raise StoreError("it failed before it took effect")
        if fails and self.how == "killed before":
            self.is_dead = True
            raise Killed
        result = getattr(MemoryStore, verb)(self, *args, **options)
        if fails and self.how == "after":
            raise StoreError("it failed after it took effect")
        if fails and self.how == "killed after":
            self.is_dead = True
            raise Killed
        return result

    return call


for name in ("load", "create", "replace", "touch", "delete"):
    setattr(FailingStore, name, _failing(name))


def login(session: Session) -> None:
    session.login("ada", mine=1)


def regenerate(session: Session) -> None:
    session["mine"] = 1
    session.regenerate()


def nothing(session: Session) -> None:
    session["mine"] = 1


CASES = {"login": login, "regenerate": regenerate, "renewal": nothing}
HOWS = ("before", "after", "killed before", "killed after")


class Scene:
    """A visitor with a session, whose next request moves it to a new ID."""

    def __init__(self) -> None:
        self.store, self.clock = FailingStore(), Clock()
        self.manager = SessionManager(secret=SECRET, store=self.store, clock=self.clock, renewal_timeout=1000)
        self.browser = Browser(self.manager)
        self.browser.put(old=1)
        self.old = self.browser.twin()

    def live(self) -> list[str]:
        return [handle for handle, record in self.store.scan(now=self.clock()) if b"renewed" not in record.data]

    def move(self, case: str, *, also: bool) -> bool:
        """Run the request; True where it was answered with success."""
        if case == "renewal":
            self.clock += 1001
        try:
            session = self.browser.open()
            CASES[case](session)
            if also and not self.store.is_dead:
                fails_at, self.store.fails_at = self.store.fails_at, 0
                calls = self.store.calls
                parallel = self.manager.load(session.handle) if case == "renewal" else None
                if parallel is None:
                    parallel = self.old.open()
                    parallel["theirs"] = 2
                    parallel.save()
                else:
                    parallel["theirs"] = 2
                    parallel.save()
                self.store.calls, self.store.fails_at = calls, fails_at
            self.browser.end(session)
        except (StoreError, Killed):
            return False
        return True


def calls_of(case: str, *, also: bool) -> int:
    scene = Scene()
    scene.store.fail_at(0, "")
    scene.move(case, also=also)
    return scene.store.calls


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("also", [False, True], ids=["alone", "with a parallel write"])
@pytest.mark.parametrize("case", CASES)
def test_exactly_one_id_stays_usable_whatever_call_fails(case, also, how):
    """SECURITY 21."""
    total = calls_of(case, also=also)
    assert total >= 3
    for call in range(1, total + 1):
        scene = Scene()
        scene.store.fail_at(call, how)
        answered = scene.move(case, also=also)
        scene.store.heal()
        data = scene.browser.data
        if how.startswith("killed") and not data:
            # The old ID was dead already, and the answer with the new one never left: nobody was answered.
            assert not answered
            assert len(scene.live()) == 1
            continue
        assert data["old"] == 1, (call, answered)
        if answered:
            assert data["mine"] == 1
            assert not also or data["theirs"] == 2
            if case != "renewal":
                assert scene.old.data == {}, "the old ID is dead before anybody sees the new one"
        if not how.startswith("killed"):
            assert len(scene.live()) == 1, (call, answered)


@pytest.mark.parametrize("case", ["login", "regenerate"])
def test_the_old_id_is_dead_before_the_response_leaves(case):
    """SECURITY 19: no grace after a login, and no way from the old ID to the new one."""
    scene = Scene()
    assert scene.move(case, also=False)
    assert scene.old.data == {}
    assert len(scene.live()) == 1


def test_what_others_wrote_to_the_old_id_is_carried_over():
    scene = Scene()
    assert scene.move("login", also=True)
    assert scene.browser.data == {"old": 1, "mine": 1, "theirs": 2, "user_id": "ada"}


def test_a_login_is_not_lost_to_the_end_of_its_session_and_brings_nothing_of_it_back():
    scene = Scene()
    session = scene.browser.open()
    session.login("ada", mine=1)
    scene.manager.revoke(scene.old.handle)
    scene.browser.end(session)
    assert scene.browser.data == {"mine": 1, "user_id": "ada"}


def test_a_regenerate_of_a_session_that_was_ended_brings_nothing_back():
    scene = Scene()
    session = scene.browser.open()
    session.regenerate()
    scene.manager.revoke(scene.old.handle)
    assert scene.browser.end(session).set_cookie is None
    assert scene.live() == []


def test_a_late_answer_of_the_old_id_neither_replaces_nor_clears_the_newer_cookie():
    scene = Scene()
    late = scene.old.open()
    late["late"] = 1
    assert scene.move("login", also=False)
    assert scene.old.end(late).set_cookie is None
    assert "late" not in scene.browser.data


def test_parallel_requests_of_a_renewed_id_end_at_the_same_new_id():
    """SECURITY 20."""
    scene = Scene()
    scene.clock += 1001
    tabs = [scene.browser.twin() for _ in range(3)]
    sessions = [tab.open() for tab in tabs]
    for number, session in enumerate(sessions):
        session[f"tab{number}"] = number
    for tab, session in zip(tabs, sessions, strict=True):
        tab.end(session)
    assert len({tab.cookie for tab in tabs}) == 1
    assert tabs[0].cookie != scene.browser.cookie
    assert tabs[0].data == {"old": 1, "tab0": 0, "tab1": 1, "tab2": 2}
    assert len(scene.live()) == 1


def test_a_logout_after_a_renewal_ends_the_old_id_too():
    scene = Scene()
    assert scene.move("renewal", also=False)
    with scene.browser.request() as session:
        session.logout()
    assert scene.old.data == {}


def test_a_request_that_was_loaded_before_the_renewal_and_logs_out_ends_the_new_id():
    scene = Scene()
    scene.clock += 1001
    slow = scene.old.open()
    assert slow["old"] == 1
    assert scene.move("renewal", also=False)
    slow.logout()
    assert scene.live() == []
    assert scene.browser.data == {}


def test_a_revoke_by_the_handle_of_before_the_renewal_ends_the_session():
    scene = Scene()
    handle = scene.old.handle
    assert scene.move("renewal", also=False)
    assert scene.manager.revoke(handle)
    assert scene.browser.data == {}


def test_the_old_id_of_a_renewal_is_refused_and_told_after_the_grace():
    """SECURITY 20."""
    scene = Scene()
    assert scene.move("renewal", also=False)
    with scene.browser.request() as session:
        assert session["old"] == 1
    scene.clock += 29
    assert scene.old.data["old"] == 1
    scene.clock += 2
    assert scene.old.data == {}
    assert scene.browser.data["old"] == 1


def test_a_one_time_value_goes_to_exactly_one_of_two_racing_requests():
    scene = Scene()
    scene.browser.put(flash="hello")
    one, two = scene.browser.open(), scene.browser.open()
    assert one["flash"] == two["flash"] == "hello"
    got = [session.transaction(lambda session: session.pop("flash", None)) for session in (one, two)]
    assert sorted(got, key=str) == [None, "hello"]
