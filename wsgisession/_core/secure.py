"""Whether the cookie of a request is sent with Secure: the rules of ``secure="auto"``."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from .cookies import CookieOptions
from .events import logger

Environ = dict[str, Any]

_FORWARDED = re.compile(r'(?i)(?:^|[;,\s])(proto|host|for)\s*=\s*"?([^";,]*)')
_FOR_HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP")
_FORWARDING = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_VIA", *_FOR_HEADERS)
_SERVERS = frozenset({"uwsgi", "mod_wsgi", "gunicorn", "waitress", "lambda", "serverless", "apig_wsgi", "awsgi"})
"""What keys of an environ begin with, before a dot, if one of these made it."""

_PRIVATE = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/32", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("::/128", "::1/128", "fc00::/7", "fe80::/10"),
    )
)
_ON_WORDS = frozenset({"on", "https", "1", "true"})


@lru_cache(maxsize=256)
def is_this_machine(host: str) -> bool:
    """Tell whether a host is this machine: localhost, ``*.localhost``, 127.0.0.0/8, ::1, 0.0.0.0, or [::].

    :param host: a Host header's value, or a bare name.
    """
    name = _bare(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _bare(host: str) -> str:
    host = host.strip().strip('"')
    name = host[1:].partition("]")[0] if host.startswith("[") else host
    return (name.partition(":")[0] if name.count(":") == 1 else name).lower().rstrip(".")


def is_plain_loopback(environ: Environ) -> bool:
    """Tell whether a request came over plain http to this machine."""
    return environ["wsgi.url_scheme"] == "http" and is_this_machine(host_of(environ))


def host_of(environ: Environ) -> str:
    """Return the host that the request names."""
    return environ.get("HTTP_HOST") or environ.get("SERVER_NAME") or ""


def evidence(environ: Environ) -> str | None:
    """Return why the visitor of a plain http request to this machine uses https or another host, or None.

    Headers of development setups are not evidence: a front-end proxy that forwards ``http`` for a loopback host, the
    private address of a container's client, another site's Referer, HTTP/1.0 alone.
    """
    return _forwarded(environ) or _same_origin(environ) or _old_proxy(environ)


def is_development(environ: Environ) -> bool:
    """Tell whether a request can only come from a developer's machine, where an unsafe setting harms nobody.

    It comes from an in-process test client, whose environ names no server, or over plain http from this machine, and
    nothing in it says otherwise.
    """
    if not _names_server(environ):
        return True
    return is_plain_loopback(environ) and evidence(environ) is None and not _is_public(environ.get("REMOTE_ADDR", ""))


def _names_server(environ: Environ) -> bool:
    """Whether a server made the environ. uWSGI and serverless platforms do not set SERVER_SOFTWARE."""
    if "SERVER_SOFTWARE" in environ or environ.get("wsgi.multithread") or environ.get("wsgi.multiprocess"):
        return True
    return any(key.partition(".")[0] in _SERVERS for key in environ)


def _forwarded(environ: Environ) -> str | None:
    protos = [environ.get("HTTP_X_FORWARDED_PROTO", ""), environ.get("HTTP_X_FORWARDED_PROTOCOL", "")]
    protos.append(environ.get("HTTP_X_URL_SCHEME", ""))
    hosts = environ.get("HTTP_X_FORWARDED_HOST", "").split(",")
    clients = [one for name in _FOR_HEADERS for one in environ.get(name, "").split(",")]
    for key, value in _FORWARDED.findall(environ.get("HTTP_FORWARDED", "")):
        {"proto": protos, "host": hosts, "for": clients}[key.lower()].append(value)
    switches = (environ.get("HTTP_X_FORWARDED_SSL", ""), environ.get("HTTP_FRONT_END_HTTPS", ""))
    if any(one.strip().lower() == "https" for value in protos for one in value.split(",")):
        return "a forwarding header says https"
    if any(one.strip().lower() in _ON_WORDS for one in switches):
        return "a forwarding header says https"
    if any(one.strip() and not is_this_machine(one) for one in hosts):
        return "a forwarding header names another host"
    if any(_is_public(one) for one in clients):
        return "a forwarding header names a client that is not on this machine"
    return None


def _is_public(client: str) -> bool:
    """Whether a forwarded client address is neither this machine's nor a private network's (containers)."""
    try:
        address = ip_address(_bare(client))
    except ValueError:
        return False
    return not any(address in network for network in _PRIVATE if network.version == address.version)


def _same_origin(environ: Environ) -> str | None:
    if environ.get("HTTP_SEC_FETCH_SITE") != "same-origin":
        return None
    for header in ("HTTP_ORIGIN", "HTTP_REFERER"):
        try:
            origin = urlsplit(environ.get(header, ""))
            host = origin.hostname
        except ValueError:
            continue
        if origin.scheme == "https" or (origin.scheme == "http" and host and not is_this_machine(host)):
            return f"the browser's {'Origin' if header == 'HTTP_ORIGIN' else 'Referer'} is another origin"
    return None


def _old_proxy(environ: Environ) -> str | None:
    """Notice nginx before 1.29.7 without proxy headers: HTTP/1.0 and ``Connection: close``."""
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.0" or environ.get("HTTP_CONNECTION", "").lower() != "close":
        return None
    if any(environ.get(name) for name in _FORWARDING):
        return None
    return "it came as HTTP/1.0 with Connection: close, as nginx sends it"


class SecureRule:
    """Decides for each response whether its cookie is Secure, and warns once about what a browser would refuse."""

    __slots__ = ("_name", "_warned")

    def __init__(self, name: str) -> None:
        self._name = name
        self._warned: set[str] = set()

    def is_secure(self, options: CookieOptions, environ: Environ) -> bool:
        """Tell whether the cookie for this request is sent with Secure.

        :param options: the session's cookie settings.
        :param environ: the request's; only ``wsgi.url_scheme`` and a host must be there.
        """
        if environ["wsgi.url_scheme"] != "http":
            return options.is_secure(self._name, plain_loopback=False)
        if not is_this_machine(host_of(environ)):
            secure = options.is_secure(self._name, plain_loopback=False)
            if secure:
                self._warn(
                    "a Secure session cookie was sent over plain http, where browsers refuse it. If the site is behind"
                    " a proxy with TLS, wrap the app in werkzeug's ProxyFix; on a network without TLS, pass"
                    ' cookie={"secure": False}; for a test on this machine, use http://localhost'
                )
            return secure
        why = evidence(environ) if options.secure == "auto" else None
        if why is not None:
            self._warn(
                f"the session cookie was sent with Secure although the request looks like plain http to this machine,"
                f" because {why}. Wrap the app in werkzeug's ProxyFix and let the proxy send X-Forwarded-Proto and"
                " X-Forwarded-Host, or set the cookie's secure to True or False"
            )
        return options.is_secure(self._name, plain_loopback=why is None)

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            logger.warning(sentence)
