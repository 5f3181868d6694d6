"""What users may import, call, and read changes only on purpose."""

from __future__ import annotations

import difflib
import subprocess
import sys

import pytest

from tests.public_api import FILE
from tests.servers import ROOT


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """The public API as a fresh process sees it: here the tests have put things of their own into the package."""
    command = [sys.executable, "-m", "tests.public_api"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_public_api_is_what_the_file_says(lines):
    before = FILE.read_text().splitlines()
    changes = "\n".join(difflib.unified_diff(before, lines, "tests/public_api.txt", "now", lineterm="", n=0))
    assert not changes, (
        f"the public API has changed:\n{changes}\n"
        "If that is what you want, run python -m tests.public_api --write, and say it in CHANGELOG.md."
    )


def test_no_line_depends_on_where_or_when_it_was_made(lines):
    assert [line for line in lines if " at 0x" in line or str(ROOT) in line] == []
