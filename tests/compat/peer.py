"""Play scripts of requests on the version of wsgisession that this interpreter has, and tell all that can be seen.

A script is a dict of options and actions; what is told has an entry for each action. As a program it reads a script
from each line, and writes what it tells as a line. Or it opens a store (a line with ``open``) and then plays one action
after the other (lines with ``play``). It uses only what has the same name in every version.

Session IDs, handles, and cookies are random, so they are called by numbers, in the order in which they are seen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from werkzeug.test import create_environ

from wsgisession import Session, SessionManager, SessionMiddleware, get_session, open_store

SECRET = "the secret of two versions"
BEGIN = 1_700_000_000.0
KEY = "wsgisession.session"

VALUES: list[Callable[[], Any]] = [
    lambda: 1,
    lambda: 2,
    lambda: "text",
    lambda: None,
    lambda: [],
    lambda: [1],
    lambda: [1, {"a": 1}],
    lambda: {},
    lambda: {"a": 1},
    lambda: {"a": {"b": [1]}, "c": 2},
    lambda: (1, [2]),
    lambda: {1, 2},
    lambda: True,
    lambda: 1.0,
    lambda: Decimal("1.10"),
    lambda: datetime(2026, 1, 2, tzinfo=timezone.utc),
]
"""What a step can put into a session, by its number; new each time."""

EXPRESS_VALUES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12]
"""Those that are the same in JSON."""


def shown(value: Any) -> str:
    """Return a value as text, with its type; the order of keys and of sets does not count."""
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{key!r}: {shown(item)}" for key, item in value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(shown, value)) + ")"
    if isinstance(value, (set, frozenset)):
        return type(value).__name__ + "(" + ", ".join(sorted(map(shown, value))) + ")"
    return repr(value)


class Names:
    """Numbers for random things."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, handle: str | None) -> int | None:
        return None if handle is None else self._known.setdefault(handle, len(self._known) + 1)

    def sort(self, handles: Iterable[tuple[Any, str]]) -> None:
        """Name handles in the order of what they stand for."""
        for _, handle in sorted(handles, key=lambda pair: (self._known.get(pair[1], 1 << 30), pair[0])):
            self.of(handle)


