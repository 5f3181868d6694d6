"""What an app types is checked strictly, and what is wrong in it is found."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers import ROOT

SAMPLES = sorted(path.stem for path in (ROOT / "tests" / "typing_samples").glob("*_app.py"))


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> list[str]:
    """What mypy says of all samples; a ``type: ignore`` that nothing is wrong with is a complaint too."""
    cache = tmp_path_factory.mktemp("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", cache]
    found = subprocess.run(
        [*command, "-p", "tests.typing_samples"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stderr == ""
    return found.stdout.splitlines()


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_typed_app_is_free_of_complaints(sample, complaints):
    assert [line for line in complaints if f"/{sample}.py" in line] == []


def test_there_is_nothing_else_to_complain_about(complaints):
    assert complaints == []


def test_there_is_a_sample_of_each_way_in():
    assert SAMPLES == ["django_app", "flask_app", "wsgi_app"]
