"""The wire format of Device Bound Session Credentials: headers, session instructions, and proofs. No I/O, no state.

From the editor's draft of w3c/webappsec-dbsc, February 2026, and from what Chromium 156 sends, where the two differ.
Whatever the draft still changes is changed here.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256

REGISTRATION = "Secure-Session-Registration"
CHALLENGE = "Secure-Session-Challenge"
RESPONSE = "HTTP_SECURE_SESSION_RESPONSE"
SESSION_ID = "HTTP_SEC_SECURE_SESSION_ID"
SKIPPED = "HTTP_SECURE_SESSION_SKIPPED"

JWK = Mapping[str, str]
"""A public key with the members that RFC 7638 section 3.2 requires, and no others."""

_LONGEST_HEADER = 8192
_TYPE = "dbsc+jwt"
_RSA_BITS = range(2048, 4097)
_RSA_EXPONENT = 65537
_COORDINATE_BYTES = 32
_BARE = re.compile(r"[A-Za-z0-9_.-]+")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"[ \t]*(?:;.*)?', re.DOTALL)
_SKIPPED = re.compile(r'[ \t]*([a-z_]+)[ \t]*;[ \t]*session_identifier="?([A-Za-z0-9_-]+)"?[ \t]*')
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class InvalidProof(Exception):
    """A proof that is not one. Its text is for operators, and contains nothing that the client sent."""


class Proof(NamedTuple):
    """What a signed proof says; whether the signature is good depends on the key.

    :param algorithm: its ``alg``.
    :param challenge: its ``jti``.
    :param audience: its ``aud``, which Chromium can be made to send.
    :param jwk: the public key, or None.
    """

    algorithm: str
    challenge: str
    audience: str | None
    jwk: Mapping[str, Any] | None
    signed: bytes
    signature: bytes


# Headers.


def registration_header(algorithms: Sequence[str], *, path: str, challenge: str) -> str:
    """Return the header that offers the browser to register a key."""
    return f"({' '.join(algorithms)});path={_sf_string(path)};challenge={_sf_string(challenge)}"


def challenge_header(challenge: str, *, session_identifier: str) -> str:
    """Return the header with what the browser signs next."""
    return f"{_sf_string(challenge)};id={_sf_string(session_identifier)}"


def read_string(value: str | None) -> str | None:
    """Return the text of a request header that the draft defines as a string: quoted there, bare in Chromium.

    Parameters are ignored. None where there is no header, and for what is neither.
    """
    if value is None or len(value) > _LONGEST_HEADER:
        return None
    text = value.strip(" \t")
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1])
    bare = text.partition(";")[0].rstrip(" \t")
    return bare if _BARE.fullmatch(bare) else None


def read_skipped(value: str | None) -> dict[str, str]:
    """Return the sessions for which the browser says that it skipped a refresh, each with the reason.

    It is unsigned: a reason to answer differently, never one to let anybody in.
    """
    if not value or len(value) > _LONGEST_HEADER:
        return {}
    items = [_SKIPPED.match(item) for item in value.split(",")]
    return {item[2]: item[1] for item in items if item is not None}


def _sf_string(text: str) -> str:
    """Return the text as a string of RFC 9651 section 3.3.3."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# Session instructions.


def instructions(
    session_identifier: str,
    *,
    refresh_url: str,
    cookie: str,
    attributes: str,
    include_site: bool = False,
    origin: str | None = None,
    exclude: Sequence[str] = (),
    initiators: Sequence[str] = (),
) -> bytes:
    """Return the JSON that describes the session, and the cookie that proves it, to the browser.

    :param attributes: the cookie's, exactly as Set-Cookie has them: where they differ the browser considers the cookie
        missing, and refreshes before every request.
    """
    rules = [{"type": "exclude", "domain": "*", "path": path} for path in exclude]
    scope = {
        **({} if origin is None else {"origin": origin}),
        "include_site": include_site,
        **({"scope_specification": rules} if rules else {}),
    }
    return _json(
        {
            "session_identifier": session_identifier,
            "refresh_url": refresh_url,
            "scope": scope,
            "credentials": [{"type": "cookie", "name": cookie, "attributes": attributes}],
            **({"allowed_refresh_initiators": list(initiators)} if initiators else {}),
        }
    )


def end_instructions(session_identifier: str) -> bytes:
    """Return the JSON that ends the browser's session."""
    return _json({"session_identifier": session_identifier, "continue": False})


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# Proofs.


