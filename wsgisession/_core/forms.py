"""What a value becomes when it is stored: the rules that all formats share, and the form of the native format.

The rules are tried in this order, and the first that applies decides:

1. A value of exactly a listed type is stored as that type.
2. An Enum member is stored as its value, even if it is also a str or an int.
3. A Django Promise (a lazy translation) is stored as its text.
4. A numpy scalar is stored as the Python value that its ``item()`` returns.
5. A str with ``__html__`` (Django's SafeString) is stored as Markup.
6. A value of a subclass is stored as the nearest listed type among its base classes. A dict is stored as its
   ``items()``, so a MultiDict keeps the first value of each key and a QueryDict the last, as in the sessions of Flask
   and Django. A namedtuple is stored as a tuple.
7. A dataclass instance is stored as a dict of its fields.
8. A lazy string (Flask-Babel's), which has ``__html__`` and its own ``__str__``, is stored as Markup.
9. A proxy whose ``__class__`` says what is behind it (werkzeug's LocalProxy) is stored as what is behind it.

Anything else is refused, with the path and the fix. Nothing here imports Django, numpy, or Flask.

A dict key is brought to a str, int, float, bool, or None by the same rules.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, ClassVar
from uuid import UUID

from markupsafe import Markup

from ..errors import SerializationError

MARK = "~"
MAX_DEPTH = 100
MAX_INT = (1 << 10_000) - 1
MOST_ITEMS = 1 << 19
"""The most items that a value may have, with repeated ones counted each time: each takes two bytes of 1 MiB."""

MANY = 20_000  # items, from where on it is worth finding out how often the same list or dict appears in a value
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep, or contains itself; store a flatter value"
TOO_MANY = "it is too large, because the same list or dict appears in it many times; store it once"
_FIX = "store a str, list, or dict made from it, or the key under which it can be found elsewhere"
_LISTED = frozenset(
    {
        *(type(None), bool, int, float, str, Markup, bytes),
        *(dict, list, tuple, set, frozenset),
        *(datetime, date, time, timedelta, Decimal, UUID),
    }
)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_KEYS = frozenset({str, Markup, int, float, bool, type(None)})

Key = str | int | float | bool | None
Path = tuple[Any, ...]


class RefusedError(Exception):
    """A value that cannot be stored, and the path to it, put together as the walk returns."""

    def __init__(self, reason: str) -> None:
        self.reason, self.path = reason, ""

    def inside(self, key: Any) -> RefusedError:
        """Put a key before the path to the value."""
        self.path = f"[{key!r}]{self.path}"
        return self

    def __str__(self) -> str:
        """Return the sentence for people; of a long path only the ends are shown."""
        path = self.path if len(self.path) <= 200 else f"{self.path[:100]}...{self.path[-97:]}"
        return f"session{path} cannot be stored: {self.reason}"


def native_form(value: Any, path: Path, *, text_keys: bool = False, most: int = MOST_ITEMS) -> Any:
    """Return the value as JSON can hold it, with a tag where JSON lacks the type.

    :param path: the keys that lead to the value, for the error.
    :param text_keys: store dict keys as JSON text, as Django's sessions do, instead of as they are.
    :param most: the most items that the value may have, with repeated ones counted each time.
    :raises SerializationError: naming the path, the type, and the fix.
    """
    return NativeWriter(text_keys=text_keys, most=most).form(value, path)


def key_form(key: Any) -> Key:
    """Return a dict key as it is stored: a str, int, float, bool, or None of exactly that type.

    :raises RefusedError: for any other key.
    """
    kind = type(key)
    if kind is str or kind is bool or key is None:
        return key  # type: ignore[no-any-return]
    try:
        kind, key = nearest(key)
    except RefusedError:
        kind = type(key)
    if kind not in _KEYS:
        raise RefusedError(f"the key {key!r:.100} is a {kind.__name__}; use a str, int, float, bool, or None as key")
    if kind is str or kind is Markup:
        return str.__str__(key)
    if kind is int:
        return _int(key)
    if kind is float:
        if not isfinite(key):
            raise RefusedError(f"the key {key!r} is not a number; use a str as key")
        return float.__float__(key)
    return key  # type: ignore[no-any-return]


def key_text(key: Key) -> str:
    """Return the text that JSON makes of a key, the same as Python's ``json``."""
    if type(key) is str:
        return key
    if key is None:
        return "null"
    if type(key) is bool:
        return "true" if key else "false"
    return repr(key)