class World:
    """A site with its visitors."""

    def __init__(self, options: dict[str, Any], url: str = "memory://", *, is_real: bool = False) -> None:
        """Make a site; with real time and random IDs if other workers use its store too."""
        self.now, self.ahead, self.counter = BEGIN, 0.0, 0
        self.names, self.events = Names(), list[Any]()
        self.is_express = options.get("format") == "express"
        self.manager = SessionManager(
            secret=SECRET,
            store=open_store(url),
            clock=lambda: time.time() + self.ahead if is_real else self.now,
            random=os.urandom if is_real else self._random,
            on_event=self._note,
            **options,
        )
        self.app = SessionMiddleware(self._answer, self.manager)
        self.jars: dict[str, str | None] = {}
        self.history: list[str] = []
        self.elsewhere: Callable[[str | None, list[Any]], dict[str, Any]]

    def _random(self, size: int) -> bytes:
        self.counter += 1
        return hashlib.sha256(b"%d" % self.counter).digest()[:size]

    def _note(self, event: Any) -> None:
        handle = None if self.is_express else event.handle  # there it was the session ID, and is a digest now
        self.events.append((event.name, handle, event.reason))

    # Actions

    def play(self, action: list[Any]) -> dict[str, Any]:
        """Do one action, and tell what came of it, and what the store holds afterwards."""
        self.events.clear()
        told = getattr(self, "do_" + action[0])(*action[1:])
        told["events"] = self._events_seen()
        told["records"] = self._records()
        return told

    def do_request(self, browser: str, request: dict[str, Any]) -> dict[str, Any]:
        return Request(self, browser, request).run()

    def do_advance(self, seconds: float) -> dict[str, Any]:
        self.now += seconds
        return {}

    def do_copy(self, source: str, target: str) -> dict[str, Any]:
        self.jars[target] = self.jars.get(source)
        return {}

    def do_again(self, browser: str, number: int) -> dict[str, Any]:
        """Let the browser have an earlier cookie of anybody's."""
        if self.history:
            self.jars[browser] = self.history[number % len(self.history)]
        return {}

    def do_visit(self, cookie: str | None, steps: list[Any], ahead: float) -> dict[str, Any]:
        """Answer a browser that another worker may have given this cookie, so many seconds from now."""
        self.ahead = ahead
        self.jars["visitor"] = cookie
        told = Request(self, "visitor", {"steps": steps}).run()
        return {"results": told["results"], "raised": told.get("raised"), "cookie": self.jars["visitor"]}

    def do_forge(self, browser: str) -> dict[str, Any]:
        cookie = self.jars.get(browser)
        self.jars[browser] = cookie[:-8] + "AAAAAAAA" if cookie else "nonsense"
        return {}

    def do_revoke_user(self, user_id: Any, keep: str | None) -> dict[str, Any]:
        handle = self.handle_in(self.jars.get(keep or "") or "")
        return {"returned": self.manager.revoke_user(user_id, except_handle=handle)}

    def do_revoke(self, browser: str, user_id: Any) -> dict[str, Any]:
        handle = self.handle_in(self.jars.get(browser) or "")
        return {"returned": handle and self.manager.revoke(handle, user_id=user_id)}

    def do_edit(self, browser: str, steps: list[Any]) -> dict[str, Any]:
        """Change the session outside of a request."""
        handle, results = self.handle_in(self.jars.get(browser) or ""), list[Any]()
        try:
            with self.manager.edit(handle or "none") as session:
                runner = Steps(self, session, {})
                results += [runner.run(step) for step in steps]
        except Exception as error:
            results.append(type(error).__name__)
        return {"results": results}

    def do_sessions_for(self, user_id: Any) -> dict[str, Any]:
        return {"returned": sorted(str(self.names.of(info.handle)) for info in self.manager.sessions_for(user_id))}

    def do_purge(self) -> dict[str, Any]:
        self.manager.purge_expired()
        return {}

    # What is seen

    def handle_in(self, cookie: str) -> str | None:
        """Return the handle of the session that a cookie is for; None for one of no session."""
        if self.is_express:
            return unquote(cookie)[2:].rpartition(".")[0] or None
        session_id = cookie.rpartition(".")[0]
        digest = urlsafe_b64encode(hashlib.sha256(session_id.encode()).digest()).decode().rstrip("=")
        return "1" + digest if session_id else None

    def headers_seen(self, browser: str, headers: list[tuple[str, str]]) -> list[Any]:
        """Return the headers with the cookie's value by number, and let the browser take the cookie."""
        seen = []
        for name, value in headers:
            if name == "Set-Cookie":
                pair, *attributes = value.split("; ")
                cookie = pair.partition("=")[2]
                if "Max-Age=0" in attributes or not cookie:
                    self.jars[browser] = None
                else:
                    self.jars[browser] = cookie
                    self.history.append(cookie)
                seen.append([name, pair.partition("=")[0], self.names.of(self.handle_in(cookie)), sorted(attributes)])
            else:
                seen.append([name, value])
        return sorted(seen)

    def _events_seen(self) -> list[Any]:
        """Return the events; those of several sessions that one call revoked have no order."""
        seen = [[name, self.names.of(handle), reason] for name, handle, reason in self.events]
        for first, event in enumerate(seen):
            if event[0] == "revoked":
                last = next((n for n in range(first, len(seen)) if seen[n][0] != "revoked"), len(seen))
                seen[first:last] = sorted(seen[first:last])
        return seen

    def _records(self) -> list[Any]:
        """Return what the store holds, read as an operator would."""
        handles = dict(self.manager.store.scan(now=self.now))
        infos = {info.handle: info for info in self.manager.all_sessions()}
        self.names.sort(
            (f"{infos[handle].created_at} {shown(dict(infos[handle].data))}" if handle in infos else "~", handle)
            for handle in handles
        )
        return sorted(self._record(handle, handles[handle], infos.get(handle)) for handle in handles)

    def _record(self, handle: str, record: Any, info: Any) -> list[Any]:
        seen = [self.names.of(handle), record.ttl, record.user_id, record.expires_at]
        session = self.manager.load(handle) if info else None
        if info is None or session is None:
            return [*seen, "leads to another, or cannot be read"]
        times = [info.created_at, info.last_seen_at, info.expires_at, session.authenticated_at]
        own = [getattr(session.cookie, name) for name in ("max_age", "path", "same_site", "http_only", "secure")]
        client = [info.ip_address, info.user_agent]
        return [*seen, shown(dict(info.data)), repr(info.user_id), *map(str, times), str(own), str(client)]

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request: Request = environ["peer.request"]
        return request.answer(environ, start_response)


