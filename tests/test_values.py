"""The data of one session: what is read, what counts as a change, and what is written."""

from __future__ import annotations

import collections
import enum
import time
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from markupsafe import Markup

from tests.same import same
from tests.texts import texts_of
from tests.values import mappings
from wsgisession._core.codec import NativeCodec
from wsgisession._core.cookies import CookieOptions
from wsgisession._core.merge import merge_texts
from wsgisession._core.values import Values
from wsgisession.errors import SerializationError
from wsgisession.express.codec import ExpressCodec

NATIVE = NativeCodec(max_size=1 << 20)
EXPRESS = ExpressCodec(max_size=1 << 20, options=CookieOptions(), dates=False, clock=lambda: 1e9)

every_format = pytest.mark.parametrize("format", [NATIVE, EXPRESS], ids=["native", "express"])


class Role(enum.Enum):
    ADMIN = "admin"


def stored(**data: Any) -> Values:
    return Values(NATIVE, texts_of(NATIVE, data))


# Reading.


@given(mappings)
def test_a_session_reads_like_the_dict_that_was_stored(data):
    values = Values(NATIVE, texts_of(NATIVE, data))
    assert list(values) == list(data)
    assert same(dict(values), data)
    assert values.changed_texts() is None


def test_only_the_key_that_is_asked_for_is_read():
    values = Values(NATIVE, {"a": b"[1]", "b": b"<never read>"})
    assert values["a"] == [1]
    assert "b" in values
    assert len(values) == 2
    assert values.changed_texts() is None


def test_a_mutable_value_is_the_same_object_each_time():
    values = stored(a=[1], t=([1],))
    assert values["a"] is values["a"]
    assert values["t"] is values["t"]


# Changes.


def grow(value):
    value["rows"].append(3)


def retype(value):
    value["rows"][0] = True


def to_float(value):
    value["rows"][0] = 1.0


def to_tuple(value):
    value["rows"] = tuple(value["rows"])


def to_date(value):
    value["day"] = date.fromisoformat(value["day"])


def to_markup(value):
    value["day"] = Markup(value["day"])


def to_int_keys(value):
    value["by"] = {int(key): item for key, item in value["by"].items()}


def to_nan(value):
    value["none"] = float("nan")


NESTED = {"rows": [1, 2], "day": "2026-01-02", "by": {"7": 1}, "none": None}


@pytest.mark.parametrize("change", [grow, retype, to_float, to_tuple, to_date, to_markup, to_int_keys, to_nan])
@pytest.mark.parametrize("is_held", [False, True])
def test_a_nested_change_is_detected_if_only_the_type_differs_too(change, is_held):
    values = stored(o=NESTED, other=[1])
    held = [values["o"]["rows"], values["o"]["by"]] if is_held else []
    change(values["o"])
    expected = stored(o=NESTED)["o"]
    change(expected)
    texts = values.changed_texts()
    assert texts is not None
    assert texts["other"] is values.base["other"]
    assert same(NATIVE.decode(texts["o"]), expected)
    assert held[:1] in ([], [values["o"]["rows"]]) or change is to_tuple


def undone(value):
    value["rows"].append(3)
    value["rows"].pop()


def reordered(value):
    value["rows"] = value.pop("rows")


def replaced(value):
    value["rows"] = list(value["rows"])


def to_subclasses(value):
    value["by"] = collections.OrderedDict(value["by"])


@pytest.mark.parametrize("change", [undone, reordered, replaced, to_subclasses, lambda value: None])
@pytest.mark.parametrize("is_held", [False, True])
def test_what_is_stored_as_before_is_not_a_change(change, is_held):
    values = stored(o=NESTED)
    held = [values["o"]["rows"]] if is_held else None
    change(values["o"])
    assert values.changed_texts() is None
    assert held is None or held[0] == [1, 2]


