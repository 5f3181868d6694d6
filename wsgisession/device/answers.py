"""What the middleware answers to a request of a bound session that lacks a proof, so that its browser can bring one.

A browser that can sign holds every request until it has a second cookie, with three exceptions. For each of them there
is an answer that leads it back. Whatever else comes without a proof had its chance, and is anonymous.
"""

from __future__ import annotations

from .._core.address import address_of
from .._core.binding import Environ, Field
from . import protocol
from .devices import Devices
from .endpoints import Answer, unavailable

_SAFE = frozenset({"GET", "HEAD"})
_ELSEWHERE = frozenset({"cross-site", "same-site"})
_HERE = frozenset({"same-origin", "none"})

_RELOAD = b'<!doctype html><meta charset="utf-8"><title>One moment</title>\n<meta http-equiv="refresh" content="0">\n'


def may_help(devices: Devices, environ: Environ) -> bool:
    """Tell whether one of the answers would fit, so that it is worth finding out whose session this is."""
    header = environ.get("HTTP_COOKIE", "")
    if devices.options.on_unproven != "answer" or not header:
        return False
    has_cookie = devices.has_cookie(header)
    if not (protocol.SKIPPED in environ or _comes_from_elsewhere(environ) or (has_cookie and _is_safe(environ))):
        return False
    return not (has_cookie and devices.has_fresh_cookie(header)) and not devices.is_excluded(environ)


def answer_for(devices: Devices, field: Field, environ: Environ) -> Answer | None:
    """Return the response to a request without a proof, or None to continue as anonymous."""
    if field["id"] in protocol.read_skipped(environ.get(protocol.SKIPPED)):
        return unavailable()  # continuing would cost the user the login, and the browser can still sign later
    if _comes_from_elsewhere(environ):
        stale = devices.headers_for_logout(environ)
        return _answer("200 OK", [("Content-Type", "text/html; charset=utf-8"), *stale], _RELOAD)
    if _is_safe(environ) and (again := devices.headers_to_prove_again(environ)):
        return _answer("307 Temporary Redirect", [("Location", address_of(environ)), *again], b"")
    return None


def _comes_from_elsewhere(environ: Environ) -> bool:
    """Whether this is a link that was followed from another site: browsers do not refresh for those.

    The page that reloads itself is the initiator the second time.
    """
    return (
        environ["REQUEST_METHOD"] in _SAFE
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_SITE") in _ELSEWHERE
    )


def _is_safe(environ: Environ) -> bool:
    return environ["REQUEST_METHOD"] in _SAFE and environ.get("HTTP_SEC_FETCH_SITE") in _HERE


def _answer(status: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    own = [("Content-Length", str(len(body))), ("Cache-Control", "no-store"), ("Vary", "Cookie")]
    return Answer(status, [*own, *headers], body)
