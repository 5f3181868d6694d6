"""Which values JSON can hold as they are: the fast path of encoding, on which nothing is copied."""

from __future__ import annotations

from itertools import chain
from typing import Any

from .forms import MANY, MAX_DEPTH

_PLAIN = frozenset({str, bool, type(None), int, float, dict, list})
_FEW = 16  # values, up to which a loop is faster than calls for all of them
_NESTED = frozenset({dict, list})
_STR = frozenset({str})
_STRIDE = 1500  # half of the digits of the largest int that is stored


def plain_kinds(value: Any) -> set[type] | None:
    """Return the types in a value that the encoder writes as they are, or None for any other value.

    This is the fast path, on which nothing is copied to be written. It goes down level by level.
    """
    level: list[Any] = [value]
    found: set[type] = set()
    for _ in range(MAX_DEPTH):
        deeper = _below_few(level, found) if len(level) <= _FEW else _below_many(level, found)
        if not deeper:
            return None if deeper is None else found
        level = deeper
    return None


def _below_few(level: list[Any], found: set[type]) -> list[Any] | None:
    """Return what is inside the lists and dicts of a level, or None if one of its values is not plain."""
    deeper: list[Any] = []
    for item in level:
        kind = type(item)
        if kind is dict:
            for key in item:
                if type(key) is not str:
                    return None
            deeper += item.values()
        elif kind is list:
            deeper += item
        elif kind in _PLAIN:
            found.add(kind)
        else:
            return None
    return deeper


def _below_many(level: list[Any], found: set[type]) -> list[Any] | None:
    """Do the same in a few calls for any number of values."""
    kinds = set(map(type, level))
    if not kinds <= _PLAIN or (len(level) > MANY and _are_repeated(level)):
        return None
    found |= kinds
    deeper: list[Any] = []
    if dict in kinds:
        dicts = _those(dict, level, kinds)
        if not set(map(type, chain.from_iterable(dicts))) <= _STR:
            return None
        deeper.extend(chain.from_iterable(map(dict.values, dicts)))
    if list in kinds:
        deeper.extend(chain.from_iterable(_those(list, level, kinds)))
    return deeper


def _those(kind: type, level: list[Any], kinds: set[type]) -> list[Any]:
    """Return the items of exactly this type, which is one of the kinds in the level."""
    return level if len(kinds) == 1 else [item for item in level if type(item) is kind]


def _are_repeated(level: list[Any]) -> bool:
    """Tell whether very many lists and dicts are in the level, and most of them are the same ones."""
    containers = [id(item) for item in level if type(item) in _NESTED]
    return len(containers) > MANY and 2 * len(set(containers)) < len(containers)


def numbers(value: Any, kind: type) -> list[Any]:
    """Return the numbers of exactly this type in a plain value."""
    level: list[Any] = [value]
    found: list[Any] = []
    while level:
        found += [item for item in level if type(item) is kind]
        dicts = [item for item in level if type(item) is dict]
        lists = [item for item in level if type(item) is list]
        level = [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]
    return found


def has_long_number(text: bytes) -> bool:
    """Tell whether a text may contain an int beyond `MAX_INT`: its digits would cover a whole stride."""
    return len(text) > _STRIDE and any(text[at : at + 16].isdigit() for at in range(0, len(text), _STRIDE))
