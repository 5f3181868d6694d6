"""What a record holds, between the codec that packs it, the session that shows it and the manager that decides."""

from __future__ import annotations

from typing import Any

import msgspec

EMPTY = b"{}"


class Content(msgspec.Struct, frozen=True):
    """The unpacked content of a session's record.

    :param data: the session's mapping as JSON text.
    :param created_at: seconds since the epoch.
    :param authenticated_at: when `Session.login` last happened, in seconds since the epoch; None for never.
    :param issued_at: when this ID was issued, in seconds since the epoch; None for at the creation or login.
    :param cookie: the cookie settings that this session has of its own, by their names in `CookieOptions`.
    :param client: the IP address and the user agent that the session was last written from, where that is kept.
    """

    data: bytes
    created_at: float
    authenticated_at: float | None = None
    issued_at: float | None = None
    cookie: dict[str, Any] | None = None
    client: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Content of {len(self.data)} bytes>"


class Content2(msgspec.Struct, frozen=True):
    """The unpacked content of a session's record, with a text for each key. It takes the place of `Content`.

    :param texts: the JSON text of each value, by the name of its key.
    :param created_at: seconds since the epoch.
    :param authenticated_at: when `Session.login` last happened, in seconds since the epoch; None for never.
    :param issued_at: when this ID was issued, in seconds since the epoch; None for at the creation or login.
    :param cookie: the cookie settings that this session has of its own, by their names in `CookieOptions`.
    :param client: the IP address and the user agent that the session was last written from, where that is kept.
    :param last_user: the user that the session belonged to last, as text; None for nobody so far.
    :param presented_at: when a client first presented this ID, in seconds since the epoch; None for not yet.
    :param device: what the session knows of the device that it is bound to; None if it is not bound.
    """

    texts: dict[str, bytes]
    created_at: float
    authenticated_at: float | None = None
    issued_at: float | None = None
    cookie: dict[str, Any] | None = None
    client: tuple[str, str] | None = None
    last_user: str | None = None
    presented_at: float | None = None
    device: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Content of {len(self.texts)} keys>"


class Renewed(msgspec.Struct, array_like=True, frozen=True, tag="ws1-renewed"):
    """What stands under an old ID after its renewal. It opens nothing by itself.

    :param handle: the new record's handle.
    :param nonce: with the old ID and the secret it makes the new ID.
    :param until: how long a cookie with the old ID is still answered, in seconds since the epoch.
    """

    handle: str
    nonce: str
    until: float


class Loaded(msgspec.Struct, frozen=True):
    """A record that was read or written: as the store has it, unpacked, and decoded.

    :param nonces: of the renewals that led here from the handle that was asked for.
    """

    handle: str
    record: Any
    content: Content
    data: dict[str, Any]
    nonces: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Loaded of {self.content!r}>"  # with Express the handle is the session ID


def containers(value: dict[str, Any] | list[Any]) -> dict[int, Any]:
    """Return every dict and list inside one, itself included, by identity. However deep: nothing calls itself here."""
    found = [value]
    for one in found:  # it grows as it is walked
        for item in one.values() if type(one) is dict else one:
            if type(item) is dict or type(item) is list:
                found.append(item)
    return {id(one): one for one in found}
