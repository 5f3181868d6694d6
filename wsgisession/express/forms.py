"""What a value becomes in the JSON that Express stores: what JavaScript reads, and would write again."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from markupsafe import Markup

from .._core.forms import MOST_ITEMS, Path, RefusedError, Writer, checked_time
from .cookie import iso, whole

SAFE = 2**53
HUGE = 1e21  # from where on JavaScript writes an exponent

_FIXES: dict[type, str] = {
    bytes: "store a str, such as base64",
    set: "store a list",
    frozenset: "store a list",
}


def express_form(value: Any, path: Path, *, most: int = MOST_ITEMS) -> Any:
    """Return the value as JSON can hold it and JavaScript will keep it.

    :param path: the keys that lead to the value, for the error.
    :param most: the most items that the value may have, with repeated ones counted each time.
    :raises SerializationError: naming the path, the type, and the fix.
    """
    return ExpressWriter(text_keys=True, most=most).form(value, path)


class ExpressWriter(Writer):
    """The form of the Express format: plain JSON, with tuples as lists and datetimes as toISOString writes them."""

    def refusal(self, kind: type) -> str:
        """Return why a listed type cannot be stored in this format, and what to store instead."""
        fix = _FIXES.get(kind, "store a str")
        return f"values of type {kind.__name__} are not supported in JSON, which Express stores; {fix}"

    kinds: ClassVar[dict[type, Callable[[Any, Any, int], Any]]] = {
        type(None): lambda _, value, __: value,
        bool: lambda _, value, __: value,
        int: lambda _, value, __: _int(value),
        float: lambda _, value, __: _float(value),
        str: lambda _, value, __: str.__str__(value),
        Markup: lambda _, value, __: str.__str__(value),
        dict: lambda self, value, depth: dict(self.members(value, depth)),
        list: lambda self, value, depth: self.items(value, depth),
        tuple: lambda self, value, depth: self.items(value, depth),
        datetime: lambda _, value, __: iso(checked_time(value)),
    }


def _int(value: int) -> int:
    value = int.__int__(value)
    if abs(value) > SAFE and (abs(value) > 1e300 or _as_javascript(value) != value):
        raise RefusedError("an int that Node.js would round; store it as a str")
    return value


def _as_javascript(value: int) -> int:
    """Return the int as which a JavaScript number is read when it is written: its shortest digits."""
    digits, _, exponent = repr(float(value)).partition("e")
    left, _, right = digits.partition(".")
    power = int(exponent or 0) - len(right)
    return int(left + right) * 10**power if power >= 0 else int(float(value))


def _float(value: float) -> float:
    value = float.__float__(value)
    if not math.isfinite(value):
        raise RefusedError(f"JSON has no {value}; store None or a str")
    return whole(value) if abs(value) < HUGE else value
