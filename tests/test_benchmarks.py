"""Each benchmark runs, and a request costs the round trips that it should. How long anything takes is nobody's test."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest

from benchmarks import goals, report
from benchmarks.inprocess import SCENARIOS, Scenario, prepared, trips
from benchmarks.relay import Relay
from benchmarks.subjects import SUBJECTS, Stage, own_app
from tests.servers import ROOT

ROUND_TRIPS = {
    "no cookie, untouched": 0,
    "no cookie, read": 0,
    "cookie, untouched": 0,
    "forged cookie, read": 0,
    "read": 1,
    "write": 2,
    "login": 1,
    "read 100 KB": 1,
}


def round_trips(url: str) -> dict[str, int]:
    relay, stage = Relay(url), Stage()
    app = own_app(stage, relay.url)
    runs = {name: prepared(app, stage, SCENARIOS[name]) for name in ROUND_TRIPS}
    found = {name: trips(run, relay) for name, run in runs.items()}
    app.manager.close()
    return found


def test_a_request_waits_for_redis_no_oftener_than_it_must(redis_url):
    assert round_trips(redis_url) == ROUND_TRIPS


def test_a_request_waits_for_postgresql_no_oftener_than_it_must(postgresql_url):
    assert round_trips(postgresql_url) == ROUND_TRIPS


@pytest.mark.parametrize(
    ("benchmark", "tables"),
    [
        ("inprocess", ["trips", "cpu", "time"]),
        ("redis_work", ["redis", "redis goals"]),
        ("contention", ["contention", "contention goals"]),
        ("servers", ["servers", "throughput"]),
        ("growth", ["growth", "memory"]),
        ("parts", ["parts"]),
    ],
)
def test_a_quick_round_prints_its_tables_and_writes_nothing(benchmark, tables):
    before = report.DOCUMENT.read_bytes(), report.RESULTS.read_bytes()
    command = [sys.executable, "-m", "benchmarks", benchmark, "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name in tables if f"\n{name}\n\n|" not in done.stdout] == []
    assert (report.DOCUMENT.read_bytes(), report.RESULTS.read_bytes()) == before


@pytest.fixture
def document(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "DOCUMENT", tmp_path / "performance.md")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    report.RESULTS.write_text("{}")
    return report.DOCUMENT


def test_a_table_goes_where_the_document_has_its_place_and_replaces_the_one_before(document, monkeypatch, capsys):
    document.write_text("One.\n\n<!-- time -->\n<!-- end -->\n\n<!-- trips -->\n<!-- end -->\nTwo.\n")
    monkeypatch.setattr(report.time, "strftime", lambda form: "2026-01-02")
    monkeypatch.setattr(report.platform, "python_version", lambda: "3.13.9")
    for figure in ("1", "2"):
        report.publish("time", report.table(["", "ours"], [["read", figure]]))
    table = "|      | ours |\n| ---- | ---: |\n| read |    2 |"
    table += f"\n\nMeasured on 2026-01-02 with {report.platform.python_implementation()} 3.13.9."
    places = f"<!-- time -->\n\n{table}\n\n<!-- end -->\n\n<!-- trips -->\n<!-- end -->"
    assert document.read_text() == f"One.\n\n{places}\nTwo.\n"


def test_a_table_that_the_document_has_no_place_for_is_an_error(document, capsys):
    document.write_text("Nothing here.\n")
    with pytest.raises(RuntimeError, match="no place for time"):
        report.publish("time", "1")


def test_the_document_shows_the_results_that_are_kept(tmp_path, monkeypatch):
    copy = tmp_path / "performance.md"
    copy.write_bytes(report.DOCUMENT.read_bytes())
    monkeypatch.setattr(report, "DOCUMENT", copy)
    report.write_document()
    assert copy.read_bytes() == (ROOT / "docs" / "performance.md").read_bytes()


def test_the_table_of_goals_says_which_are_missed_and_stars_those_that_must_be_met():
    rows = {
        "read": (goals.Goal(10), 10.0, "5"),
        "write": (goals.must(10), 11.0, ""),
        "writes per second": (goals.must(10, at_least=True), 9.0, ""),
        "faster": (goals.must(10, at_least=True), 10.0, ""),
    }
    text = goals.table(rows, lambda figure: f"{figure:.0f}")
    assert [line.split("|")[4].strip() for line in text.splitlines()[2:6]] == ["met", "missed", "missed", "met"]
    assert text.endswith("Missed: \\* write; \\* writes per second.")


def test_every_goal_names_a_row_that_is_measured():
    for scheme, title, subject in goals.INSTRUCTIONS:
        assert scheme in SCENARIOS[title].schemes
        assert scheme in SUBJECTS[subject].schemes


def test_no_two_sessions_hold_the_same_and_each_request_has_the_cookie_of_another():
    stage, seen = Stage(), []
    app = own_app(stage, "memory://")
    scenario = Scenario("good", lambda session: seen.append(dict(session)), 10_000)
    run = prepared(app, stage, scenario, 3)
    for _ in range(3):
        run()
    app.manager.close()
    assert all(one != other for one, other in itertools.combinations(seen, 2))
    assert all(9_000 < len(json.dumps(data, separators=(",", ":"))) < 10_500 for data in seen)


def test_one_row_of_one_store_is_measured_alone():
    command = [sys.executable, "-m", "benchmarks.inprocess", "--only", "write", "--stores", "sqlite"]
    command += ["--subjects", "wsgisession", "by hand", "--figures", "cpu", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["", "wsgisession", "by hand"]
    assert [row.split("|")[1].strip() for row in rows] == ["write, SQLite"]
