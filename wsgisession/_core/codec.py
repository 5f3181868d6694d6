"""Dict to bytes and back: typed JSON, the mark of our format around it, the size limit. Nothing is ever pickled.

Values that JSON knows are written plainly. Others are written as an object of one key that starts with ``~``, such as
``{"~set": [1, 2]}``; a dict of the application's that looks like one is wrapped in ``{"~dict": ...}``.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any
from uuid import UUID

import msgspec
from markupsafe import Markup

from ..errors import SerializationError
from .content import Content, Content2, Renewed
from .format import Format, NativeFormat, Texts
from .forms import RefusedError, is_utf8

_MARK = "~"
_MARK_IN_TEXT = b'{"~'  # inside a JSON string the quote would be escaped: this is always the start of an object
_MAX_DEPTH = 100
_MAX_INT_BITS = 10_000
_WIDEST = 10_000
_UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


_Time = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]  # seconds since the epoch, as datetime can show


class _More(msgspec.Struct, frozen=True, omit_defaults=True):
    """What only some sessions have."""

    authenticated: _Time | None = None
    issued: _Time | None = None
    cookie: dict[str, Any] | None = None
    client: tuple[str, str] | None = None


class _Envelope(msgspec.Struct, array_like=True, frozen=True, tag="ws1"):
    """A record's text: ``["ws1", created_at, more, data]``. The tag is the mark of the format."""

    created: _Time
    more: _More | None
    data: msgspec.Raw


_NO_MORE = b",null,"
_LONGEST_HEAD = 48  # of the mark, and of the time with all its digits
_NOTHING_MORE = (None, None, None, None)
_NOTHING_MORE2 = (*_NOTHING_MORE, None, None, None)
_decode_envelope = msgspec.json.Decoder(_Envelope | Renewed).decode


class _More2(_More, frozen=True, omit_defaults=True):
    last_user: str | None = None
    presented: _Time | None = None
    device: dict[str, Any] | None = None


class _Envelope2(msgspec.Struct, array_like=True, frozen=True, tag="ws1"):
    """A record's text, read down to the text of each value."""

    created: _Time
    more: _More2 | None
    data: dict[str, msgspec.Raw]


_decode_envelope2 = msgspec.json.Decoder(_Envelope2 | Renewed).decode


