"""Session ID to signed text and back (itsdangerous), session ID to handle, and which secrets are good enough."""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any

from itsdangerous import Signer
from itsdangerous.signer import SigningAlgorithm

from ..errors import ConfigurationError

CURE = "make one with: wsgisession secret (or: python -c 'import secrets; print(secrets.token_urlsafe(32))')"
_SHORTEST = 16
_KNOWN = re.compile(
    rb"(?i)keyboard[ _-]?cat|change[ _-]?(me|this|it)\b|your[ _-]?secret|super[ _-]?secret|django-insecure-"
    rb"|^(my|a|the)?[ _-]?(secret|password|development|dev|test|example)[ _-]?(key|string)?[\d! _-]*$"
    rb"|192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf"
)

_REPEATED = re.compile(rb"(.{1,32}?)\1+", re.DOTALL)
_ROWS = (b"1234567890", b"0123456789", b"abcdefghijklmnopqrstuvwxyz", b"qwertyuiopasdfghjklzxcvbnm")
"""What people type who need many characters: along the alphabet, or along the keyboard."""

# 256 bits as unpadded base64url: 43 characters, of which the last carries four bits (RFC 4648 section 3.5).
_TEXT_OF_256_BITS = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_TEXT_OF_240_BITS = "[A-Za-z0-9_-]{40}"
_ID = f"(?:{_TEXT_OF_256_BITS}|{_TEXT_OF_240_BITS})"
LONG = 43
"""The characters of an ID of 256 bits."""

SHORT = 40
"""The characters of an ID of 240 bits, as in Django, where database columns are that wide."""

_ID_OF_THE_APP = "[A-Za-z0-9_-]{16,128}"


