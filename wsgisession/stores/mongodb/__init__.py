"""The mongodb store."""

from .store import MongoDBStore

__all__ = ["MongoDBStore"]
