"""What the server signs for itself: challenges, and the short-lived second cookie. Nothing of it is stored."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

Purpose = Literal["register", "refresh"]

_REMEMBERED = 4096
"""How many second cookies are remembered with what they say, because each comes with every request for 10 minutes."""

_LETTERS = {"register": "a", "refresh": "b"}
_MAC = "[A-Za-z0-9_-]{43}"
_CHALLENGE = re.compile(
    rf"c1\.([ab])\.([A-Za-z0-9_-]{{1,64}})\.(\d{{1,11}})\.([A-Za-z0-9_-]{{22}})\.({_MAC})", re.ASCII
)
_COOKIE = re.compile(rf"v1\.(\d{{1,11}})\.([A-Za-z0-9_-]{{22}})\.({_MAC})", re.ASCII)


class Challenge(NamedTuple):
    """What a verified challenge says.

    :param detail: what it was made for: the handle of the session at registration, the counter at a refresh.
    :param issued_at: in whole seconds since the epoch.
    :param nonce: makes it different from all others.
    """

    detail: str
    issued_at: int
    nonce: str


class DeviceCookie(NamedTuple):
    """What a verified second cookie says.

    :param issued_at: when the browser proved its key, in whole seconds since the epoch.
    :param device_id: the session identifier of the browser.
    """

    issued_at: int
    device_id: str


class DeviceSigner:
    """Signs challenges and second cookies under the manager's secrets, each with its own key.

    All of it is made of ``A-Z a-z 0-9 _ - .``, which no header needs to quote or escape.

    :param secrets: the first signs, all verify.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        # HKDF-Extract (RFC 5869 section 2.2), as `IDSigner` does.
        self._challenge_keys = [_prepared(b"wsgisession device challenge 1", one) for one in secrets]
        self._cookie_keys = [_prepared(b"wsgisession device cookie 1", one) for one in secrets]
        self.read_cookie = lru_cache(maxsize=_REMEMBERED)(self._read_cookie)
        """Return what a second cookie says, or None for one that we did not make."""

    def new_id(self, bits: bytes) -> str:
        """Return the device ID or nonce made of 16 random bytes."""
        return _base64(bits)

    def challenge(self, purpose: Purpose, detail: str, *, nonce: str, now: float, subject: str = "") -> str:
        """Return a challenge that is good for one purpose.

        :param detail: part of the text, and signed: up to 64 characters that need no quoting.
        :param subject: whom it is for; signed, but not part of the text.
        """
        text = f"c1.{_LETTERS[purpose]}.{detail}.{int(now)}.{nonce}"
        return f"{text}.{_mac(self._challenge_keys[0], text, subject)}"

    def read_challenge(self, text: str, purpose: Purpose, *, subject: str = "") -> Challenge | None:
        """Return what the challenge says, or None for one that was not made for this purpose and subject."""
        found = _CHALLENGE.fullmatch(text)
        if found is None or found[1] != _LETTERS[purpose]:
            return None
        if not _verifies(self._challenge_keys, found[5], text.rpartition(".")[0], subject):
            return None
        return Challenge(detail=found[2], issued_at=int(found[3]), nonce=found[4])

    def cookie(self, device_id: str, *, now: float) -> str:
        """Return the value of the second cookie, which says that the device proved its key now."""
        text = f"v1.{int(now)}.{device_id}"
        return f"{text}.{_mac(self._cookie_keys[0], text)}"

    def _read_cookie(self, value: str) -> DeviceCookie | None:
        found = _COOKIE.fullmatch(value)
        if found is None or not _verifies(self._cookie_keys, found[3], value.rpartition(".")[0]):
            return None
        return DeviceCookie(issued_at=int(found[1]), device_id=found[2])


def _prepared(label: bytes, secret: bytes) -> hmac.HMAC:
    """Return an HMAC under a key made of the secret; half the work of a short message is in its key."""
    return hmac.new(hmac.digest(label, secret, "sha256"), digestmod="sha256")


def _verifies(keys: Sequence[hmac.HMAC], mac: str, text: str, subject: str = "") -> bool:
    return any(hmac.compare_digest(_mac(key, text, subject), mac) for key in keys)


def _mac(key: hmac.HMAC, text: str, subject: str = "") -> str:
    """Return the MAC of a text for a subject: the text has no NUL, so that the two cannot be confused."""
    made = key.copy()
    made.update(f"{text}\0{subject}".encode("utf-8", "surrogatepass"))
    return _base64(made.digest())


def _base64(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
