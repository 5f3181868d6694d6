"""The cookie of express-session: its signed value, and the form in which a record remembers the cookie's settings.

Everything here is as express-session 1.19 has it (with cookie 0.7 and cookie-signature 1.0): ``format="express"``.
"""

from __future__ import annotations

import hmac
import math
import re
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from .._core.cookies import LONGEST_LIFETIME, CookieOptions
from .._core.forms import is_utf8
from .._core.ids import IDSigner

_PREFIX = "s:"
_UNESCAPED = "-_.!~*'()"  # by encodeURIComponent, in addition to letters and digits
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LONGEST_HANDLE = 4096  # what a browser keeps of a cookie

EXPRESS = "express"
"""Among a session's own cookie settings: all of them as the record has them, whatever we make of each."""

_MEMBERS = (
    "originalMaxAge",
    "partitioned",
    "priority",
    "expires",
    "secure",
    "httpOnly",
    "domain",
    "path",
    "sameSite",
)
_NAMES = {
    "secure": "secure",
    "http_only": "httpOnly",
    "domain": "domain",
    "path": "path",
    "same_site": "sameSite",
    "partitioned": "partitioned",
}
_SAME_SITE = {"strict": "Strict", "lax": "Lax", "none": "None"}
_PRIORITIES = ("Low", "Medium", "High")
_THE_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST = 253_402_300_799_999  # milliseconds: the end of the year 9999


class ExpressSigner(IDSigner):
    """Signs session IDs as express-session does: ``s:id.signature``, percent-encoded.

    Its records stand under the ID itself, so that `handle` is the ID: a secret.
    """

    def __init__(self, secrets: Sequence[bytes], *, own_ids: bool = False) -> None:
        super().__init__(secrets, own_ids=own_ids)
        self._secrets = tuple(secrets)

    def sign(self, session_id: str) -> str:
        """Return the cookie value for the ID."""
        return quote(f"{_PREFIX}{session_id}.{_signature(self._secrets[0], session_id)}", safe=_UNESCAPED)

    def has_shape(self, value: str) -> bool:
        """Tell whether the value is a signed one, of whatever ID: Node.js apps choose their own."""
        plain = decoded(value)
        return plain.startswith(_PREFIX) and "." in plain

    def unsign(self, value: str) -> str | None:
        """Return the ID of a cookie value, or None if it has not our shape or no secret made its signature.

        The signature is compared as text and never decoded. An empty ID is none.
        """
        if not self.has_shape(value):
            return None
        session_id, _, signature = decoded(value)[len(_PREFIX) :].rpartition(".")
        given = signature.encode()
        if any(hmac.compare_digest(_signature(secret, session_id).encode(), given) for secret in self._secrets):
            return session_id or None
        return None

    def handle(self, session_id: str) -> str:
        """Return the ID, under which Express has the record."""
        return session_id

    def is_handle(self, handle: object) -> bool:
        """Tell whether a record could stand under it."""
        return isinstance(handle, str) and 0 < len(handle) <= _LONGEST_HANDLE and is_utf8(handle)

    def shown(self, handle: str) -> str:
        """Return a name for logs, which opens nothing."""
        return super().handle(handle)


def _signature(secret: bytes, session_id: str) -> str:
    return b64encode(hmac.digest(secret, session_id.encode(), "sha256")).rstrip(b"=").decode()


def decoded(value: str) -> str:
    """Undo the percent-encoding as decodeURIComponent does; a value with a broken escape stays as it is."""
    if "%" not in value or _BROKEN_ESCAPE.search(value):
        return value
    try:
        return _ESCAPES.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode(), value)
    except UnicodeDecodeError:
        return value


def settings_of(members: dict[str, Any]) -> dict[str, Any]:
    """Return the cookie settings of a session by our names, from what its record says.

    Settings that today's browsers refuse, and those that Express leaves to the browser, follow the manager's.
    """
    settings: dict[str, Any] = {"max_age": max_age_of(members)}
    if members.get("secure") is True:
        settings["secure"] = True
    if members.get("partitioned") is True:
        settings["partitioned"] = True
    if isinstance(members.get("httpOnly"), bool):
        settings["http_only"] = members["httpOnly"]
    if isinstance(members.get("path"), str) and members["path"].startswith("/"):
        settings["path"] = members["path"]
    if members.get("domain") is None or isinstance(members["domain"], str):
        settings["domain"] = members.get("domain")
    same_site = members.get("sameSite")  # absent or null is not "none", which lets other sites send the cookie
    if same_site is True:
        settings["same_site"] = "Strict"
    elif isinstance(same_site, str) and same_site.lower() in _SAME_SITE:
        settings["same_site"] = _SAME_SITE[same_site.lower()]
    priority = str(members.get("priority")).capitalize()
    if priority in _PRIORITIES:
        settings["priority"] = priority
    return settings | {EXPRESS: members}


def max_age_of(members: dict[str, Any]) -> float | None:
    """Return the seconds by which each use extends the session; None where its cookie ends with the browser."""
    age = members.get("originalMaxAge")
    if isinstance(age, bool) or not isinstance(age, (int, float)):
        return None
    return min(max(age, 1), 1000 * LONGEST_LIFETIME) / 1000


def members_of(own: dict[str, Any] | None, options: CookieOptions, *, now: float) -> dict[str, Any]:
    """Return what a record must say of the session's cookie: all of it, for Node.js makes its Set-Cookie from that.

    :param own: the session's own settings; where they came from a record, what was not changed since stays as it was.
    :param options: the manager's settings, for a session that has no record yet.
    """
    own = own or {}
    known = own.get(EXPRESS)
    if known is None:
        values = {name: own.get(name, getattr(options, name)) for name in (*_NAMES, "max_age")}
        members = _with_settings({"httpOnly": True}, values)
    else:
        was = settings_of(known)
        changed = {name: value for name, value in own.items() if name != EXPRESS and value != was.get(name)}
        members = _with_settings(known, changed)
    return _dated(members, now)


def _with_settings(members: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    changed = dict(members)
    for name, value in settings.items():
        if name == "max_age":
            changed["originalMaxAge"] = None if value is None else whole(float(value) * 1000)
        elif value is None or (value is False and name in ("secure", "partitioned")) or value == "auto":
            changed.pop(_NAMES[name], None)
        else:
            changed[_NAMES[name]] = value.lower() if name == "same_site" else value
    return changed


def _dated(members: dict[str, Any], now: float) -> dict[str, Any]:
    """Let the cookie's lifetime begin now, and put the members into the order that Express writes them in."""
    age = members.get("originalMaxAge")
    if isinstance(age, (int, float)) and not isinstance(age, bool):
        ends = min(max(math.floor(now * 1000) + age, 0), _LAST)
        members = {**members, "expires": iso(_THE_EPOCH + timedelta(milliseconds=ends))}
    else:
        members = {"originalMaxAge": None, "expires": None, **members}
        if isinstance(members["expires"], str):
            members["expires"] = None  # of a lifetime that was taken back
    return {name: members[name] for name in _MEMBERS if name in members}


def whole(number: float) -> float:
    """Return the number as JavaScript writes it: without a fraction where it has none."""
    return int(number) if number.is_integer() else number


def iso(at: datetime) -> str:
    """Return the time as JavaScript's toISOString writes it; one without a zone is taken for UTC."""
    utc = at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
    return f"{datetime.isoformat(utc.replace(tzinfo=None), timespec='milliseconds')}Z"
