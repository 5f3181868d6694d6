"""The sqlite store."""

from .store import SQLiteStore

__all__ = ["SQLiteStore"]
