"""What a session costs a request, in one process, without a server around it: ``python -m benchmarks.inprocess``.

Three figures for each library, store and scenario, each over the same app without sessions:

- instructions: user-space instructions, counted by valgrind where it is installed. They do not depend on how busy the
  machine is, and leave out what the kernel does.
- round trips: how often the app waits for its store, counted by a relay between the two.
- time: the median over interleaved rounds, as a share of what a bare Flask request takes in the same round.

Each store is measured in its own process, because Django can be configured only once.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from werkzeug.test import create_environ

from benchmarks import report
from benchmarks.relay import Relay
from benchmarks.subjects import BARE, SUBJECTS, Act, App, Stage, fill, fill_with, log_in, read, write
from tests import servers

STORES = {"memory": "memory", "redis": "Redis", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class Scenario:
    """A request: the cookie it carries (none, good, forged), what its app does, and what the session holds before."""

    cookie: str
    act: Act | None
    before: Act = fill
    schemes: tuple[str, ...] = tuple(STORES)


ONCE = ("redis",)
"""Where most ask no store, one is enough."""

SCENARIOS = {
    "no cookie, untouched": Scenario("none", None, schemes=ONCE),
    "no cookie, read": Scenario("none", read, schemes=ONCE),
    "cookie, untouched": Scenario("good", None, schemes=ONCE),
    "forged cookie, read": Scenario("forged", read, schemes=ONCE),
    "read": Scenario("good", read),
    "write": Scenario("good", write),
    "login": Scenario("none", log_in),
    "read 10 KB": Scenario("good", read, fill_with(10_000), ONCE),
    "read 100 KB": Scenario("good", read, fill_with(100_000), ONCE),
}

GOALS = {
    ("redis", "no cookie, untouched"): 6,
    ("redis", "no cookie, read"): 15,
    ("redis", "cookie, untouched"): 6,
    ("redis", "forged cookie, read"): 45,
    ("memory", "read"): 80,
    ("redis", "read"): 150,
    ("postgresql", "read"): 150,
    ("redis", "write"): 280,
    ("postgresql", "write"): 280,
    ("redis", "login"): 200,
    ("redis", "read 10 KB"): 700,
    ("redis", "read 100 KB"): 5500,
}
"""What the project set itself, in thousands of instructions over the bare app."""


def ask(app: App, environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Send a request, as a server would, and return the headers of the response."""
    headers: list[tuple[str, str]] = []
    body = app(dict(environ), lambda status, sent, error=None: headers.extend(sent))
    for _ in body:
        pass
    if hasattr(body, "close"):
        body.close()
    return headers


@dataclass(frozen=True)
class Case:
    """One library in one scenario, ready to be asked again and again."""

    scenario: str
    subject: str
    over: str
    run: Callable[[], object]


def cases(url: str, only: Sequence[str] = ()) -> Iterator[Case]:
    """Yield the bare apps, then every library in every scenario that it and the store know."""
    for name, make in BARE.items():
        yield Case("bare", name, name, functools.partial(ask, make(Stage(), url), create_environ()))
    scheme = url.partition(":")[0]
    asked = {
        title: scenario
        for title, scenario in SCENARIOS.items()
        if scheme in scenario.schemes and (not only or title in only)
    }
    for name, subject in SUBJECTS.items():
        if scheme in subject.schemes:
            stage = Stage()
            app = subject.make(stage, url)
            for title, scenario in asked.items():
                if not (name == "Flask's cookie" and "KB" in title):  # which browsers would not take
                    yield Case(title, name, subject.over, prepared(app, stage, scenario))


def prepared(app: App, stage: Stage, scenario: Scenario) -> Callable[[], object]:
    """Return a function that makes a request with the cookie that the scenario needs, of its own session."""
    environ = create_environ()
    if scenario.cookie != "none":
        stage.act = scenario.before
        cookie = next(value for name, value in ask(app, environ) if name.lower() == "set-cookie").partition(";")[0]
        environ["HTTP_COOKIE"] = forged(cookie) if scenario.cookie == "forged" else cookie

    def run() -> None:
        stage.act = scenario.act
        ask(app, environ)

    return run


def forged(cookie: str) -> str:
    """Turn a few letters of the signature round, or of the ID where there is none."""
    return cookie[:-9] + cookie[-9:-1][::-1] + cookie[-1]


# In the process that measures one store. Each prints a JSON object of figures by case.


def measure_time(all_cases: list[Case], rounds: int) -> list[float]:
    """Return the time over the bare app as a share of a bare Flask request: medians over interleaved rounds."""
    calls = 20
    taken: list[list[float]] = [[] for _ in all_cases]
    bare = {case.over: number for number, case in enumerate(all_cases) if case.scenario == "bare"}
    gc.collect()
    gc.freeze()
    for _ in range(rounds + 1):
        for case, times in zip(all_cases, taken, strict=True):
            start = time.perf_counter()
            for _ in range(calls):
                case.run()
            times.append((time.perf_counter() - start) / calls)
    return [
        median(
            (own - over) / unit
            for own, over, unit in zip(times[1:], taken[bare[case.over]][1:], taken[bare["Flask"]][1:], strict=True)
        )
        for case, times in zip(all_cases, taken, strict=True)
    ]


