"""What is wrong with a MongoDB server, or missing from its collection of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timezone
from typing import Any

from ..findings import Finding, skew

_FIX = "run `wsgisession init URL` as a user that may create indexes"

Index = Mapping[str, Any]


def of_server(hello: Mapping[str, Any], *, now: float) -> Iterator[Finding]:
    """Check a server's answer to ``hello``."""
    if not hello.get("isWritablePrimary", True):
        fix = "name the members of the replica set in the store's URL, without directConnection"
        yield Finding("problem", "the server is not the primary", fix)
    if "localTime" in hello:
        yield from skew(hello["localTime"].replace(tzinfo=timezone.utc).timestamp(), now=now)


def of_indexes(indexes: Sequence[Index], of_users: Sequence[str], *, collection: str) -> Iterator[Finding]:
    """Check the indexes of a collection.

    :param of_users: the fields that may hold a session's user.
    """
    for field in missing_fields(indexes, of_users):
        if field == "expires":
            fact = f"the collection {collection} has no TTL index on expires, so expired sessions are not removed"
        else:
            fact = (
                f"the collection {collection} has no index on {field}, so finding a user's sessions reads all of them"
            )
        yield Finding("problem", fact, _FIX)


def missing_fields(indexes: Sequence[Index], of_users: Sequence[str]) -> list[str]:
    """Return the fields that have no index, or not the right one."""
    keys = [tuple(index["key"]) for index in indexes]
    has_ttl = any(tuple(index["key"]) == ("expires",) and "expireAfterSeconds" in index for index in indexes)
    missing = [] if has_ttl else ["expires"]
    return missing + [field for field in of_users if (field, "order", "_id") not in keys]