def parse_secrets(secret: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    """Return the secrets as bytes: the first signs, all verify.

    :raises ConfigurationError: if there is none, or one is short, well-known, or obviously not random.
    """
    several = isinstance(secret, Sequence) and not isinstance(secret, (str, bytes))
    given: Sequence[Any] = secret if several else [secret]
    if not given:
        raise ConfigurationError(f"the list of secrets is empty; {CURE}")
    return tuple(_checked(one) for one in given)


def _checked(secret: object) -> bytes:
    if not isinstance(secret, (str, bytes)):
        raise ConfigurationError(f"a secret must be str or bytes, not {type(secret).__name__}; {CURE}")
    weakness = weakness_of(secret)
    if weakness is not None:
        raise ConfigurationError(f"the secret {weakness}; {CURE}")
    return _as_bytes(secret)


def weakness_of(secret: str | bytes) -> str | None:
    """Return what makes a secret too weak, as the rest of a sentence that it begins; None for a good one."""
    value = _as_bytes(secret)
    if len(value) < _SHORTEST:
        return f"has {len(value)} bytes and needs at least {_SHORTEST}"
    if _KNOWN.search(value) or len(set(value)) < 6 or _REPEATED.fullmatch(value) or _is_along_a_row(value.lower()):
        return "is one that anybody would try"
    return None


def _is_along_a_row(value: bytes) -> bool:
    return any(value in row * (len(value) // len(row) + 2) for row in _ROWS)


def _as_bytes(secret: str | bytes) -> bytes:
    return secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret


class _HMACSHA256(SigningAlgorithm):
    """HMAC-SHA256 (RFC 2104) under keys that are prepared once: half the work of a short message is in its key."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, tuple[Any, Any]] = {}

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        prepared = self._prepared.get(key)
        if prepared is None:
            block = key.ljust(_BLOCK, b"\0")
            prepared = self._prepared[key] = (
                hashlib.sha256(block.translate(_INNER)),
                hashlib.sha256(block.translate(_OUTER)),
            )
        inner, outer = prepared[0].copy(), prepared[1].copy()
        inner.update(value)
        outer.update(inner.digest())
        digest: bytes = outer.digest()
        return digest


_BLOCK = 64  # bytes of a block of SHA-256; our keys have 32
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


class IDSigner:
    """Signs session IDs for the cookie: ``id.signature``.

    :param secrets: from `parse_secrets`.
    :param own_ids: whether the application chooses the IDs (16 to 128 characters of base64url) instead of 256 random
        bits.
    """

    def __init__(self, secrets: Sequence[bytes], *, own_ids: bool = False) -> None:
        # HKDF-Extract (RFC 5869 section 2.2): the label is the key, so that nothing else that signs with the secret, as
        # Express does, can be made to say what these keys are.
        self._keys = [hmac.digest(b"wsgisession cookie 1", secret, "sha256") for secret in secrets]
        self._algorithm = _HMACSHA256()
        self._signer = Signer(self._keys[0], key_derivation="none", algorithm=self._algorithm)
        self._renewal_keys = [hmac.digest(b"wsgisession renewal 1", secret, "sha256") for secret in secrets]
        self._id = re.compile(_ID_OF_THE_APP if own_ids else _ID)
        self._value = re.compile(rf"{self._id.pattern}\.{_TEXT_OF_256_BITS}")

    def new_id(self, bits: bytes) -> str:
        """Return the session ID made of 32 random bytes."""
        return _base64(bits)

    def accepts(self, session_id: str) -> bool:
        """Tell whether an ID that the application chose has a shape that can be signed."""
        return self._id.fullmatch(session_id) is not None

    def sign(self, session_id: str) -> str:
        """Return the cookie value for the ID."""
        return self._signer.sign(session_id).decode()

    def has_shape(self, value: str) -> bool:
        """Tell whether the whole value has the shape of our values; checked before the signature (ASVS 5.0 2.2.1)."""
        return self._value.fullmatch(value) is not None

    def unsign(self, value: str) -> str | None:
        """Return the ID of a cookie value, or None if it has not our shape or no secret made its signature."""
        # The same as Signer.unsign, without the parts that a value of the right shape does not need.
        if self._value.fullmatch(value) is None:
            return None
        session_id, _, signature = value.rpartition(".")
        signed, given = session_id.encode(), signature.encode()
        for key in self._keys:
            made = b2a_base64(self._algorithm.get_signature(key, signed), newline=False)
            if hmac.compare_digest(made.translate(_URL_SAFE)[:LONG], given):
                return session_id
        return None

    def renewed_id(self, session_id: str, nonce: str, *, length: int | None = None) -> str:
        """Return the ID that follows an ID: it takes the old ID and the secret to make it.

        :param length: in characters; if omitted, as long as the old one.
        """
        return _renewed(self._renewal_keys[0], session_id, nonce)[: length or _length_after(session_id)]

    def follow(self, session_id: str, nonce: str, *, handle: str) -> str | None:
        """Return the ID with this handle that followed an ID, made with any of the secrets."""
        length = _length_after(session_id)
        made = (_renewed(key, session_id, nonce)[:length] for key in self._renewal_keys)
        return next((one for one in made if self.handle(one) == handle), None)

    def handle(self, session_id: str) -> str:
        """Return the record's public name: a digest, so that the store holds no usable ID (ASVS 5.0 14.2.4).

        The leading digit is the version of the scheme.
        """
        digest = hashlib.sha256(session_id.encode()).digest()
        return "1" + b2a_base64(digest, newline=False).translate(_URL_SAFE)[:LONG].decode()

    def is_handle(self, handle: object) -> bool:
        """Tell whether a record could stand under it."""
        return isinstance(handle, str) and 0 < len(handle) <= 256 and handle.isascii() and handle.isprintable()

    def shown(self, handle: str) -> str:
        """Return what logs may say of a record: its handle, where that opens nothing."""
        return handle


def _length_after(session_id: str) -> int:
    return SHORT if len(session_id) == SHORT else LONG


def _renewed(key: bytes, session_id: str, nonce: str) -> str:
    return _base64(hmac.digest(key, f"{session_id}.{nonce}".encode(), "sha256"))


def _base64(value: bytes) -> str:
    return b2a_base64(value, newline=False).translate(_URL_SAFE).rstrip(b"=").decode()
