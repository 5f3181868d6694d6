"""`SessionInfo`: a session as its user, or an operator, may see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from .binding import Device, device_of
from .content import Snapshot
from .timeouts import as_datetime

_LONGEST_ADDRESS = 64
_LONGEST_AGENT = 256


@dataclass(frozen=True)
class SessionInfo:
    """A session as its user, or an operator, may see it. Nothing in it grants access to the session.

    :param handle: with ``format="express"`` the session ID, which is a secret: keep it out of pages and logs.
    :param data: a read-only view.
    :param ip_address: the address that last wrote the session, with ``track_client``.
    :param user_agent: the browser that last wrote the session, with ``track_client``.
    :param device: the device that the session is bound to, with ``device_binding``.
    """

    handle: str
    user_id: Any
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    data: Mapping[Any, Any]
    ip_address: str | None = None
    user_agent: str | None = None
    device: Device | None = None
    _shown: str = field(default="", repr=False, compare=False)

    @property
    def is_bound(self) -> bool:
        """Whether the session is bound to a device."""
        return self.device is not None

    def __repr__(self) -> str:
        return f"<SessionInfo {self._shown or self.handle}>"


def info_of(snapshot: Snapshot, data: Mapping[Any, Any], *, user_id: Any, deadline: float, shown: str) -> SessionInfo:
    """Return what may be shown of a session.

    :param deadline: when it ends regardless of activity, in seconds since the epoch.
    :param shown: the name to show in a repr instead of the handle.
    """
    record, content = snapshot.record, snapshot.content
    address, agent = content.client or (None, None)
    return SessionInfo(
        snapshot.handle,
        user_id,
        as_datetime(content.created_at),
        as_datetime(last_seen(record)),
        as_datetime(min(record.expires_at, deadline)),
        MappingProxyType(dict(data)),
        address or None,
        agent or None,
        device_of(content.device),
        shown,
    )


def last_seen(record: Any) -> float:
    """Return when a record's idle timeout was last restarted."""
    return float(record.expires_at - record.ttl)


def capped(client: tuple[str, str]) -> tuple[str, str]:
    """Return what the client says of itself, limited in length and without control characters (ASVS 5.0 16.4.1)."""
    address, agent = ("".join(c for c in text[:_LONGEST_AGENT] if c.isprintable()) for text in client)
    return address[:_LONGEST_ADDRESS], agent
