"""What a record contains, between the codec that packs it and the visit that works with it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from . import binding

Texts = dict[str, bytes]
"""The data of a session: the JSON text of each value, by the name under which its key is stored."""

UNPRESENTED = 0.0
"""`Content.presented_at` of a renewed ID that no request has presented yet."""

REISSUE = 0.0
"""`Content.issued_at` of an ID that the next response must replace, because the user changed outside a request."""


class Content(msgspec.Struct, frozen=True):
    """The unpacked content of a session's record. Times are seconds since the epoch.

    :param texts: the data.
    :param created_at: when the session began.
    :param authenticated_at: when its user last logged in; None for never.
    :param issued_at: when this ID was issued; None if that was at the creation or login.
    :param cookie: this session's own cookie settings, by their names in `CookieOptions`. ``lifetime`` is the max_age
        that the framework chose, which counts unless the app set a ``max_age``.
    :param client: the IP address and user agent that last wrote the session, with ``track_client``.
    :param last_user: the text of the user that the data belong to, also after that user's key was removed.
    :param presented_at: when a request first presented this renewed ID; `UNPRESENTED` before that, and None for an ID
        that is not a renewed one.
    :param device: the device binding, opaque to the core.
    """

    texts: Texts
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

    @property
    def age_from(self) -> float:
        """When the age of this ID began."""
        return self.issued_at or self.authenticated_at or self.created_at

    @property
    def max_age(self) -> float | None:
        """The session's own ``max_age`` in seconds, set by the app or the framework; None for none."""
        own = self.cookie or {}
        age = own.get("max_age", own.get("lifetime"))
        return None if age is None else float(age)


class Renewed(msgspec.Struct, array_like=True, frozen=True, tag="ws1-renewed"):
    """What an old ID's record contains after its renewal. It grants no access on its own.

    :param handle: the new record's handle.
    :param nonce: with the old ID and the secret it makes the new ID.
    :param until: until when version 0.1 accepts the old ID, in seconds since the epoch. Later versions accept it until
        the new ID has been presented, and for the grace period after that.
    """

    handle: str
    nonce: str
    until: float


class Snapshot(msgspec.Struct, frozen=True):
    """A record as it was read or written: as the store has it, and unpacked.

    :param nonces: of the renewals that lead here from the handle that was asked for.
    """

    handle: str
    record: Any
    content: Content
    nonces: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Snapshot of {self.content!r}>"  # in the Express format the handle is the session ID


def with_later(one: float | None, other: float | None) -> float | None:
    """Return the later of two times, either of which may be missing."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def merged_fields(base: Content, mine: Content, theirs: Content, texts: Texts) -> Content:
    """Return the content that both writers' changes make, where ``texts`` are their data, merged already.

    Each field has its own rule. Logins, issues, and presentations: the later one, but an ID that is to be replaced
    stays so. Cookie settings and the last user: mine if I changed them. A device binding: see `binding.merged`.
    """
    reissue = REISSUE in (mine.issued_at, theirs.issued_at)
    return msgspec.structs.replace(
        mine,
        texts=texts,
        authenticated_at=with_later(mine.authenticated_at, theirs.authenticated_at),
        issued_at=REISSUE if reissue else with_later(mine.issued_at, theirs.issued_at),
        cookie=mine.cookie if mine.cookie != base.cookie else theirs.cookie,
        client=mine.client or theirs.client,
        last_user=mine.last_user if mine.last_user != base.last_user else theirs.last_user,
        presented_at=with_later(mine.presented_at, theirs.presented_at),
        device=binding.merged(mine.device, theirs.device),
    )


def containers_in(value: dict[Any, Any] | list[Any], most: int = sys.maxsize) -> list[Any]:
    """Return every dict and list inside one, itself included. Not recursive, so any depth works.

    :param most: how many there can be at most; when that many are found, the search ends.
    """
    found = [value]
    for one in found:  # it grows while it is walked
        if len(found) >= most:
            break
        for item in one.values() if type(one) is dict else one:
            if type(item) is dict or type(item) is list:
                found.append(item)
    return found


def containers(value: dict[Any, Any] | list[Any]) -> dict[int, Any]:
    """Return every dict and list inside one, itself included, by identity."""
    return {id(one): one for one in containers_in(value)}
