"""What a session adds to the response's headers, merged with what the app put there."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from werkzeug.http import parse_list_header

Headers = list[tuple[str, str]]

_DIRECTIVE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')  # a comma may stand in quotes
_CLEAR_SITE_DATA = '"cache", "cookies", "storage"'


class Reply(msgspec.Struct, frozen=True):
    """What the response must carry for its session.

    :param set_cookie: the value of the Set-Cookie header, or None.
    :param vary: whether the session was read, so that a cache must tell visitors apart (RFC 9110 section 12.5.5).
    :param clear_site_data: whether the browser shall forget what it keeps of this site.
    """

    set_cookie: str | None = None
    vary: bool = False
    clear_site_data: bool = False

    def __repr__(self) -> str:
        return f"<Reply {'without' if self.set_cookie is None else 'with'} a cookie>"  # whose value is a secret


NOTHING = Reply()
READ = Reply(vary=True)


def with_reply(headers: Headers, reply: Reply) -> Headers:
    """Return the headers with those of the reply merged in."""
    if reply is NOTHING:
        return headers
    headers = list(headers)
    if reply.vary:
        _merge(headers, "Vary", _varying)
    if reply.set_cookie is not None:
        headers.append(("Set-Cookie", reply.set_cookie))
        _merge(headers, "Cache-Control", _private)
    if reply.clear_site_data:
        headers.append(("Clear-Site-Data", _CLEAR_SITE_DATA))
    return headers


def _merge(headers: Headers, name: str, merged: Callable[[str], str]) -> None:
    """Replace all headers of the name by one, made of their joined values."""
    lower = name.lower()
    present = [value for field, value in headers if field.lower() == lower]
    if present:
        headers[:] = [pair for pair in headers if pair[0].lower() != lower]
    headers.append((name, merged(", ".join(present))))


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
    kept = [directive for directive in directives if _name(directive) not in ("public", "s-maxage", "private")]
    if "no-store" not in map(_name, kept):
        kept.insert(0, "private")  # in front, where no quote that the app left open can swallow it
    return ", ".join(kept)


def _name(directive: str) -> str:
    return directive.partition("=")[0].strip().lower()
