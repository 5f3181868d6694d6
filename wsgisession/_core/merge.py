"""Three-way merge of session data: what was loaded, what this request made of it, what stands in the store now."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from .content import containers
from .merging import additions, merge_texts

_MISSING: Any = object()


def merge(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Put the changes from ``base`` to ``mine`` onto ``theirs``, and return a new dict; the arguments stay unchanged.

    Dicts merge key by key at any depth, deletions included. Two lists that both only grew keep both tails, theirs
    first. Where both changed any other value, mine is the later writer's and stays. A dict that they deleted or put
    another value in place of, or a list that they deleted, stays away: only what I added to it comes back.

    Laws: no change is the identity on either side; changes of different keys commute; a deletion survives where the
    other side left the key alone; without lists, the result is what one of the two orders of writing could have made.
    """
    return {key: value for key in _keys(theirs, mine) if (value := _merged(key, base, mine, theirs)) is not _MISSING}


def _keys(theirs: dict[str, Any], mine: dict[str, Any]) -> Iterable[str]:
    return dict.fromkeys([*theirs, *mine])


def _merged(key: str, base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> Any:
    was, my, their = (side.get(key, _MISSING) for side in (base, mine, theirs))
    if same(was, my):
        return their
    if same(was, their):
        return my
    if type(my) is dict and type(their) is dict:
        return merge(was if type(was) is dict else {}, my, their)
    if type(my) is dict and type(was) is dict:
        return merge(was, my, {}) or their
    if type(my) is list and type(their) is list and type(was) is list and _grew(was, my) and _grew(was, their):
        return their + my[len(was) :]
    if their is _MISSING and type(my) is list and type(was) is list and _grew(was, my):
        return my[len(was) :]
    return my


def _grew(was: list[Any], now: list[Any]) -> bool:
    return len(now) >= len(was) and same(was, now[: len(was)])


def adopt(mine: dict[str, Any], merged: dict[str, Any], ours: dict[int, Any]) -> None:
    """Make ``mine`` equal to ``merged``: a dict or list that the app took out of it stays part of it.

    :param ours: the containers that may be changed in place, by their identity: those that came from the store. One
        that the app put in may be shared with others, and is replaced by a copy. What is new is added.
    """
    fresh = copy.deepcopy(merged)  # a copy, for it may be made of parts of mine
    _adopt(mine, fresh, dict(ours))
    ours.update(containers(fresh))


def _adopt(mine: dict[str, Any], merged: dict[str, Any], free: dict[int, Any]) -> None:
    for key in mine.keys() - merged.keys():
        del mine[key]
    for key, value in merged.items():
        own: Any = mine.get(key)
        if type(own) is not type(value) or free.pop(id(own), None) is None:  # under two keys, it becomes two
            mine[key] = value
        elif type(own) is dict:
            _adopt(own, value, free)
        else:
            own[:] = value


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


__all__ = ["additions", "adopt", "merge", "merge_texts", "same"]
