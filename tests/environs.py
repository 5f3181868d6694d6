"""WSGI environs for tests that commit a session without a server."""

from __future__ import annotations

from typing import Any


def request(*, scheme: str = "https", host: str = "", client: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the environ of a request as far as a commit looks at it."""
    address, agent = client or ("", "")
    return {"wsgi.url_scheme": scheme, "HTTP_HOST": host, "REMOTE_ADDR": address, "HTTP_USER_AGENT": agent}
