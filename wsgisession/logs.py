"""Session events in the log: `EventLog`."""

from .observing.logs import EventLog

__all__ = ["EventLog"]
