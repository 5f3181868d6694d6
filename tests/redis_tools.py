"""What the tests of the Redis stores have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from wsgisession.stores import Record

NOW = 1_800_000_000.25


def record(
    data: bytes = b"{}", *, ttl: float = 100.0, user_id: str | None = None, version: object = None, order: int = 0
) -> Record:
    return Record(data, ttl, user_id, version, order=order)


@contextmanager
def watched(client: redis.Redis, prefix: str) -> Iterator[list[list[str]]]:
    """Collects the commands that name the prefix, as the server receives them; not what its scripts run."""
    commands: list[list[str]] = []
    with client.monitor() as monitor:
        yield commands
        client.echo("the end")
        for each in monitor.listen():
            if "the end" in each["command"]:
                return
            if each["client_type"] != "lua" and prefix[:-1] in each["command"]:
                commands.append(each["command"].split())
