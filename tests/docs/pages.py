"""The pages of the documentation, and what is in them: blocks of code, tables, and links."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tests.servers import ROOT

DOCS = ROOT / "docs"
_BAR = re.compile(r"\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")
"""A bar between two cells, which is not inside code."""

PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]


def text_of(page: str) -> str:
    """Return the page, by its path from the root or its name in docs."""
    return (ROOT / page if (ROOT / page).exists() else DOCS / page).read_text(encoding="utf-8")


def blocks(page: str, language: str = "python") -> list[str]:
    """Return the blocks of code in a language, in order; a language may have a word after it, as in "python flask"."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text_of(page), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of all tables under a heading, without those of other headings at its level or above."""
    text = text_of(page)
    (level,) = re.findall(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    section = re.split(rf"^{level} {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    section = re.split(rf"^#{{1,{len(level)}}} ", section, flags=re.MULTILINE)[0]
    lines = section.splitlines()
    is_row = [line.startswith("|") for line in lines]
    return [
        [cell.strip() for cell in _BAR.split(line.strip()[1:-1])]
        for number, line in enumerate(lines)
        if is_row[number] and number > 1 and is_row[number - 1] and is_row[number - 2]
    ]


def names(cell: str) -> list[str]:
    """Return what is in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def anchors(page: Path) -> set[str]:
    """Return the names that links to the page's headings use, as the code host and the built site make them."""
    prose = re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
