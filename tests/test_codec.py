"""Records of the native format: what was packed comes back, and nothing else is ever read."""

from __future__ import annotations

from datetime import date, datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.texts import data_of, dumped, texts_of
from tests.values import mappings
from wsgisession._core.codec import NativeCodec
from wsgisession._core.content import Content, Renewed
from wsgisession._core.encryption import EncryptedCodec
from wsgisession.errors import SerializationError

CODEC = NativeCodec(max_size=1 << 20)
HANDLE = "1handle"

contents = st.builds(
    Content,
    texts=mappings.map(lambda data: texts_of(CODEC, data)),
    created_at=st.floats(0, 4e9),
    authenticated_at=st.none() | st.floats(0, 4e9),
    issued_at=st.none() | st.floats(0, 4e9),
    cookie=st.none() | st.just({"max_age": 60.0, "path": "/app"}),
    client=st.none() | st.tuples(st.text(max_size=5).filter(str.isprintable), st.just("agent")),
    last_user=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    presented_at=st.none() | st.floats(0, 4e9),
    device=st.none() | st.just({"key": {"~set": [1]}, "counter": 7}),
)
pointers = st.builds(Renewed, handle=st.just("1new"), nonce=st.text(max_size=8), until=st.floats(0, 4e9))


@given(contents | pointers)
def test_a_record_comes_back_as_it_was_packed(content):
    assert CODEC.unpack(CODEC.pack(content, handle=HANDLE), handle=HANDLE) == content


def test_fields_of_a_later_version_are_ignored():
    packed = b'["ws1",1.0,{"authenticated":2.0,"later":{"x":[1]}},{"a":1}]'
    assert CODEC.unpack(packed, handle=HANDLE) == Content({"a": b"1"}, 1.0, 2.0)


def test_the_texts_of_a_record_are_kept_byte_for_byte():
    packed = b'["ws1", 1.0, null, {"a": [1 , 2], "b" : 1e2}]'  # as jsonb or another program may write it
    content = CODEC.unpack(packed, handle=HANDLE)
    assert content.texts == {"a": b"[1 , 2]", "b": b"1e2"}
    assert CODEC.pack(content, handle=HANDLE) == b'["ws1",1.0,null,{"a":[1 , 2],"b":1e2}]'


def read(codec, packed):
    """Read as a request does; None if it counts as absent."""
    try:
        content = codec.unpack(packed, handle=HANDLE)
        return content if isinstance(content, Renewed) else (content, data_of(codec, content.texts))
    except SerializationError:
        return None


PACKED = [
    CODEC.pack(
        Content(texts_of(CODEC, {"at": date(2026, 1, 2), "s": {1, 2.5}, "é": [None, True, "x\n"]}), 1e9), handle=HANDLE
    ),
    CODEC.pack(
        Content({"user_id": b"7"}, 1.5e9, 1.6e9, 1.7e9, {"max_age": 60.0}, ("127.0.0.1", "agent")), handle=HANDLE
    ),
    CODEC.pack(Content({"n": b"7"}, 1.5e9, last_user="7", presented_at=1.6e9, device={"a": [1]}), handle=HANDLE),
    CODEC.pack(Renewed("1new", "nonce", 2e9), handle=HANDLE),
]


@pytest.mark.parametrize("packed", PACKED)
def test_a_record_of_which_one_byte_is_another_is_a_record_or_one_error(packed):
    """SECURITY 51: whatever a byte turns into, nothing but SerializationError is raised, then or later."""
    for position in range(len(packed)):
        for byte in range(256):
            found = read(CODEC, packed[:position] + bytes([byte]) + packed[position + 1 :])
            if type(found) is tuple:
                datetime.fromtimestamp(found[0].created_at, timezone.utc)
                dumped(CODEC, found[1])


@pytest.mark.parametrize("packed", PACKED)
def test_a_record_that_is_cut_short_or_runs_on_is_not_a_record(packed):
    """SECURITY 51: a truncated record is no session."""
    assert [size for size in range(len(packed)) if read(CODEC, packed[:size]) is not None] == []
    assert read(CODEC, packed + b"x") is None


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.builds(lambda a, b, c: a + b + c, st.just(b'["ws1",'), st.binary(), st.just(b"]")))
def test_any_bytes_are_a_record_or_one_error(packed):
    read(CODEC, packed)


@pytest.mark.parametrize(
    "packed",
    [
        b'{"cookie":{"originalMaxAge":null},"user_id":7}',
        b'{"user_id":7}',
        b'["ws2",1.0,null,{}]',
        b'["ws1",1.0,null]',
        b'["ws1",1.0,null,{},{}]'[:-4] + b"}",
        b'["ws1","1.0",null,{}]',
        b'["ws1",-1.0,null,{}]',
        b'["ws1",1e300,null,{}]',
        b'["ws1",1.0,{"authenticated":1e300},{}]',
        b'["ws1",1.0,null,[1]]',
        b'["ws1-renewed","h","n"]',
        b"\x80\x04cposix\nsystem\n.",
        b"gASVAAAA",
    ],
)
def test_a_record_of_another_program_or_format_is_not_a_session(packed):
    """SECURITY 50, 51: no mark of ours, no session, and nothing but our own decoder is tried."""
    assert read(CODEC, packed) is None


def test_a_session_may_be_as_large_as_max_size_and_no_larger():
    """SECURITY 52: the limit counts the packed record."""
    content = Content(texts_of(CODEC, {"a": "x" * 100}), 1.0)
    size = len(CODEC.pack(content, handle=HANDLE))
    assert len(NativeCodec(max_size=size).pack(content, handle=HANDLE)) == size
    with pytest.raises(SerializationError, match=f"{size} bytes, and max_size is {size - 1}"):
        NativeCodec(max_size=size - 1).pack(content, handle=HANDLE)


def test_an_encrypted_record_of_which_one_bit_is_another_is_the_same_or_no_record():
    """SECURITY 46, 51."""
    codec = EncryptedCodec([bytes(range(32))], max_size=1 << 20)
    packed = codec.pack(Content({"a": b"1"}, 1.0), handle=HANDLE)
    whole = read(codec, packed)
    assert whole is not None
    for position in range(len(packed)):
        for bit in range(8):
            flipped = bytearray(packed)
            flipped[position] ^= 1 << bit
            assert read(codec, bytes(flipped)) in (None, whole)  # a last base64 letter may have bits to spare


def test_a_repr_shows_no_data():
    """SECURITY 56."""
    assert "hunter2" not in repr(Content({"password": b'"hunter2"'}, 1.0))
