"""Text for a terminal: aligned columns, lengths of time, and no control characters."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from wsgisession.cli.progress import progress_line
from wsgisession.cli.tables import plain, readable_json, span, table


def test_columns_are_aligned_with_their_headings():
    lines = list(table(("NAME", "N"), [("a", "1"), ("longer", "22")]))
    assert lines == ["NAME    N", "a       1", "longer  22"]


def test_a_table_without_rows_is_empty():
    assert list(table(("NAME", "N"), [])) == []


def test_the_last_column_is_cut_to_the_width_of_the_terminal():
    lines = list(table(("NAME", "AGENT"), [("a", "x" * 100)], width=30))
    assert lines[1] == "a     " + "x" * 23 + "…"
    assert len(lines[1]) == 30


def test_a_table_holds_one_page_of_rows_and_streams_the_rest():
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
def test_a_length_of_time_is_given_in_its_largest_unit_that_fits_twice(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), ("ada", "ada"), ("\x1b[2J", '"\\u001b[2J"'), (["\n"], '["\\n"]')]
)
def test_no_text_sends_control_characters_to_the_terminal(value, text):
    assert plain(value) == text


def test_json_for_people_is_indented_and_escapes_only_what_a_terminal_may_not_print():
    value = {"name": "Zoë 🍵", "odd": "\x1b[2J\x9b\u202e\u2028", 7: {"b", "a"}, "price": Decimal("1.50")}
    assert readable_json(value).splitlines() == [
        "{",
        '  "name": "Zoë 🍵",',
        r'  "odd": "\u001b[2J\u009b\u202e\u2028",',
        '  "7": [',
        '    "a",',
        '    "b"',
        "  ],",
        '  "price": "1.50"',
        "}",
    ]


@pytest.mark.parametrize(
    ("count", "total", "seconds", "line"),
    [
        (1234, None, 9.0, "1,234 purged"),
        (0, 0, 9.0, "0 purged"),
        (500, 1000, 1.0, "[##########..........]  50%  500 of 1,000 purged"),
        (500, 1000, 90.0, "[##########..........]  50%  500 of 1,000 purged, 1:30 left"),
        (1200, 1000, 90.0, "[####################] 100%  1,200 of 1,000 purged"),
    ],
)
def test_a_progress_line_has_a_bar_and_the_time_left_if_the_total_is_known(count, total, seconds, line):
    assert progress_line(count, "purged", total=total, seconds=seconds) == line
