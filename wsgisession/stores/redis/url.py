"""What the URL of a `RedisStore` says: where its servers are, and how to connect to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ...errors import ConfigurationError
from ..base import StoreURL, positive

Address = tuple[str, int]

_Converters = Mapping[str, Callable[[str], Any]]


@dataclass(frozen=True)
class RedisURL:
    """A URL taken apart.

    :param shown: the URL without its secrets.
    :param addresses: of the server, of the Sentinels, or of some nodes of the cluster.
    :param options: of a connection to a server, by redis-py's names and in its types.
    :param sentinel_options: of one to a Sentinel.
    :param max_connections: how many connections each process opens at most.
    :param socket: the path of a Unix socket, in place of an address.
    :param service: what the Sentinels call the servers; None where there are no Sentinels.
    """

    shown: str
    addresses: list[Address]
    options: dict[str, Any] = field(repr=False)
    sentinel_options: dict[str, Any] = field(repr=False)
    max_connections: int
    is_tls: bool
    is_cluster: bool = False
    socket: str | None = None
    service: str | None = None

    @classmethod
    def of(cls, url: StoreURL) -> RedisURL:
        """Take a URL apart.

        :raises ConfigurationError: for a URL or parameter that cannot be right.
        """
        try:
            return cls(url.shown, **_servers(url), **_connections(url))
        except ConfigurationError:
            raise
        except ValueError as error:
            raise ConfigurationError(f"the store URL {url.shown} cannot be used: {error}") from error


def _servers(url: StoreURL) -> dict[str, Any]:
    place, path = _place(url)
    if url.scheme == "unix":
        if place or not path:
            raise ValueError("a socket has an absolute path, as in unix:///run/redis.sock")
        return {"addresses": [], "socket": unquote(f"/{path}")}
    if url.scheme.endswith("+cluster"):
        return {"addresses": _addresses(place, 6379), "is_cluster": True}
    if url.scheme.endswith("+sentinel"):
        service = unquote(path.partition("/")[0])
        if not service:
            raise ValueError("the name of the service is missing, as in redis+sentinel://host1,host2/mymaster")
        return {"addresses": _addresses(place, 26379), "service": service}
    addresses = _addresses(place or "localhost", 6379)
    if len(addresses) > 1:
        raise ValueError("several servers are a redis+cluster://, or have a redis+sentinel://")
    return {"addresses": addresses}


def _connections(url: StoreURL) -> dict[str, Any]:
    is_tls = url.scheme in ("rediss", "valkeys") or url.option("ssl", False, _switch)
    limit = url.option("max_connections", 50, positive)
    tls = _taken(url, _TLS) if is_tls else {}
    sentinel = _taken(url, _SENTINEL) if url.scheme.endswith("+sentinel") else {}
    user = {"username": url.username, "password": url.password, "db": _database(url)}
    options = {**{name: value for name, value in user.items() if value}, **_taken(url, _PARAMETERS), **tls}
    if url.scheme.endswith("+cluster") and "db" in options:
        raise ValueError("a cluster has no database but 0")
    url.refuse_rest(", ".join(["prefix, timeout, max_connections, ssl", *_PARAMETERS, *_SENTINEL, *_TLS]))
    sentinel_options = {**{name.removeprefix("sentinel_"): value for name, value in sentinel.items()}, **tls}
    return {"options": options, "sentinel_options": sentinel_options, "max_connections": limit, "is_tls": is_tls}


def _place(url: StoreURL) -> tuple[str, str]:
    place, _, path = url.location.rpartition("@")[2].partition("/")
    return place, path


def _database(url: StoreURL) -> int:
    path = _place(url)[1]
    if url.scheme.endswith("+sentinel"):
        path = path.partition("/")[2]
    if url.scheme == "unix" or not path:
        return 0
    if not path.isdecimal():
        raise ValueError(f"{path!r} is no number of a database")
    return int(path)


def _addresses(place: str, port: int) -> list[Address]:
    parts = [urlsplit(f"//{address}") for address in place.split(",")]
    if not all(part.hostname for part in parts):
        raise ValueError("the name of a server is missing")
    return [(unquote(part.hostname or ""), part.port or port) for part in parts]


def _taken(url: StoreURL, converters: _Converters) -> dict[str, Any]:
    return {name: url.option(name, None, convert) for name, convert in converters.items() if name in url.rest}


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError("give true or false")
    return text.lower() in ("true", "yes", "1")


def _requirement(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError("give none, optional or required")
    return text


_PARAMETERS: _Converters = {"client_name": str, "db": int, "password": str, "username": str}
_SENTINEL: _Converters = {"sentinel_username": str, "sentinel_password": str}
_TLS: _Converters = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_cert_reqs": _requirement,
    "ssl_certfile": str,
    "ssl_check_hostname": _switch,
    "ssl_keyfile": str,
    "ssl_password": str,
}
