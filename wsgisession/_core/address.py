"""The address of a request, as it may be written into a response."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

_SAFE = "/!$&'()*+,;=:@~"


def quoted_path(path: str) -> str:
    """Return the path as a URL has it.

    :param path: as WSGI has it: without percent signs, one character for each byte.
    """
    return quote(path, safe=_SAFE, encoding="latin-1")


def address_of(environ: dict[str, Any]) -> str:
    """Return the path and query of a request, which lead to this host and never to another."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    return quoted_path("/" + path.lstrip("/\\")) + (f"?{query}" if query else "")
