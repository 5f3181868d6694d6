"""What a record holds, between the codec that packs it, the session that shows it and the manager that decides."""

from __future__ import annotations

from typing import Any

import msgspec

EMPTY = b"{}"


class Content(msgspec.Struct, frozen=True):
    """The unpacked content of a record.

    :param data: the session's mapping as JSON text, decoded only when somebody looks.
    :param created_at: seconds since the epoch.
    :param authenticated_at: when `Session.login` last happened, in seconds since the epoch; None for never.
    :param cookie: the cookie settings that this session has of its own, by their names in `CookieOptions`.
    """

    data: bytes
    created_at: float
    authenticated_at: float | None = None
    cookie: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Content of {len(self.data)} bytes>"
