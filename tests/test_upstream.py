"""`tests.upstream`: what `make upstream` calls a surprise, and its table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.upstream import expected, running
from tests.upstream.running import Result
from tests.upstream.suites import HERE, STOCK, SUITES
from tests.upstream.table import Run, surprises, table

FIVE = replace(SUITES["flask-login"], title="Five", tests=5)


def run_of(*failed: str, ran: int = 5, skipped: int = 0, store: str = "sqlite") -> Run:
    return Run("five", FIVE, store, Result(ran, skipped, frozenset(failed)))


def test_a_suite_that_passes_is_not_a_surprise() -> None:
    assert surprises(run_of(), {}) == []


def test_an_unexpected_failure_is_named() -> None:
    assert surprises(run_of("a::b"), {}) == ["five on sqlite: a::b failed"]


def test_an_expected_failure_is_not_a_surprise() -> None:
    assert surprises(run_of("a::b"), {"a::b": "on purpose"}) == []


def test_a_pass_that_was_expected_to_fail_is_named() -> None:
    assert surprises(run_of(), {"a::b": "on purpose"}) == [
        "five on sqlite: a::b passed, but is listed as a failure",
    ]


def test_tests_that_are_no_longer_collected_are_a_surprise() -> None:
    assert surprises(run_of(ran=0), {}) == ["five on sqlite: 0 tests ran instead of 5"]


def test_what_ours_does_differently_is_not_expected_of_the_stock_sessions() -> None:
    ours = expected.expected_failures("flask", ours=True)
    stock = expected.expected_failures("flask", ours=False)
    assert stock.items() < ours.items()


def test_what_fails_on_postgresql_is_expected_there_only() -> None:
    there = expected.expected_failures("allauth", ours=True, postgresql=True)
    elsewhere = expected.expected_failures("allauth", ours=True)
    assert elsewhere.items() < there.items()


def test_the_table_has_a_row_for_each_suite_and_a_column_for_each_store() -> None:
    runs = [run_of(store=STOCK), run_of("a::b", skipped=1)]
    assert table(runs).splitlines() == [
        "| suite | stock | sqlite |",
        "| --- | --- | --- |",
        "| Five | 5 | 3, 1 failed |",
    ]


def test_a_test_whose_fixtures_fail_after_it_counts_as_failed(tmp_path: Path) -> None:
    written = tmp_path / "result"
    written.write_text(
        '<testsuites><testsuite><testcase classname="m" name="one"/>'
        '<testcase classname="m" name="one"><error/></testcase>'
        '<testcase classname="m" name="two"><skipped/></testcase><testcase classname="m" name="three"/>'
        "</testsuite></testsuites>"
    )
    result = running._of_junit(written)
    assert result == Result(3, 1, frozenset({"m::one"}))
    assert result.passed == 1


def test_what_django_recorded_is_read(tmp_path: Path) -> None:
    written = tmp_path / "result"
    written.write_text(json.dumps({"ran": 4, "skipped": 1, "failed": ["m.one"]}))
    assert running._of_json(written) == Result(4, 1, frozenset({"m.one"}))


def test_the_stock_sessions_are_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(suite: object, store: str, url: str) -> Result:
        ran.append(store)
        return Result(5, 1, frozenset({f"run {len(ran)}"}))

    monkeypatch.setattr(running, "KEPT", tmp_path)
    monkeypatch.setattr(running, "run", run)
    found = [running.stock_result(SUITES["flask"], fresh=fresh) for fresh in (False, False, True, False)]
    assert ran == [STOCK, STOCK]
    assert [next(iter(one.failed)) for one in found] == ["run 1", "run 1", "run 2", "run 2"]


@pytest.mark.parametrize("key", SUITES)
def test_everything_a_suite_needs_is_pinned(key: str) -> None:
    lines = (HERE / "requirements" / f"{SUITES[key].requirements}.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if "==" not in line] == []


@pytest.mark.parametrize("listed", [expected.EVERYWHERE, expected.OURS, expected.ON_POSTGRESQL])
def test_expected_failures_belong_to_a_suite(listed: dict[str, dict[str, str]]) -> None:
    assert listed.keys() <= SUITES.keys()
