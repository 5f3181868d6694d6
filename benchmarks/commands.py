"""How many commands a request costs, counted at the server: ``python -m benchmarks.commands``.

Redis counts by MONITOR (what runs inside a script is part of its command), PostgreSQL by pg_stat_statements.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from werkzeug.test import Client

from tests import servers
from wsgisession import Session, SessionMiddleware, get_session

SECRET = "a secret for the benchmarks alone"

Act = Callable[[Session], object]

SCENARIOS: dict[str, tuple[bool, str, Act | None]] = {
    # what: (with a session, cookie sent, what the app does)
    "no cookie, untouched": (False, "none", None),
    "no cookie, read": (False, "none", lambda session: session.get("a")),
    "cookie, untouched": (True, "good", None),
    "read": (True, "good", lambda session: session.get("a")),
    "read and change": (True, "good", lambda session: session.update(a=session["a"] + 1)),
    "login, without a session": (False, "none", lambda session: session.login("ada")),
    "login, with a session": (True, "good", lambda session: session.login("ada")),
    "logout": (True, "good", lambda session: session.logout()),
    "forged cookie, read": (True, "forged", lambda session: session.get("a")),
}


class App:
    """An app that does what the scenario says."""

    def __init__(self, url: str) -> None:
        self.act: Act | None = None
        self.middleware = SessionMiddleware(self._answer, secret=SECRET, store=url)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if self.act is not None:
            self.act(get_session(environ))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def request(self, client: Client, act: Act | None) -> None:
        self.act = act
        client.get("/")


def counts(url: str, counted: Callable[[], Any]) -> Iterator[tuple[str, int]]:
    app = App(url)
    with closing(app.middleware.manager):
        for _, _, act in SCENARIOS.values():  # the first of each brings its script, statement or table along
            client = Client(app.middleware)
            app.request(client, lambda session: session.update(a=1))
            app.request(client, act)
        for name, (with_session, cookie, act) in SCENARIOS.items():
            client = Client(app.middleware)
            if with_session:
                app.request(client, lambda session: session.update(a=1))
                if cookie == "forged":
                    value = client.get_cookie("sid").value  # type: ignore[union-attr]
                    client.set_cookie("sid", value[:-8] + "AAAAAAAA")
            with counted() as commands:
                app.request(client, act)
            yield name, commands[0]


@contextmanager
def redis_commands(url: str) -> Iterator[list[int]]:
    parts = urlsplit(url)
    found = [0]
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        monitor.recv(100)
        yield found
        time.sleep(0.05)  # for what the server has still to say
        monitor.settimeout(0.05)
        said = b""
        try:
            while data := monitor.recv(1 << 20):
                said += data
        except TimeoutError:
            pass
    found[0] = sum(1 for line in said.splitlines() if line.startswith(b"+") and b" lua]" not in line)


@contextmanager
def postgresql_statements(url: str) -> Iterator[list[int]]:
    found = [0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute("SELECT pg_stat_statements_reset()")
        yield found
        row = connection.execute(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'"
        ).fetchone()
        found[0] = int(row[0]) if row else 0


def main() -> None:
    redis = servers.Redis().start()
    postgresql = servers.PostgreSQL("shared_preload_libraries=pg_stat_statements").start()
    try:
        of_redis = dict(counts(redis.url, lambda: redis_commands(redis.url)))
        of_postgresql = dict(counts(postgresql.url, lambda: postgresql_statements(postgresql.url)))
        print(f"{'a request with':28} {'Redis':>8} {'PostgreSQL':>12}")
        for name in SCENARIOS:
            print(f"{name:28} {of_redis[name]:>8} {of_postgresql[name]:>12}")
    finally:
        redis.stop()
        postgresql.stop()


if __name__ == "__main__":
    main()
