"""Records encrypted and authenticated at rest, each bound to its own handle. The only room that knows cryptography."""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import ConfigurationError, SerializationError
from .codec import NativeCodec
from .content import Content, Renewed

_MARK = b'"ws1-aesgcm:'
_NONCE_BYTES = 12
_KEY_BYTES = 32
_CURE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


class EncryptedCodec(NativeCodec):
    """The native format inside AES-256-GCM (NIST SP 800-38D), as JSON text.

    Each record has its own key, made of the manager's key and the handle: a record moved under another handle
    does not decrypt, and random nonces do not run out. The user index holds a keyed digest instead of the user.

    :param keys: from `parse_keys`; the first encrypts, all decrypt.
    """

    def __init__(self, keys: Sequence[bytes], *, max_size: int, text_keys: bool = False) -> None:
        super().__init__(max_size=max_size, text_keys=text_keys)
        self._keys = keys

    def pack(self, content: Content | Renewed, *, handle: str) -> bytes:
        """Return what the store keeps under the handle: nothing that could be read without the key.

        :raises SerializationError: where it is larger than ``max_size``.
        """
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _cipher(self._keys[0], handle).encrypt(nonce, super().pack(content, handle=handle), _MARK)
        return _MARK + b64encode(nonce + sealed) + b'"'

    def unpack(self, packed: bytes, *, handle: str) -> Content | Renewed:
        """Return the content of what the store kept under the handle.

        :raises SerializationError: for anything that `pack` did not write for this handle with one of the keys; no
            other decoder is tried (ASVS 5.0 11.2.5).
        """
        return super().unpack(self._decrypted(packed, handle), handle=handle)

    def _decrypted(self, packed: bytes, handle: str) -> bytes:
        if not packed.startswith(_MARK) or not packed.endswith(b'"'):
            raise SerializationError("the record is not encrypted")
        try:
            sealed = b64decode(packed[len(_MARK) : -1], validate=True)
        except ValueError as error:
            raise SerializationError("the record is not of this format") from error
        for key in self._keys:
            try:
                return _cipher(key, handle).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _MARK)
            except (InvalidTag, ValueError):
                continue
        raise SerializationError("no encryption key opens the record under this handle")

    def index_texts(self, user: str) -> list[str]:
        """Return the keyed digests under which the user can be in the store's index."""
        return [hmac.digest(key, b"wsgisession user 1 " + user.encode(), "sha256").hex() for key in self._keys]


def _cipher(key: bytes, handle: str) -> AESGCM:
    return AESGCM(hmac.digest(key, b"wsgisession record 1 " + handle.encode(), "sha256"))


def parse_keys(encryption_key: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    """Return the keys as 32 bytes each, from raw bytes or base64.

    :raises ConfigurationError: for anything else.
    """
    several = isinstance(encryption_key, Sequence) and not isinstance(encryption_key, (str, bytes))
    given: Sequence[Any] = encryption_key if several else [encryption_key]
    if not given:
        raise ConfigurationError(f"the list of encryption keys is empty; {_CURE}")
    return tuple(_key(one) for one in given)


def _key(value: str | bytes) -> bytes:
    if isinstance(value, bytes) and len(value) == _KEY_BYTES:
        return _checked(value)
    try:
        text = value.encode() if isinstance(value, str) else bytes(value)
        key = urlsafe_b64decode(text.replace(b"+", b"-").replace(b"/", b"_").rstrip(b"=") + b"=")
    except (ValueError, TypeError, AttributeError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(f"encryption_key must be 32 bytes, raw or as base64; {_CURE}")
    return _checked(key)


def _checked(key: bytes) -> bytes:
    """Return the key, unless it has so few different bytes that it cannot be random (a random one has 24 or more)."""
    if len(set(key)) < 12:
        raise ConfigurationError(f"encryption_key is obviously not random; {_CURE}")
    return key
