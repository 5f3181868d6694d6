"""What the core knows of device-bound sessions: the field in the record, and whom to ask about a request."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal, NamedTuple, Protocol

Environ = dict[str, Any]

Field = dict[str, Any]
"""The device binding in a session's record: ``{"offer": ...}`` after a login that offered it, more once it is bound."""


Doubt = Literal["no proof", "old proof", "other device"]
"""Why a request is not proven to come from the device that its session is bound to."""


class Device(NamedTuple):
    """The device that a session is bound to.

    :param thumbprint: of its public key (RFC 7638); it may be shown and logged.
    :param algorithm: ``"ES256"`` or ``"RS256"``.
    :param bound_at: when the session was bound.
    :param proven_at: when the browser of this request last proved its key; outside a request, when any did.
    """

    thumbprint: str
    algorithm: str
    bound_at: datetime
    proven_at: datetime


class Verdict(NamedTuple):
    """Whether a request comes from the device that its session is bound to.

    :param doubt: why not, or None if it does.
    :param proven_at: when this browser proved its key, in seconds since the epoch.
    """

    doubt: Doubt | None
    proven_at: float = 0.0


class Unproven(NamedTuple):
    """A bound session that was found, but not opened, because the request does not come from its device."""

    handle: str
    field: Field


class DevicePolicy(Protocol):
    """Decides about bound sessions, for a manager with ``device_binding``."""

    def new_offer(self) -> Field | None:
        """Return the field of a session whose user logs in now."""

    def headers_for_login(self, field: Field | None, environ: Environ, *, handle: str) -> tuple[tuple[str, str], ...]:
        """Return the headers that offer registration in the response to a login."""

    def headers_for_logout(self, environ: Environ) -> tuple[tuple[str, str], ...]:
        """Return the headers that make the browser drop the second cookie."""

    def headers_to_prove_again(self, environ: Environ) -> tuple[tuple[str, str], ...]:
        """Return the headers that make the browser prove its key and return to the same page.

        Empty if that cannot work, or was tried a moment ago.
        """

    def judge(self, field: Field, cookie_header: str) -> Verdict:
        """Decide whether a request comes from the device that the session is bound to."""

    def may_start_over(self, environ: Environ) -> bool:
        """Tell whether an unproven visitor may begin a new session without logging in."""


def is_bound(field: Field | None) -> bool:
    """Tell whether the session is bound, and not only offered to be."""
    return field is not None and "id" in field


def device_of(field: Field | None, *, proven_at: float | None = None) -> Device | None:
    """Return what an app may know of the binding, or None if there is none.

    :param proven_at: when the browser of this request proved its key.
    """
    if field is None or "id" not in field:
        return None
    last = field["proven_at"] if proven_at is None else proven_at
    return Device(field["thumbprint"], field["alg"], _aware(field["bound_at"]), _aware(last))


def merged(mine: Field | None, theirs: Field | None) -> Field | None:
    """Return the binding that two writers' changes make: what is stored stays, and counters take the larger value.

    A binding is set once. A writer that has not seen it cannot undo it, and a second one for another key loses.
    """
    if not is_bound(mine) or mine is None or theirs is None:
        return mine if theirs is None else theirs
    if not is_bound(theirs):
        return mine
    if mine["id"] != theirs["id"]:
        return theirs
    return {**theirs, **{name: max(mine[name], theirs[name]) for name in ("n", "proven_at")}}


def _aware(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
