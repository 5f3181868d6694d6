"""What an app types is checked strictly by mypy and by pyright, and what is wrong in it is found by both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

SAMPLES_FOLDER = ROOT / "tests" / "typing_samples"
SAMPLES = sorted(path.stem for path in SAMPLES_FOLDER.glob("*_app.py"))
UNTYPED = ["django_app"]
"""What pyright cannot check: Django has no types of its own."""


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> list[str]:
    """What mypy says of all samples; a ``type: ignore`` that nothing is wrong with is a complaint too."""
    cache = str(tmp_path_factory.mktemp("mypy"))
    strict = ("mypy", "--strict", "--no-error-summary", "--no-pretty", "--hide-error-context", "--cache-dir", cache)
    return run(*strict, "-p", "tests.typing_samples").splitlines()


@pytest.fixture(scope="module")
def found_by_mypy(complaints) -> dict[str, dict[int, str]]:
    """The lines of each sample with an error."""
    found: dict[str, dict[int, str]] = {}
    for complaint in complaints:
        path, line, kind, message = re.fullmatch(r"(.+?):(\d+): (\w+): (.*)", complaint).groups()
        if kind == "error":
            found.setdefault(Path(path).stem, {})[int(line)] = message
    return found


@pytest.fixture(scope="module")
def found_by_pyright() -> dict[str, dict[int, str]]:
    """The lines of each sample with an error; what a ``type: ignore`` is for is not in it."""
    found: dict[str, dict[int, str]] = {}
    answer = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, str(SAMPLES_FOLDER)))
    for one in answer["generalDiagnostics"]:
        if one["severity"] == "error":
            line = one["range"]["start"]["line"] + 1
            found.setdefault(Path(one["file"]).stem, {})[line] = one["message"]
    return found


@pytest.fixture(params=["mypy", "pyright"])
def found(request) -> dict[str, dict[int, str]]:
    lines: dict[str, dict[int, str]] = request.getfixturevalue(f"found_by_{request.param}")
    if request.param == "pyright":
        lines = {name: each for name, each in lines.items() if name not in UNTYPED}
    return lines


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_typed_app_is_free_of_complaints(sample, found):
    assert found.get(sample, {}) == {}


def test_every_mistake_is_found_and_nothing_else(found):
    lines = (SAMPLES_FOLDER / "mistakes.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# MISTAKE")}
    missed = {number: lines[number - 1].strip() for number in marked - found["mistakes"].keys()}
    assert missed == {}
    assert {number: text for number, text in found["mistakes"].items() if number not in marked} == {}


def test_there_is_nothing_else_to_complain_about(found):
    assert found.keys() == {"mistakes"}


def test_there_is_a_sample_of_each_way_in():
    assert SAMPLES == ["django_app", "flask_app", "wsgi_app"]
