"""Keys as a browser has them, and proofs signed with them, good or broken as a test asks."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256


def encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(value: int, size: int | None = None) -> str:
    return encoded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return encoded(text.encode())


class ECKey:
    """A key pair for ES256, or on another curve."""

    algorithm = "ES256"

    def __init__(self, curve: ec.EllipticCurve | None = None) -> None:
        self._key = ec.generate_private_key(curve or ec.SECP256R1())

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        size = (self._key.curve.key_size + 7) // 8
        name = {"secp256r1": "P-256", "secp384r1": "P-384"}[self._key.curve.name]
        return {"kty": "EC", "crv": name, "x": number(numbers.x, size), "y": number(numbers.y, size)}

    def sign_as_der(self, text: bytes) -> bytes:
        return self._key.sign(text, ec.ECDSA(SHA256()))

    def sign(self, text: bytes) -> bytes:
        r, s = utils.decode_dss_signature(self.sign_as_der(text))
        size = (self._key.curve.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class RSAKey:
    """A key pair for RS256."""

    algorithm = "RS256"

    def __init__(self, bits: int = 2048) -> None:
        self._key = _rsa_key(bits)

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}

    def sign(self, text: bytes) -> bytes:
        return self._key.sign(text, padding.PKCS1v15(), SHA256())


@cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


Key = ECKey | RSAKey


def signed(key: Key, header: object, payload: object, *, signature: bytes | None = None) -> str:
    """Return a token over any header and payload; text is taken as it is."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{encoded(key.sign(text.encode()) if signature is None else signature)}"


def registration(key: Key, challenge: str, *, header: Any = (), payload: Any = ()) -> str:
    """Return what a browser sends to register the key, with other members where a test wants them."""
    return signed(
        key,
        {"alg": key.algorithm, "typ": "dbsc+jwt", "jwk": key.jwk, **dict(header)},
        {"jti": challenge, **dict(payload)},
    )


def refresh(key: Key, challenge: str, *, header: Any = (), payload: Any = ()) -> str:
    """Return what a browser sends to prove the key."""
    return signed(key, {"alg": key.algorithm, "typ": "dbsc+jwt", **dict(header)}, {"jti": challenge, **dict(payload)})


def thumbprint(jwk: dict[str, str]) -> str:
    """Return the thumbprint of RFC 7638, made independently of the library."""
    text = "{" + ",".join(f'"{name}":"{jwk[name]}"' for name in sorted(jwk)) + "}"
    return encoded(hashlib.sha256(text.encode()).digest())
