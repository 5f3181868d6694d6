"""The native format: every value comes back as it was, and nothing else is ever read."""

from __future__ import annotations

import enum
import math
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from tests.same import same
from tests.texts import data_of, dumped, parsed, texts_of
from wsgisession._core.codec import Codec
from wsgisession._core.content import Content, Renewed
from wsgisession._core.encryption import EncryptedCodec
from wsgisession.errors import SerializationError

CODEC = Codec(max_size=1 << 20)
HANDLE = "1handle"

# Of an offset of less than a second CPython's own isoformat does not come back.
zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
texts = st.text(st.characters() | st.sampled_from('~"\\\ud800\udfff'))
hashable = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=-(2**200), max_value=2**200),
        st.floats(allow_nan=False),
        texts,
        st.binary(),
        st.datetimes(timezones=st.none() | zones),
        st.dates(),
        st.times(timezones=st.none() | zones),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.uuids(),
        texts.map(Markup),
    ),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
keys = st.text(max_size=4) | st.sampled_from(["~", "~dict", "~set", "~float"])
values = st.recursive(
    hashable | st.just(math.nan) | st.sampled_from([Decimal("NaN"), Decimal("-Infinity"), Decimal("1.10")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.tuples(inner)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=10,
)
mappings = st.dictionaries(keys, values, max_size=4)


@given(mappings)
def test_every_value_comes_back_as_it_was_at_any_depth(data):
    assert same(parsed(CODEC, dumped(CODEC, data)), data)


@given(mappings)
def test_what_came_back_is_written_as_it_was_written_first(data):
    text = dumped(CODEC, data)
    assert dumped(CODEC, parsed(CODEC, text)) == text


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(keys, plain, max_size=4))
def test_plain_data_have_the_same_text_beside_a_value_that_is_not(data):
    assert dumped(CODEC, {"data": data, "typed": ()}) == dumped(CODEC, {"data": data})[:-1] + b',"typed":{"~tuple":[]}}'


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        1.0,
        math.inf,
        -math.inf,
        5e-324,
        2**64,
        -(2**9999),
        Decimal("sNaN"),
        Decimal("1E+400"),
        datetime.max,
        datetime(2026, 3, 29, 2, 30, tzinfo=timezone.utc),
        time(23, 59, 59, 999999),
        date.min,
        timedelta.min,
        UUID(int=0),
        b"\x00\xff",
        Markup("<b>\ud800</b>"),
        {"\udcff"},
        {"~set": [1]},
        {"~": {"~": 1}},
        {"~dict": {"~float": "nan"}},
        {"~a": 1, "b": 2},
        [[], {}, (), set(), frozenset()],
        frozenset({frozenset({(1, 1.5)}), b""}),
        {1, "1"},
    ],
    ids=repr,
)
def test_an_unusual_value_comes_back_as_it_was(value):
    assert same(parsed(CODEC, dumped(CODEC, {"key": value})), {"key": value})


class Summer(tzinfo):
    """A zone whose offset depends on the day, as most do."""

    def utcoffset(self, at):
        return None if at is None else timedelta(hours=2 if 4 <= at.month <= 9 else 1)


def test_a_time_in_a_named_zone_comes_back_with_its_offset():
    noon = datetime(2026, 7, 1, 12, tzinfo=Summer())
    back = parsed(CODEC, dumped(CODEC, {"at": noon}))["at"]
    assert (back, back.utcoffset()) == (noon, timedelta(hours=2))


@given(st.lists(hashable, max_size=8), st.randoms(use_true_random=False))
def test_equal_sets_have_equal_texts(items, random):
    shuffled = random.sample(items, len(items))
    one, other = frozenset(items), frozenset(shuffled)
    if same(one, other):  # of 1, 1.0 and True a set keeps the one that came first
        assert dumped(CODEC, {"set": {one}}) == dumped(CODEC, {"set": {other}})


def _reversed(value):
    if type(value) is dict:
        return {key: _reversed(item) for key, item in reversed(value.items())}
    return [_reversed(item) for item in value] if type(value) is list else value


@given(mappings)
def test_the_order_of_keys_does_not_count(data):
    assert CODEC.same(dumped(CODEC, data), dumped(CODEC, _reversed(data)))


@given(mappings, mappings)
def test_two_texts_say_the_same_exactly_when_their_data_are_the_same(one, other):
    assert CODEC.same(dumped(CODEC, one), dumped(CODEC, other)) is same(one, other)


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"a": object()}, "session['a'] "),
        ({"a": {"b": [1, {"c": object()}]}}, "session['a']['b'][1]['c'] "),
        ({"a": (0, (object(),))}, "session['a'][1][0] "),
        ({"a": {frozenset({object})}}, "session['a'] "),
        ({"a": 1j}, "session['a'] "),
        ({"a": bytearray()}, "session['a'] "),
        ({"a": 1 << 10_000}, "session['a'] "),
        ({"a": time(12, tzinfo=Summer())}, "session['a'] "),
    ],
    ids=repr,
)
def test_a_value_that_cannot_be_stored_is_refused_with_its_key_path(data, path):
    with pytest.raises(SerializationError) as refused:
        dumped(CODEC, data)
    assert str(refused.value).startswith(path)


