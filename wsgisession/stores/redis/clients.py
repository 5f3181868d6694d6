"""What opens the client that the URL of a store asks for: `client_of`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .cluster import Cluster
from .connection import Address, Connection
from .server import Client, Sentinels, Server
from .url import RedisURL


def client_of(url: RedisURL) -> Callable[[], Client]:
    """Return what opens the client of a URL. It connects to nothing before its first use."""
    limits = {"max_connections": url.max_connections, "max_idle": url.max_idle}

    def server_at(place: Address | str) -> Server:
        return Server(partial(url.endpoint.connect, place), **limits)  # type: ignore[arg-type]

    if url.socket is not None:
        path = url.socket
        return lambda: server_at(path)
    if url.is_cluster:
        return lambda: Cluster(url.addresses, server_at)
    if url.service is None:
        (address,) = url.addresses
        return lambda: server_at(address)
    sentinels = Sentinels(url.addresses, url.service, url.sentinel)

    def connect_to_master(deadline: float) -> Connection:
        return url.endpoint.connect(sentinels.master(deadline), deadline)

    return lambda: Server(connect_to_master, **limits)  # type: ignore[arg-type]
