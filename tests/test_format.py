"""Each key's value as text by itself: it comes back as it was, and a record that is damaged is one error."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from tests.same import same
from tests.values import hashable, keys, mappings, plain, scalar_keys, values
from wsgisession._core.codec import NativeCodec
from wsgisession._core.cookies import CookieOptions
from wsgisession._core.plain import plain_kinds
from wsgisession.errors import SerializationError
from wsgisession.express.codec import ExpressCodec

NATIVE = NativeCodec(max_size=1 << 20)
DJANGO = NativeCodec(max_size=1 << 20, text_keys=True)
EXPRESS = ExpressCodec(max_size=1 << 20, options=CookieOptions(), dates=False, clock=lambda: 1e9)

every_format = pytest.mark.parametrize("format", [NATIVE, DJANGO, EXPRESS], ids=["native", "django", "express"])


@given(values)
def test_every_value_comes_back_as_it_was(value):
    assert same(NATIVE.decode(NATIVE.encode("key", value)), value)


@given(values)
def test_what_came_back_is_written_as_it_was_written_first(value):
    text = NATIVE.encode("key", value)
    assert NATIVE.encode("key", NATIVE.decode(text)) == text


@given(plain)
@example({"~set": [1]})
@example([{"~": {"~": 1}}, math.nan, None, 1.5])
@example([10**3010, 10**3009, "9" * 5000])
@example({"a": math.inf, "b": 1.0})
def test_the_fast_path_writes_what_the_rules_say(value):
    """A tuple beside the value sends it over the slow path."""
    beside = NATIVE.encode("key", [value, ()])
    assert beside == b"[" + NATIVE.encode("key", value) + b',{"~tuple":[]}]'


@given(plain)
@example([1.0, 2.5, None, 2**53])
@example([1e16, 1e21, 1e22, -0.0, "\ud800"])
def test_the_fast_path_of_express_writes_what_the_rules_say(value):
    try:
        expected = b"[" + EXPRESS.encode("key", value) + b",[]]"
    except SerializationError:
        with pytest.raises(SerializationError):
            EXPRESS.encode("key", [value, ()])
    else:
        assert EXPRESS.encode("key", [value, ()]) == expected


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [(), {1}, b"", Decimal(1), date.min, Name("x"), {Name("x"): 1}, {1: 1}, {None: 1}, [(1,)], {"a": {"b": [{2}]}}],
    ids=repr,
)
def test_only_plain_json_takes_the_fast_path(value):
    assert plain_kinds(value) is None
    assert plain_kinds([1, value]) is None


def test_a_value_nested_beyond_the_limit_does_not_take_the_fast_path():
    value: Any = []
    for _ in range(150):
        value = [value]
    assert plain_kinds(value) is None


# A record's data object.


@given(mappings)
def test_a_record_of_any_keys_and_values_is_split_into_what_was_joined(data):
    texts = {NATIVE.name_of(key): NATIVE.encode(key, value) for key, value in data.items()}
    found = NATIVE.split(NATIVE.join(texts))
    assert found == texts
    assert same({NATIVE.key_of(name): NATIVE.decode(text) for name, text in found.items()}, data)


@every_format
def test_texts_are_copied_byte_for_byte_in_any_spelling(format):
    spelled = {"a": b"[1 , 2]", "b": b'{ "x": 1.50 }', "c": b'"\\u00e9"', "d": b"1E2"}
    text = b'{"a": [1 , 2], "b" : { "x": 1.50 },"c":"\\u00e9","d":1E2}'
    assert format.split(text) == spelled
    assert format.split(format.join(spelled)) == spelled
    assert [format.decode(one) for one in spelled.values()] == [[1, 2], {"x": 1.5}, "é", 100.0]


@every_format
@pytest.mark.parametrize("tail", [b'"c":2', b'"c":"\\ud83d","d":1e999'])
def test_of_two_members_with_one_name_the_last_counts(format, tail):
    if format is EXPRESS or b"ud83d" not in tail:
        assert format.split(b'{"a":1,"a":2,%b}' % tail)["a"] == b"2"


@every_format
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"1",
        b'{"a":1',
        b'{"a":1}x',
        b'{"a":[1,}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":tru}',
        b'{"a":"\xff"}',
        b'{"a":{"b":["\xed\xa0\x80"]}}',
        b'{"\xff":1}',
        b'{"a":"\x01"}',
        b'{"a":"\\q"}',
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_text_that_is_not_a_json_object_is_one_error(format, text):
    with pytest.raises(SerializationError):
        format.split(text)


@pytest.mark.parametrize(
    "value",
    [
        b'{"~pickle":"x"}',
        b'{"~set":[[1]]}',
        b'{"~set":5}',
        b'{"~bytes":"*"}',
        b'{"~str":"/w=="}',
        b'{"~uuid":5}',
        b'{"~uuid":"x"}',
        b'{"~float":[]}',
        b'{"~decimal":"x"}',
        b'{"~decimal":{}}',
        b'{"~date":5}',
        b'{"~time":"25:00"}',
        b'{"~timedelta":[1e300]}',
        b'{"~timedelta":[1,2,3,4,5,6,7,8]}',
        b'{"~dict":[]}',
        b'{"~map":{}}',
        b'{"~map":[[1]]}',
        b'{"~map":[[[1],2]]}',
        b'{"~map":[[{"~tuple":[[]]},2]]}',
        b'{"~markup":1}',
        b'{"~tuple":[' * 101 + b"]}" * 101,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_tag_that_means_nothing_makes_the_record_unreadable_at_any_depth(value):
    for text in (b'{"a":%b}', b'{"a":[1,{"b":%b}]}', b'{"b":1,"a":{"~tuple":[%b]}}'):
        with pytest.raises(SerializationError):
            NATIVE.split(text % value)
        assert list(EXPRESS.split(text % value))  # there it is an object like others


@pytest.mark.parametrize(
    "value", [b"1e999", b"-1e999", b"1" + b"0" * 5000, b"[1" + b"0" * 5000 + b".5]", b'{"a":[1e999,"~"]}']
)
@every_format
def test_a_number_that_python_cannot_hold_does_not_make_a_record_unreadable(format, value):
    """No writer of ours makes one; JavaScript reads it as infinity."""
    (text,) = format.split(b'{"a":%b}' % value).values()
    found = format.decode(text)
    assert isinstance(found, float | int | list | dict)
    format.same(text, b"1")


def _called_from_deep_inside(function, levels):
    return function() if levels == 0 else _called_from_deep_inside(function, levels - 1)


@every_format
def test_a_value_that_was_split_can_be_read_however_deep_the_app_s_own_calls_are(format):
    (text,) = format.split(b'{"a":%b%b}' % (b"[" * 500, b"]" * 500)).values()
    assert len(_called_from_deep_inside(lambda: format.decode(text), 600)) == 1


@pytest.mark.parametrize("string", ["\ud800", "a\udfff", "\ud83d \ude00", "~\ud800"])
def test_lone_surrogates_of_javascript_come_back_in_keys_and_values(string):
    written = json.dumps({string: [string], "n": 1, "o": {string: 1.5}}, separators=(",", ":")).encode()
    texts = EXPRESS.split(written)
    assert {name: EXPRESS.decode(text) for name, text in texts.items()} == {
        string: [string],
        "n": 1,
        "o": {string: 1.5},
    }
    assert EXPRESS.split(EXPRESS.join(texts)) == texts
    assert EXPRESS.encode("n", [string]) == texts[string]


# Keys.


@given(scalar_keys)
@example("~")
@example("~~")
@example("~7")
@example("~null")
@example("\ud800")
@example("~\ud800")
@example(1e300)
@example(-0.0)
def test_a_top_level_key_comes_back_as_it_was(key):
    name = NATIVE.name_of(key)
    msgspec.json.encode(name)
    found = NATIVE.key_of(name)
    assert (repr(found), type(found)) == (repr(key), type(key))


@given(st.lists(scalar_keys))
def test_different_keys_have_different_names(found):
    assert len({NATIVE.name_of(key) for key in found}) == len({(type(key), repr(key)) for key in found})


@pytest.mark.parametrize(
    ("key", "name"),
    [("a", "a"), ("~a", "~~a"), (7, "~7"), (1.5, "~1.5"), (True, "~true"), (None, "~null"), ("7", "7"), ("", "")],
)
def test_a_key_is_stored_under_its_text_with_a_mark_if_it_is_not_a_str(key, name):
    assert NATIVE.name_of(key) == name


@pytest.mark.parametrize("name", ["~a", "~", "~07", "~1.50", "~True", "~[1]", "~{}", '~"a"', "~ 7", "~NaN", "~1e5"])
def test_a_name_that_an_older_version_wrote_is_a_str_key_and_is_found_under_it(name):
    assert NATIVE.key_of(name) == name
    assert NATIVE.split(json.dumps({name: 1}).encode()) == {NATIVE.name_of(name): b"1"}


@pytest.mark.parametrize(("key", "text"), [(7, "7"), (1.5, "1.5"), (True, "true"), (None, "null"), ("~a", "~a")])
def test_in_django_and_express_a_key_is_its_json_text(key, text):
    assert EXPRESS.key_of(EXPRESS.name_of(key)) == text
    assert DJANGO.key_of(DJANGO.name_of(key)) == text
    assert DJANGO.decode(DJANGO.encode("a", {key: (1,)})) == {text: (1,)}


@every_format
@pytest.mark.parametrize("key", [(1,), b"x", math.nan, math.inf, object(), frozenset()], ids=repr)
def test_a_key_that_cannot_be_stored_is_refused(format, key):
    with pytest.raises(SerializationError, match=r"^session\[.*\] cannot be stored: the key .* as key"):
        format.name_of(key)


# Same or not.


def _reversed(value):
    if type(value) is dict:
        return {key: _reversed(item) for key, item in reversed(value.items())}
    return [_reversed(item) for item in value] if type(value) is list else value


@given(values)
def test_neither_the_order_of_keys_nor_spelling_is_a_difference(value):
    text = NATIVE.encode("key", value)
    assert NATIVE.same(text, NATIVE.encode("key", _reversed(value)))
    spaced = json.dumps(json.loads(text)).encode()  # as jsonb has it
    assert NATIVE.same(text, spaced)
    assert NATIVE.same(spaced, text)


@given(values, values)
def test_two_texts_are_the_same_exactly_if_their_values_are(one, other):
    assert NATIVE.same(NATIVE.encode("key", one), NATIVE.encode("key", other)) is same(one, other)


@every_format
@pytest.mark.parametrize(
    ("one", "other"), [(b"1", b"true"), (b"1", b'"1"'), (b"null", b"false"), (b"[]", b"{}"), (b"[1,2]", b"[2,1]")]
)
def test_values_of_different_types_differ(format, one, other):
    assert not format.same(one, other)
    assert not format.same(b'{"a":[%b]}' % one, b'{"a":[%b]}' % other)


def test_1_and_1_0_are_two_numbers_in_python_and_one_in_javascript():
    assert not NATIVE.same(b"[1.0]", b"[1]")
    assert EXPRESS.same(b'{"a":[1.0,1e2]}', b'{"a":[1,100]}')
    assert not EXPRESS.same(b"1.5", b"1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ("<b>", Markup("<b>")),
        ((1,), [1]),
        ({1}, frozenset({1})),
        ({1}, {True}),
        ({(1, frozenset({1}))}, {(1, frozenset({1.0}))}),
        ({"1, 2"}, {"1", "2"}),
        ({("a", "b")}, {("a', 'b",)}),
        (Decimal("1.1"), Decimal("1.10")),
        (datetime(2026, 1, 1, 12, tzinfo=timezone.utc), datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))),
        ({"a": 1}, {"a": 1, "b": None}),
        ([1], [1, 1]),
    ],
    ids=repr,
)
def test_values_that_differ_in_type_or_text_are_not_the_same(one, other):
    assert not NATIVE.same(NATIVE.encode("k", one), NATIVE.encode("k", other))
    assert not NATIVE.same(NATIVE.encode("k", {"k": [one]}), NATIVE.encode("k", {"k": [other]}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (math.nan, float("nan")),
        (Decimal("sNaN"), Decimal("sNaN")),
        (frozenset({frozenset([8, 0])}), frozenset({frozenset([0, 8])})),
        (
            datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2), "CEST")),
            datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        ),
    ],
    ids=repr,
)
def test_values_that_are_stored_alike_are_the_same(one, other):
    assert NATIVE.same(NATIVE.encode("k", one), NATIVE.encode("k", other))


class Summer(tzinfo):
    """A zone whose offset depends on the day, as in most zones."""

    def utcoffset(self, at):
        return None if at is None else timedelta(hours=2 if 4 <= at.month <= 9 else 1)


def test_a_time_in_a_named_zone_comes_back_with_its_offset():
    noon = datetime(2026, 7, 1, 12, tzinfo=Summer())
    back = NATIVE.decode(NATIVE.encode("at", noon))
    assert (back, back.utcoffset()) == (noon, timedelta(hours=2))


@pytest.mark.parametrize(
    "value",
    [
        *(-0.0, 1.0, math.inf, -math.inf, 5e-324, 2**64, -(2**9999), Decimal("sNaN"), Decimal("1E+400")),
        *(datetime.max, datetime(2026, 3, 29, 2, 30, tzinfo=timezone.utc), time(23, 59, 59, 999999), date.min),
        *(timedelta.min, UUID(int=0), b"\x00\xff", Markup("<b>\ud800</b>"), {"\udcff"}, {"\udcff": "\udcff"}),
        *({"~set": [1]}, {"~": {"~": 1}}, {"~dict": {"~float": "nan"}}, {"~map": [[1, 2]]}, {"~a": 1, "b": 2}),
        *([[], {}, (), set(), frozenset()], frozenset({frozenset({(1, 1.5)}), b""}), {1, "1"}, {1: {2.5: {None: ()}}}),
    ],
    ids=repr,
)
def test_an_unusual_value_comes_back_as_it_was(value):
    assert same(NATIVE.decode(NATIVE.encode("key", value)), value)


@given(st.dictionaries(keys, plain, max_size=4))
def test_what_json_holds_is_written_as_plain_json(data):
    text = NATIVE.encode("key", data)
    if b"~" not in text:
        assert json.loads(text) == data


@given(st.lists(hashable, max_size=8), st.randoms(use_true_random=False))
def test_equal_sets_have_equal_texts(items, random):
    shuffled = random.sample(items, len(items))
    one, other = frozenset(items), frozenset(shuffled)
    if same(one, other):  # of 1, 1.0 and True a set keeps the one that came first
        assert NATIVE.encode("set", {one}) == NATIVE.encode("set", {other})


def test_many_lists_next_to_each_other_are_written_as_they_are():
    rows = [[[row]] for row in range(20_001)]
    assert NATIVE.decode(NATIVE.encode("rows", rows)) == rows
