"""What a session costs a request, in one process, without a server around it: ``python -m benchmarks.inprocess``.

Four figures for each library, store and scenario, each over the same app without sessions:

- instructions: user-space instructions, counted by valgrind where it is installed, under CPython 3.13. They do not
  depend on how busy the machine is, and leave out what the kernel does.
- cpu: microseconds of CPU time, with the kernel's share.
- round trips: how often the app waits for its store, counted by a relay between the two.
- time: the median over interleaved rounds, as a share of what a bare Flask request takes in the same round.

Every request has another session's cookie, and no two sessions hold the same. Each store is measured in its own
process, because Django can be configured only once. A part of it, which is only printed::

    python -m benchmarks.inprocess --only write --stores redis --subjects wsgisession "by hand" --figures cpu
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from werkzeug.test import create_environ

from benchmarks import goals, report
from benchmarks.relay import Relay
from benchmarks.subjects import BARE, EVERYWHERE, SUBJECTS, Act, App, Stage, filling, log_in, read, read_nested, write
from tests import servers

STORES = {"memory": "memory", "sqlite": "SQLite", "redis": "Redis", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class Scenario:
    """A request: the cookie it carries (none, good, forged), what its app does, and how much the session holds."""

    cookie: str
    act: Act | None
    size: int = 0
    schemes: tuple[str, ...] = EVERYWHERE
    by_store: bool = True
    """Whether the name of the store stands in the tables: where none is asked, one is enough."""

    @property
    def effort(self) -> float:
        """The share of the rounds that it is worth."""
        return 1 if self.size < 50_000 else 0.2


REDIS = ("redis",)

SCENARIOS = {
    "no cookie, untouched": Scenario("none", None, schemes=REDIS, by_store=False),
    "no cookie, read": Scenario("none", read, schemes=REDIS, by_store=False),
    "cookie, untouched": Scenario("good", None, schemes=REDIS, by_store=False),
    "forged cookie, read": Scenario("forged", read, schemes=REDIS, by_store=False),
    "read": Scenario("good", read),
    "write": Scenario("good", write),
    "login": Scenario("none", log_in),
    "read 10 KB": Scenario("good", read, 10_000, REDIS),
    "read 100 KB": Scenario("good", read, 100_000, REDIS),
    "nested read 10 KB": Scenario("good", read_nested, 10_000, ("memory", "redis")),
    "write 100 KB": Scenario("good", write, 100_000, ("memory", "redis")),
}
"""A write is ``n += 1``. A read is of one key; a nested read, of a value in a list of dicts."""


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
    effort: float = 1


@dataclass(frozen=True)
class Choice:
    """What is measured: nothing named means everything."""

    scenarios: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def has(self, title: str, subject: str) -> bool:
        if subject == "Flask's cookie" and "KB" in title:  # which browsers would not take
            return False
        return (not self.scenarios or title in self.scenarios) and (not self.subjects or subject in self.subjects)


def cases(url: str, choice: Choice, count: int) -> Iterator[Case]:
    """Yield the bare apps, then every library in every scenario that it and the store know.

    :param count: how many sessions each has.
    """
    compared = {SUBJECTS[name].over for name in choice.subjects or SUBJECTS} | {"Flask"}  # the unit of the time
    for name in sorted(compared):
        make = BARE[name]
        yield Case("bare", name, name, functools.partial(ask, make(Stage(), url), create_environ()))
    scheme = url.partition(":")[0]
    for name, subject in SUBJECTS.items():
        known = [
            (title, each) for title, each in SCENARIOS.items() if scheme in each.schemes and choice.has(title, name)
        ]
        if scheme in subject.schemes and known:
            stage = Stage()
            app = subject.make(stage, url)
            for title, scenario in known:
                sessions = max(2, round(count * scenario.effort))
                yield Case(title, name, subject.over, prepared(app, stage, scenario, sessions), scenario.effort)


_numbers = itertools.count(1)


def prepared(app: App, stage: Stage, scenario: Scenario, count: int = 1) -> Callable[[], object]:
    """Return a function that makes a request with the cookie that the scenario needs.

    :param count: how many sessions take turns: each with its own data, which no other session has.
    """
    environs = itertools.cycle(
        [_environ(app, stage, scenario) for _ in range(count if scenario.cookie != "none" else 1)]
    )

    def run() -> None:
        stage.act = scenario.act
        ask(app, next(environs))

    return run


def _environ(app: App, stage: Stage, scenario: Scenario) -> dict[str, Any]:
    environ = create_environ()
    if scenario.cookie != "none":
        stage.act = filling(next(_numbers), scenario.size)
        cookie = next(value for name, value in ask(app, environ) if name.lower() == "set-cookie").partition(";")[0]
        environ["HTTP_COOKIE"] = forged(cookie) if scenario.cookie == "forged" else cookie
    return environ


def forged(cookie: str) -> str:
    """Turn a few letters of the signature round, or of the ID where there is none."""
    return cookie[:-9] + cookie[-9:-1][::-1] + cookie[-1]


# In the process that measures one store. Each prints a JSON object of figures by case.


def measure_time(all_cases: list[Case], rounds: int, clock: Callable[[], float], *, in_flask: bool) -> list[float]:
    """Return what a request takes over the bare app, by this clock: medians over interleaved rounds.

    :param in_flask: in units of a bare Flask request; otherwise in microseconds.
    """
    taken: list[list[float]] = [[] for _ in all_cases]
    bare = {case.over: number for number, case in enumerate(all_cases) if case.scenario == "bare"}
    gc.collect()
    gc.freeze()
    for _ in range(rounds + 1):
        for case, times in zip(all_cases, taken, strict=True):
            calls = round(20 * case.effort)
            start = clock()
            for _ in range(calls):
                case.run()
            times.append((clock() - start) / calls)
    units = taken[bare["Flask"]] if in_flask else [1e-6] * (rounds + 1)
    return [
        median(
            (own - over) / unit
            for own, over, unit in zip(times[1:], taken[bare[case.over]][1:], units[1:], strict=True)
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


def calls_of(effort: float, calls: int) -> int:
    return max(2, round(calls * effort))


def run_marked(all_cases: list[Case], calls: int) -> list[float]:
    """Run each between two marks: a system call that nothing else makes, at which callgrind writes its counts down.

    :return: how many calls were counted.
    """
    gc.collect()
    gc.freeze()
    for case in all_cases:
        count = calls_of(case.effort, calls)
        for _ in range(count):
            case.run()
        os.getpgid(0)
        for _ in range(count):
            case.run()
        os.getpgid(0)
    return [float(calls_of(case.effort, calls)) for case in all_cases]


def child(what: str, url: str, number: int, choice: Choice) -> None:
    relay = Relay(url) if what == "trips" else None
    sessions = {"trips": 4, "instructions": 2 * number}.get(what, 20 * (number + 1))
    all_cases = list(cases(relay.url if relay else url, choice, sessions))
    figures = {
        "cpu": lambda: measure_time(all_cases, number, time.process_time, in_flask=False),
        "time": lambda: measure_time(all_cases, number, time.perf_counter, in_flask=True),
        "trips": lambda: [float(trips(case.run, relay)) for case in all_cases if relay],
        "instructions": lambda: run_marked(all_cases, number),
    }[what]()
    found = [(case.scenario, case.subject, case.over, figure) for case, figure in zip(all_cases, figures, strict=True)]
    print(json.dumps(found), flush=True)
    os._exit(0)  # pools and drivers may still have messages, which do not matter here


# In the process that prints the tables

Figures = dict[tuple[str, str, str], float]
"""By scheme, scenario and subject."""


def measured(what: str, url: str, number: int, choice: Choice, prefix: Sequence[str] = ()) -> Any:
    asked = json.dumps([choice.scenarios, choice.subjects])
    command = [*prefix, sys.executable, "-m", "benchmarks.inprocess", "child", what, url, str(number), asked]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=servers.ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {what} of {url} failed: {done.stderr[-3000:]}")
    return json.loads(done.stdout)


def instructions(url: str, calls: int, choice: Choice) -> list[list[Any]]:
    """Return thousands of instructions a request over the bare app."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        options = [f"--callgrind-out-file={out}", "--dump-before=getpgid*"]
        found = measured("instructions", url, calls, choice, ["valgrind", "-q", "--tool=callgrind", *options])
        counts = [counted(out.with_suffix(f".{2 * number + 2}")) / case[3] / 1000 for number, case in enumerate(found)]
    bare = {over: count for (scenario, _, over, _), count in zip(found, counts, strict=True) if scenario == "bare"}
    return [[*case[:3], count - bare[case[2]]] for case, count in zip(found, counts, strict=True)]


