"""`Rules`: what a framework's own sessions do differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNSET: Any = object()


@dataclass(frozen=True, slots=True)
class Rules:
    """What a framework's own sessions do differently.

    :param ends_emptied: a session that lost its last key ends.
    :param lifetime: the ``max_age`` in seconds that the framework gives this session, unless the app gave it one; None
        for a cookie that ends with the browser.
    :param refreshes: each response to a request that looked at a session with a ``max_age`` sends the cookie again.
    :param ignored: a new session that has only these keys is not stored.
    """

    ends_emptied: bool = False
    lifetime: float | None = UNSET
    refreshes: bool = False
    ignored: frozenset[str] = frozenset()


PLAIN = Rules()
