"""The redis store."""

from .store import RedisStore

__all__ = ["RedisStore"]
