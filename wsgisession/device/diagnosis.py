"""What `wsgisession doctor` finds out about the endpoints of a running site: whether something is in front of them.

For a browser any unexpected 4xx of the refresh endpoint ends its session for good, so this asks as a browser does, but
for a session that does not exist.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from ..stores.findings import Finding

_TIMEOUT = 10.0
_MANY = 10
_NOBODY = "doctor"
_EXEMPT = (
    "exempt this path and everything below it from rate limits, firewalls, logins, redirects, and maintenance pages in"
    " front of the app"
)
_CLEAR = "give the app device_binding, check its path option and the mount point, and deploy it to every worker"


class _Reply(NamedTuple):
    status: int
    cache_control: str
    body: bytes


class _Unreached(Exception):
    """Nobody answered. The text says why."""


def examine_endpoints(url: str, *, context: ssl.SSLContext | None = None) -> Iterator[Finding]:
    """Look for what would log users out, or keep browsers from binding sessions.

    :param url: of the registration endpoint, such as ``https://example.com/.session-device``.
    :param context: decides which certificates are accepted; by default those that the system accepts.
    """
    if urlsplit(url).scheme != "https":
        yield Finding(
            "problem", f"{url} is not https", "browsers bind no sessions over http; serve the site over https"
        )
        return
    url = url.rstrip("/")
    try:
        yield from _of_registration(url, context)
        yield from _of_refresh(f"{url}/refresh", context)
    except _Unreached as error:
        yield Finding("problem", f"{url} cannot be asked", str(error))


def _of_registration(url: str, context: ssl.SSLContext | None) -> Iterator[Finding]:
    reply = _asked("GET", url, context)
    if reply.status != 405:
        yield _unexpected("GET", url, reply.status, wanted=405)
    elif "no-store" not in reply.cache_control:
        yield Finding(
            "warning",
            f"{url} was answered without Cache-Control: no-store",
            "let no cache or proxy change the headers of this path",
        )


def _of_refresh(url: str, context: ssl.SSLContext | None) -> Iterator[Finding]:
    for _ in range(_MANY):
        reply = _asked("POST", url, context, identifier=_NOBODY)
        if reply.status == 400:
            yield Finding(
                "problem",
                f"the header Sec-Secure-Session-Id does not reach the app at {url}",
                "let the proxy pass Sec-Secure-Session-Id, Secure-Session-Response, and Secure-Session-Skipped",
            )
            return
        if reply.status != 200:
            yield _unexpected("POST", url, reply.status, wanted=200)
            return
        if not _is_ours(reply.body):
            yield Finding("problem", f"something else than the app answers {url}", _EXEMPT)
            return


def _is_ours(body: bytes) -> bool:
    try:
        return bool(json.loads(body) == {"session_identifier": _NOBODY, "continue": False})
    except ValueError:
        return False


def _unexpected(method: str, url: str, status: int, *, wanted: int) -> Finding:
    fact = f"{method} {url} was answered with {status} instead of {wanted}"
    if status >= 500:
        return Finding("warning", f"{fact}, so browsers keep their sessions but cannot prove them", "see the app's log")
    return Finding("problem", f"{fact}, which ends the sessions of browsers", _CLEAR if status == 404 else _EXEMPT)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: object, **options: object) -> None:
        """Follow nothing: where a redirect leads, no cookie may be set."""


def _asked(method: str, url: str, context: ssl.SSLContext | None, *, identifier: str = "") -> _Reply:
    request = Request(url, method=method, headers={"Sec-Secure-Session-Id": identifier} if identifier else {})  # noqa: S310
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context), _NoRedirects)
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            return _Reply(response.status, response.headers.get("Cache-Control", ""), response.read(4096))
    except HTTPError as error:
        with error:
            return _Reply(error.code, error.headers.get("Cache-Control", ""), error.read(4096))
    except (URLError, HTTPException, OSError) as error:
        raise _Unreached(_why(error)) from error


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"browsers bind no sessions while they do not accept the certificate ({reason.verify_message})"
    return f"check the address and the network ({reason})"
