"""A web server of several processes, as it is run in production, and a browser to visit it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from http.cookiejar import Cookie, CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

from tests.servers import HOST, ROOT, Server

SECRET = "for the tests, and long enough"

SECONDS = 10
"""What a test waits for a thing that is bound to happen, on a machine that has other work to do."""

NO_ANSWER = (OSError, http.client.HTTPException)
"""What a browser gets instead of a response if the process that had the request is gone."""


class Gunicorn(Server):
    """Gunicorn with one of the apps.

    :param app: as ``module:name``.
    :param options: for its command line.
    :param variables: of its environment.
    """

    stop_signal = signal.SIGINT  # at once; SIGTERM would wait for connections that are kept alive

    def __init__(self, app: str, *options: str, **variables: str) -> None:
        super().__init__()
        self.app, self.options = app, options
        self.url = f"http://{HOST}:{self.port}"
        at_home = {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}  # where gunicorn leaves a socket
        known = {"PYTHONPATH": str(ROOT), "SESSION_SECRET": SECRET}
        self.environment = {**os.environ, **at_home, **known, **variables}

    def command(self) -> list[str]:
        # A gevent worker that is only starting ignores the signal to stop: it is killed a second later.
        own = [f"--bind={HOST}:{self.port}", "--graceful-timeout=1"]
        return [sys.executable, "-m", "gunicorn", *own, *self.options, self.app]

    def answers(self) -> bool:
        return Browser(self.url).get("/up") is not None


class Browser:
    """Keeps cookies, as browsers do. Threads may share it, as tabs do."""

    def __init__(self, url: str, **headers: str) -> None:
        self.url = url.rstrip("/")
        self.jar = CookieJar()
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(self.jar))
        self._opener.addheaders = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def twin(self) -> Browser:
        """Another one with the same cookies: a copy, as a thief would have it."""
        twin = Browser(self.url)
        for cookie in self.jar:
            twin.jar.set_cookie(cookie)
        return twin

    @property
    def cookie(self) -> Cookie:
        """The only one it has."""
        (cookie,) = self.jar
        return cookie

    def get(self, path: str, **query: Any) -> Any:
        return self._answer(f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, **form: Any) -> Any:
        return self._answer(path, urlencode(form).encode())

    def _answer(self, path: str, body: bytes | None = None) -> Any:
        with self._opener.open(self.url + path, body, timeout=SECONDS) as response:
            text = response.read().decode()
            return json.loads(text) if response.headers.get_content_type() == "application/json" else text


def until(condition: Callable[[], Any]) -> Any:
    """Ask again and again, until the answer is true; return it."""
    end = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return answer


def is_alive(pid: int) -> bool:
    """Whether the process runs. One that has ended and was not collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
