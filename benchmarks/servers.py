"""What sessions cost a server: ``python -m benchmarks.servers``.

The same small Flask app is served by gunicorn, one worker, without sessions and with each library's, all at once. The
CPU time of each worker, user and system, is read from Linux before and after a round of requests; the figures are
medians of its ratio to the bare app's in the same round. How fast the clients are makes no difference.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import flask

from benchmarks import report
from benchmarks.subjects import (
    Stage,
    bare_flask_app,
    fill,
    flask_cookie_app,
    flask_session_app,
    own_flask_app,
    read,
    write,
)
from tests.servers import HOST, ROOT, Server

CLIENTS = 16

MAKERS = {
    "bare": bare_flask_app,
    "wsgisession": own_flask_app,
    "Flask-Session": flask_session_app,
    "Flask's cookie": flask_cookie_app,
}
WORKERS: Mapping[str, Sequence[str]] = {
    "sync": (),
    "gthread, 16 threads": ("--worker-class=gthread", "--threads=16"),
    "gevent": ("--worker-class=gevent",),
}
ACTS = {"untouched": lambda session: None, "read": read, "write": write}


def served(name: str, url: str) -> flask.Flask:
    """Make the app that gunicorn serves: one path for each act, which the bare app answers alike."""
    app = MAKERS[name](Stage(), url)
    for path, act in {**ACTS, "fill": fill}.items():
        app.add_url_rule(f"/{path}", path, partial(_view, act if name != "bare" else ACTS["untouched"]))
    return app


def _view(act: Any) -> str:
    act(flask.session)
    return "hi"


class Gunicorn(Server):
    """One worker with the app of one library."""

    def __init__(self, name: str, url: str, options: Sequence[str]) -> None:
        super().__init__()
        self._app, self._options = f"benchmarks.servers:served({name!r}, {url!r})", options
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}
        self.headers: dict[str, str] = {}

    def command(self) -> list[str]:
        place = [f"--bind={HOST}:{self.port}", f"--worker-tmp-dir={self.folder}", "--keep-alive=30"]
        return [sys.executable, "-m", "gunicorn", *place, *self._options, self._app]

    def answers(self) -> bool:
        self.headers = {}
        cookie = self.ask(http.client.HTTPConnection(HOST, self.port, timeout=10), "fill")
        self.headers = {"Cookie": cookie.partition(";")[0]} if cookie else {}
        return True

    def ask(self, connection: http.client.HTTPConnection, path: str) -> str:
        """Return what the response sets as a cookie."""
        connection.request("GET", f"/{path}", headers=self.headers)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"{self._app} answered {response.status}")
        return response.headers.get("Set-Cookie", "")

    def cpu(self) -> float:
        """Return the seconds of CPU time that the worker's threads have used."""
        assert self.process is not None
        pid = self.process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        files = [file for worker in workers for file in Path(f"/proc/{worker}/task").glob("*/schedstat")]
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def cpu_of(self, path: str, requests: int) -> float:
        """Return the seconds of CPU time of a request, over so many from several clients."""
        before = self.cpu()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(self._ask_often, [path] * CLIENTS, [requests // CLIENTS] * CLIENTS))
        return (self.cpu() - before) / requests

    def _ask_often(self, path: str, times: int) -> None:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        for _ in range(times):
            self.ask(connection, path)
        connection.close()


def ratios(url: str, options: Sequence[str], *, rounds: int, requests: int) -> dict[tuple[str, str], float]:
    """Return CPU time as a multiple of the bare app's, by path and library."""
    running = {name: Gunicorn(name, url, options) for name in MAKERS}
    found: dict[tuple[str, str], list[float]] = {}
    try:
        for server in running.values():
            server.start()
            server.cpu_of("write", requests // 4)
        for _ in range(rounds):
            for path in ACTS:
                taken = {name: server.cpu_of(path, requests) for name, server in running.items()}
                for name in taken:
                    found.setdefault((path, name), []).append(taken[name] / taken["bare"])
    finally:
        for server in running.values():
            server.stop()
    return {key: median(values) for key, values in found.items()}


def main(*, quick: bool = False) -> None:
    libraries = [name for name in MAKERS if name != "bare"]
    workers = dict([*WORKERS.items()][:1]) if quick else WORKERS
    with report.running("redis") as urls:
        by_worker = {
            worker: ratios(urls["redis"], options, rounds=2 if quick else 11, requests=96 if quick else 480)
            for worker, options in workers.items()
        }
    rows = [
        [f"{path}, {worker}", *(f"{found[path, name]:.2f}" for name in libraries)]
        for path in ACTS
        for worker, found in by_worker.items()
    ]
    report.publish("servers", report.table(["", *libraries], rows), quick=quick)
    if not quick:
        sync = by_worker["sync"]
        panels = {path: {name: sync[path, name] for name in libraries} for path in ACTS}
        report.bars("servers", panels, "CPU time of gunicorn's worker as a multiple of the bare app's")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
