"""`Reply`: what the browser gets: Set-Cookie, Vary, and Cache-Control, merged with the headers of the app."""

from __future__ import annotations

import math
import re

import msgspec
from werkzeug.http import parse_list_header

from .cookies import expire_cookie, set_cookie
from .secure import Environ
from .visit import Visit

Headers = list[tuple[str, str]]

_DIRECTIVE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')  # a quoted part may contain commas
_CLEAR_SITE_DATA = '"cache", "cookies", "storage"'
_CACHE_HEADERS = {name.lower(): name for name in ("Cache-Control", "CDN-Cache-Control", "Surrogate-Control")}
_LONGEST = 1e10


class Reply(msgspec.Struct, frozen=True):
    """What the response must carry for its session.

    :param set_cookie: the value of the Set-Cookie header, or None.
    :param vary: whether the session was read, so that a cache must tell visitors apart (RFC 9110 section 12.5.5).
    :param clear_site_data: whether the browser should forget what it keeps of this site.
    :param headers: what the response carries for a device that the session is, or may be, bound to.
    """

    set_cookie: str | None = None
    vary: bool = False
    clear_site_data: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<Reply {'without' if self.set_cookie is None else 'with'} a cookie>"  # whose value is a secret


NOTHING = Reply()
READ = Reply(vary=True)


def session_cookie(visit: Visit, environ: Environ) -> str | None:
    """Return the Set-Cookie value that gives the browser the session's ID; None if no ID is known."""
    services, content, session_id = visit.services, visit.content, visit.session_id
    if session_id is None:
        return None
    options = visit.cookie_options()
    lasts, now, age = options.seconds, services.clock(), None
    if lasts is not None:
        left = math.floor(min(services.records.deadline(content) - now, _LONGEST))
        age = max(1, min(math.ceil(lasts), left))
    secure = services.secure.is_secure(options, environ)
    header = set_cookie(services.name, services.signer.sign(session_id), options, secure=secure, lasts=age, now=now)
    priority = None if content.cookie is None else content.cookie.get("priority")  # which only Express has
    return f"{header}; Priority={priority}" if priority else header


def expired_cookie(visit: Visit, environ: Environ) -> str:
    """Return the Set-Cookie value that makes the browser drop the cookie, which it finds by its path and domain."""
    options = visit.ended_cookie or visit.cookie_options()
    return expire_cookie(visit.services.name, options, secure=visit.services.secure.is_secure(options, environ))


def with_reply(headers: Headers, reply: Reply) -> Headers:
    """Return the headers with those of the reply merged in.

    Vary and Cache-Control are added if the app set none; the other cache headers are only changed.
    """
    if reply is NOTHING:
        return headers
    has_cookie = reply.set_cookie is not None
    present: dict[str, list[str]] = {}
    merged: Headers = []
    for pair in headers:
        lower = pair[0].lower()
        if (lower == "vary" and reply.vary) or (lower in _CACHE_HEADERS and has_cookie):
            present.setdefault(lower, []).append(pair[1])
        else:
            merged.append(pair)
    if reply.vary:
        merged.append(("Vary", _varying(", ".join(present.pop("vary", ())))))
    if reply.set_cookie is not None:
        merged.append(("Set-Cookie", reply.set_cookie))
        present.setdefault("cache-control", [])
        merged += [(_CACHE_HEADERS[lower], _private(", ".join(values))) for lower, values in present.items()]
    if reply.clear_site_data:
        merged.append(("Clear-Site-Data", _CLEAR_SITE_DATA))
    merged += reply.headers
    return merged


def _varying(present: str) -> str:
    if not present:
        return "Cookie"
    fields = parse_list_header(present)
    if "*" in fields or any(field.lower() == "cookie" for field in fields):
        return present
    return ", ".join([*fields, "Cookie"])


def _private(present: str) -> str:
    """Keep shared caches away from a response that carries a session cookie (ASVS 5.0 14.3.2).

    A ``private`` that names fields would let them keep the rest (RFC 9111 section 5.2.2.7): it becomes a plain one.
    """
    if not present:
        return "no-store"
    directives = [directive for found in _DIRECTIVE.findall(present) if (directive := found.strip())]
    if not directives:
        return "no-store"
    if any(directive.lower() in ("no-store", "private") for directive in directives):
        return ", ".join(one for one in directives if _name(one) not in ("public", "s-maxage"))
    kept = [directive for directive in directives if _name(directive) not in ("public", "s-maxage", "private")]
    return ", ".join(["private", *kept])  # in front, where no quote that the app left open can swallow it


def _name(directive: str) -> str:
    return directive.partition("=")[0].strip().lower()
