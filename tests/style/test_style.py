"""The style check finds what it should, at the line where it is, and leaves code alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.style.__main__ import violations
from tests.style.text import prose_of


def found_in(folder: Path, name: str, text: str) -> list[tuple[int, str]]:
    file = folder / name
    file.write_text(text)
    return [(each.line, each.wording) for each in violations(file)]


@pytest.mark.parametrize(
    ("sentence", "wording"),
    [
        ("Who never touches the session costs no store command.", "Who"),
        ("What Redis evicts is a logout.", "What"),
        ("It is no bare host name.", "is no"),
        ("The event is told.", "is told"),
        ("It ends the sessions that were opened meanwhile.", "meanwhile"),
        ("This is is repeated.", "is is"),
        ("At the end of the day it works.", "At the end of the day"),
    ],
)
def test_a_wording_of_the_list_or_of_proselint_is_found(tmp_path, sentence, wording):
    assert (3, wording) in found_in(tmp_path, "page.md", f"# Page\n\n{sentence}\n")


def test_code_and_addresses_in_a_page_are_not_checked(tmp_path):
    page = "Run `meanwhile` or see [it](https://meanwhile.example/).\n\n```python\nmeanwhile = 'who stands'\n```\n"
    assert found_in(tmp_path, "page.md", page) == []


def test_the_text_of_a_template_is_checked_without_its_tags(tmp_path):
    assert found_in(tmp_path, "page.html", '<p id="meanwhile">\n{{ meanwhile }} is told</p>') == [(2, "is told")]


def test_comments_docstrings_messages_and_names_of_tests_are_checked(tmp_path):
    module = (
        '"""It stands here."""\n\n\ndef test_whoever_comes():  # meanwhile\n    raise ValueError("it is told twice")\n'
    )
    found = found_in(tmp_path, "module.py", module)
    assert {(1, "It stands"), (4, "whoever"), (4, "meanwhile"), (5, "is told")} <= set(found)


def test_names_in_code_are_not_checked(tmp_path):
    assert found_in(tmp_path, "module.py", 'meanwhile = "meanwhile"\n') == []


def test_lines_keep_their_numbers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("one\n\n```text\ncode\n```\n\nsix\n")
    assert prose_of(page).splitlines().index("six") == 6
