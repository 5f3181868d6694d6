"""How a session's keys and values are written as JSON text, each separately, and read again.

Values that JSON knows are written plainly. Others are written as an object of one key that starts with ``~``, such as
``{"~set": [1, 2]}``; a dict of the app's that looks like one is wrapped in ``{"~dict": ...}``, and a dict with keys
other than str is written as ``{"~map": [[key, value], ...]}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from typing import Any, NoReturn

import msgspec

from ..errors import SerializationError
from .content import Texts
from .forms import MARK, Key, RefusedError, is_utf8, key_form, key_text, native_form
from .plain import has_long_number, numbers, plain_kinds
from .tags import untagged

UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
)
_TAG = b'{"~'  # inside a JSON string the quote would be escaped: this is always the start of an object
_MAP = b'{"~map"'
_NAME = b'"~'

encode_json = msgspec.json.Encoder().encode
decode_json = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_pairs = msgspec.json.Decoder(list[tuple[msgspec.Raw, msgspec.Raw]]).decode


class Format:
    """How one format writes a session's keys and values as JSON text.

    :param max_size: the most bytes that a packed record may have.
    :param text_keys: whether keys that are not str become their JSON text, at any depth, instead of staying what they
        are.
    """

    def __init__(self, *, max_size: int, text_keys: bool = False) -> None:
        self._max_size, self._text_keys = max_size, text_keys

    def encode(self, key: Any, value: Any) -> bytes:
        """Return the text of the value under a top-level key.

        :raises SerializationError: naming the path of what cannot be stored, its type, and the fix.
        """
        kinds = plain_kinds(value)
        if kinds is not None:
            try:
                text = encode_json(value)
            except UnicodeEncodeError:
                pass
            else:
                if not self.has_tags(text) and self.keeps_numbers(value, kinds, text):
                    return text
        return self.written(self.form(value, (key,)))

    def decode(self, text: bytes) -> Any:
        """Return the value of a text. It does not fail for a text that `split` or `encode` returned."""
        return read_json(text)

    def name_of(self, key: Any) -> str:
        """Return the name under which a top-level key is stored.

        :raises SerializationError: for a key that cannot be stored.
        """
        return self.text_of(key)

    def text_of(self, key: Any) -> str:
        """Return the text that no two keys of a session may have in common.

        :raises SerializationError: for a key that cannot be stored.
        """
        return key_text(self._stored_key(key))

    def _stored_key(self, key: Any) -> Key:
        try:
            stored = key_form(key)
        except RefusedError as refused:
            raise SerializationError(f"session[{key!r:.100}] cannot be stored: {refused.reason}") from None
        return key_text(stored) if self._text_keys else stored

    def key_of(self, name: str) -> Any:
        """Return the top-level key that is stored under a name."""
        return name

    def keys_of(self, texts: Texts) -> Iterable[Any]:
        """Return the keys of these texts, in their order."""
        return texts

    def split(self, text: bytes) -> Texts:
        """Return the text of each value of a JSON object.

        The whole text is checked: its structure, its UTF-8, and all of its tags.

        :raises SerializationError: for anything else.
        """
        raise NotImplementedError

    def join(self, texts: Texts) -> bytes:
        """Return the JSON object with these values, whose texts are copied byte for byte."""
        try:
            return encode_json({name: msgspec.Raw(text) for name, text in texts.items()})
        except UnicodeEncodeError:  # a name with a lone surrogate
            return b"{%b}" % b",".join([b"%b:%b" % (self.written(name), text) for name, text in texts.items()])

    def same(self, one: bytes, other: bytes) -> bool:
        """Tell whether two texts mean the same value: spelling and the order of keys do not count."""
        if one == other:
            return True
        if one[:1] == other[:1] == b"{" and self._have_other_keys(one, other):
            return False
        mine, theirs = read_json(one), read_json(other)
        return (mine == theirs or _MAP in one) and self._canonical(mine) == self._canonical(theirs)

    def _have_other_keys(self, one: bytes, other: bytes) -> bool:
        """Tell whether two dicts have different keys, which costs less than to read them."""
        mine, theirs = self.members(one), self.members(other)
        return mine is not None and theirs is not None and mine.keys() != theirs.keys()

    def canonical(self, text: bytes) -> bytes:
        """Return the text that all texts of the same value have in common."""
        return self._canonical(read_json(text))

    def _canonical(self, value: Any) -> bytes:
        text = sorted_json(value)
        return sorted_json(_with_sorted_maps(value)) if _MAP in text else text

    # For merging.

    def members(self, text: bytes) -> dict[Key, msgspec.Raw] | None:
        """Return the texts of the values in a dict, or None if the text is not that of a dict."""
        raise NotImplementedError

    def of_members(self, members: Mapping[Key, bytes | msgspec.Raw]) -> bytes:
        """Return the text of the dict with these values."""
        raise NotImplementedError

    def elements(self, text: bytes) -> list[bytes] | None:
        """Return the texts of the items of a list, or None if the text is not that of a list."""
        if text[:1] != b"[":
            return None
        try:
            return [bytes(raw) for raw in _elements(text)]
        except msgspec.MsgspecError:
            return [self.written(item) for item in self.decode(text)]

    # How the formats differ.

    def form(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Return the value as JSON can hold it."""
        raise NotImplementedError

    def written(self, form: Any) -> bytes:
        """Return the JSON text of a form."""
        return encode_json(form)

    def has_tags(self, text: bytes) -> bool:
        """Tell whether a text contains what is read as a tag."""
        return False

    def keeps_numbers(self, value: Any, kinds: set[type], text: bytes) -> bool:
        """Tell whether JSON holds the numbers of a plain value as they are.

        :param kinds: the types in the value.
        :param text: what the encoder made of it.
        """
        if int in kinds and has_long_number(text):
            return False
        # The encoder writes null for NaN and infinity.
        return float not in kinds or b"null" not in text or all(map(isfinite, numbers(value, float)))


