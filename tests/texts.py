"""Whole sessions as the text of their keys, for tests of the formats and of merging."""

from __future__ import annotations

from typing import Any

from wsgisession._core.codec import Codec
from wsgisession._core.content import Texts
from wsgisession._core.merge import merge_texts


def texts_of(codec: Codec, data: dict[Any, Any]) -> Texts:
    """Return the texts of a session's keys."""
    return {codec.name_of(key): codec.encode(key, value) for key, value in data.items()}


def data_of(codec: Codec, texts: Texts) -> dict[Any, Any]:
    """Return the data that the texts stand for."""
    return {codec.key_of(name): codec.decode(text) for name, text in texts.items()}


def dumped(codec: Codec, data: dict[Any, Any]) -> bytes:
    """Return a session's data as one JSON object."""
    return codec.join(texts_of(codec, data))


def parsed(codec: Codec, text: bytes) -> dict[Any, Any]:
    """Return the data of one JSON object."""
    return data_of(codec, codec.split(text))


def merged(codec: Codec, base: Any, mine: Any, theirs: Any) -> dict[Any, Any]:
    """Return the merge of three sessions' data."""
    return data_of(codec, merge_texts(*(texts_of(codec, data) for data in (base, mine, theirs)), codec))
