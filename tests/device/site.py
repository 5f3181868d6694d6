"""A small site with bound sessions, and what a test needs to look behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from tests.device.client import Browser, Client, Habits
from wsgisession import DeviceBinding, SessionEvent, SessionManager, SessionMiddleware, get_session
from wsgisession.testing import FakeClock

SECRET = "for the tests, and long enough"


def pages(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Log in and out, read, write, and whatever else an app does with its session."""
    session, path = get_session(environ), environ["PATH_INFO"]
    query = dict(pair.split("=") for pair in environ.get("QUERY_STRING", "").split("&") if pair)
    if path == "/login":
        session.login(query.get("user", "ada"), secret="the data")
    elif path == "/logout":
        session.logout(clear_site_data="clear" in query)
    elif path == "/write":
        session[query.get("key", "n")] = query.get("value", "1")
    elif path == "/clear":
        session.clear()
    elif path == "/regenerate":
        session.regenerate()
    elif path == "/untouched":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"public"]
    body = json.dumps({"user": session.user_id, "data": dict(session), "bound": session.is_bound}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


class Site:
    """The site on a store, with its events noted.

    :param options: of `SessionManager`.
    """

    def __init__(
        self, store: Any = "memory://", *, binding: Any = True, app: Callable[..., Any] = pages, **options: Any
    ) -> None:
        self.clock = options.setdefault("clock", FakeClock())
        self.events: list[SessionEvent] = []
        self.manager = SessionManager(
            secret=options.pop("secret", SECRET),
            store=store,
            device_binding=binding,
            on_event=self.events.append,
            **options,
        )
        self.app = SessionMiddleware(app, self.manager)

    def browser(self, **habits: Any) -> Browser:
        return Browser(self.app, self.clock, habits=Habits(**habits))

    def old_browser(self) -> Client:
        return Client(self.app, self.clock)

    def bound_browser(self, **habits: Any) -> Browser:
        """A browser whose user has logged in, so that its session is bound, and the grace is over."""
        browser = self.browser(**habits)
        browser.get("/login")
        assert len(browser.sessions) == 1
        self.clock.advance(20)
        return browser

    def happened(self, *names: str) -> list[str]:
        """The names of the events so far, of these kinds."""
        return [event.name for event in self.events if event.name in names]

    def reasons(self, name: str) -> list[str | None]:
        return [event.reason for event in self.events if event.name == name]

    def record(self, user: str = "ada") -> Any:
        """What the store has of the user's only session."""
        (found,) = self.manager._services.records.find_user(user)
        return found


BOUND_SECONDS = DeviceBinding().seconds + 30