def read_proof(token: str | None, algorithms: Sequence[str]) -> Proof:
    """Return what a proof says. Nothing of it is verified.

    :raises InvalidProof: for anything that is not a proof in JWS compact form (RFC 7515 section 3.1) with one of the
        algorithms.
    """
    if token is None or len(token) > _LONGEST_HEADER:
        raise InvalidProof("there is no proof, or it is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise InvalidProof("the proof does not have three parts")
    header, payload = _object(parts[0]), _object(parts[1])
    algorithm, challenge, audience = header.get("alg"), payload.get("jti"), payload.get("aud")
    if header.get("typ") != _TYPE:
        raise InvalidProof("the proof has another typ")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise InvalidProof("the proof has another alg")
    if "crit" in header:  # RFC 7515 section 4.1.11: what is not understood is refused
        raise InvalidProof("the proof has a crit member")
    if not isinstance(challenge, str):
        raise InvalidProof("the proof has no jti")
    if not isinstance(audience, str | None):
        raise InvalidProof("the proof's aud is not a text")
    jwk = header.get("jwk")
    if not isinstance(jwk, dict | None):
        raise InvalidProof("the proof's jwk is not an object")
    signed = f"{parts[0]}.{parts[1]}".encode()
    return Proof(algorithm, challenge, audience, jwk, signed, _decoded(parts[2]))


def verify_registration(proof: Proof) -> JWK:
    """Return the public key that a registration carries, after its own signature.

    :raises InvalidProof: where there is no acceptable key, or it did not sign.
    """
    if proof.jwk is None:
        raise InvalidProof("the registration carries no jwk")
    jwk = _required_members(proof.jwk, proof.algorithm)
    _verify(proof, jwk)
    return jwk


def verify_refresh(proof: Proof, jwk: JWK, *, algorithm: str) -> None:
    """Check that the session's key signed the proof.

    :raises InvalidProof: where it did not, or the proof brings its own key.
    """
    if proof.jwk is not None:
        raise InvalidProof("the refresh carries a jwk")
    if proof.algorithm != algorithm:
        raise InvalidProof("the refresh has another alg than the session's key")
    _verify(proof, jwk)


def thumbprint(jwk: JWK) -> str:
    """Return the key's thumbprint (RFC 7638), which may be shown and logged."""
    text = json.dumps(dict(jwk), sort_keys=True, separators=(",", ":"))
    return _encoded(hashlib.sha256(text.encode()).digest())


def _required_members(jwk: Mapping[str, Any], algorithm: str) -> JWK:
    kind, names = ("EC", ("crv", "kty", "x", "y")) if algorithm == "ES256" else ("RSA", ("e", "kty", "n"))
    if jwk.get("kty") != kind or not all(isinstance(jwk.get(name), str) for name in names):
        raise InvalidProof("the jwk does not fit the alg")
    return {name: jwk[name] for name in names}


def _verify(proof: Proof, jwk: JWK) -> None:
    try:
        if proof.algorithm == "ES256":
            _verify_es256(proof, jwk)
        else:
            _rsa_key(jwk).verify(proof.signature, proof.signed, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        raise InvalidProof("the signature is not the key's") from None


def _verify_es256(proof: Proof, jwk: JWK) -> None:
    """Check a signature that is r and s side by side (RFC 7518 section 3.4), and not DER."""
    key = _ec_key(jwk)
    if len(proof.signature) != 2 * _COORDINATE_BYTES:
        raise InvalidProof("the signature is not 64 bytes")
    r, s = (int.from_bytes(half, "big") for half in (proof.signature[:32], proof.signature[32:]))
    key.verify(utils.encode_dss_signature(r, s), proof.signed, ec.ECDSA(SHA256()))


def _ec_key(jwk: JWK) -> ec.EllipticCurvePublicKey:
    x, y = _decoded(jwk["x"]), _decoded(jwk["y"])
    if jwk["crv"] != "P-256" or len(x) != _COORDINATE_BYTES or len(y) != _COORDINATE_BYTES:
        raise InvalidProof("the key is not on P-256")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
    try:
        return numbers.public_key()
    except ValueError:
        raise InvalidProof("the key is not on P-256") from None


def _rsa_key(jwk: JWK) -> rsa.RSAPublicKey:
    n, e = (int.from_bytes(_decoded(jwk[name]), "big") for name in ("n", "e"))
    if n.bit_length() not in _RSA_BITS or n % 2 == 0 or e != _RSA_EXPONENT:
        raise InvalidProof("the RSA key does not have 2048 to 4096 bits and the exponent 65537")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_decoded(part).decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise InvalidProof("a part of the proof is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidProof("a part of the proof is not a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise InvalidProof("a part of the proof has the same member twice")
    return value


def _decoded(text: str) -> bytes:
    """Return the bytes of base64url without padding: of each value exactly one spelling (RFC 7515 section 2)."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise InvalidProof("a part of the proof is not base64url without padding")
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encoded(value) != text:
        raise InvalidProof("a part of the proof is not base64url without padding")
    return value


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
