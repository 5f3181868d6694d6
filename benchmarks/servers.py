"""What sessions cost a server: ``python -m benchmarks.servers``.

The same small Flask app is served by gunicorn, one worker, without sessions and with each library's, all at once. The
CPU time of each worker, user and system, is read from Linux before and after a round of requests; the figures are
medians of its ratio to the bare app's in the same round. How fast the clients are makes no difference to it. It does to
the requests per second, given as a share of the bare app's: clients, server, and Redis share the machine.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import flask

from benchmarks import report
from benchmarks.inprocess import trips
from benchmarks.relay import Relay
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

NODE_MODULES = ROOT / ".venv" / "node_modules"
"""Where `make bench` puts Express, where npm is there."""

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


@dataclass(frozen=True)
class Cost:
    """What a request takes on average: seconds of the server's CPU time, and seconds until the next one is answered."""

    cpu: float
    seconds: float

    def over(self, bare: Cost) -> Cost:
        """Return both as multiples of the bare app's."""
        return Cost(self.cpu / bare.cpu, self.seconds / bare.seconds)


class Site(Server):
    """A server with the app, asked by several clients at once, each with its own session and connection."""

    def start(self) -> Any:
        super().start()
        self.cookies = [self.ask(self.connection(), "fill").partition(";")[0] for _ in range(CLIENTS)]
        return self

    def answers(self) -> bool:
        self.ask(self.connection(), "untouched")
        return True

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self.port, timeout=30)

    def ask(self, connection: http.client.HTTPConnection, path: str, cookie: str = "") -> str:
        """Return what the response sets as a cookie."""
        connection.request("GET", f"/{path}", headers={"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"the app answered {response.status}: {self.log.read_text()[-2000:]}")
        return response.headers.get("Set-Cookie", "")

    def processes(self) -> list[str]:
        """Return the IDs of the processes that answer."""
        assert self.process is not None
        return [str(self.process.pid)]

    def cpu(self) -> float:
        """Return the seconds of CPU time that the threads have used."""
        files = [file for process in self.processes() for file in Path(f"/proc/{process}/task").glob("*/schedstat")]
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def cost_of(self, path: str, requests: int) -> Cost:
        """Return what a request takes, over this many requests from all clients."""
        before, begun = self.cpu(), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(partial(self._ask_often, path, requests // CLIENTS), self.cookies))
        return Cost((self.cpu() - before) / requests, (time.perf_counter() - begun) / requests)

    def _ask_often(self, path: str, times: int, cookie: str) -> None:
        connection = self.connection()
        for _ in range(times):
            self.ask(connection, path, cookie)
        connection.close()


class Gunicorn(Site):
    """One worker with the Flask app of one library."""

    def __init__(self, name: str, url: str, options: Sequence[str]) -> None:
        super().__init__()
        self._app, self._options = f"benchmarks.servers:served({name!r}, {url!r})", options
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}

    def command(self) -> list[str]:
        place = [f"--bind={HOST}:{self.port}", f"--worker-tmp-dir={self.folder}", "--keep-alive=30"]
        return [sys.executable, "-m", "gunicorn", *place, *self._options, self._app]

    def processes(self) -> list[str]:
        """Return the worker's."""
        (master,) = super().processes()
        return Path(f"/proc/{master}/task/{master}/children").read_text().split()


class Express(Site):
    """The same app in Node.js, with sessions where there is a URL."""

    def __init__(self, *url: str) -> None:
        super().__init__()
        self._url = url
        self.environment = {"NODE_PATH": str(NODE_MODULES), "NODE_ENV": "production", **os.environ}

    def command(self) -> list[str]:
        return [shutil.which("node") or "node", str(ROOT / "benchmarks" / "express.js"), str(self.port), *self._url]


def ratios(sites: Mapping[str, Site], *, rounds: int, requests: int) -> dict[tuple[str, str], Cost]:
    """Return the cost as a multiple of the bare app's, by path and library."""
    found: dict[tuple[str, str], list[Cost]] = {}
    try:
        for site in sites.values():
            site.start().cost_of("write", requests // 2)
        for _ in range(rounds):
            for path in ACTS:
                taken = {name: site.cost_of(path, requests) for name, site in sites.items()}
                for name in taken:
                    found.setdefault((path, name), []).append(taken[name].over(taken["bare"]))
    finally:
        for site in sites.values():
            site.stop()
    return {
        key: Cost(median(cost.cpu for cost in costs), median(cost.seconds for cost in costs))
        for key, costs in found.items()
    }


def trips_of_express(url: str) -> dict[str, int]:
    """Return how often a request in Express waits for Redis."""
    relay = Relay(url)
    site = Express(relay.url)
    try:
        site.start()
        return {path: trips(partial(site.ask, site.connection(), path, site.cookies[0]), relay) for path in ACTS}
    finally:
        site.stop()


def main(*, quick: bool = False) -> None:
    libraries = [name for name in MAKERS if name != "bare"]
    workers = {"sync": WORKERS["sync"]} if quick else WORKERS
    effort = {"rounds": 2, "requests": 96} if quick else {"rounds": 11, "requests": 480}
    with report.running("redis") as urls:
        url = urls["redis"]
        found = {
            worker: ratios({name: Gunicorn(name, url, options) for name in MAKERS}, **effort)
            for worker, options in workers.items()
        }
        rows = [
            [f"{path}, {worker}", *(f"{found[worker][path, name].cpu:.2f}" for name in libraries)]
            for path in ACTS
            for worker in workers
        ]
        report.publish("servers", report.table(["", *libraries], rows), quick=quick)
        rows = [
            [f"{path}, {worker}", *(f"{1 / found[worker][path, name].seconds:.2f}" for name in libraries)]
            for path in ACTS
            for worker in workers
        ]
        report.publish("throughput", report.table(["", *libraries], rows), quick=quick)
        if shutil.which("node") and NODE_MODULES.exists():
            of_express = ratios({"bare": Express(), "express-session": Express(url)}, **effort)
            waits = trips_of_express(url)
            rows = [[path, f"{of_express[path, 'express-session'].cpu:.2f}", str(waits[path])] for path in ACTS]
            report.publish("express", report.table(["", "CPU time", "round trips"], rows), quick=quick)
    if not quick:
        panels = {path: {name: found["sync"][path, name].cpu for name in libraries} for path in ACTS}
        report.bars("servers", panels, "CPU time of gunicorn's worker as a multiple of the bare app's")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
