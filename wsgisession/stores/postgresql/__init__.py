"""The postgresql store."""

from .store import PostgreSQLStore

__all__ = ["PostgreSQLStore"]
