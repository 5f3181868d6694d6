"""What users may import, call, and read changes only on purpose."""

from __future__ import annotations

import difflib

from tests.public_api import FILE, lines


def test_the_public_api_is_what_the_file_says():
    before, now = FILE.read_text().splitlines(), lines()
    changes = "\n".join(difflib.unified_diff(before, now, "tests/public_api.txt", "now", lineterm="", n=0))
    assert not changes, (
        f"the public API has changed:\n{changes}\n"
        "If that is what you want, run python -m tests.public_api --write, and tell it in CHANGELOG.md."
    )


def test_no_line_says_where_this_copy_of_the_package_is():
    assert [line for line in lines() if "0x" in line or "/home" in line or "<" in line.replace("<lambda>", "")] == []
