"""The errors of wsgisession: what can go wrong, and whose turn it is.

An operator's mistake is a `ConfigurationError` at start; a backend's failure is a `StoreError`, never a logout;
a programmer's mistake is one of the others. A client can cause none of them.
"""

from __future__ import annotations


class SessionError(Exception):
    """Everything that wsgisession raises of its own is one of these."""


class ConfigurationError(SessionError, ValueError):
    """A setting is wrong. Raised at start; the sentence says what to set instead."""


class StoreError(SessionError):
    """The store cannot be reached, took too long, or refused.

    The driver's exception is its ``__cause__``. The text names the server, without its password. Nothing may be
    concluded about the session: it is neither ended nor saved.
    """


class SerializationError(SessionError):
    """A value cannot be stored, or the session is larger than ``max_size``. The text names the key path."""


class SessionConflict(SessionError):
    """Another request changed the session since it was loaded, and ``on_conflict="refuse"``."""


class SessionGone(SessionError):
    """The session was destroyed, revoked or expired since it was loaded."""


class HeadersSentError(SessionError):
    """The session needs a new cookie, but the response's headers have already left."""
