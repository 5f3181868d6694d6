"""Text for a terminal: columns that line up, lengths of time, nothing that steers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wsgisession.cli.tables import plain, span, table


def test_columns_line_up_under_their_headings():
    lines = list(table(("NAME", "N"), [("a", "1"), ("longer", "22")]))
    assert lines == ["NAME    N", "a       1", "longer  22"]


def test_without_rows_there_is_no_table():
    assert list(table(("NAME", "N"), [])) == []


def test_the_last_column_is_cut_to_the_terminal():
    lines = list(table(("NAME", "AGENT"), [("a", "x" * 100)], width=30))
    assert lines[1] == "a     " + "x" * 23 + "…"
    assert len(lines[1]) == 30


def test_a_table_holds_a_page_of_its_rows_and_streams_the_rest():
    taken = 0

    def rows() -> Iterator[tuple[str, str]]:
        nonlocal taken
        for taken in range(1, 10_000):
            yield ("x" * (taken % 7), "y")

    lines = table(("A", "B"), rows())
    next(lines)
    assert taken == 50
    for _ in range(60):
        next(lines)
    assert taken <= 61


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_a_time_is_told_in_its_largest_fitting_unit(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), ("ada", "ada"), ("\x1b[2J", '"\\u001b[2J"'), (["\n"], '["\\n"]')]
)
def test_no_text_steers_the_terminal(value, text):
    assert plain(value) == text
