"""What happened to sessions, told to the log and to whoever asked. No secret or payload is ever in an event.

Nor is a session ID, but with ``format="express"``, where it is the handle: what is logged is `SessionEvent.shown`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone

logger = logging.getLogger("wsgisession")

_LEVELS = {
    "rejected": logging.INFO,
    "gone": logging.WARNING,
    "store_error": logging.ERROR,
}


@dataclass(frozen=True)
class SessionEvent:
    """Something that happened to a session.

    :param name: created, loaded, saved, merged, touched, regenerated, renewed, destroyed, revoked, expired, rejected,
        gone or store_error.
    :param handle: the record's public name, or None where there is none. With ``format="express"`` it is the session
        ID, a secret; `shown` is what may be logged.
    :param at: when, as an aware datetime.
    :param reason: for ``rejected``: malformed, bad signature, unknown, stale (a renewed ID after its grace) or
        undecodable; else None.
    :param detail: a sentence for people, or None.
    """

    name: str
    handle: str | None
    at: datetime
    reason: str | None = None
    detail: str | None = None
    _shown: str = field(default="", repr=False, compare=False)

    def __repr__(self) -> str:
        more = "".join(f" ({text})" for text in (self.reason, self.detail) if text)
        return f"<SessionEvent {self.name}: {self.shown or '-'}{more}>"

    @property
    def shown(self) -> str | None:
        """What a log may say: the handle, or with ``format="express"``, where that is the session ID, its digest."""
        return self._shown or self.handle


Listener = Callable[[SessionEvent], object]


class Events:
    """Tells the log and the application's callables.

    :param listeners: called with each event, in turn; what one raises is logged and goes no further.
    :param clock: returns seconds since the epoch.
    :param shown: returns what the log may say in place of a handle.
    """

    def __init__(
        self, listeners: Iterable[Listener], *, clock: Callable[[], float], shown: Callable[[str], str] = str
    ) -> None:
        self._listeners, self._clock, self.shown = tuple(listeners), clock, shown

    def emit(
        self, name: str, handle: str | None = None, *, reason: str | None = None, detail: str | None = None
    ) -> None:
        """Tell that it happened."""
        level = _LEVELS.get(name, logging.DEBUG)
        is_logged = logger.isEnabledFor(level)
        if not is_logged and not self._listeners:
            return
        shown = self.shown(handle) if handle else ""
        if is_logged:
            more = "".join(f" ({x})" for x in (reason, detail) if x)
            logger.log(level, "session %s: %s%s", name, shown or "-", more)
        at = datetime.fromtimestamp(self._clock(), timezone.utc)
        for listener in self._listeners:
            try:
                listener(SessionEvent(name, handle, at, reason, detail, shown))
            except Exception:
                logger.exception("the on_event callable failed at %r", name)
