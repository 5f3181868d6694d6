"""What people read in a file, with the line numbers of the file: prose without code, markup, or names."""

from __future__ import annotations

import io
import itertools
import re
import tokenize
from pathlib import Path

_FENCED = re.compile(r"^( *)(`{3,}|:{3,}).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_TARGET = re.compile(r"\]\([^)]*\)")
_ADDRESS = re.compile(r"https?://\S+")
_TAG = re.compile(r"\{%.*?%\}|\{#.*?#\}|<(script|style|pre|code)\b.*?</\1>|<[^>]*>", re.DOTALL)
_VALUE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_LITERAL = re.compile(r"``.+?``|`[^`]+`|:param \w+:|\{[^{}]*\}", re.DOTALL)
_TEST = re.compile(r"\bdef (test_\w+)")


def prose_of(path: Path) -> str:
    """Return the file's prose; each line has the number that it has in the file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return markdown(text)
    if path.suffix == ".html":
        return _TAG.sub(_blank, _VALUE.sub(_name, text))
    return python(text)


def markdown(text: str) -> str:
    """Return the prose of a Markdown page."""
    for part in (_FENCED, _COMMENT):
        text = part.sub(_blank, text)
    for part in (_CODE, _ADDRESS):
        text = part.sub(_name, text)
    return _TARGET.sub(_blank, text)


def python(source: str) -> str:
    """Return the comments, docstrings, and messages of a Python file, and the names of its tests as sentences."""
    lines = [""] * (source.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_sentence = token.type == tokenize.COMMENT or (
            tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE") and " " in token.string
        )
        if is_sentence:
            for number, line in enumerate(_LITERAL.sub(_name, token.string).split("\n"), token.start[0]):
                lines[number - 1] += f" {line}"
    for number, line in enumerate(source.split("\n")):
        if found := _TEST.search(line):
            lines[number] += " " + found[1].replace("_s_", "'s ").replace("_", " ")
    return "\n".join(lines)


_numbers = itertools.count()


def _word(number: int) -> str:
    """Return a word that is no other's, and that no rule is about."""
    return "code" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


def _name(found: re.Match[str]) -> str:
    """Return a word of its own for a piece of code, as a noun in its sentence."""
    return _word(next(_numbers)) + "\n" * found[0].count("\n")


def _blank(found: re.Match[str]) -> str:
    """Return nothing but the line ends, so that the lines keep their numbers."""
    return " " + "\n" * found[0].count("\n")
