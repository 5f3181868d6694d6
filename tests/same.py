"""Whether two values are equal and of the same types, at any depth."""

from __future__ import annotations

from datetime import datetime, time
from decimal import Decimal
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types at any depth: 1, 1.0 and True are three values."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is dict:
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if kind is list or kind is tuple:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is set or kind is frozenset:
        return len(one) == len(other) and sorted(map(_text, one)) == sorted(map(_text, other))
    if kind in _COMPARED_AS_TEXT:
        return _text(one) == _text(other)
    return bool(one == other)


# Equal is not the same: NaN is NaN here, -0.0 is not 0.0, 1.10 is not 1.1, noon in Paris is not 11:00 in London.
_COMPARED_AS_TEXT = frozenset({float, Decimal, datetime, time})


def _text(value: Any) -> str:
    """Return a text that values have in common exactly where they are the same: what a set can hold, and numbers."""
    kind = type(value)
    if kind is frozenset:
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if kind is tuple:
        return f"({', '.join(map(_text, value))})"
    if kind is datetime or kind is time:
        return f"{kind.__name__} {value.isoformat()}"  # as it is stored: without the name of the zone
    return repr(value)
