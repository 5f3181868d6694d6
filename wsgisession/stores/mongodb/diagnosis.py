"""What a MongoDB server and its collection of sessions lack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timezone
from typing import Any

from ..findings import Finding, skew

_CURE = "run `wsgisession init URL` as a user that may create indexes"


def of_server(hello: dict[str, Any], *, now: float) -> Iterator[Finding]:
    """Judge a server's answer to ``hello``."""
    if not hello.get("isWritablePrimary", True):
        cure = "name the members of the replica set in the store's URL, without directConnection"
        yield Finding("problem", "the server is not the primary", cure)
    if "localTime" in hello:
        yield from skew(hello["localTime"].replace(tzinfo=timezone.utc).timestamp(), now=now)


def of_indexes(indexes: Sequence[Mapping[str, Any]], *, collection: str) -> Iterator[Finding]:
    """Judge the indexes of a collection; where it has none at all it is not there yet."""
    first = {next(iter(index["key"])): index for index in reversed(indexes)}
    if not indexes:
        cure = "run `wsgisession init URL`, unless the app's own user may create indexes at the first use"
        yield Finding("warning", f"the collection {collection} is missing", cure)
        return
    if "expireAfterSeconds" not in first.get("expires", {}):
        fact = f"the collection {collection} has no TTL index on expires, so that expired sessions stay"
        yield Finding("problem", fact, _CURE)
    if "user_id" not in first:
        fact = f"the collection {collection} has no index on user_id, so that a user's sessions are looked for in all"
        yield Finding("problem", fact, _CURE)
