"""Every row of the security checklist has a test that carries its number: ``test_security_NN_...`` or ``SECURITY N``.

M: holds by default. O: offered, and tested. D: what the documents owe their reader.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

ROWS = {
    1: "M IDs are 256 bits of the operating system's CSPRNG, and nothing else",
    2: "M a new ID never collides with a live one",
    3: "M an ID is verified on the server, against the store",
    4: "M an ID is taken from the cookie alone, and put nowhere else",
    5: "M Secure",
    6: "M HttpOnly",
    7: "M SameSite is always said: Lax, or Strict; None only with Secure",
    8: "M what the prefix of the name promises is kept; no Domain",
    9: "M the name is matched exactly",
    10: "M the cookie ends with the browser unless more is asked for",
    11: "M a lasting cookie lasts 400 days at most, and no longer than the absolute timeout",
    12: "M the cookie that expires another has its attributes",
    13: "M one Set-Cookie at most, and none where nothing changed",
    14: "O Partitioned, with Secure",
    15: "M nothing can be smuggled into the header; sizes that browsers take",
    16: "M the default name says nothing of the software",
    17: "M an ID without a live session is never adopted",
    18: "M a login changes the ID and keeps the data",
    19: "M after a login the old ID is dead at once",
    20: "O a timed renewal keeps the old ID for a short grace, then refuses and tells it",
    21: "M a new ID leaves no gap: whatever fails, one ID is usable",
    22: "M visitors who leave nothing cost nothing",
    23: "M idle timeout by the server's clock",
    24: "M absolute timeout whatever the activity",
    25: "M only a login moves the absolute timeout",
    26: "M reading is activity",
    27: "M expiry is final",
    28: "D the guide has the limits that the standards give",
    29: "M a purge is bounded, and leaves what was used meanwhile",
    30: "M destroy removes the record",
    31: "M destroy holds where the app fails; what is written later has a new ID",
    32: "O Clear-Site-Data at logout",
    33: "M all sessions of a user end, or all but one",
    34: "M a user's sessions are listed, and ended by a handle that opens nothing",
    35: "M the index of users stays right",
    36: "M a revocation reaches every process",
    37: "O a limit of sessions per user",
    38: "M what has ended is not brought back",
    39: "M unchanged sessions are not written",
    40: "M parallel changes of different keys all count",
    41: "O changes of one key can be made safe",
    42: "M no request waits for another of its session",
    43: "M threads see their own sessions alone",
    44: "M the store holds no cookie",
    45: "M nothing that the store holds is a cookie",
    46: "O records are encrypted, each bound to its handle, with rotation",
    47: "M files are their owner's alone; an ID is never a path",
    48: "M a value of another shape reaches no store",
    49: "M broken and many cookies raise nothing and cost little",
    50: "M a record runs no code",
    51: "M a record that cannot be read is no session, and no error",
    52: "M a session that is too large is refused before the headers",
    53: "M a store that fails is neither a logout nor a success",
    54: "M a response with the cookie stays out of shared caches",
    55: "M a response whose session was read varies by cookie",
    56: "M no ID, payload or key in logs, errors and reprs",
    57: "M what happens is told, with handle and time",
    58: "M what a client says of itself is cut and cleaned",
    59: "M nothing but a secret needs to be set; unsafe settings are refused at start",
    60: "D the guide names what is left to the app",
}

_IN_NAME = re.compile(r"test_security_(\d\d(?:_\d\d)*)_")
_IN_DOCSTRING = re.compile(r"SECURITY (\d+(?:, \d+)*)")


def numbers_of(test: ast.FunctionDef) -> Iterator[int]:
    """Return the rows that a test says it is for."""
    named = _IN_NAME.match(test.name)
    said = _IN_DOCSTRING.search(ast.get_docstring(test) or "")
    yield from map(int, named[1].split("_") if named else ())
    yield from map(int, said[1].split(", ") if said else ())


@cache
def found_by_row() -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for number in numbers_of(node):
                    found.setdefault(number, set()).add(f"{file.name}::{node.name}")
    return found


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test(row):
    assert found_by_row().get(row), ROWS[row]


def test_no_test_carries_a_number_that_no_row_has():
    assert found_by_row().keys() <= ROWS.keys()


def test_a_test_says_its_rows_in_its_name_or_its_docstring():
    (test,) = ast.parse('def test_security_23_24_it_holds():\n    """SECURITY 5, 6: and so on, 7."""').body
    assert isinstance(test, ast.FunctionDef)
    assert list(numbers_of(test)) == [23, 24, 5, 6]
