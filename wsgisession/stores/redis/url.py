"""What the URL of a `RedisStore` says: where its servers are, and how to connect to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ...errors import ConfigurationError
from ..pool import MAX_IDLE
from ..url import StoreURL, positive, seconds
from .connection import Address, Endpoint

_Converters = Mapping[str, Callable[[str], Any]]


@dataclass(frozen=True)
class RedisURL:
    """A URL taken apart.

    :param shown: the URL without its secrets.
    :param addresses: of the server, of the Sentinels, or of some nodes of the cluster.
    :param endpoint: how a connection to a server begins.
    :param sentinel: how one to a Sentinel begins.
    :param max_connections: how many connections each process opens at most; in a cluster, to each server.
    :param max_idle: after how many seconds an idle connection is closed.
    :param socket: the path of a Unix socket, instead of an address.
    :param service: what the Sentinels call the servers; None where there are no Sentinels.
    """

    shown: str
    addresses: list[Address]
    endpoint: Endpoint = field(repr=False)
    sentinel: Endpoint = field(repr=False)
    max_connections: int
    max_idle: float
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
    limits = {
        "max_connections": url.option("max_connections", 50, positive),
        "max_idle": url.option("max_idle", MAX_IDLE, seconds),
    }
    tls = _taken(url, _TLS) if is_tls else None
    sentinel = _taken(url, _SENTINEL) if url.scheme.endswith("+sentinel") else {}
    user: dict[str, Any] = {"username": url.username, "password": url.password, "database": _database(url)}
    user.update({_RENAMED.get(name, name): value for name, value in _taken(url, _PARAMETERS).items()})
    if url.scheme.endswith("+cluster") and user["database"]:
        raise ValueError("a cluster has no database but 0")
    url.refuse_rest(", ".join([_OWN, *_PARAMETERS, *_SENTINEL, *_TLS]))
    return {
        "endpoint": Endpoint(**user, tls=tls),
        "sentinel": Endpoint(**{name.removeprefix("sentinel_"): value for name, value in sentinel.items()}, tls=tls),
        **limits,
    }


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
        raise ValueError(f"{path!r} is not the number of a database")
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


_OWN = "prefix, timeout, wait, max_connections, max_idle, ssl"
_RENAMED = {"db": "database"}
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