def counted(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def table_of(figures: Figures, form: Callable[[float], str]) -> str:
    subjects = [subject for subject in SUBJECTS if any(key[2] == subject for key in figures)]
    rows = []
    for title, scheme in itertools.product(SCENARIOS, STORES):
        found = [figures.get((scheme, title, subject)) for subject in subjects]
        if any(figure is not None for figure in found):
            rows.append([name_of(scheme, title), *("" if figure is None else form(figure) for figure in found)])
    return report.table(["", *subjects], rows)


def name_of(scheme: str, title: str) -> str:
    return f"{title}, {STORES[scheme]}" if SCENARIOS[title].by_store else title


def table_of_goals(figures: Figures) -> str:
    """Return which of the goals that were measured are met."""
    rows = {}
    for (scheme, title, subject), goal in goals.INSTRUCTIONS.items():
        if (scheme, title, subject) in figures:
            name = name_of(scheme, title) + subject.removeprefix(goals.OWN)
            by_hand = figures.get((scheme, title, "by hand"))
            rows[name] = goal, figures[scheme, title, subject], "" if by_hand is None else thousands(by_hand)
    for title, goal in goals.ADDED_BY_FLASK.items():
        in_flask, own = (figures.get(("memory", title, subject)) for subject in (goals.IN_FLASK, goals.OWN))
        if in_flask is not None and own is not None:
            rows[f"what Flask adds to a {title}"] = goal, in_flask - own, ""
    return goals.table(rows, thousands)


def thousands(figure: float) -> str:
    return f"{figure:.1f}" if figure < 10 else f"{figure:.0f}"


FORMS: dict[str, Callable[[float], str]] = {
    "instructions": thousands,
    "cpu": thousands,
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


QUICK = Choice(("cookie, untouched", "read"))
ROUNDS = {"trips": 1, "instructions": 100, "cpu": 25, "time": 25}
QUICK_ROUNDS = {**ROUNDS, "instructions": 20, "cpu": 3, "time": 3}


def can_count() -> bool:
    """Whether instructions can be counted here, and compared with those that were counted elsewhere."""
    return shutil.which("valgrind") is not None and sys.version_info[:2] == (3, 13)


def take(what: str, url: str, rounds: int, choice: Choice) -> list[list[Any]]:
    if what == "trips" and not url.startswith(("redis", "postgresql")):
        return []
    return instructions(url, rounds, choice) if what == "instructions" else measured(what, url, rounds, choice)


def taken(choice: Choice, schemes: Sequence[str], rounds: Mapping[str, int]) -> dict[str, Figures]:
    figures: dict[str, Figures] = {what: {} for what in rounds}
    with report.running(*schemes) as urls:
        for (scheme, url), what in itertools.product(urls.items(), rounds):
            for title, subject, _, figure in take(what, url, rounds[what], choice):
                figures[what][scheme, title, subject] = figure
    return figures


def main(
    *, quick: bool = False, choice: Choice | None = None, schemes: Sequence[str] = (), rounds: Mapping[str, int] = {}
) -> None:
    """Measure, and print the tables; write them into the documents where everything is measured."""
    is_part = quick or choice is not None or bool(schemes) or bool(rounds)
    rounds = rounds or {
        what: number
        for what, number in (QUICK_ROUNDS if quick else ROUNDS).items()
        if what != "instructions" or (can_count() and not quick)
    }
    figures = taken(choice or (QUICK if quick else Choice()), schemes or (REDIS if quick else tuple(STORES)), rounds)
    for what, found in figures.items():
        if not found:
            continue
        report.publish(what, table_of(found, FORMS[what]), quick=is_part)
    if "instructions" in figures:
        report.publish("goals", table_of_goals(figures["instructions"]), quick=is_part)
    if not is_part:
        what = "instructions" if "instructions" in figures else "time"
        report.bars("cost", panels_of(figures[what]), UNITS[what])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inprocess", description="Measure in one process.")
    parser.add_argument("--quick", action="store_true", help="a small round, printed only")
    parser.add_argument("--only", nargs="+", default=[], choices=SCENARIOS, metavar="ROW", help=", ".join(SCENARIOS))
    parser.add_argument("--stores", nargs="+", default=[], choices=STORES, help="default: all")
    parser.add_argument("--subjects", nargs="+", default=[], choices=SUBJECTS, metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument(
        "--figures", nargs="+", default=[], choices=FORMS, help="default: all that can be measured here"
    )
    parser.add_argument("--rounds", type=int, help="how often; for instructions, how many requests are counted")
    return parser.parse_args()


def main_of(asked: argparse.Namespace) -> None:
    if "instructions" in asked.figures and not can_count():
        sys.exit("Counting instructions takes valgrind and CPython 3.13: make bench PYTHON=python3.13")
    choice = Choice(tuple(asked.only), tuple(asked.subjects)) if asked.only or asked.subjects else None
    known = QUICK_ROUNDS if asked.quick else ROUNDS
    names = asked.figures or [what for what in known if what != "instructions" or can_count()]
    rounds = {what: asked.rounds or known[what] for what in names} if asked.figures or asked.rounds else {}
    main(quick=asked.quick, choice=choice, schemes=tuple(asked.stores), rounds=rounds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), Choice(*map(tuple, json.loads(sys.argv[5]))))
    else:
        main_of(arguments())
