"""Sessions as their user, or an operator, may see them: nothing here opens one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ..session import as_datetime, last_seen
from .content import Loaded

_LONGEST_ADDRESS = 64
_LONGEST_AGENT = 256


@dataclass(frozen=True)
class SessionInfo:
    """A session as its user, or an operator, may see it: nothing in it opens the session.

    :param handle: with ``format="express"`` the session ID, and a secret: not for a page or a log.
    :param data: a read-only view.
    :param ip_address: where the session was last written from, with ``track_client``.
    :param user_agent: likewise.
    """

    handle: str
    user_id: Any
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    data: Mapping[str, Any]
    ip_address: str | None = None
    user_agent: str | None = None
    _shown: str = field(default="", repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<SessionInfo {self._shown or self.handle}>"


def info_of(loaded: Loaded, *, user_id: Any, deadline: float, shown: str = "") -> SessionInfo:
    """Return what may be shown of a session.

    :param shown: the name to show in a repr in place of the handle.
    :param deadline: when it ends whatever its activity, in seconds since the epoch.
    """
    record, content = loaded.record, loaded.content
    address, agent = content.client or (None, None)
    return SessionInfo(
        loaded.handle,
        user_id,
        as_datetime(content.created_at),
        as_datetime(last_seen(record)),
        as_datetime(min(record.expires_at, deadline)),
        MappingProxyType(loaded.data),
        address or None,
        agent or None,
        shown,
    )


def capped(client: tuple[str, str]) -> tuple[str, str]:
    """Return what the client says of itself, cut to size and without control characters (ASVS 5.0 16.4.1)."""
    address, agent = ("".join(c for c in text[:_LONGEST_AGENT] if c.isprintable()) for text in client)
    return address[:_LONGEST_ADDRESS], agent
