"""`CarryOver`: a session of another library continues as one of our sessions, while its cookie is valid."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from itsdangerous import BadData, BadSignature, Signer

from .._core.content import Content
from .._core.cookies import cookie_finder
from .._core.events import logger
from .._core.services import Services
from .._core.values import Values
from ..errors import ConfigurationError, SerializationError, StoreError

Reader = Callable[[str], Any]
"""Receives the cookie's value, and returns the data of its session, or None. Reads nothing that can run code."""

_ID_OF_FLASK_SESSION = re.compile(r"[A-Za-z0-9_-]{16,256}")


class CarryOver:
    """Starts a visitor's session with the data of the previous library.

    :param read: what the cookies of before stand for.
    :param name: the name that they have, and ours too.
    :param until: when carrying over ends; None for never.
    """

    def __init__(self, read: Reader, *, name: str, until: datetime | None = None) -> None:
        if not callable(read):
            raise ConfigurationError("carry_over must be True, or a callable that reads the data of a cookie's value")
        if until is not None and (not isinstance(until, datetime) or until.tzinfo is None):
            raise ConfigurationError("carry_over_until must be a datetime with its time zone")
        self._read, self._find = read, cookie_finder(name)
        self._until = None if until is None else until.timestamp()
        self._has_warned = False

    def data_for(self, cookie_header: str, services: Services) -> dict[str, Any]:
        """Return the old data of a visitor who has none of our sessions, or an empty dict.

        One of our cookies, even if its session has ended, rules the old ones out.
        """
        if self._until is not None and services.clock() >= self._until:
            return {}
        for value in self._find(cookie_header):
            data = self._read(value)
            if isinstance(data, dict) and data and self._can_be_kept(data, services):
                return data
        return {}

    def _can_be_kept(self, data: dict[str, Any], services: Services) -> bool:
        """Tell whether the data can be stored: an old cookie is no reason for an error page."""
        values = Values(services.codec, {})
        values.update(data)
        try:
            services.codec.pack(Content(values.texts(), services.clock()), handle="not stored")
        except SerializationError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("a session could not be carried over, and others may not be either: %s", error)
            return False
        return True


def signed_cookies(serializer: Any, *, max_age: float) -> Reader:
    """Return a reader of cookies that hold the data themselves, signed by one of itsdangerous' timed serializers.

    :param max_age: seconds for which a signature counts.
    """

    def read(value: str) -> Any:
        try:
            return serializer.loads(value, max_age=max_age)
        except BadData:
            return None

    return read


class FlaskSessionRedis:
    """Reads the records that Flask-Session keeps in Redis: msgpack or JSON, never pickle. Writes nothing there.

    :param client: the `redis.Redis` that was Flask-Session's ``SESSION_REDIS``.
    :param prefix: its ``SESSION_KEY_PREFIX``.
    :param secret: with ``SESSION_USE_SIGNER``, the app's secret.
    """

    def __init__(self, client: Any, *, prefix: str = "session:", secret: str | bytes | None = None) -> None:
        self._client, self._prefix = client, prefix
        self._signer = None if secret is None else Signer(secret, salt="flask-session", key_derivation="hmac")
        self._has_warned = False

    def __call__(self, value: str) -> Any:
        """Return the data of the session with this cookie value.

        :raises StoreError: if that Redis cannot be read.
        """
        session_id = self._session_id(value)
        if _ID_OF_FLASK_SESSION.fullmatch(session_id) is None:
            return None
        try:
            record = self._client.get(self._prefix + session_id)
        except Exception as error:  # whatever its driver raises
            raise StoreError("Flask-Session's Redis cannot be read: see that it runs, or end carry_over") from error
        if isinstance(record, str):  # of a client with decode_responses=True
            record = record.encode()
        return self._unpacked(record) if isinstance(record, bytes) else None

    def _unpacked(self, record: bytes) -> Any:
        for decode in (msgspec.msgpack.decode, msgspec.json.decode):
            try:
                return decode(record)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "a session of Flask-Session could not be carried over, and others may not be either: its record is"
                " neither msgpack nor JSON. Versions before 0.7 wrote pickles, which are not read; run version 0.8"
                " for a while first, which rewrites them"
            )
        return None

    def _session_id(self, value: str) -> str:
        if self._signer is None:
            return value
        try:
            return self._signer.unsign(value).decode()
        except (BadSignature, ValueError):
            return ""
