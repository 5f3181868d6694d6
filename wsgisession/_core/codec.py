"""`Codec`: what a record contains as bytes: JSON text with our mark, within the size limit. Nothing is pickled."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ..errors import SerializationError
from .content import Content, Renewed
from .format import UNREADABLE, Format, NativeFormat

_encode = msgspec.json.Encoder().encode

_Time = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]  # seconds since the epoch, as datetime can show


class _More(msgspec.Struct, frozen=True, omit_defaults=True):
    """What only some sessions have. Version 0.1 knows the first four."""

    authenticated: _Time | None = None
    issued: _Time | None = None
    cookie: dict[str, Any] | None = None
    client: tuple[str, str] | None = None
    last_user: str | None = None
    presented: _Time | None = None
    device: dict[str, Any] | None = None


class _Envelope(msgspec.Struct, array_like=True, frozen=True, tag="ws1"):
    """A record's text: ``["ws1", created_at, more, data]``. The tag is the mark of the format."""

    created: _Time
    more: _More | None
    data: dict[str, msgspec.Raw]


_NOTHING_MORE = (None,) * len(_More.__struct_fields__)
_decode_envelope = msgspec.json.Decoder(_Envelope | Renewed).decode


class Codec(Format):
    """What packs a record's content into bytes, in one format.

    :param max_size: the most bytes that a packed record may have.
    """

    may_be_undated = False
    """Whether a record may not say when the session began."""

    def pack(self, content: Content | Renewed, *, handle: str) -> bytes:
        """Return what the store keeps under the handle.

        :raises SerializationError: if it is larger than ``max_size``.
        """
        raise NotImplementedError

    def unpack(self, packed: bytes, *, handle: str) -> Content | Renewed:
        """Return the content of what the store kept under the handle.

        :raises SerializationError: for anything that `pack` did not write: truncated, foreign, or of a later format.
        """
        raise NotImplementedError

    def is_dated(self, content: Content) -> bool:
        """Tell whether the record says when the session began."""
        return True

    def index_texts(self, user: str) -> list[str]:
        """Return the texts under which the user may be in the store's index, the one to write first."""
        return [user]

    def _checked(self, packed: bytes) -> bytes:
        if len(packed) > self._max_size:
            raise SerializationError(
                f"the session is too large: {len(packed)} bytes, and max_size is {self._max_size};"
                " keep the data elsewhere and its key in the session"
            )
        return packed


class NativeCodec(NativeFormat, Codec):
    """The native format, in which a record is ``["ws1", created_at, more, data]``.

    :param max_size: the most bytes that a packed record may have, before encryption.
    """

    may_be_undated = False
    """Whether a record may not say when the session began."""

    def pack(self, content: Content | Renewed, *, handle: str) -> bytes:
        """Return what the store keeps under the handle.

        :raises SerializationError: if it is larger than ``max_size``.
        """
        if isinstance(content, Renewed):
            return self._checked(_encode(content))
        more = (
            *(content.authenticated_at, content.issued_at, content.cookie, content.client),
            *(content.last_user, content.presented_at, content.device),
        )
        head = b"null" if more == _NOTHING_MORE else _encode(_More(*more))
        return self._checked(b'["ws1",%b,%b,%b]' % (_encode(content.created_at), head, self.join(content.texts)))

    def unpack(self, packed: bytes, *, handle: str) -> Content | Renewed:
        """Return the content of what the store kept under the handle.

        :raises SerializationError: for anything that `pack` did not write: truncated, foreign, or of a later format.
        """
        try:
            found = _decode_envelope(packed)
        except UNREADABLE as error:
            raise SerializationError("the record is not of this format") from error
        if isinstance(found, Renewed):
            return found
        texts, more = self.checked(packed, found.data), found.more
        if more is None:
            return Content(texts, found.created)
        return Content(
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
