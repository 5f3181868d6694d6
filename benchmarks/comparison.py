"""The README's table of measured figures, from the tables of the documentation: ``python -m benchmarks.comparison``.

It measures nothing. The other benchmarks write docs/performance.md, and the figures of docs/concurrency.md come from
``python -m benchmarks.races``; this writes the same figures into the README, so that they never differ.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.report import table
from tests.servers import ROOT

README = ROOT / "README.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
CONCURRENCY = ROOT / "docs" / "concurrency.md"

COLUMNS = {
    "wsgisession": "wsgisession",
    "Flask-Session": "Flask-Session",
    "Beaker": "Beaker",
    "Django's cache sessions": "Django",
    "Flask's signed cookie": "Flask's cookie",
}
"""A column of the README, and what the library is called in the documentation."""

ROWS = {
    "round trips: session untouched": ("trips", "cookie, untouched"),
    "round trips: session read": ("trips", "read, Redis"),
    "round trips: session changed": ("trips", "write, Redis"),
    "thousand instructions per read, over the bare app": ("instructions", "read, Redis"),
    "CPU time of a write under gunicorn, as a multiple of the bare app": ("servers", "write, sync"),
}
"""A row of the README, and the table and row of docs/performance.md."""

RACES = {"keys lost, of 384 set by parallel requests": 1, "logouts undone, of 100, by a request in flight": 2}
"""A row of the README, and the column of docs/concurrency.md."""


def cells(text: str) -> list[list[str]]:
    """Return the rows of the first table, with its head."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines if not set(line) <= set("|-: ")]


def measured(name: str) -> dict[str, dict[str, str]]:
    """Return a table of docs/performance.md: its rows by name, and in each the cell of each library."""
    (text,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", PERFORMANCE.read_text(encoding="utf-8"), re.DOTALL)
    head, *rows = cells(text)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def races() -> dict[str, list[str]]:
    """Return the table of docs/concurrency.md: each library's cells."""
    text = CONCURRENCY.read_text(encoding="utf-8").split("## What other libraries lose")[1]
    return {re.split(r"[ ,][\d.]+|,", row[0])[0]: row for row in cells(text)[1:]}


def comparison() -> str:
    """Return the README's table."""
    rows = []
    for title, (name, row) in ROWS.items():
        found = measured(name)[row]
        rows.append([title, *(found.get(library, "") for library in COLUMNS.values())])
        if name == "instructions":
            rows[-1][1] += f" (in Flask {found['wsgisession in Flask']})"
    for title, column in RACES.items():
        found_races = races()
        counts = (found_races.get(library) for library in COLUMNS.values())
        rows.append([title, *("not measured" if each is None else each[column].split(":")[0] for each in counts)])
    return table(["", *COLUMNS], rows)


def write(readme: Path = README) -> None:
    """Put the table into the README, between ``<!-- compare -->`` and ``<!-- end -->``."""
    place = re.compile(r"(<!-- compare -->\n).*?(<!-- end -->)", re.DOTALL)
    text = place.sub(lambda match: f"{match[1]}\n{comparison()}\n\n{match[2]}", readme.read_text(encoding="utf-8"))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