def nearest(value: Any) -> tuple[type, Any]:
    """Return the listed type as which a value is stored, and the value by which to store it: of that type or below it.

    :raises RefusedError: for a value that no rule applies to.
    """
    kind = type(value)
    if kind in _LISTED:
        return kind, value
    if isinstance(value, Enum):
        return nearest(value.value)
    bases = kind.__mro__
    if any(base.__name__ == "Promise" and base.__module__ == "django.utils.functional" for base in bases):
        return str, str(value)
    if any(base.__name__ == "generic" and base.__module__ == "numpy" for base in bases):
        return _nearest_to_scalar(value)
    if issubclass(kind, str) and hasattr(kind, "__html__"):
        return Markup, Markup(value)  # noqa: S704 - it says itself that it is safe
    for base in bases:
        if base in _LISTED:
            return base, value
    if is_dataclass(kind):
        return dict, {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(kind, "__html__") and any("__str__" in vars(base) for base in bases[:-1]):
        return Markup, Markup(value)  # noqa: S704
    if getattr(value, "__class__", kind) is not kind:
        return nearest(_behind(value))
    raise RefusedError(f"values of type {kind.__module__}.{kind.__qualname__} are not supported; {_FIX}")


def _nearest_to_scalar(value: Any) -> tuple[type, Any]:
    item = value.item()
    if type(item) is type(value):  # a long double, which Python has no type for
        raise RefusedError(f"values of type numpy.{type(value).__name__} are not supported; store a float")
    return nearest(item)


def _behind(proxy: Any) -> Any:
    """Return the object behind a proxy: werkzeug's, wrapt's, or Django's."""
    if hasattr(type(proxy), "_get_current_object"):
        return proxy._get_current_object()
    for name in ("__wrapped__", "_wrapped"):
        found = getattr(proxy, name, proxy)
        if found is not proxy:
            return found
    kind = type(proxy)
    raise RefusedError(f"values of type {kind.__module__}.{kind.__qualname__} are not supported; {_FIX}")


class Writer:
    """Walks through one value. A format says in `kinds` how each listed type is stored.

    :param text_keys: whether dict keys become JSON text.
    :param most: the most items that the value may have, with repeated ones counted each time.
    """

    kinds: ClassVar[dict[type, Callable[[Any, Any, int], Any]]]

    def __init__(self, *, text_keys: bool, most: int) -> None:
        self._text_keys, self._most = text_keys, most
        self._root: Any = None
        self._items = 0

    def form(self, value: Any, path: Path) -> Any:
        """Return the form of the value that the path leads to.

        :raises SerializationError: naming the path, the type, and the fix.
        """
        self._root = value
        try:
            return self.write(value, 0)
        except RefusedError as refused:
            if refused.reason is TOO_MANY:
                refused.path = ""
            for key in reversed(path):
                refused.inside(key)
            raise SerializationError(str(refused)) from None

    def write(self, value: Any, depth: int) -> Any:
        """Return the form of a value that is nested this deep."""
        kind = type(value)
        write = self.kinds.get(kind)
        if write is None:
            kind, value = nearest(value)
            write = self.kinds.get(kind)
            if write is None:
                raise RefusedError(self.refusal(kind))
        return write(self, value, depth)

    def refusal(self, kind: type) -> str:
        """Return why a listed type cannot be stored in this format, and what to store instead."""
        return f"values of type {kind.__name__} are not supported; {_FIX}"

    def items(self, value: Iterable[Any], depth: int) -> list[Any]:
        """Return the forms of a container's items."""
        depth = self.deeper(value, depth)
        forms = []
        for index, item in enumerate(value):
            try:
                forms.append(self.write(item, depth))
            except RefusedError as refused:
                raise refused.inside(index) from None
        return forms

    def members(self, value: Any, depth: int) -> list[tuple[Key, Any]]:
        """Return the keys of a dict as they are stored, with the forms of their values.

        :raises RefusedError: for a key that cannot be stored, and for two keys with the same text.
        """
        depth = self.deeper(value, depth)
        members: list[tuple[Key, Any]] = []
        texts = set()
        for key, item in value.items():
            stored = key_form(key)
            text = key_text(stored)
            if text in texts:
                raise RefusedError(f"it has two keys whose text is {text!r:.100}; remove one of them")
            texts.add(text)
            try:
                members.append((text if self._text_keys else stored, self.write(item, depth)))
            except RefusedError as refused:
                raise refused.inside(key) from None
        return members

    def deeper(self, value: Any, depth: int) -> int:
        """Return the depth inside a container, after counting what is in it.

        :raises RefusedError: for a depth or a number of items that is too much.
        """
        if depth >= MAX_DEPTH:
            raise RefusedError(_TOO_DEEP)
        self._items += len(value)
        if self._items > MANY:
            if self._items > self._most or expanded(self._root) > self._most:
                raise RefusedError(TOO_MANY)
            self._items = -self._most  # it has been counted: only what `items` of a subclass makes up is left
        return depth + 1


def expanded(value: Any) -> int:
    """Return how many items a value has, with those of a repeated list or dict counted each time.

    It looks at each container once per level, so that a list that contains the same list twice at each of many levels
    is counted in no time.
    """
    total = 0
    level: dict[int, tuple[Any, int]] = {id(value): (value, 1)}
    for _ in range(MAX_DEPTH + 1):
        deeper: dict[int, tuple[Any, int]] = {}
        for container, times in level.values():
            total += times * len(container)
            for item in dict.values(container) if isinstance(container, dict) else container:
                if isinstance(item, _CONTAINERS):
                    known = deeper.get(id(item))
                    deeper[id(item)] = (item, times + (known[1] if known else 0))
        level = deeper
    return total


class NativeWriter(Writer):
    """The form of the native format: what JSON lacks is an object of one key that starts with ``~``."""

    def _dict(self, value: Any, depth: int) -> Any:
        members = self.members(value, depth)
        if not all(type(key) is str and (key.isascii() or is_utf8(key)) for key, _ in members):
            return {"~map": [[_text(key) if type(key) is str else key, form] for key, form in members]}
        written: dict[str, Any] = dict(members)  # type: ignore[arg-type] # all keys are str
        return {"~dict": written} if len(written) == 1 and next(iter(written))[:1] == MARK else written

    def _set(self, value: Any, depth: int) -> list[Any]:
        depth = self.deeper(value, depth)
        return sorted((self.write(item, depth) for item in value), key=repr)  # equal sets have equal texts

    kinds: ClassVar[dict[type, Callable[[Any, Any, int], Any]]] = {
        type(None): lambda _, value, __: value,
        bool: lambda _, value, __: value,
        int: lambda _, value, __: _int(value),
        float: lambda _, value, __: _float(value),
        str: lambda _, value, __: _text(value),
        dict: _dict,
        list: lambda self, value, depth: self.items(value, depth),
        tuple: lambda self, value, depth: {"~tuple": self.items(value, depth)},
        set: lambda self, value, depth: {"~set": self._set(value, depth)},
        frozenset: lambda self, value, depth: {"~frozenset": self._set(value, depth)},
        bytes: lambda _, value, __: {"~bytes": _base64(value)},
        datetime: lambda _, value, __: {"~datetime": datetime.isoformat(checked_time(value))},
        date: lambda _, value, __: {"~date": date.isoformat(value)},
        time: lambda _, value, __: {"~time": _time(value)},
        timedelta: lambda _, value, __: {"~timedelta": _timedelta(value)},
        Decimal: lambda _, value, __: {"~decimal": Decimal.__str__(value)},
        UUID: lambda _, value, __: {"~uuid": UUID.__str__(value)},
        Markup: lambda _, value, __: {"~markup": _text(value)},
    }


# A subclass may have overridden what it inherits, so that the methods of the listed types are called by their names.


def _int(value: int) -> int:
    if not -MAX_INT <= value <= MAX_INT:
        raise RefusedError("an int of more than 10,000 bits; store it as bytes or as a str")
    return int.__int__(value)


def _float(value: float) -> Any:
    return float.__float__(value) if isfinite(value) else {"~float": float.__repr__(value)}


def _text(value: str) -> Any:
    value = str.__str__(value)
    return value if value.isascii() or is_utf8(value) else {"~str": _base64(value.encode("utf-8", "surrogatepass"))}


def checked_time(value: datetime) -> datetime:
    """Return a datetime that is a time, which pandas' NaT is not.

    :raises RefusedError: for one that is not.
    """
    if value != value:
        raise RefusedError(f"a {type(value).__name__} is not a time; store None")
    return value


def _time(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise RefusedError("a time whose zone has no fixed offset; store a datetime")
    return time.isoformat(value)


def _timedelta(value: timedelta) -> list[int]:
    of: Any = timedelta
    return [member.__get__(value) for member in (of.days, of.seconds, of.microseconds)]


def is_utf8(text: str) -> bool:
    """Tell whether UTF-8 can hold the text: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _base64(value: bytes) -> str:
    return b64encode(value).decode()