def test_a_refusal_does_not_tell_the_value():
    class Password:
        def __repr__(self):
            return "hunter2"

    with pytest.raises(SerializationError) as refused:
        dumped(CODEC, {"a": [Password()]})
    assert "hunter2" not in str(refused.value)


def test_a_value_that_contains_itself_is_refused():
    data = {"a": []}
    data["a"].append(data)
    with pytest.raises(SerializationError, match="contains itself"):
        dumped(CODEC, data)


def test_a_tree_whose_nodes_know_their_parent_is_refused_at_once():
    root: dict[str, Any] = {"children": [{}, {}]}
    for child in root["children"]:
        child["parent"] = root
    with pytest.raises(SerializationError, match=r"session\['root'\]\['children'\]\[0\]\['parent'\].* contains itself"):
        dumped(CODEC, {"root": root})


def test_many_lists_beside_each_other_are_written_as_they_are():
    data = {"rows": [[[row]] for row in range(20_001)]}
    assert parsed(CODEC, dumped(CODEC, data)) == data


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"k": x}, lambda x: (x,), lambda x: frozenset({x})])
def test_a_value_may_be_nested_a_hundred_levels_deep_and_no_deeper(wrap):
    value = 1
    for _ in range(100):
        value = wrap(value)
    assert same(parsed(CODEC, dumped(CODEC, {"a": value})), {"a": value})
    for more in (1, 2000):
        for _ in range(more):
            value = wrap(value)
        with pytest.raises(SerializationError, match="100 levels"):
            dumped(CODEC, {"a": value})


@pytest.mark.parametrize("data", [{"k" * 10_000: object()}, {"first": {"k" * 10_000: {"last": object()}}}])
def test_of_a_long_way_to_a_value_the_ends_are_told(data):
    with pytest.raises(SerializationError, match=r"^session\['.*kkk\.\.\.kkk.*'\] cannot be stored") as refused:
        dumped(CODEC, data)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'{"a":1',
        b'{"a":{"~pickle":"x"}}',
        b'{"a":{"~set":[[1]]}}',
        b'{"a":{"~set":5}}',
        b'{"a":{"~bytes":"*"}}',
        b'{"a":{"~uuid":5}}',
        b'{"a":{"~uuid":"x"}}',
        b'{"a":{"~float":[]}}',
        b'{"a":{"~decimal":"x"}}',
        b'{"a":{"~decimal":{}}}',
        b'{"a":{"~date":5}}',
        b'{"a":{"~timedelta":[1e300]}}',
        b'{"a":{"~timedelta":[1,2,3,4,5,6,7,8]}}',
        b'{"a":"\xff"}',
        b'{"a":1' + b"0" * 5000 + b"}",
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"a":' + b'{"~tuple":[' * 900 + b"]}" * 900 + b"}",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_text_that_was_never_dumped_is_one_error_only(text):
    with pytest.raises(SerializationError):
        parsed(CODEC, text)


contents = st.builds(
    Content,
    texts=mappings.map(lambda data: texts_of(CODEC, data)),
    created_at=st.floats(0, 4e9),
    authenticated_at=st.none() | st.floats(0, 4e9),
    issued_at=st.none() | st.floats(0, 4e9),
    cookie=st.none() | st.just({"max_age": 60.0, "path": "/app"}),
    client=st.none() | st.tuples(st.text(max_size=5).filter(str.isprintable), st.just("agent")),
)
pointers = st.builds(Renewed, handle=st.just("1new"), nonce=st.text(max_size=8), until=st.floats(0, 4e9))


@given(contents | pointers)
def test_a_record_comes_back_as_it_was_packed(content):
    assert CODEC.unpack(CODEC.pack(content, handle=HANDLE), handle=HANDLE) == content


def read(codec, packed):
    """Read as a request does; None where it would count as absent."""
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
def test_a_record_that_is_cut_short_or_runs_on_is_no_record(packed):
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
def test_a_record_of_another_program_or_format_is_no_session(packed):
    """SECURITY 50, 51: no mark of ours, no session, and nothing but our own decoder is tried."""
    assert read(CODEC, packed) is None


def test_a_session_may_be_as_large_as_max_size_and_no_larger():
    """SECURITY 52: the limit counts the packed record."""
    content = Content(texts_of(CODEC, {"a": "x" * 100}), 1.0)
    size = len(CODEC.pack(content, handle=HANDLE))
    assert len(Codec(max_size=size).pack(content, handle=HANDLE)) == size
    with pytest.raises(SerializationError, match=f"{size} bytes, and max_size is {size - 1}"):
        Codec(max_size=size - 1).pack(content, handle=HANDLE)


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
