"""What a tagged form is read as: the values that JSON lacks, as `forms` writes them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from markupsafe import Markup

from .forms import MARK, MAX_DEPTH


def untagged(value: Any, depth: int) -> Any:
    """Return the value as it was stored.

    :raises ValueError: for a tag that means nothing, and for what is nested deeper than anything that is stored.
    """
    if type(value) is list:
        return _items(value, depth)
    if type(value) is not dict:
        return value
    if len(value) == 1:
        tag, inner = next(iter(value.items()))
        if tag[:1] == MARK:
            return _READ[tag](inner, depth)
    return _dict(value, depth)


def _dict(value: dict[str, Any], depth: int) -> dict[Any, Any]:
    depth = _deeper(depth)
    return {key: item if type(item) is str else untagged(item, depth) for key, item in value.items()}


def _map(pairs: list[Any], depth: int) -> dict[Any, Any]:
    depth = _deeper(depth)
    return {untagged(key, depth): untagged(item, depth) for key, item in pairs}


def _items(value: list[Any], depth: int) -> list[Any]:
    depth = _deeper(depth)
    return [item if type(item) is str else untagged(item, depth) for item in value]


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise ValueError("nested too deep")
    return depth + 1


def _as(kind: type, inner: Any) -> Any:
    if type(inner) is not kind:
        raise TypeError(f"a tag needs a {kind.__name__}")
    return inner


def _base64(inner: Any) -> bytes:
    return b64decode(_as(str, inner), validate=True)


_READ: dict[str, Callable[[Any, int], Any]] = {
    "~dict": lambda inner, depth: _dict(_as(dict, inner), depth),
    "~map": lambda inner, depth: _map(_as(list, inner), depth),
    "~tuple": lambda inner, depth: tuple(_items(_as(list, inner), depth)),
    "~set": lambda inner, depth: set(_items(_as(list, inner), depth)),
    "~frozenset": lambda inner, depth: frozenset(_items(_as(list, inner), depth)),
    "~bytes": lambda inner, _: _base64(inner),
    "~str": lambda inner, _: _base64(inner).decode("utf-8", "surrogatepass"),
    "~float": lambda inner, _: float(_as(str, inner)),
    "~datetime": lambda inner, _: datetime.fromisoformat(inner),
    "~date": lambda inner, _: date.fromisoformat(inner),
    "~time": lambda inner, _: time.fromisoformat(inner),
    "~timedelta": lambda inner, _: timedelta(*_as(list, inner)),
    "~decimal": lambda inner, _: Decimal(_as(str, inner)),
    "~uuid": lambda inner, _: UUID(inner),
    "~markup": lambda inner, depth: Markup(_as(str, untagged(inner, depth))),  # noqa: S704 - it was one when stored
}
