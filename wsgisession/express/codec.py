"""`ExpressCodec`: dict to bytes and back in the form of express-session, the data next to a member ``cookie``.

Values follow JSON as JavaScript writes it: tuples become lists, datetimes what toISOString returns, 1.0 becomes 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from .._core.codec import Codec
from .._core.content import Content, Renewed, Texts
from .._core.cookies import CookieOptions
from .._core.format import read_json, sorted_json
from .._core.forms import Key
from .._core.plain import numbers
from ..errors import SerializationError
from .cookie import EXPRESS, max_age_of, members_of, settings_of, whole
from .forms import HUGE, SAFE, express_form

RESERVED = frozenset(
    {
        "cookie",
        "id",
        "req",
        "touch",
        "resetMaxAge",
        "save",
        "reload",
        "destroy",
        "regenerate",
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
    }
)
"""The keys that express-session has taken: it loses what a record says under them."""

CREATED = "_created"
"""The key that carries the absolute timeout through Express: when the session began, in milliseconds."""

CLIENT = "_wsgisession_client"
"""The key of the IP address and the user agent, for ``track_client``."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_encode = msgspec.json.Encoder().encode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ExpressContent(Content, frozen=True):
    """The content of a record that Express may have written.

    :param is_dated: whether the record says when the session began; if not, `created_at` is when it was read.
    """

    is_dated: bool = True


class ExpressCodec(Codec):
    """The format of express-session.

    :param options: the settings of the cookie, which every record must say.
    :param dates: whether records say when the session began, for an absolute timeout.
    :param clock: returns seconds since the epoch.
    """

    def __init__(self, *, max_size: int, options: CookieOptions, dates: bool, clock: Callable[[], float]) -> None:
        super().__init__(max_size=max_size, text_keys=True)
        self._options, self._dates, self._clock = options, dates, clock
        self.may_be_undated = dates
        self._taken = RESERVED | ({CLIENT, CREATED} if dates else {CLIENT})

    def encode(self, key: Any, value: Any) -> bytes:
        """Return the text of the value under a top-level key.

        :raises SerializationError: naming the path of what JSON cannot hold, or what Node.js would change.
        """
        if self.name_of(key) in self._taken:
            raise SerializationError(
                f"session[{key!r}] cannot be stored, because express-session uses the key itself; choose another"
            )
        return super().encode(key, value)

    def split(self, text: bytes) -> Texts:
        """Return the text of each value of a JSON object.

        :raises SerializationError: for anything else.
        """
        try:
            found = {name: bytes(raw) for name, raw in _split(text).items()}
            if not text.isascii():
                text.decode()
        except UnicodeDecodeError as error:
            raise SerializationError("the record's data cannot be read") from error
        except (msgspec.MsgspecError, RecursionError):  # perhaps for a lone surrogate of JavaScript's
            found = {name: self.written(value) for name, value in _parsed(text).items()}
        return found

    def members(self, text: bytes) -> dict[Key, msgspec.Raw] | None:
        """Return the texts of the values in a dict, or None if the text is not that of a dict."""
        if text[:1] != b"{":
            return None
        return {name: msgspec.Raw(value) for name, value in self.split(text).items()}

    def of_members(self, members: Mapping[Key, bytes | msgspec.Raw]) -> bytes:
        """Return the text of the dict with these values."""
        return self.join({str(name): bytes(text) for name, text in members.items()})

    def _canonical(self, value: Any) -> bytes:
        return sorted_json(_whole(value))  # 1.0 and 1 are one number in JavaScript

    def form(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Return the value as JSON can hold it."""
        return express_form(value, path, most=self._max_size // 2)

    def written(self, form: Any) -> bytes:
        """Return the JSON text of a form."""
        return _written(form)

    def keeps_numbers(self, value: Any, kinds: set[type], text: bytes) -> bool:
        """Tell whether JavaScript would write the numbers of a plain value as the encoder did."""
        ints = numbers(value, int) if int in kinds else []
        floats = numbers(value, float) if float in kinds else []
        return all(-SAFE <= one <= SAFE for one in ints) and all(
            math.isfinite(one) and not one.is_integer() for one in floats
        )

    def is_dated(self, content: Content) -> bool:
        """Tell whether the record says when the session began, or need not."""
        return not self._dates or not isinstance(content, ExpressContent) or content.is_dated

    def pack(self, content: Content | Renewed, *, handle: str) -> bytes:
        """Return what the store keeps under the handle.

        :raises SerializationError: where it is larger than ``max_size``.
        """
        assert isinstance(content, Content)
        texts = {"cookie": _written(members_of(content.cookie, self._options, now=self._clock())), **content.texts}
        if self._dates:
            texts[CREATED] = _encode(round((content.authenticated_at or content.created_at) * 1000))
        if content.client is not None:
            texts[CLIENT] = _written(list(content.client))
        return self._checked(self.join(texts))

    def unpack(self, packed: bytes, *, handle: str) -> Content:
        """Return the content of what the store kept under the handle.

        :raises SerializationError: for anything except an Express session.
        """
        texts = self.split(packed)
        members = self.decode(texts.pop("cookie", b"null"))
        if type(members) is not dict:
            raise SerializationError("the record is not a session of Express: it lacks the cookie")
        created = seconds_of(self.decode(texts.pop(CREATED, b"null"))) if self._dates else None
        client = _client_of(self.decode(texts.pop(CLIENT, b"null")))
        for name in texts.keys() & RESERVED:
            del texts[name]
        at = self._clock() if created is None else created
        return ExpressContent(texts, at, cookie=settings_of(members), client=client, is_dated=created is not None)

    def glance(self, packed: bytes, keys: Iterable[str]) -> tuple[float | None, dict[str, Any]]:
        """Return what stores must know: the seconds by which each use extends the session, and its data under the keys.

        The seconds are None if its cookie ends with the browser. A record that cannot be read has no data.
        """
        try:
            texts = self.split(packed)
        except SerializationError:
            return None, {}
        members = self.decode(texts.get("cookie", b"null"))
        data = {key: self.decode(texts[key]) for key in keys if key in texts}
        return max_age_of(members) if type(members) is dict else None, data


def seconds_of(created: Any) -> float | None:
    """Return the seconds since the epoch from JavaScript's milliseconds, or None for what is no such time."""
    if isinstance(created, bool) or not isinstance(created, (int, float)) or not 0 <= created < 253_402_300_800_000:
        return None
    return created / 1000


def _client_of(value: Any) -> tuple[str, str] | None:
    if type(value) is list and len(value) == 2 and all(type(text) is str for text in value):
        return value[0], value[1]
    return None


def _written(value: Any) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return _SURROGATE.sub(lambda lone: f"\\u{ord(lone[0]):04x}", text).encode()


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        data = read_json(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SerializationError("the record's data cannot be read") from error
    if type(data) is not dict:
        raise SerializationError("the record's data is not a JSON object")
    return data


def _whole(value: Any) -> Any:
    """Return the value with the numbers that JavaScript writes without a fraction as ints."""
    if type(value) is float:
        return whole(value) if abs(value) < HUGE else value
    if type(value) is dict:
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if type(value) is list else value


__all__ = ["CLIENT", "CREATED", "EXPRESS", "RESERVED", "ExpressCodec", "ExpressContent"]
