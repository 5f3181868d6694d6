"""A trap for session IDs: what logs one, or names one in an error or a warning, fails the test in which it happens."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from wsgisession import SessionError
from wsgisession._core.ids import IDSigner

LOGGERS = (
    "wsgisession",
    "wsgisession.events",
    "redis",
    "valkey",
    "psycopg",
    "psycopg.pool",
    "pymongo.client",
    "pymongo.command",
    "pymongo.connection",
    "pymongo.serverSelection",
    "pymongo.topology",
    "django.request",
    "django.security",
)
"""What is watched, at every level; without the drivers' parents, whose filters a child's record does not pass."""

_EVERYTHING = 1
_COULD_BE_AN_ID = re.compile(r"[A-Za-z0-9_-]{16,}")
_format = logging.Formatter().format


class IDTrap(logging.Filter):
    """Remembers every ID that a signer hands out, and looks for them in what is logged and raised.

    :ivar caught: what held one, since this was last taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.caught: list[str] = []
        self._issued: set[str] = set()
        self._lengths: set[int] = set()

    def take(self) -> list[str]:
        """Return what was caught, and forget it."""
        caught, self.caught = self.caught, []
        return caught

    def remember(self, session_id: str) -> str:
        self._issued.add(session_id)
        self._lengths.add(len(session_id))
        return session_id

    def look_at(self, where: str, text: str) -> None:
        if any(self._has_an_id(part) for part in _COULD_BE_AN_ID.findall(text)):
            self.caught.append(f"{where}: {text}")

    def filter(self, record: logging.LogRecord) -> bool:
        """Look at the record; what nobody but the trap would have logged goes no further."""
        self.look_at(record.name, _format(record))
        logger = logging.getLogger(record.name)
        assert logger.parent is not None
        return logger.level != _EVERYTHING or record.levelno >= logger.parent.getEffectiveLevel()

    def _has_an_id(self, text: str) -> bool:
        return any(
            text[start : start + length] in self._issued
            for length in tuple(self._lengths)
            for start in range(len(text) - length + 1)
        )

    @contextmanager
    def set(self) -> Iterator[IDTrap]:
        """Watch signers, loggers and the package's own errors, with the errors of drivers that they are made of."""
        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            self._watch_signers(patch)
            self._watch_errors(patch)
            for logger in map(logging.getLogger, LOGGERS):
                stack.callback(logger.setLevel, logger.level)
                stack.callback(logger.removeFilter, self)
                logger.setLevel(_EVERYTHING)
                logger.addFilter(self)
            yield self

    def _watch_signers(self, patch: pytest.MonkeyPatch) -> None:
        new_id, renewed_id, sign = IDSigner.new_id, IDSigner.renewed_id, IDSigner.sign
        patch.setattr(IDSigner, "new_id", lambda self_, bits: self.remember(new_id(self_, bits)))
        patch.setattr(IDSigner, "renewed_id", lambda self_, *args, **kw: self.remember(renewed_id(self_, *args, **kw)))
        patch.setattr(IDSigner, "sign", lambda self_, session_id: sign(self_, self.remember(session_id)))

    def _watch_errors(self, patch: pytest.MonkeyPatch) -> None:
        def watched(error: SessionError, *args: Any) -> None:
            super(SessionError, error).__init__(*args)
            cause = sys.exc_info()[1]
            self.look_at(type(error).__name__, f"{error!r} from {cause!r}" if cause is not None else repr(error))

        patch.setattr(SessionError, "__init__", watched)
