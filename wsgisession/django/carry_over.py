"""Sessions that Django's own database engines keep, each read once on its way into this library's store."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.serializers import JSONSerializer
from django.db import router, transaction
from django.db.models import QuerySet

from .settings import origin_of_old_sessions

_OLD_KEY = re.compile("[a-z0-9]{32}")


def old_session(session_key: str | None) -> OldSession | None:
    """Return where the session with this key was kept, or None if nothing is carried over or it is not an old key."""
    if session_key is None or not _OLD_KEY.fullmatch(session_key):
        return None
    origin = origin_of_old_sessions()
    return None if origin is None else OldSession(origin, session_key)


class OldSession:
    """A row of ``django_session``, if it is there."""

    def __init__(self, engine: type[DatabaseStore], key: str) -> None:
        self.key = key
        self._engine = engine

    def hand_over(self, take: Callable[[dict[str, Any]], object]) -> None:
        """Delete the row and give its data to ``take``: both or neither, and only once.

        The request that deletes the row has it: of two requests the second waits for the first, and finds no row. So a
        session that was logged out since it was read is not brought back.
        """
        store = self._engine(self.key)
        store.serializer = JSONSerializer  # whatever the settings say: nothing is unpickled
        data = DatabaseStore.load(store)  # not the engine's own: cached_db would ask the cache, which unpickles
        if not data:
            return
        rows = self._rows()
        with transaction.atomic(using=rows.db):
            if rows.delete()[0]:
                take(data)

    def end(self) -> None:
        """Delete the row."""
        self._rows().delete()

    def _rows(self) -> QuerySet[Any]:
        model = self._engine.get_model_class()
        return model.objects.using(router.db_for_write(model)).filter(pk=self.key)
