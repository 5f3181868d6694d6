"""The programs that some tests need and that pip does not bring: without one, its tests are skipped.

This is the whole list, and it is printed at the end of every run. In CI any other skip is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import NamedTuple, NoReturn

import pytest

_REASON = "not run without "


class Program(NamedTuple):
    """A program that a machine may lack.

    :ivar commands: the names under which it may be installed.
    :ivar cure: what to do to get it.
    """

    commands: tuple[str, ...]
    cure: str


PROGRAMS = {
    "a browser": Program(
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
        "apt-get install chromium, or .venv/bin/playwright install chromium",
    ),
    "nginx": Program(("nginx",), "apt-get install nginx-light"),
    "pgbouncer": Program(("pgbouncer",), "apt-get install pgbouncer"),
    "Node.js": Program(("node",), "install Node.js 20 or later, with npm"),
    "the npm registry": Program((), "npm install must be able to download the packages of Express"),
}


def found(name: str) -> str | None:
    """Return the path of a program, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS[name].commands)), None)


def needed(name: str) -> str:
    """Return the path of a program; without it, skip the test."""
    return found(name) or skip_without(name)


def skip_without(name: str) -> NoReturn:
    """Skip the test because this machine lacks a program of the list."""
    raise pytest.skip.Exception(f"{_REASON}{name}: {PROGRAMS[name].cure}")


class Skips:
    """What was skipped in this run: a plugin, which `tests.conftest` registers."""

    def __init__(self) -> None:
        self.missing: Counter[str] = Counter()
        self.others: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report.nodeid, _reason_of(report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that was skipped."""
        if report.skipped:
            self._note(report.nodeid, _reason_of(report))

    def _note(self, test: str, reason: str) -> None:
        name = reason.removeprefix(_REASON).partition(":")[0]
        if reason.startswith(_REASON) and name in PROGRAMS:
            self.missing[name] += 1
        else:
            self.others.append(f"{test}: {reason}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run in CI if a test was skipped for any other reason."""
        if self.others and os.environ.get("CI"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which programs are missing, and how many tests were skipped without them."""
        lines = [f"{name}: {number} skipped ({PROGRAMS[name].cure})" for name, number in self.missing.items()]
        if lines:
            terminalreporter.section("skipped because a program is missing")
            for line in lines:
                terminalreporter.line(line)
        else:
            terminalreporter.line(f"No test was skipped for want of a program (they are {', '.join(PROGRAMS)}).")
        if self.others and os.environ.get("CI"):
            terminalreporter.section("skipped, which CI does not allow", red=True)
            for line in self.others:
                terminalreporter.line(line)


def _reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return reason.removeprefix("Skipped: ")
