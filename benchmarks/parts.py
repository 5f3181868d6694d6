"""Where the time of a request with a session in Redis goes, by module: ``python -m benchmarks.parts``.

By Python's own profiler, which makes Python code look slower, compared with C, than it is. C code that a module calls
counts for the module; what other packages do is shown by the package, and the wait for the server with the socket.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.inprocess import SCENARIOS, prepared
from benchmarks.subjects import Stage, own_app
from tests.servers import ROOT

LEAST = 2
"""Percent: smaller shares are not shown."""

PACKAGE = ROOT / "wsgisession"

Function = tuple[str, int, str]


def place_of(function: Function) -> str:
    """Return the module of this library, or the package, that a function is in."""
    path = Path(function[0])
    if path.is_relative_to(PACKAGE):
        return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return "the benchmark" if path.is_relative_to(ROOT) else "the standard library"


def shares(run: Callable[[], object], calls: int) -> Counter[str]:
    """Return the percentage of the time by place."""
    run()
    profile = cProfile.Profile()
    profile.runcall(lambda: [run() for _ in range(calls)])
    seconds: Counter[str] = Counter()
    stats: dict[Function, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for function, (_, _, own, _, callers) in stats.items():
        if "socket" in function[2]:
            seconds["the socket"] += own
        elif function[0] == "~":  # written in C: by whom it was called
            for caller, (_, _, own_there, _) in callers.items():
                seconds[place_of(caller)] += own_there
        else:
            seconds[place_of(function)] += own
    del seconds["the benchmark"]
    return Counter({place: round(100 * taken / seconds.total()) for place, taken in seconds.items()})


def main(*, quick: bool = False) -> None:
    names = ("read", "write", "login")
    with report.running("redis") as urls:
        stage = Stage()
        app = own_app(stage, urls["redis"])
        found = {name: shares(prepared(app, stage, SCENARIOS[name]), 200 if quick else 5000) for name in names}
    places = (found["read"] | found["write"] | found["login"]).most_common()
    rows = [[place, *(f"{found[name][place]} %" for name in names)] for place, most in places if most >= LEAST]
    report.publish("parts", report.table(["", *names], rows), quick=quick)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
