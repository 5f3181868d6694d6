"""What happened to sessions, reported to the log and to the application's callables.

An event never contains a payload or a secret, so it may be logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

logger = logging.getLogger("wsgisession")

EventName = Literal[
    "created",
    "loaded",
    "saved",
    "merged",
    "touched",
    "regenerated",
    "renewed",
    "destroyed",
    "revoked",
    "expired",
    "rejected",
    "gone",
    "store_error",
    "device_bound",
    "device_refreshed",
    "device_refused",
    "unproven",
]
"""What can happen to a session. The last four are about sessions that are bound to a device."""

Reason = Literal[
    "malformed",
    "bad signature",
    "unknown",
    "stale",
    "undecodable",
    "too many",
    "no proof",
    "old proof",
    "other device",
]
"""Why a session was rejected, or, for the last three, why a request was not proven to come from its device."""

_LEVELS: dict[EventName, int] = {
    "rejected": logging.INFO,
    "device_refused": logging.INFO,
    "unproven": logging.INFO,
    "gone": logging.WARNING,
    "store_error": logging.ERROR,
}


@dataclass(frozen=True)
class SessionEvent:
    """Something that happened to a session.

    :param handle: the public name of the record, or None if there is no record. With ``format="express"``, where the
        handle is the session ID, it is the beginning of a hash of that.
    :param at: when it happened, as an aware datetime.
    :param reason: why the event is ``rejected`` or ``unproven``; None for other events. The cookie is ``malformed`` or
        has a ``bad signature``; no record has its ID (``unknown``); the ID was renewed, and the grace period is over
        (``stale``); the record cannot be read (``undecodable``); or the request has more verified cookies of this
        name than are looked up (``too many``). The request of a bound session had no second cookie (``no proof``), an
        expired or unreadable one (``old proof``), or that of another device (``other device``).
    :param detail: a sentence for people, or None.
    """

    name: EventName
    handle: str | None
    at: datetime
    reason: Reason | None = None
    detail: str | None = None

    def __repr__(self) -> str:
        named = f": {self.handle}" if self.handle else ""
        return f"<SessionEvent {self.name}{named}{_in_parentheses(self.reason, self.detail)}>"


Listener = Callable[[SessionEvent], object]

MANY_BAD_SIGNATURES = 20
"""After this many cookies with a bad signature, a process logs a warning."""


class Events:
    """Reports what happens to the log and to the application's callables.

    :param listeners: called with each event, in turn; an exception is logged and does not reach the request.
    :param clock: returns seconds since the epoch.
    :param shown: returns what an event may contain for a handle.
    """

    def __init__(
        self, listeners: Iterable[Listener], *, clock: Callable[[], float], shown: Callable[[str], str] = str
    ) -> None:
        self._listeners, self._clock, self.shown = tuple(listeners), clock, shown
        self._bad_signatures = 0

    def emit(
        self, name: EventName, handle: str | None = None, *, reason: Reason | None = None, detail: str | None = None
    ) -> None:
        """Report an event."""
        if reason == "bad signature":
            self._count_bad_signature()
        level = _LEVELS.get(name, logging.DEBUG)
        is_logged = logger.isEnabledFor(level)
        if not is_logged and not self._listeners:
            return
        shown = self.shown(handle) if handle else ""
        if is_logged:
            named = f": {shown}" if shown else ""
            logger.log(level, "session %s%s%s", name, named, _in_parentheses(reason, detail))
        at = datetime.fromtimestamp(self._clock(), timezone.utc)
        for listener in self._listeners:
            try:
                listener(SessionEvent(name, shown or None, at, reason, detail))
            except Exception:
                logger.exception("the on_event callable failed at %r", name)

    def _count_bad_signature(self) -> None:
        """Warn once if there are many: visitors who guess are rare, workers with different secrets are not."""
        self._bad_signatures += 1
        if self._bad_signatures == MANY_BAD_SIGNATURES:
            logger.warning(
                "%d session cookies had a bad signature. Do all workers have the same secret, and does the list of"
                " secrets contain the previous one?",
                MANY_BAD_SIGNATURES,
            )


def _in_parentheses(*texts: str | None) -> str:
    return "".join(f" ({text})" for text in texts if text)


def keep_one_traceback(error: Exception, handled: BaseException | None) -> None:
    """Drop the frames of the driver from the error's causes: a log then has one traceback, and still what it said.

    :param handled: what the app was handling when it asked the store; not the driver's.
    """
    cause = error.__cause__ or error.__context__
    while cause is not None and cause is not handled:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
