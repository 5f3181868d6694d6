"""Three-way merge of sessions as JSON text: what was loaded, what this request made of it, what is stored now.

The laws, for ``merge_texts(base, mine, theirs)``, with ``was``, ``my``, and ``their`` for the values under one key:

1. If one side changed nothing, the result is the other side, byte for byte.
2. Changes under different keys do not affect each other, at any depth of dicts.
3. Two lists that both only grew keep both additions, theirs first. This includes a list that did not exist before;
   two new lists that are equal count as one.
4. If one side removed a value and the other changed it, what remains is what the other added: the keys of a dict that
   it added or changed (at any depth), and the items of a list that were not in it before. Any other value that it
   changed remains as it is, and so does an empty list or dict that it assigned.
5. Where both sides changed a value to something else, mine remains, because this request is the later writer.

Laws 1, 2, and 4 give the same result whichever side saves first. Law 3 gives the same items in the order of saving.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sized
from typing import Any, TypeVar

import msgspec

from .content import Texts, containers
from .format import Format
from .forms import Key

K = TypeVar("K", bound=Key)
T = TypeVar("T", bytes, msgspec.Raw)  # texts; inside a value they are still parts of its text, which costs less


def merge_texts(base: Texts, mine: Texts, theirs: Texts, format: Format, *, cleared: bool = False) -> Texts:
    """Put the changes from ``base`` to ``mine`` onto ``theirs``, and return the texts of the result.

    Only the values that both sides changed are parsed, and of those only the parts that both sides changed.

    :param cleared: whether this request called ``clear()``, which removes everything that anyone stored until now:
        what remains is what the request stored afterwards.
    """
    return dict(mine) if cleared else _Merge(format).members(base, mine, theirs)


def additions(base: Texts, mine: Texts, format: Format) -> Texts:
    """Return what ``mine`` added to ``base`` or changed in it: what a session keeps if all of ``base`` is removed."""
    return _Merge(format).members(base, mine, {})


class _Merge:
    def __init__(self, format: Format) -> None:
        self._format = format

    def members(self, base: Mapping[K, T], mine: Mapping[K, T], theirs: Mapping[K, T]) -> dict[K, bytes | T]:
        """Return the merged values of a dict, theirs first."""
        merged: dict[K, bytes | T] = dict(theirs)
        for key in _changed(base, mine):
            value = self._value(_text(base.get(key)), _text(mine.get(key)), _text(theirs.get(key)))
            if value is None:
                merged.pop(key, None)
            elif value != _text(theirs.get(key)):
                merged[key] = value
        return merged

    def _value(self, was: bytes | None, my: bytes | None, their: bytes | None) -> bytes | None:
        """Return the merged value, or None if it is removed, where the text of mine is not what it was."""
        if was == their:
            return my
        if my is None or their is None:
            changed = my if their is None else their
            return None if was is None or changed is None else self._rest(was, changed)
        return self._dict(was, my, their) or self._other(was, my, their)

    def _rest(self, was: bytes, changed: bytes) -> bytes | None:
        """Return what remains of a value that one side changed and the other side removed."""
        before, after = self._format.members(was), self._format.members(changed)
        if before is not None and after is not None:
            rest = self.members(before, after, {})
            return self._format.of_members(rest) if rest else _if_emptied(changed, before, after)
        items, now = self._format.elements(was), self._format.elements(changed)
        if items is not None and now is not None:
            added = self._added(items, now)
            return _list_text(added) if added else _if_emptied(changed, items, now)
        return None if self._format.same(was, changed) else changed

    def _added(self, before: list[bytes], after: list[bytes]) -> list[bytes]:
        """Return the items that are in a list more often than before, the later ones of those that are equal."""
        spelled = Counter(map(self._format.canonical, before))
        added = []
        for item in after:
            text = self._format.canonical(item)
            if spelled[text] > 0:
                spelled[text] -= 1
            else:
                added.append(item)
        return added

    def _dict(self, was: bytes | None, my: bytes, their: bytes) -> bytes | None:
        """Return the merge of two dicts, or None if there are not two."""
        mine = self._format.members(my)
        if mine is None:
            return None
        theirs = self._format.members(their)
        base = None if was is None else self._format.members(was)
        if theirs is not None:
            merged = self.members(base or {}, mine, theirs)
            return their if merged == theirs else self._format.of_members(merged)
        if base is None:
            return None
        added = self.members(base, mine, {})  # to a dict that they replaced: what was in it before stays away
        return self._format.of_members(added) if added else their

    def _other(self, was: bytes | None, my: bytes, their: bytes) -> bytes:
        """Return the merge of values that are not two dicts."""
        if was is not None and self._format.same(was, my):
            return their
        if was is not None and self._format.same(was, their):
            return my
        mine, theirs = self._format.elements(my), self._format.elements(their)
        if mine is None or theirs is None:
            return my
        base = None if was is None else self._format.elements(was)
        if base is None:
            return their if self._format.same(my, their) else _list_text(theirs + mine)
        if self._grew(base, mine) and self._grew(base, theirs):
            return _list_text(theirs + mine[len(base) :])
        return my

    def _grew(self, was: list[bytes], now: list[bytes]) -> bool:
        return len(now) >= len(was) and all(map(self._format.same, was, now))


def _text(value: bytes | msgspec.Raw | None) -> bytes | None:
    return None if value is None else bytes(value)


def _changed(base: Mapping[K, T], mine: Mapping[K, T]) -> Iterable[K]:
    """Return the keys whose texts differ."""
    yield from [key for key, text in mine.items() if base.get(key) != text]
    yield from [key for key in base if key not in mine]


def _if_emptied(changed: bytes, before: Sized, after: Sized) -> bytes | None:
    """Return a value that is empty now and was not before: to empty it is to change it, not to remove it."""
    return changed if before and not after else None


def _list_text(items: list[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def adopt(mine: dict[str, Any], merged: dict[str, Any], ours: dict[int, Any]) -> None:
    """Make ``mine`` equal to ``merged``: a dict or list that the app took out of it stays part of it.

    :param merged: nobody else holds it, or a part of it.
    :param ours: the containers that may be changed in place, by their identity: those that came from the store. One
        that the app put in may be shared with others, and is replaced. New values are added.
    """
    new = containers(merged)
    _adopt(mine, merged, dict(ours))
    ours.update(new)


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
