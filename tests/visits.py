"""Visitors without a server: a browser that keeps its cookie, a clock that is set by hand, a store that is watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.environs import request as environ
from wsgisession import Session, SessionEvent, SessionManager
from wsgisession._core.reply import Reply
from wsgisession.stores.memory import MemoryStore

SECRET = "a secret that is long enough"
NOW = 1_700_000_000.0
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def __iadd__(self, seconds: float) -> Clock:
        self.now += seconds
        return self


def _watched(verb: str) -> Callable[..., Any]:
    def call(self: WatchedStore, *args: Any, **options: Any) -> Any:
        self.calls[verb] += 1
        self.before.pop(verb, lambda: None)()
        result = getattr(MemoryStore, verb)(self, *args, **options)
        self.after.pop(verb, lambda: None)()
        return result

    return call


class WatchedStore(MemoryStore):
    """Counts the calls of each verb; a function in ``before`` or ``after`` for a verb is called then, once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], Any]] = {}
        self.after: dict[str, Callable[[], Any]] = {}

    load = _watched("load")
    create = _watched("create")
    replace = _watched("replace")
    touch = _watched("touch")
    delete = _watched("delete")
    find_user = _watched("find_user")
    delete_user = _watched("delete_user")

    @property
    def handles(self) -> set[str]:
        return {handle for handle, _ in self.scan(now=NOW)}


class Site:
    """A manager, with everything around it that a test may look at."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.store, self.events = Clock(), WatchedStore(), list[SessionEvent]()
        known = {"secret": SECRET, "store": self.store, "clock": self.clock, "on_event": self.events.append}
        self.manager = SessionManager(**{**known, **options})

    def browser(self, cookie: str = "") -> Browser:
        return Browser(self.manager, cookie)

    def told(self, name: str) -> list[SessionEvent]:
        return [event for event in self.events if event.name == name]


class Browser:
    """Sends its cookie, and keeps what comes back."""

    def __init__(self, manager: SessionManager, cookie: str = "") -> None:
        self.manager, self.cookie = manager, cookie
        self.reply = Reply()

    def twin(self) -> Browser:
        """Another tab, or another client with the same cookie."""
        return Browser(self.manager, self.cookie)

    def open(self) -> Session:
        return self.manager.open(f"{self.manager.name}={self.cookie}" if self.cookie else "", {})

    def end(self, session: Session, *, dropped: bool = False, **request: Any) -> Reply:
        self.reply = self.manager.commit(session, environ(**request), dropped=dropped)
        if self.reply.set_cookie is not None:
            self.cookie = self.reply.set_cookie.partition(";")[0].partition("=")[2]
        session._visit.sealed = True
        self.manager.finish(session)
        return self.reply

    @contextmanager
    def request(self, **request: Any) -> Iterator[Session]:
        session = self.open()
        yield session
        self.end(session, **request)

    def put(self, **data: Any) -> None:
        with self.request() as session:
            session.update(data)

    @property
    def data(self) -> dict[str, Any]:
        """What a request of this browser finds."""
        return dict(self.twin().open())

    @property
    def handle(self) -> str:
        return self.twin().open().handle
