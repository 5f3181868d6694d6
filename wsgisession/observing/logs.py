"""`EventLog`: each event as one line that people and programs can read."""

from __future__ import annotations

import json
import logging
import re

from .._core.events import EventName, SessionEvent

_LEVELS: dict[EventName, int] = {
    "loaded": logging.DEBUG,
    "saved": logging.DEBUG,
    "merged": logging.DEBUG,
    "touched": logging.DEBUG,
    "device_refreshed": logging.DEBUG,
    "rejected": logging.WARNING,
    "device_refused": logging.WARNING,
    "unproven": logging.WARNING,
    "gone": logging.WARNING,
    "store_error": logging.ERROR,
}
_PLAIN = re.compile(r"[\w.:+/-]+", re.ASCII)


class EventLog:
    """Logs each event as one line of ``key=value``, and as attributes of the log record (``extra``)::

        event=revoked handle=1A4WS1Wa... at=2026-01-02T03:04:05+00:00 detail="the user has more sessions than allowed"

    The attributes are ``session_event``, ``session_handle``, ``session_at``, ``session_reason`` and
    ``session_detail``, or None. They never contain a session ID, session data, or a password.

    Events of ordinary requests (loaded, saved, merged, touched) are logged at DEBUG, logins and logouts at INFO,
    rejected and gone at WARNING, and store_error at ERROR.

    :param logger: the default is ``wsgisession.events``. The logger ``wsgisession`` reports the same events in fewer
        words, so give this one its own handler and set ``propagate = False``.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger("wsgisession.events") if logger is None else logger

    def __call__(self, event: SessionEvent) -> None:
        """Log an event: for ``on_event``."""
        level = _LEVELS.get(event.name, logging.INFO)
        if self._logger.isEnabledFor(level):
            facts = _facts(event)
            line = " ".join(f"{key}={_quoted(value)}" for key, value in facts.items() if value is not None)
            self._logger.log(level, "%s", line, extra={f"session_{key}": value for key, value in facts.items()})


def _facts(event: SessionEvent) -> dict[str, str | None]:
    return {
        "event": event.name,
        "handle": event.handle,
        "at": event.at.isoformat(),
        "reason": event.reason,
        "detail": event.detail,
    }


def _quoted(value: str) -> str:
    """Return a plain value as it is, and any other value quoted as in JSON, so that it always fits on one line."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
