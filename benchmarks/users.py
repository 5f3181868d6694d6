"""What it costs to list a user's sessions and to end them all, among a million: ``python -m benchmarks.users``.

Beside it the plain way in Redis: a set of the user's session IDs, SMEMBERS, and one GET or DEL for each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from statistics import median
from typing import Any

import psycopg
import redis

from benchmarks.commands import postgresql_statements, redis_commands
from tests import servers
from wsgisession import SessionManager

SECRET = "a secret for the benchmarks alone"
OTHERS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
SIZES, ROUNDS = (1, 10, 1000), 6
PAGE = 10_000


def log_in(manager: SessionManager, user: str) -> str:
    session = manager.open("", {})
    session.login(user, cart=["tea"] * 10)
    manager.commit(session)
    assert session.handle is not None
    return session.handle


def fill_redis(url: str, handle: str) -> None:
    """Copy one user's session for all the others, and put each in a set of its own."""
    with redis.Redis.from_url(url) as client:
        value = client.get(f"sess:{handle}")
        for first in range(0, OTHERS, PAGE):
            pipeline = client.pipeline(transaction=False)
            for number in range(first, min(first + PAGE, OTHERS)):
                pipeline.set(f"sess:{number}{handle}", value, px=86_400_000)
                pipeline.execute_command("ZADD", f"sess-user:{number}", 10**13 - 1, f"{number}{handle}")
            pipeline.execute()


def fill_postgresql(url: str, handle: str) -> None:
    copied = (
        "INSERT INTO session (sid, sess, expire, expires_at, ttl, user_id)"
        " SELECT number || sid, sess, expire, expires_at, ttl, number::text"
        " FROM session, generate_series(1, %s) AS number WHERE sid = %s"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(copied, (OTHERS, handle))
        connection.execute("VACUUM ANALYZE session")


def measured(
    prepare: Callable[[int], str], call: Callable[[str], Any], counted: Callable[[], Any]
) -> tuple[int, float]:
    """Return the round trips of the call, counted the first time, and its seconds, which counting would spoil."""
    user = prepare(0)
    with counted() as commands:
        call(user)
    seconds = []
    for number in range(1, ROUNDS):
        user = prepare(number)
        before = time.perf_counter()
        call(user)
        seconds.append(time.perf_counter() - before)
    return commands[0], median(seconds)


def of_the_manager(url: str, counted: Callable[[], Any]) -> Iterator[tuple[str, int, int, float]]:
    with closing(SessionManager(secret=SECRET, store=url)) as manager:
        manager.revoke_user("nobody")
        manager.sessions_for("nobody")
        for size in SIZES:
            for what, call in {"list": manager.sessions_for, "end all": manager.revoke_user}.items():

                def prepare(number: int, size: int = size, what: str = what) -> str:
                    user = f"{what} {size} {number}"
                    for _ in range(size):
                        log_in(manager, user)
                    return user

                yield what, size, *measured(prepare, call, counted)


def the_plain_way(url: str) -> Iterator[tuple[str, int, int, float]]:
    with redis.Redis.from_url(url) as client:

        def show(user: str) -> list[Any]:
            return [client.get(b"plain:" + one) for one in client.smembers(user)]  # type: ignore[union-attr]

        def end(user: str) -> None:
            for one in client.smembers(user):  # type: ignore[union-attr]
                client.delete(b"plain:" + one)
            client.delete(user)

        for size in SIZES:
            for what, call in {"list": show, "end all": end}.items():

                def prepare(number: int, size: int = size, what: str = what) -> str:
                    user = f"plain-user:{what} {size} {number}"
                    for one in range(size):
                        client.set(f"plain:{number}-{one}", b"x" * 300)
                        client.sadd(user, f"{number}-{one}")
                    return user

                yield what, size, *measured(prepare, call, lambda: redis_commands(url))


def size_of_the_index(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT pg_size_pretty(pg_relation_size(indexrelid)) FROM pg_index JOIN pg_class ON oid = indexrelid"
            " WHERE indrelid = 'session'::regclass AND relname LIKE '%user%'"
        ).fetchone()
    return str(row and row[0])


def shown(name: str, rows: Iterator[tuple[str, int, int, float]]) -> None:
    for what, size, commands, took in rows:
        print(f"{name:16} {what:8} {size:>5} sessions {commands:>6} round trips {1000 * took:>9.2f} ms", flush=True)


def main() -> None:
    server = servers.Redis().start()
    try:
        with closing(SessionManager(secret=SECRET, store=server.url)) as manager:
            handle = log_in(manager, "first")
        fill_redis(server.url, handle)
        with redis.Redis.from_url(server.url) as client:
            kept, member = client.memory_usage(f"sess:1{handle}"), client.memory_usage("sess-user:1")
        print(f"Redis, {OTHERS} others: a session takes {kept} bytes, its user's set {member}")
        shown("Redis", of_the_manager(server.url, lambda: redis_commands(server.url)))
        shown("Redis, plain way", the_plain_way(server.url))
    finally:
        server.stop()
    server = servers.PostgreSQL("shared_preload_libraries=pg_stat_statements").start()
    try:
        with closing(SessionManager(secret=SECRET, store=server.url)) as manager:
            handle = log_in(manager, "first")
        fill_postgresql(server.url, handle)
        print(f"PostgreSQL, {OTHERS} others: the index of users takes {size_of_the_index(server.url)}")
        shown("PostgreSQL", of_the_manager(server.url, lambda: postgresql_statements(server.url)))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
