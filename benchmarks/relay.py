"""A relay between an app and its store that counts how often the app waits for an answer."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Relay:
    """Listen at `url` for what goes to the server of ``target``, and count the round trips.

    A round trip is whatever goes out until an answer comes back, in however many pieces either is sent.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname or "", parts.port or 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = target.replace(f":{parts.port}", f":{self._listener.getsockname()[1]}")
        self.trips = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(ConnectionError):
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        is_asking = False
        while True:
            for end in select.select([client, server], [], [])[0]:
                chunk = end.recv(1 << 16)
                if not chunk:
                    return
                if end is client and not is_asking:
                    self.trips += 1
                is_asking = end is client
                (server if end is client else client).sendall(chunk)
