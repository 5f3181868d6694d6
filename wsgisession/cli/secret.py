"""New secrets, for cookies and for encryption."""

from __future__ import annotations

import json
import secrets

_BYTES = 32  # what a signature by HMAC-SHA256 and a key of AES-256 need


def printed_secret(*, as_json: bool) -> str:
    """Return a new random secret, or an object that holds one as JSON."""
    secret = secrets.token_urlsafe(_BYTES)
    return json.dumps({"secret": secret}) if as_json else secret