class Codec(NativeFormat):
    """The native format.

    :param max_size: the most bytes a packed record may have, before encryption.
    """

    def pack2(self, content: Content2 | Renewed, *, handle: str) -> bytes:
        """Return what the store keeps under the handle.

        :raises SerializationError: where it is larger than ``max_size``.
        """
        if isinstance(content, Renewed):
            return self._checked(_encode(content))
        more = (
            *(content.authenticated_at, content.issued_at, content.cookie, content.client),
            *(content.last_user, content.presented_at, content.device),
        )
        head = b"null" if more == _NOTHING_MORE2 else _encode(_More2(*more))
        return self._checked(b'["ws1",%b,%b,%b]' % (_encode(content.created_at), head, self.join(content.texts)))

    def unpack2(self, packed: bytes, *, handle: str) -> Content2 | Renewed:
        """Return the content of what the store kept under the handle.

        :raises SerializationError: for anything that `pack` did not write: truncated, foreign, or of a later format.
        """
        try:
            found = _decode_envelope2(packed)
        except _UNREADABLE as error:
            raise SerializationError("the record is not of this format") from error
        if isinstance(found, Renewed):
            return found
        texts, more = self.checked(packed, found.data), found.more
        if more is None:
            return Content2(texts, found.created)
        return Content2(
            texts,
            found.created,
            more.authenticated,
            more.issued,
            more.cookie,
            more.client,
            more.last_user,
            more.presented,
            more.device,
        )

    def dump(self, data: dict[str, Any]) -> bytes:
        """Return the mapping as JSON text.

        :raises SerializationError: naming the key path of a value that cannot be stored.
        """
        try:
            try:
                return _encode(data if _is_plain(data) else written_dict(data, 0, _tagged))
            except UnicodeEncodeError:
                return _encode(_without_surrogates(written_dict(data, 0, _tagged)))
        except RefusedError as refused:
            raise SerializationError(str(refused)) from None

    def parse(self, text: bytes) -> dict[str, Any]:
        """Return the mapping that `dump` wrote, every value of the type it was.

        :raises SerializationError: for anything else.
        """
        try:
            data = _decode(text)
            if b"~" in text and _MARK_IN_TEXT in text:  # one byte is looked for at a fraction of the cost of three
                data = _untagged(data, top=True)
        except _UNREADABLE as error:
            raise SerializationError("the record's data cannot be read") from error
        if type(data) is not dict:
            raise SerializationError("the record's data are no mapping")
        return data

    def as_stored(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the mapping as it will be read again."""
        return data

    def is_dated(self, content: Content) -> bool:
        """Tell whether the record says when the session began."""
        return True

    def pack(self, content: Content | Renewed, *, handle: str) -> bytes:
        """Return what the store keeps under the handle.

        :raises SerializationError: where it is larger than ``max_size``.
        """
        return self._checked(_encode(_enveloped(content)))

    def _checked(self, packed: bytes) -> bytes:
        if len(packed) > self._max_size:
            raise SerializationError(
                f"the session is too large: {len(packed)} bytes, and max_size is {self._max_size};"
                " keep the data elsewhere and its key in the session"
            )
        return packed

    def unpack(self, packed: bytes, *, handle: str) -> Content | Renewed:
        """Return the content of what the store kept under the handle.

        :raises SerializationError: for anything that `pack` did not write: truncated, foreign, or of a later format.
        """
        # Most records have nothing but their data, and those are not looked through twice: `parse` does it.
        start = packed.find(_NO_MORE, 0, _LONGEST_HEAD) + len(_NO_MORE)
        is_plain = start >= len(_NO_MORE) and packed.endswith(b"]")
        try:
            found = _decode_envelope(packed[:start] + b"0]" if is_plain else packed)
        except _UNREADABLE as error:
            raise SerializationError("the record is not of this format") from error
        if isinstance(found, Renewed):
            return found
        if is_plain:
            return Content(packed[start:-1], found.created)
        more = found.more or _More()
        times = (found.created, more.authenticated, more.issued)
        return Content(bytes(found.data), *times, more.cookie, more.client)

    def index_texts(self, user: str) -> list[str]:
        """Return the texts under which the user may stand in the store's index, the one to write first."""
        return [user]


def _enveloped(content: Content | Renewed) -> _Envelope | Renewed:
    if isinstance(content, Renewed):
        return content
    more = (content.authenticated_at, content.issued_at, content.cookie, content.client)
    return _Envelope(content.created_at, None if more == _NOTHING_MORE else _More(*more), msgspec.Raw(content.data))


Write = Callable[[Any, int], Any]
"""Returns a value, found at some depth, as JSON can hold it."""

_PLAIN = frozenset({str, bool, type(None)})


def _is_plain(data: dict[Any, Any]) -> bool:
    """Tell whether JSON can hold the data as they are: the fast path, on which nothing is copied to be written.

    One loop, level by level: a call for each value would cost more than the encoder.
    """
    level: list[Any] = [data]
    for depth in range(_MAX_DEPTH + 1):
        deeper: list[Any] = []
        for value in level:
            if len(deeper) > _WIDEST:  # what contains itself may double with each level: the slow path sees it at once
                return False
            items = value
            if type(value) is dict:
                for key in value:
                    if type(key) is not str:
                        return False
                if depth and len(value) == 1 and key[:1] == _MARK:
                    return False
                items = value.values()
            for item in items:
                kind = type(item)
                if kind is str or kind is bool or item is None:
                    continue
                if kind is dict or kind is list:
                    deeper.append(item)
                elif kind is int:
                    if item.bit_length() > _MAX_INT_BITS:
                        return False
                elif kind is not float or not isfinite(item):
                    return False
        if not deeper:
            return True
        level = deeper
    return False


def _tagged(value: Any, depth: int) -> Any:
    """Return the value as JSON can hold it."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        if value.bit_length() > _MAX_INT_BITS:
            raise RefusedError(f"an int of more than {_MAX_INT_BITS} bits")
        return value
    if kind is dict:
        tagged = written_dict(value, depth + 1, _tagged)
        return {"~dict": tagged} if len(tagged) == 1 and next(iter(tagged))[:1] == _MARK else tagged
    if kind is list:
        return written_items(value, depth + 1, _tagged)
    if kind is float:
        return value if isfinite(value) else {"~float": repr(value)}
    write = _WRITE.get(kind)
    if write is None:
        raise RefusedError(f"values of type {kind.__module__}.{kind.__qualname__} are not supported")
    return write(value, depth + 1)


def written_dict(value: dict[Any, Any], depth: int, write: Write) -> dict[str, Any]:
    """Return the dict with its values as ``write`` returns them.

    :raises RefusedError: for a key that is no str, a depth that is too much, and whatever ``write`` refuses.
    """
    _check_depth(depth)
    written = {}
    for key, item in value.items():
        if type(key) is not str:
            raise RefusedError(f"the key {key!r} is not a str")
        try:
            written[key] = item if type(item) in _PLAIN else write(item, depth)
        except RefusedError as refused:
            raise refused.inside(key) from None
    return written


def written_items(value: list[Any] | tuple[Any, ...], depth: int, write: Write) -> list[Any]:
    """Return a list of the items as ``write`` returns them.

    :raises RefusedError: for a depth that is too much, and whatever ``write`` refuses.
    """
    _check_depth(depth)
    written = []
    for index, item in enumerate(value):
        try:
            written.append(item if type(item) in _PLAIN else write(item, depth))
        except RefusedError as refused:
            raise refused.inside(index) from None
    return written


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise RefusedError(f"it is nested more than {_MAX_DEPTH} levels deep, or contains itself")


def _tagged_set(value: set[Any] | frozenset[Any], depth: int) -> list[Any]:
    _check_depth(depth)
    return sorted((_tagged(item, depth) for item in value), key=repr)  # equal sets have equal texts


def _tagged_time(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise RefusedError("a time whose zone has no fixed offset")
    return value.isoformat()


def _without_surrogates(value: Any) -> Any:
    """Return the tagged value with the strings that UTF-8 cannot hold tagged too."""
    if type(value) is dict:
        return {_checked_key(key): _without_surrogates(item) for key, item in value.items()}
    if type(value) is list:
        return [_without_surrogates(item) for item in value]
    if type(value) is str and not is_utf8(value):
        return {"~str": _base64(value.encode("utf-8", "surrogatepass"))}
    return value


def _checked_key(key: str) -> str:
    if not is_utf8(key):
        raise RefusedError(f"the key {key!r} has a lone surrogate")
    return key


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


_WRITE: dict[type, Write] = {
    tuple: lambda value, depth: {"~tuple": written_items(value, depth, _tagged)},
    set: lambda value, depth: {"~set": _tagged_set(value, depth)},
    frozenset: lambda value, depth: {"~frozenset": _tagged_set(value, depth)},
    bytes: lambda value, _: {"~bytes": _base64(value)},
    datetime: lambda value, _: {"~datetime": value.isoformat()},
    date: lambda value, _: {"~date": value.isoformat()},
    time: lambda value, _: {"~time": _tagged_time(value)},
    timedelta: lambda value, _: {"~timedelta": [value.days, value.seconds, value.microseconds]},
    Decimal: lambda value, _: {"~decimal": str(value)},
    UUID: lambda value, _: {"~uuid": str(value)},
    Markup: lambda value, _: {"~markup": str(value)},
}

_READ: dict[str, Callable[[Any], Any]] = {
    "~dict": lambda inner: _untagged(inner, top=True),
    "~tuple": lambda inner: tuple(map(_untagged, inner)),
    "~set": lambda inner: set(map(_untagged, inner)),
    "~frozenset": lambda inner: frozenset(map(_untagged, inner)),
    "~bytes": lambda inner: b64decode(inner, validate=True),
    "~str": lambda inner: b64decode(inner, validate=True).decode("utf-8", "surrogatepass"),
    "~float": float,
    "~datetime": datetime.fromisoformat,
    "~date": date.fromisoformat,
    "~time": time.fromisoformat,
    "~timedelta": lambda inner: timedelta(*inner),
    "~decimal": Decimal,
    "~uuid": UUID,
    "~markup": lambda inner: Markup(_untagged(inner)),  # noqa: S704 - it was one when it was written
}


def _untagged(value: Any, *, top: bool = False) -> Any:
    """Return the value as it was; ``top`` for a dict that is none of our tags whatever it looks like."""
    if type(value) is dict:
        if len(value) == 1 and not top:
            tag, inner = next(iter(value.items()))
            if tag[:1] == _MARK:
                return _READ[tag](inner)
        return {key: _untagged(item) for key, item in value.items()}
    if type(value) is list:
        return [_untagged(item) for item in value]
    return value


__all__ = ["Codec", "Format", "RefusedError", "Texts", "Write", "is_utf8", "written_dict", "written_items"]
