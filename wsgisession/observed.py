"""Watching every call to a store: `ObservedStore`."""

from .observing.observed import ObservedStore

__all__ = ["ObservedStore"]