class Request:
    """One request, with what the app does in it: before the headers leave, and in a stream after each chunk."""

    def __init__(self, world: World, browser: str, request: dict[str, Any]) -> None:
        self.world, self.browser, self.request = world, browser, request
        self.results: list[Any] = []
        self.started: list[Any] = []
        self.held: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        world = self.world
        cookie = world.jars.get(self.browser)
        headers = {"User-Agent": "a browser"} | ({"Cookie": f"{world.manager.name}={cookie}"} if cookie else {})
        base = self.request.get("base", "https://example.com")
        environ = create_environ("/", base, headers=headers, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
        environ["peer.request"] = self
        told: dict[str, Any] = {}
        try:
            body = world.app(environ, self._start_response)
            try:
                told["body"] = [chunk.decode() for chunk in body]
            finally:
                if hasattr(body, "close"):
                    body.close()
        except Exception as error:
            told["raised"] = type(error).__name__
        told["results"] = self.results
        told["held"] = shown(self.held)
        told["responses"] = self.started
        return told

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        self.started.append([status, self.world.headers_seen(self.browser, headers)])
        return lambda data: None

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        steps = Steps(self.world, get_session(environ), self.held, environ)
        self._run(steps, self.request.get("steps", []))
        headers = [("Content-Type", "text/plain"), *map(tuple, self.request.get("headers", []))]
        start_response("200 OK", headers)
        self._run(steps, self.request.get("late", []))
        if "stream" in self.request:
            return self._stream(steps)
        return [b"done"]

    def _stream(self, steps: Steps) -> Iterator[bytes]:
        for part in self.request["stream"]:
            self._run(steps, part)
            yield b"chunk"

    def _run(self, steps: Steps, wanted: list[Any]) -> None:
        for step in wanted:
            self.results.append(steps.run(step))


class Fault(Exception):
    """What an app raises."""


class Steps:
    """What an app does to a session."""

    def __init__(
        self, world: World, session: Session, held: dict[str, Any], environ: dict[str, Any] | None = None
    ) -> None:
        self.world, self.session, self.held, self.environ = world, session, held, environ

    def run(self, step: list[Any]) -> Any:
        """Do a step, and tell what it returned, or which kind of error it raised."""
        try:
            return getattr(self, "do_" + step[0])(*step[1:])
        except Fault:
            raise
        except Exception as error:
            return f"raised {type(error).__name__}"

    def do_get(self, key: str) -> str:
        return shown(self.session.get(key))

    def do_in(self, key: str) -> bool:
        return key in self.session

    def do_all(self) -> str:
        return shown(dict(self.session))

    def do_set(self, key: str, value: int) -> None:
        self.session[key] = VALUES[value]()

    def do_delete(self, key: str) -> None:
        del self.session[key]

    def do_pop(self, key: str) -> str:
        return shown(self.session.pop(key, None))

    def do_clear(self) -> None:
        self.session.clear()

    def do_setdefault(self, key: str, value: int) -> str:
        return shown(self.session.setdefault(key, VALUES[value]()))

    def do_put(self, key: str, name: str, value: int) -> None:
        self.session[key][name] = VALUES[value]()

    def do_deep(self, key: str, value: int) -> None:
        self.session[key]["a"]["b"] = VALUES[value]()

    def do_append(self, key: str, value: int) -> None:
        self.session[key].append(VALUES[value]())

    def do_remove(self, key: str, name: str) -> None:
        del self.session[key][name]

    def do_count(self, key: str) -> None:
        self.session[key] = self.session.get(key, 0) + 1

    def do_hold(self, key: str) -> None:
        """Keep a value of the session in the app's hands."""
        self.held[key] = self.session[key]

    def do_give(self, key: str, value: int) -> None:
        """Put a value into the session that the app keeps in its hands."""
        self.held[key] = VALUES[value]()
        self.session[key] = self.held[key]

    def do_held_append(self, key: str, value: int) -> None:
        self.held[key].append(VALUES[value]())

    def do_held_put(self, key: str, name: str, value: int) -> None:
        self.held[key][name] = VALUES[value]()

    def do_login(self, user_id: Any, data: dict[str, int]) -> None:
        granted = {key: VALUES[value]() for key, value in data.items()}
        self.held.update(granted)
        self.session.login(user_id, **granted)

    def do_logout(self, clear_site_data: bool) -> None:
        self.session.logout(clear_site_data=clear_site_data)

    def do_destroy(self) -> None:
        self.session.destroy()

    def do_regenerate(self, keep_data: bool) -> None:
        self.session.regenerate(keep_data=keep_data)

    def do_save(self) -> None:
        self.session.save()

    def do_reload(self) -> None:
        self.session.reload()

    def do_touch(self) -> None:
        self.session.touch()  # what it returns is newer than the old version

    def do_transaction(self, key: str, nested: list[Any], fails: bool) -> str:
        """Count in a transaction, in which the first time other requests come between."""
        pending = list(nested)

        def count(session: Session) -> int:
            session[key] = session.get(key, 0) + 1
            while pending:
                self.do_request(*pending.pop())
            if fails:
                raise ValueError("in the transaction")
            return int(session[key])

        return shown(self.session.transaction(count))

    def do_cookie(self, name: str, value: Any) -> None:
        setattr(self.session.cookie, name, value)

    def do_state(self) -> list[Any]:
        session = self.session
        return [session.is_new, session.is_accessed, session.is_modified, session.is_empty, repr(session.user_id)]

    def do_times(self) -> list[str]:
        session = self.session
        times = (session.created_at, session.authenticated_at, session.last_seen_at, session.expires_at)
        return [*map(str, times), str(session.cookie.expires), str(session.cookie.max_age)]

    def do_handle(self) -> list[Any]:
        handle = self.world.handle_in(f"s:{self.session.id}." if self.world.is_express else f"{self.session.id}.")
        return [self.world.names.of(self.session.handle), self.session.id and self.world.names.of(handle)]

    def do_drop(self) -> None:
        if self.environ is not None:
            self.environ[KEY] = None

    def do_raise(self) -> None:
        raise Fault

    def do_advance(self, seconds: float) -> None:
        self.world.now += seconds

    def do_request(self, browser: str, request: dict[str, Any]) -> dict[str, Any]:
        """Let another request come and go while this one runs."""
        return Request(self.world, browser, request).run()

    def do_revoke_user(self, user_id: Any) -> int:
        return self.world.manager.revoke_user(user_id)

    def do_elsewhere(self, steps: list[Any]) -> dict[str, Any]:
        """Let another worker answer a request of the same visitor while this one runs."""
        return self.world.elsewhere(self.world.jars["visitor"], steps)


def play(script: dict[str, Any]) -> list[dict[str, Any]]:
    """Play a whole script."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'sessions.db'}" if script.get("store") == "sqlite" else "memory://"
        world = World(script["options"], url)
        with closing(world.manager):
            return [world.play(action) for action in script["actions"]]


def main() -> None:
    logging.disable(logging.CRITICAL)
    worlds: list[World] = []
    for line in sys.stdin:
        try:
            answer = answered(json.loads(line), worlds)
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


def answered(wanted: dict[str, Any], worlds: list[World]) -> Any:
    """Do what a line says."""
    if "open" in wanted:
        worlds[:] = [World(wanted["options"], wanted["open"], is_real=True)]
        return {}
    if "play" in wanted:
        name, *arguments = wanted["play"]
        return getattr(worlds[0], "do_" + name)(*arguments)
    return play(wanted)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):
        main()
