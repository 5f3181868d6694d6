"""`Values`: the data of one session. Each top-level key stays JSON text until the app asks for it."""

from __future__ import annotations

import contextlib
import copy
import marshal
from collections.abc import Iterator, MutableMapping
from typing import Any

from ..errors import SerializationError
from .content import Texts, containers_in
from .format import Format
from .merge import adopt

IMMUTABLE = frozenset({str, int, float, bool, type(None), bytes})

_UNREAD: Any = type("Unread", (), {})()  # instead of a value that is still text
_MARSHAL = 4
# This version writes a list that is in a value many times only once. Its output also depends on whether anybody else
# holds an item: then a value may look changed that is not, and is compared as text.


class Values(MutableMapping[Any, Any]):
    """The keys of a session, and what happened to them since they were read.

    :param format: encodes and decodes the values.
    :param texts: the data as the record has them.
    :ivar base: the texts that changes are measured against.
    :ivar touched: the keys that were set, deleted, or handed out as something that the app can change.
    :ivar assigned: the keys that the app set, whatever they were before.
    :ivar cleared: whether the app removed everything, which no merge undoes.
    """

    __slots__ = ("_data", "_format", "_ours", "_prints", "assigned", "base", "cleared", "touched")

    def __init__(self, format: Format, texts: Texts) -> None:
        self._format, self.base = format, texts
        self._data: dict[Any, Any] = dict.fromkeys(format.keys_of(texts), _UNREAD)
        self.touched: dict[Any, None] = {}  # in order, so that new keys are stored in the order of the app
        self.assigned: set[Any] = set()
        self._prints: dict[Any, bytes] = {}
        self._ours: list[Any] = []  # the lists and dicts that came from the store and were handed out
        self.cleared = False

    # The mapping.

    def __getitem__(self, key: Any) -> Any:
        value = self._data[key]
        if value is _UNREAD:
            name = key if type(key) is str and key[:1] != "~" else self._format.name_of(key)
            value = self._data[key] = self._format.decode(self.base[name])
            if type(value) not in IMMUTABLE:
                self._hand_out(key, value)
        elif type(value) not in IMMUTABLE:
            self.touched[key] = None
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._data[key] = value
        self.touched[key] = None
        self.assigned.add(key)
        if self._prints:
            self._prints.pop(key, None)

    def __delitem__(self, key: Any) -> None:
        del self._data[key]
        self.touched[key] = None
        self.assigned.discard(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def clear(self) -> None:
        """Remove everything, also what other requests write in the meantime."""
        self.touched.update(dict.fromkeys(self._data))
        self._data.clear()
        self.assigned.clear()
        self.cleared = True

    def peek(self, key: Any) -> Any:
        """Return a value that is not handed to the app, or None."""
        value = self._data.get(key)
        return self._decoded(key) if value is _UNREAD else value

    def _decoded(self, key: Any) -> Any:
        return self._format.decode(self.base[self._format.name_of(key)])

    # Changes.

    def suspect_all(self) -> None:
        """Compare every key at the end, whatever is known of it."""
        names = map(self._format.key_of, self.base)
        self.touched = dict.fromkeys([*names, *self._data])

    def changed_texts(self) -> Texts | None:
        """Return the texts of all keys if any differs from what the record has, else None.

        :raises SerializationError: naming the path of a value that cannot be stored.
        """
        if not self.touched:
            return {} if self.cleared and self.base else None
        texts: Texts | None = None
        format, base, data = self._format, self.base, self._data
        for key in self.touched:
            name = format.name_of(key)
            if key not in data:
                if name in base:
                    texts = dict(base) if texts is None else texts
                    texts.pop(name, None)
                continue
            value = data[key]
            if value is _UNREAD or self._is_as_handed_out(key, value):
                continue
            text = format.encode(key, value)
            before = base.get(name)
            if before is None or not format.same(before, text):
                texts = dict(base) if texts is None else texts
                texts[name] = text
        if texts is not None and (len(texts) != len(data) or any(type(key) is not str for key in self.touched)):
            self._refuse_clash()
        return texts

    def _refuse_clash(self) -> None:
        """Refuse two keys with the same text.

        :raises SerializationError: naming them.
        """
        known: dict[str, Any] = {}
        for key in self._data:
            text = self._format.text_of(key)
            if text in known:
                raise SerializationError(
                    f"session[{key!r:.100}] cannot be stored: the key {known[text]!r:.100} has the same text;"
                    " rename one of them"
                )
            known[text] = key

    def texts(self) -> Texts:
        """Return the texts of all keys as they are now."""
        changed = self.changed_texts()
        return self.base if changed is None else changed

    def rebase(self, texts: Texts, *, mine: Texts) -> None:
        """Hold what a merge made of the data, and measure changes against that from now on.

        :param mine: the texts of the data as they are now.
        """
        if texts is not mine:
            self._conform(texts, mine)
        self._settle(texts)

    def restore(self, texts: Texts, touched: dict[Any, None]) -> None:
        """Hold these texts again, whatever was done to the data since.

        :param touched: what was touched then.
        """
        self._conform(texts, {})
        self.touched |= touched

    def catch_up(self, merged: Texts, *, mine: Texts, theirs: Texts) -> None:
        """Hold what a merge made of the data, and measure changes against what another writer stored."""
        self._conform(merged, mine)
        names = [name for name, text in merged.items() if theirs.get(name) != text]
        names += theirs.keys() - merged.keys()
        self.base = theirs
        self.touched.update(dict.fromkeys(map(self._format.key_of, names)))
        self._prints = {}

    def _conform(self, texts: Texts, mine: Texts) -> None:
        """Make the data what the texts say, decoding all that differs from ``mine``.

        An object that came from the store and that the app holds stays part of the session: it is changed in place.
        One that the app assigned may be shared with others, and is replaced by a copy.
        """
        format, data = self._format, self._data
        keys = dict(zip(format.keys_of(texts), texts.values(), strict=True))
        for key in [key for key in data if key not in keys]:
            del data[key]
        for key, text in keys.items():
            name, value = format.name_of(key), data.get(key, _UNREAD)
            known = mine.get(name)
            if value is _UNREAD:
                data[key] = _UNREAD if self.base.get(name) == text else format.decode(text)
            elif known != text and (known is None or not format.same(known, text)):
                self._replace(key, value, text)

    def reset(self, texts: Texts) -> None:
        """Drop all changes, and hold these texts."""
        self.base, self._data = texts, dict.fromkeys(self._format.keys_of(texts), _UNREAD)
        self.touched, self.assigned = {}, set()
        self._prints, self._ours, self.cleared = {}, [], False

    def inherit_nothing(self) -> None:
        """Drop what another user left here: keep only what the app assigned, and of lists and dicts what it added."""
        kept: dict[Any, Any] = {}
        for key in self._data:
            if key not in self.assigned:
                continue
            value, before = self._data[key], self.base.get(self._format.name_of(key))
            if before is not None and isinstance(value, (dict, list)):
                value = _added(self._format.decode(before), value)
                if value is None:
                    continue
            kept[key] = value
        self.touched.update(dict.fromkeys(self._data))
        self._data.clear()
        self._data.update(kept)
        self.cleared = True

    def _settle(self, texts: Texts) -> None:
        """Measure changes against these texts, and forget the keys that can no longer change unnoticed."""
        self.base, data = texts, self._data
        self.touched = {key: None for key in self.touched if key in data and not _is_fixed(data[key])}
        self._prints = {}
        self.assigned &= self.touched.keys()
        self.cleared = False

    def _hand_out(self, key: Any, value: Any) -> None:
        self.touched[key] = None
        if type(value) is dict or type(value) is list:
            text = self.base[self._format.name_of(key)]
            self._ours += containers_in(value, text.count(b"{") + text.count(b"["))
        with contextlib.suppress(ValueError):  # which marshal raises for other types: those are compared as JSON text
            self._prints[key] = marshal.dumps(value, _MARSHAL)

    def _is_as_handed_out(self, key: Any, value: Any) -> bool:
        """Whether the value is what the record has, down to the exact types: a cheap test for the common case."""
        before = self._prints.get(key)
        if before is None:
            return False
        try:
            return marshal.dumps(value, _MARSHAL) == before
        except ValueError:
            return False

    def _replace(self, key: Any, own: Any, text: bytes) -> None:
        """Put in what a merge made of this key."""
        holder: dict[str, Any] = {"": own}
        ours = {id(one): one for one in self._ours}
        adopt(holder, {"": self._format.decode(text)}, ours)
        self._ours = list(ours.values())
        self._data[key] = holder[""]
        if type(holder[""]) not in IMMUTABLE:
            self.touched[key] = None


def _is_fixed(value: Any) -> bool:
    return type(value) in IMMUTABLE or value is _UNREAD


def _added(before: Any, now: Any) -> Any:
    """Return what a list or dict has that it did not have before, or None for nothing."""
    if isinstance(now, dict) and isinstance(before, dict):
        added = {key: value for key, value in now.items() if key not in before or before[key] != value}
        return added or None
    if isinstance(now, list) and isinstance(before, list):
        left = copy.copy(before)
        kept = []
        for item in now:
            if item in left:
                left.remove(item)
            else:
                kept.append(item)
        return kept or None
    return now
