"""Compare what was found with what was expected, and print the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.upstream.expected import expected_failures
from tests.upstream.running import Result
from tests.upstream.suites import STOCK, Suite


@dataclass(frozen=True)
class Run:
    """One suite on one store, or on the framework's own sessions (`STOCK`)."""

    key: str
    suite: Suite
    store: str
    result: Result


def surprises(run: Run, expected: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each test that behaved unexpectedly, and for tests that were not there."""
    if expected is None:
        expected = expected_failures(run.key, ours=run.store != STOCK, postgresql=run.store == "postgresql")
    where, failed = f"{run.key} on {run.store}", run.result.failed
    found = [f"{where}: {name} failed" for name in sorted(failed - expected.keys())]
    found += [f"{where}: {name} passed, but is listed as a failure" for name in sorted(expected.keys() - failed)]
    if run.result.ran != run.suite.tests:
        found.append(f"{where}: {run.result.ran} tests ran instead of {run.suite.tests}")
    return found


def table(runs: Iterable[Run]) -> str:
    """Return the table as Markdown: a row for each suite, and how many tests passed on each store."""
    rows: dict[str, dict[str, Run]] = {}
    for run in runs:
        rows.setdefault(run.suite.title, {})[run.store] = run
    stores = list(dict.fromkeys(store for row in rows.values() for store in row))
    lines = [["suite", *stores], ["---"] * (len(stores) + 1)]
    lines += [[title, *(_cell(row.get(store)) for store in stores)] for title, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(run: Run | None) -> str:
    if run is None:
        return ""
    failed = len(run.result.failed)
    return f"{run.result.passed}, {failed} failed" if failed else str(run.result.passed)