def trips(run: Callable[[], object], relay: Relay) -> int:
    """Return how often it waits for its store, once all that is sent once has been sent."""
    counts = []
    for _ in range(4):
        before = relay.trips
        run()
        counts.append(relay.trips - before)
    return min(counts)


def run_marked(all_cases: list[Case], calls: int) -> list[float]:
    """Run each between two marks: a system call that nothing else makes, at which callgrind writes its counts down."""
    gc.collect()
    gc.freeze()
    for case in all_cases:
        for _ in range(calls):
            case.run()
        os.getpgid(0)
        for _ in range(calls):
            case.run()
        os.getpgid(0)
    return [0.0] * len(all_cases)


def child(what: str, url: str, number: int, only: Sequence[str]) -> None:
    relay = Relay(url) if what == "trips" else None
    all_cases = list(cases(relay.url if relay else url, only))
    figures = {
        "time": lambda: measure_time(all_cases, number),
        "trips": lambda: [float(trips(case.run, relay)) for case in all_cases if relay],
        "instructions": lambda: run_marked(all_cases, number),
    }[what]()
    found = [(case.scenario, case.subject, case.over, figure) for case, figure in zip(all_cases, figures, strict=True)]
    print(json.dumps(found), flush=True)
    os._exit(0)  # pools and drivers may still have messages, which do not matter here


# In the process that prints the tables

Figures = dict[tuple[str, str, str], float]
"""By scheme, scenario and subject."""


def measured(what: str, url: str, number: int, only: Sequence[str], prefix: Sequence[str] = ()) -> Any:
    command = [*prefix, sys.executable, "-m", "benchmarks.inprocess", what, url, str(number), *only]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=servers.ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {what} of {url} failed: {done.stderr[-3000:]}")
    return json.loads(done.stdout)


def instructions(url: str, calls: int, only: Sequence[str]) -> list[list[Any]]:
    """Return thousands of instructions a request over the bare app."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        options = [f"--callgrind-out-file={out}", "--dump-before=getpgid*"]
        found = measured("instructions", url, calls, only, ["valgrind", "-q", "--tool=callgrind", *options])
        counts = [counted(out.with_suffix(f".{2 * number + 2}")) / calls / 1000 for number in range(len(found))]
    bare = {over: count for (scenario, _, over, _), count in zip(found, counts, strict=True) if scenario == "bare"}
    return [[*case[:3], count - bare[case[2]]] for case, count in zip(found, counts, strict=True)]


def counted(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def table_of(figures: Figures, form: Callable[[float], str]) -> str:
    rows = []
    for title, scheme in itertools.product(SCENARIOS, STORES):
        found = [figures.get((scheme, title, subject)) for subject in SUBJECTS]
        if any(figure is not None for figure in found):
            rows.append([name_of(scheme, title), *("" if figure is None else form(figure) for figure in found)])
    return report.table(["", *SUBJECTS], rows)


def name_of(scheme: str, title: str) -> str:
    return title if SCENARIOS[title].schemes == ONCE and "KB" not in title else f"{title}, {STORES[scheme]}"


def table_of_goals(figures: Figures) -> str:
    rows = []
    for (scheme, title), goal in GOALS.items():
        own, by_hand = figures[scheme, title, "wsgisession"], figures[scheme, title, "by hand"]
        verdict = "met" if own <= goal else "missed"
        rows.append([name_of(scheme, title), str(goal), thousands(own), verdict, thousands(by_hand)])
    return report.table(["", "goal", "measured", "", "by hand"], rows)


def thousands(figure: float) -> str:
    return f"{figure:.1f}" if figure < 10 else f"{figure:.0f}"


FORMS: dict[str, Callable[[float], str]] = {
    "instructions": thousands,
    "trips": lambda figure: f"{figure:.0f}",
    "time": lambda figure: f"{figure:.2f}",
}
UNITS = {
    "instructions": "thousand instructions over the bare app, sessions in Redis",
    "time": "time over the bare app in bare Flask requests, sessions in Redis",
}


def panels_of(figures: Figures) -> dict[str, dict[str, float]]:
    titles = ("cookie, untouched", "read", "write", "login")
    return {
        title: {name: figures["redis", title, name] for name in SUBJECTS if ("redis", title, name) in figures}
        for title in titles
    }


def main(*, quick: bool = False) -> None:
    only = ("cookie, untouched", "read") if quick else ()
    takes: dict[str, Callable[[str], list[list[Any]]]] = {
        "trips": lambda url: [] if url.startswith("memory") else measured("trips", url, 1, only),
        "time": lambda url: measured("time", url, 3 if quick else 25, only),
    }
    if shutil.which("valgrind") and not quick:
        takes["instructions"] = lambda url: instructions(url, 100, only)
    figures: dict[str, Figures] = {what: {} for what in takes}
    with report.running(*(("redis",) if quick else ("redis", "postgresql"))) as urls:
        for scheme, url in urls.items():
            for what, take in takes.items():
                found = {(scheme, title, subject): figure for title, subject, _, figure in take(url)}
                figures[what].update(found)
    for what, found in figures.items():
        report.publish(what, table_of(found, FORMS[what]), quick=quick)
    if "instructions" in figures:
        report.publish("goals", table_of_goals(figures["instructions"]), quick=quick)
    if not quick:
        what = "instructions" if "instructions" in figures else "time"
        report.bars("cost", panels_of(figures[what]), UNITS[what])


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] != "--quick":
        child(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        main(quick="--quick" in sys.argv)
