"""Each benchmark runs, and a request costs the round trips that it should. How long anything takes is nobody's test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import report
from benchmarks.inprocess import SCENARIOS, prepared, trips
from benchmarks.relay import Relay
from benchmarks.subjects import Stage, own_app
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
        ("inprocess", ["trips", "time"]),
        ("servers", ["servers"]),
        ("growth", ["growth", "memory"]),
        ("parts", ["parts"]),
    ],
)
def test_a_quick_round_prints_its_tables_and_writes_nothing(benchmark, tables):
    before = report.DOCUMENT.read_bytes()
    command = [sys.executable, "-m", "benchmarks", benchmark, "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name in tables if f"\n{name}\n\n|" not in done.stdout] == []
    assert report.DOCUMENT.read_bytes() == before


def test_a_table_goes_where_the_document_has_its_place_and_replaces_the_one_before(tmp_path, monkeypatch, capsys):
    document = tmp_path / "performance.md"
    document.write_text("One.\n\n<!-- time -->\n<!-- end -->\n\n<!-- trips -->\n<!-- end -->\nTwo.\n")
    monkeypatch.setattr(report, "DOCUMENT", document)
    for figure in ("1", "2"):
        report.publish("time", report.table(["", "ours"], [["read", figure]]))
    table = "|      | ours |\n| ---- | ---: |\n| read |    2 |"
    places = f"<!-- time -->\n\n{table}\n\n<!-- end -->\n\n<!-- trips -->\n<!-- end -->"
    assert document.read_text() == f"One.\n\n{places}\nTwo.\n"


def test_a_table_that_the_document_has_no_place_for_is_an_error(tmp_path, monkeypatch, capsys):
    document = tmp_path / "performance.md"
    document.write_text("Nothing here.\n")
    monkeypatch.setattr(report, "DOCUMENT", document)
    with pytest.raises(RuntimeError, match="no place for time"):
        report.publish("time", "1")
