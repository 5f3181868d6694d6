"""Each short order of the engine's methods does what it does with Django's own database engine."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.django_project import set_up

set_up()

from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.management import call_command
from django.test import override_settings

from wsgisession.django import SessionStore

METHODS = ("load", "flush", "cycle_key", "create", "save", "delete", "set")
STARTS = ("new", "stored", "loaded", "unknown")

Observed = tuple[Any, ...]


@pytest.fixture(scope="module", autouse=True)
def database() -> Iterator[None]:
    from django.db import connection

    call_command("migrate", verbosity=0)
    yield
    connection.close()


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    with override_settings(WSGISESSION={"store": "memory://"}):
        yield


class Played:
    """An order of methods, played on one engine, with what can be seen after each step.

    Keys differ from engine to engine, so each is numbered in the order in which it was first seen.
    """

    def __init__(self, engine: type[SessionBase], start: str) -> None:
        self.engine, self.keys = engine, dict[str, int]()
        self.session = self._begun(start)
        self.steps = 0

    def _begun(self, start: str) -> SessionBase:
        if start == "new":
            return self.engine()
        if start == "unknown":
            return self.engine("a" * 40)
        first = self.engine()
        first["first"] = {"a": [1]}
        first.save()
        self._number(first.session_key)
        session = self.engine(first.session_key)
        if start == "loaded":
            assert session["first"] == {"a": [1]}
        return session

    def do(self, method: str, call: Callable[[SessionBase, str], Any]) -> Observed:
        """Call a method and return what became of the session, and of all that had a key."""
        self.steps += 1
        try:
            result = self._step(method, call)
        except (CreateError, UpdateError) as error:
            result = type(error).__name__
        session = self.session
        key = self._number(session.session_key)
        stored = {number: self._stored(key) for key, number in self.keys.items()}
        return method, result, key, session.modified, stored

    def _step(self, method: str, call: Callable[[SessionBase, str], Any]) -> Any:
        if method == "set":
            self.session[f"set {self.steps}"] = self.steps
            return None
        if method == "read":
            return dict(self.session.items())
        result = call(self.session, method)
        return dict(result) if method == "load" else result

    def _stored(self, key: str) -> dict[str, Any] | None:
        return dict(self.engine(key).load()) if self.engine().exists(key) else None

    def _number(self, key: str | None) -> int | None:
        return None if key is None else self.keys.setdefault(key, len(self.keys))


def in_sync(session: SessionBase, method: str) -> Any:
    return getattr(session, method)()


def in_async(session: SessionBase, method: str) -> Any:
    return asyncio.run(getattr(session, f"a{method}")())


def seen(engine: type[SessionBase], start: str, order: tuple[str, ...], call: Any = in_sync) -> list[Observed]:
    played = Played(engine, start)
    return [*(played.do(method, call) for method in order), played.do("read", call)]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("first", METHODS)
def test_every_order_of_three_methods_does_what_it_does_with_djangos_database_engine(start, first):
    for order in itertools.product((first,), METHODS, METHODS):
        assert seen(SessionStore, start, order) == seen(DatabaseStore, start, order), order


@pytest.mark.parametrize("start", STARTS)
def test_every_order_of_two_async_methods_does_the_same(start):
    for order in itertools.product(METHODS, METHODS):
        assert seen(SessionStore, start, order, in_async) == seen(DatabaseStore, start, order), order
