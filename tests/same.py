"""When two values are the same."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types at any depth: 1, 1.0, and True are three values."""
    return _canonical(one) == _canonical(other)


# Equal is not the same: NaN is NaN here, -0.0 is not 0.0, 1.10 is not 1.1, noon in Paris is not 11:00 in London.


def _canonical(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return kind, frozenset((_canonical(key), _canonical(item)) for key, item in value.items())
    if kind is list or kind is tuple:
        return kind, tuple(map(_canonical, value))
    if kind is set or kind is frozenset:
        return kind, frozenset(map(_canonical, value))
    if kind is datetime or kind is time:
        return kind, value.isoformat()
    return kind, str(value) if isinstance(value, str) else repr(value)
