"""What it costs to list a user's sessions and to end them all, among a million: ``python -m benchmarks.users``.

Compared with the usual code on the same Redis: a set of handles for each user, SMEMBERS, and one GET or DEL for each.
Medians; round trips are counted at the server. An argument is another number of sessions.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import psycopg
import redis

from benchmarks.commands import postgresql_statements, redis_commands
from benchmarks.loading import DATA, SECRET, load_postgresql, load_redis, rows
from tests import servers
from wsgisession import SessionManager

TTL = 86_400.0
SIZES = {1: 20, 10: 20, 1000: 6}
"""Sessions of one user, and how many such users there are."""


def everyone(count: int) -> Any:
    """Yield the rows: users of each size, and ten sessions for each of the others."""
    parts = [rows(count - 6220, per_user=10, ttl=TTL, now=time.time())]
    for size, users in SIZES.items():
        for handle, user, *times in rows(size * users, per_user=size, ttl=TTL, now=time.time()):
            parts.append([(f"{size}-{handle}"[:43], f"{size}-{user}", *times)])  # type: ignore[arg-type]
    return itertools.chain(*parts)


class Plain:
    """The user index that most apps write themselves."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        for size, users in SIZES.items():
            for user, number in itertools.product(range(users), range(size)):
                handle = f"{size}-{user}-{number}".ljust(43, "x")
                self.client.set(f"plain:{handle}", DATA, ex=int(TTL))
                self.client.sadd(f"plain-user:{size}-u{user}", handle)

    def sessions_for(self, user: str) -> list[Any]:
        return [self.client.get(b"plain:" + handle) for handle in self.client.smembers(f"plain-user:{user}")]

    def revoke_user(self, user: str) -> int:
        handles = self.client.smembers(f"plain-user:{user}")
        for handle in handles:
            self.client.delete(b"plain:" + handle)
        self.client.delete(f"plain-user:{user}")
        return len(handles)


def cost(
    act: Callable[[str], Any], size: int, counted: Callable[[], AbstractContextManager[list[int]]], *, last: bool
) -> str:
    """Return the round trips and the median time, each user in turn; the last one is counted and not timed."""
    *timed, other = (f"{size}-u{number}" for number in range(SIZES[size]))
    if not last:
        act(other)
    took = []
    for user in timed:
        began = time.perf_counter()
        act(user)
        took.append(time.perf_counter() - began)
    with counted() as trips:
        act(other)
    return f"{trips[0]:5} {statistics.median(took) * 1000:9.2f} ms"


def report(name: str, way: Any, counted: Callable[[], AbstractContextManager[list[int]]]) -> None:
    for size in SIZES:
        listed = cost(way.sessions_for, size, counted, last=False)
        ended = cost(way.revoke_user, size, counted, last=True)
        print(f"{name:12} {size:5} {listed} {ended}", flush=True)


def sizes(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for size in SIZES:
            ours = client.memory_usage(f"sess-user:{size}-u0", samples=0)
            plain = client.memory_usage(f"plain-user:{size}-u0", samples=0)
            print(f"index of a user with {size} session(s) in Redis: {ours} bytes; the plain set {plain}")
        print(f"Redis in all: {int(client.info('memory')['used_memory']):,} bytes")


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    server, database = servers.Redis().start(), servers.PostgreSQL("shared_preload_libraries=pg_stat_statements")
    database.start()
    try:
        load_redis(server.url, everyone(count))
        load_postgresql(database.url, everyone(count))
        plain = Plain(server.url)
        sizes(server.url)
        with psycopg.connect(database.url) as connection:
            for index in ("IDX_session_user_id", "session_pkey"):
                (size,) = connection.execute("SELECT pg_relation_size(%s::regclass)", [f'"{index}"']).fetchone() or (0,)
                print(f"{index} in PostgreSQL: {size:,} bytes, {size / count:.0f} a session")
        print(f"{'':12} {'of':>5} {'list: round trips, time':>18} {'end all':>18}")
        report("Redis", SessionManager(secret=SECRET, store=server.url), partial(redis_commands, server.url))
        report("Redis, plain", plain, partial(redis_commands, server.url))
        counted = partial(postgresql_statements, database.url)
        report("PostgreSQL", SessionManager(secret=SECRET, store=database.url), counted)
    finally:
        server.stop()
        database.stop()


if __name__ == "__main__":
    main()
