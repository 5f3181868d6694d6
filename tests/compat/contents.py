"""What the sessions of the old version hold: imported by the program that wrote them, and by the tests that read them.

It imports nothing of wsgisession, and nothing of the tests.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from markupsafe import Markup

SECRET = "the secret of the fixtures, long enough"
ENCRYPTION_KEY = bytes(range(100, 132))

BEGIN = 4_000_000_000.0
"""When the first session was written, in seconds since the epoch. It is in 2096: no server sweeps these records."""

RENEWAL = 3600.0
"""The sessions' ``renewal_timeout``."""

RENEWED_AT = BEGIN + RENEWAL + 1
"""When the session "renewed" got its second ID. All others were written at this time too."""

BEGAN_BEFORE_LOGIN = BEGIN + 100
"""When the session "user" began, an hour before its user logged in."""

OWN_MAX_AGE = 7200.0
"""What the session "own cookie" sets as its cookie's ``max_age``."""

CLIENT = ("203.0.113.7", "Mozilla/5.0 (fixtures)")

NATIVE: dict[str, dict[str, Any]] = {
    "plain": {"n": 1, "cart": [{"id": 7, "count": 2}], "nothing": None, "yes": True, "ratio": 0.1, "text": 'a"b\\c\n'},
    "types": {
        "tuple": (1, ("a",)),
        "set": {1, 2},
        "frozenset": frozenset({"a"}),
        "bytes": b"\x00\xff",
        "datetime": datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2))),
        "naive": datetime(2026, 1, 2, 3, 4, 5),
        "date": date(2026, 1, 2),
        "time": time(3, 4, 5),
        "timedelta": timedelta(days=-1, microseconds=3),
        "decimal": Decimal("1.10"),
        "uuid": UUID(int=7),
        "markup": Markup("<b>"),
        "nan": [float("inf"), -0.0],
        "nested": {"deep": [{"set": {(1, "a")}}]},
    },
    "text": {"ünï": "✓ \U0001f600 \u2028 \x7f", "": "empty key", "big": 2**100, "small": -(2**63)},
    "looks tagged": {"~set": [1], "inside": {"~tuple": [1, 2]}, "~": {"~dict": {"~set": []}}},
    "user": {"cart": ["tea"], "user_id": 7, "roles": ["admin"]},
    "flask": {"_permanent": True, "_flashes": [("message", "hello")], "_user_id": "9", "_fresh": True, "_id": "ab"},
    "own cookie": {"n": 2},
    "tracked": {"n": 3},
    "renewed": {"n": 4, "user_id": "ada"},
    "big": {"rows": [{"number": number, "name": f"row {number}"} for number in range(60)]},
    "empty": {},
}
"""The sessions in the native format, by name: what each holds."""

EXPRESS: dict[str, dict[str, Any]] = {
    "plain": {"n": 1, "cart": [{"id": 7, "count": 2}], "nothing": None, "yes": True, "ratio": 0.5, "text": 'a"b\\c\n'},
    "text": {"ünï": "✓ \U0001f600 \u2028 \x7f", "": "empty key", "safe": 2**53 - 1},
    "user": {"cart": ["tea"], "user_id": 7, "roles": ["admin"]},
    "passport": {"passport": {"user": 5}, "_user_id": "9"},
    "own cookie": {"n": 2},
    "deep": {"list": [[[1, {"a": [None, {"b": {}}]}]]]},
}
"""The sessions in the Express formats, by name: what each holds."""

DJANGO: dict[str, dict[str, Any]] = {
    "plain": {"n": 1, "cart": [{"id": 7}]},
    "user": {"_auth_user_id": "3", "_auth_user_backend": "django.contrib.auth.backends.ModelBackend", "n": 2},
    "expiry": {"_session_expiry": 300, "n": 3},
}
"""The sessions of Django's engine, and of a Django app that is wrapped in `SessionMiddleware`."""

LOGINS = {"user": 7}
"""The sessions that were logged in with ``session.login``, and as whom."""

USERS = {"user": 7, "flask": "9", "passport": "9", "renewed": "ada"}
"""Whose sessions these are."""