@pytest.mark.parametrize("spelled", [b'{ "x": [1 , 2], "a":1e2 }', b'{"a":100.0,"x":[1,2]}'])
def test_a_value_that_another_program_spelled_differently_is_not_changed_by_reading_it(spelled):
    values = Values(NATIVE, {"o": spelled})
    held = values["o"]["x"]
    assert values.changed_texts() is None
    values["o"] = {"a": 100.0, "x": [1, 2]}
    assert values.changed_texts() is None
    held.append(3)
    values["o"]["x"].append(3)
    assert values.changed_texts() == {"o": b'{"a":100.0,"x":[1,2,3]}'}


def test_an_object_that_the_app_put_in_stays_that_object_and_changes_to_it_are_written():
    mine = collections.OrderedDict(a=1)
    values = stored()
    values["o"] = mine
    first = values.texts()
    values.rebase(first, mine=first)
    assert values["o"] is mine
    mine["b"] = Role.ADMIN
    assert values.changed_texts() == {"o": b'{"a":1,"b":"admin"}'}


def test_the_texts_of_keys_that_were_not_changed_are_copied():
    base = {"a": b"[1 , 2]", "b": b"1", "~7": b"2"}
    values = Values(NATIVE, base)
    del values["b"]
    values["c"] = None
    assert values.changed_texts() == {"a": b"[1 , 2]", "~7": b"2", "c": b"null"}
    assert base == {"a": b"[1 , 2]", "b": b"1", "~7": b"2"}


def test_a_list_that_the_app_repeats_in_a_value_it_was_handed_is_refused_quickly():
    values = stored(o={"rows": [1]})
    repeated: Any = ["x"]
    for _ in range(60):
        repeated = [repeated, repeated]
    values["o"]["rows"] = repeated
    began = time.process_time()
    with pytest.raises(SerializationError, match=r"session\['o'\] cannot be stored: it is too large"):
        values.changed_texts()
    assert time.process_time() - began < 2


# Keys.


@every_format
@pytest.mark.parametrize(("one", "other"), [(7, "7"), (None, "null"), (1.5, "1.5"), (Role.ADMIN, "admin")])
def test_two_keys_with_the_same_text_are_refused(format, one, other):
    values = Values(format, {})
    values[one], values[other] = 1, 2
    with pytest.raises(SerializationError, match="has the same text; rename one of them"):
        values.changed_texts()


def test_keys_keep_their_types_in_the_native_format_and_are_text_in_that_of_express():
    for format, expected in ((NATIVE, [7, None, "~a", "admin"]), (EXPRESS, ["7", "null", "~a", "admin"])):
        values = Values(format, {})
        values[7], values[None], values["~a"], values[Role.ADMIN] = range(4)
        again = Values(format, values.texts())
        assert list(again) == expected
        assert list(again.values()) == [0, 1, 2, 3]


# clear().


def test_after_clear_nothing_is_left_and_what_is_written_then_is():
    values = stored(a=1, b=[1])
    values.clear()
    assert values.cleared
    assert values.changed_texts() == {}
    values["c"] = 1
    assert values.changed_texts() == {"c": b"1"}


# After a merge.


def merged(values: Values, theirs: dict[str, Any]) -> None:
    mine = values.texts()
    values.rebase(merge_texts(values.base, mine, texts_of(NATIVE, theirs), NATIVE), mine=mine)


def test_an_object_that_the_app_holds_shows_what_another_request_added_and_remains_part_of_the_session():
    values = stored(cart={"tea": 1, "notes": ["a"]}, n=1)
    cart = values["cart"]
    notes = cart["notes"]
    cart["milk"] = 2
    merged(values, {"cart": {"tea": 1, "notes": ["a"], "rice": 3}, "n": 2})
    assert values["cart"] is cart
    assert cart == {"tea": 1, "notes": ["a"], "rice": 3, "milk": 2}
    assert values["n"] == 2
    assert values.changed_texts() is None
    notes.append("b")
    assert NATIVE.decode(values.texts()["cart"]) == {"tea": 1, "notes": ["a", "b"], "rice": 3, "milk": 2}


def test_an_object_that_the_app_put_in_is_not_changed_by_a_merge():
    defaults = {"theme": "dark"}
    values = stored()
    values["settings"] = defaults
    merged(values, {"settings": {"name": "Ada"}})
    assert values["settings"] == {"name": "Ada", "theme": "dark"}
    assert defaults == {"theme": "dark"}