class NativeFormat(Format):
    """The native format: every value is read again as the type that it was stored as."""

    def decode(self, text: bytes) -> Any:
        """Return the value of a text. It does not fail for a text that `split` or `encode` returned."""
        try:
            value = decode_json(text)
        except (msgspec.MsgspecError, RecursionError):
            value = read_json(text)
        return untagged(value, 0) if b"~" in text and _TAG in text else value

    def has_tags(self, text: bytes) -> bool:
        """Tell whether a text contains what is read as a tag."""
        return b"~" in text and _TAG in text  # one byte is looked for at a fraction of the cost of three

    def form(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Return the value as JSON can hold it."""
        return native_form(value, path, text_keys=self._text_keys, most=self._max_size // 2)

    def name_of(self, key: Any) -> str:
        """Return the name under which a top-level key is stored.

        A str is stored as it is, with one more ``~`` in front if it starts with one; another key as ``~`` and its JSON
        text.

        :raises SerializationError: for a key that cannot be stored.
        """
        if type(key) is str and key.isascii():
            return MARK + key if key[:1] == MARK else key
        stored = self._stored_key(key)
        if type(stored) is not str:
            return MARK + key_text(stored)
        if not is_utf8(stored):
            return MARK + json.dumps(stored)
        return MARK + stored if stored[:1] == MARK else stored

    def key_of(self, name: str) -> Any:
        """Return the top-level key that is stored under a name.

        A name that `name_of` does not return is a str that an older version stored, and is itself the key.
        """
        if name[:1] != MARK:
            return name
        if name[1:2] == MARK:
            return name[1:]
        try:
            key = json.loads(name[1:])
            return key if type(key) is not list and type(key) is not dict and self.name_of(key) == name else name
        except (ValueError, SerializationError):
            return name

    def keys_of(self, texts: Texts) -> Iterable[Any]:
        """Return the keys of these texts, in their order."""
        return texts if MARK not in "".join(texts) else [self.key_of(name) for name in texts]

    def split(self, text: bytes) -> Texts:
        """Return the text of each value of a JSON object.

        :raises SerializationError: for anything else.
        """
        try:
            found = _split(text)
        except UNREADABLE as error:
            raise SerializationError("the record's data cannot be read") from error
        return self.checked(text, found)

    def checked(self, text: bytes, found: dict[str, msgspec.Raw]) -> Texts:
        """Return the texts of the values that were found in a text whose structure is sound, after checking the rest.

        :raises SerializationError: for text that is not UTF-8, and for a tag that means nothing.
        """
        texts = {name: bytes(raw) for name, raw in found.items()}
        try:
            if not text.isascii():
                text.decode()
            if b"~" not in text:
                return texts
            if _TAG in text:
                for value in texts.values():
                    if self.has_tags(value):
                        self.decode(value)
        except UNREADABLE as error:
            raise SerializationError("the record's data cannot be read") from error
        if _NAME in text:
            texts = {self.name_of(self.key_of(name)): value for name, value in texts.items()}
        return texts

    def members(self, text: bytes) -> dict[Key, msgspec.Raw] | None:
        """Return the texts of the values in a dict, or None if the text is not that of a dict."""
        if text[:1] != b"{":
            return None
        found: dict[Any, msgspec.Raw] = _split(text)
        if text[:3] != _TAG or len(found) != 1:
            return found
        ((tag, inner),) = found.items()
        if tag == "~dict":
            return _split(inner)  # type: ignore[return-value] # a dict with fewer kinds of keys
        if tag == "~map":
            return {self.decode(bytes(key)): value for key, value in _pairs(inner)}
        return None

    def of_members(self, members: Mapping[Key, bytes | msgspec.Raw]) -> bytes:
        """Return the text of the dict with these values."""
        try:
            plain = object_of(members) if all(type(key) is str for key in members) else None
        except UnicodeEncodeError:
            plain = None
        if plain is None:
            pairs = [b"[%b,%b]" % (self.encode(None, key), bytes(text)) for key, text in members.items()]
            return b'{"~map":[%b]}' % b",".join(pairs)
        return b'{"~dict":%b}' % plain if len(members) == 1 and plain[:3] == _TAG else plain


def object_of(members: Mapping[Any, bytes | msgspec.Raw]) -> bytes:
    """Return the text of the JSON object with these texts of values."""
    raw = {key: text if type(text) is msgspec.Raw else msgspec.Raw(text) for key, text in members.items()}
    return encode_json(raw)


def read_json(text: bytes) -> Any:
    """Return the value of any JSON text."""
    try:
        return decode_json(text)
    except msgspec.MsgspecError:  # a number that no float or int can hold, or a lone surrogate of JavaScript's
        return json.loads(text, parse_int=_int, parse_constant=_refuse)
    except RecursionError:
        return _read_on_a_fresh_stack(text)


def _read_on_a_fresh_stack(text: bytes) -> Any:
    """Return the value of a text that is nested so deeply that the app's own calls leave too little of the stack."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(decode_json, text).result()


def sorted_json(value: Any) -> bytes:
    """Return JSON text with sorted keys."""
    try:
        return _encode_sorted(value)
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True).encode()


def _with_sorted_maps(value: Any) -> Any:
    """Return a form in which the members of dicts with other keys than str have one order."""
    if type(value) is list:
        return [_with_sorted_maps(item) for item in value]
    if type(value) is not dict:
        return value
    if value.keys() == {"~map"}:
        return {"~map": sorted(_with_sorted_maps(value["~map"]), key=sorted_json)}
    inner = value["~dict"] if value.keys() == {"~dict"} else value
    sorted_inside = {key: _with_sorted_maps(item) for key, item in inner.items()}
    return sorted_inside if inner is value else {"~dict": sorted_inside}


def _int(digits: str) -> float:
    """Return the number, even if it has more digits than Python reads as an int; our writers never make one."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
