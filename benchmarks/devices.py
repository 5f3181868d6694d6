"""What device-bound sessions cost: instructions and store calls per request, with and without them.

``python -m benchmarks.devices`` prints a table. Instructions are counted by valgrind, in user space, of a request that
reads one key of a session in memory, with the bare app. Without valgrind there are only the store calls. The times are
those of the software client too, which signs: they show what a registration or a refresh costs at most.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.inprocess import counted
from tests.device.client import Browser
from tests.device.site import SECRET, pages
from tests.servers import ROOT
from wsgisession import SessionManager, SessionMiddleware, get_session
from wsgisession.testing import FakeClock

URL = "https://app.example.com/"
CALLED = 200

Case = Callable[[], Callable[[], object]]
"""Prepares a case, and returns what is measured."""


def read(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    get_session(environ).get("n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]


def prepared(*, binding: bool | None, supports: bool = True) -> tuple[SessionMiddleware, Browser]:
    """Log a browser in, and let the app do nothing but read from then on."""
    manager = SessionManager(secret=SECRET, store=STORE, device_binding=binding, clock=CLOCK)
    app = SessionMiddleware(pages, manager)
    browser = Browser(app, CLOCK)
    if supports:
        browser.get("/login")
    else:
        super(Browser, browser).request("GET", f"{URL}login", site="none", mode="navigate")
    app.app = read
    CLOCK.advance(20)
    return app, browser


STORE: Any = "memory://"
CLOCK = FakeClock(1_800_000_000.0)


def environ_of(browser: Browser) -> dict[str, Any]:
    from werkzeug.test import EnvironBuilder

    cookies = "; ".join(f"{name}={one.value}" for name, one in browser.jar.items())
    headers = {"Cookie": cookies, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
    return EnvironBuilder(base_url=URL, headers=headers).get_environ()


def reading(*, binding: bool | None, supports: bool = True) -> Callable[[], object]:
    app, browser = prepared(binding=binding, supports=supports)
    environ = environ_of(browser)
    return lambda: app(dict(environ), lambda *_: None)  # type: ignore[arg-type, return-value]


def refreshing(*, with_challenge: bool) -> Callable[[], object]:
    _, browser = prepared(binding=True)
    browser.habits.has_quota = False

    def refresh() -> None:
        if not with_challenge:
            browser.session.challenge = None
        browser.refresh(browser.session)

    return refresh


def registering() -> Callable[[], object]:
    app, browser = prepared(binding=True)
    app.app = pages
    return partial(browser.get, "/login")


CASES: dict[str, Case] = {
    "a read without the option": partial(reading, binding=None),
    "a read of an unbound session": partial(reading, binding=True, supports=False),
    "a read of a bound session": partial(reading, binding=True),
}
CALLS: dict[str, Case] = {
    **CASES,
    "a login with its registration": registering,
    "a refresh with the challenge sent before": partial(refreshing, with_challenge=True),
    "a refresh that asks for a challenge first": partial(refreshing, with_challenge=False),
}


def store_calls(case: Case, number: int = 20) -> dict[str, float]:
    """Return how often each verb of the store is called."""
    global STORE  # noqa: PLW0603
    from wsgisession import open_store

    counted: Counter[str] = Counter()
    STORE = open_store("memory://")
    for verb in ("load", "create", "replace", "touch", "delete"):
        inner = getattr(STORE, verb)

        def counting(*args: Any, _inner: Any = inner, _verb: str = verb, **options: Any) -> Any:
            counted[_verb] += 1
            return _inner(*args, **options)

        setattr(STORE, verb, counting)
    run = case()
    counted.clear()
    for _ in range(number):
        run()
    return {verb: count / number for verb, count in counted.items()}


def instructions(names: list[str]) -> list[float] | None:
    """Return the instructions of one call of each case; None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        options = ["-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getpgid*"]
        command = ["valgrind", *options, sys.executable, "-m", "benchmarks.devices", "marked", *names]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
        return [counted(out.with_suffix(f".{2 * number + 2}")) / CALLED for number in range(len(names))]


def run_marked(names: list[str]) -> None:
    """Run each case between two system calls at which valgrind notes what it has counted."""
    for name in names:
        run = CASES[name]()
        for _ in range(CALLED):
            run()
        os.getpgid(0)
        for _ in range(CALLED):
            run()
        os.getpgid(0)
    os._exit(0)


def seconds_of_a_copied_pair() -> int:
    """Return how many seconds after it was copied a pair of cookies still works, with the default lifetime."""
    app, browser = prepared(binding=True)
    app.app = pages
    browser.refresh(browser.session)
    thief = browser.copied()
    began = CLOCK()
    while b'"ada"' in thief.exchange("GET", URL, {}).body:
        CLOCK.advance(1)
    return int(CLOCK() - began) - 1


def milliseconds(case: Case, number: int = 100) -> float:
    """Return the median time of a call, in this process and with sessions in memory."""
    run, times = case(), []
    for _ in range(number):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def main() -> None:
    if sys.argv[1:2] == ["marked"]:
        run_marked(sys.argv[2:])
    found = dict(zip(CASES, instructions(list(CASES)) or [], strict=False))
    for name, case in CALLS.items():
        calls = ", ".join(f"{count:g} {verb}" for verb, count in store_calls(case).items())
        shown = f"{found[name] / 1000:.1f} thousand instructions" if name in found else ""
        print(f"{name:45} {calls:40} {milliseconds(case):6.2f} ms  {shown}")
    print(f"a copied pair of cookies works for {seconds_of_a_copied_pair()} seconds")


if __name__ == "__main__":
    main()
