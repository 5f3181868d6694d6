"""Print every violation as ``file:line: wording: advice``; the exit code is 1 if there is one.

``python -m tests.style`` checks what `CHECKED` lists, or the paths after it. ``--count`` prints one line for each part
of the project, and ``--readability`` prints two public measures of each document.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.style.text import markdown, prose_of

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md")
CHECKED = (*DOCUMENTS, "demo_flask/**/*.html", "demo_flask/*.py")
COUNTED = (*CHECKED, "wsgisession/**/*.py", "tests/**/*.py", "benchmarks/**/*.py", "noxfile.py")


class Violation(NamedTuple):
    """A wording to change, and how."""

    path: Path
    line: int
    wording: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.wording!r}: {self.advice}"


def violations(path: Path) -> Iterator[Violation]:
    """Find what to change in a file."""
    text = prose_of(path)
    for number, line in enumerate(text.splitlines(), 1):
        for expression, advice in word_list():
            for found in expression.finditer(line.strip(" #|*->")):
                yield Violation(path, number, found[0].strip(), advice)
    if path.suffix in (".md", ".html"):
        yield from (Violation(path, *found) for found in proselint(path.name, text))


@cache
def word_list() -> list[tuple[re.Pattern[str], str]]:
    """Return the project's own list: expressions, and what to write instead."""
    lines = (HERE / "words.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=>") for line in lines if "=>" in line and not line.startswith("#"))
    return [(re.compile(expression.strip(), re.IGNORECASE), advice.strip()) for expression, advice in pairs]


def proselint(name: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield what proselint finds: the line, the wording, and what it says of it."""
    from proselint.checks import __register__
    from proselint.config import load_from
    from proselint.registry import CheckRegistry
    from proselint.tools import LintFile

    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(__register__)
    file = LintFile(name, text)
    for result, (line, _) in file.lint(load_from(HERE / "proselint.json")):
        wording = file.content[slice(*result.span)].strip()
        if not re.search(r"\n\s*\n", wording):  # a heading and the sentence after it are no repetition
            yield line, wording, result.message


def files(patterns: tuple[str, ...]) -> list[Path]:
    """Return the files, each once, without what a tool made."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not {"_build", "instance"} & set(path.parts))


def readability() -> None:
    """Print the Flesch reading ease and the Flesch-Kincaid grade of each document, tables and code left out."""
    import textstat

    documents = {path: sentences(path) for path in files(DOCUMENTS)}
    print(f"{'document':32} {'words':>6} {'reading ease':>13} {'grade':>6}")
    for name, text in [*((str(path.relative_to(ROOT)), text) for path, text in documents.items()),
                       ("all", "\n".join(documents.values()))]:  # fmt: skip
        ease, grade = textstat.flesch_reading_ease(text), textstat.flesch_kincaid_grade(text)
        print(f"{name:32} {len(text.split()):6} {ease:13.1f} {grade:6.1f}")


def sentences(path: Path) -> str:
    """Return the running text of a Markdown page: every paragraph and list item ends a sentence."""
    lines = markdown(path.read_text(encoding="utf-8")).splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith(("|", "!", "#")))
    text = re.sub(r"[*_\[\]]", "", re.sub(r"code[a-j]+", "code", text))
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n|\n\s*(?:-|\d\.) ", f"\n{text}"))
    return "\n".join(part if part.endswith((".", "?", "!", ":")) else f"{part}." for part in parts if part)


def main(arguments: list[str]) -> int:
    if "--readability" in arguments:
        readability()
        return 0
    if "--count" in arguments:
        counts = Counter(path.relative_to(ROOT).parts[0] for path in files(COUNTED) for _ in violations(path))
        for part, count in sorted(counts.items()):
            print(f"{part:16} {count:6}")
        print(f"{'all':16} {sum(counts.values()):6}")
        return 0
    found = [each for path in (map(Path.resolve, map(Path, arguments)) if arguments else files(CHECKED))
             for each in violations(path)]  # fmt: skip
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
