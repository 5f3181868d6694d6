"""The laws of merging what two requests made of one session."""

from __future__ import annotations

import copy
import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from tests.same import same
from tests.texts import merged
from wsgisession._core.codec import Codec
from wsgisession._core.content import containers
from wsgisession._core.merge import adopt

CODEC = Codec(max_size=1 << 20)


def merge(base, mine, theirs):
    return merged(CODEC, base, mine, theirs)


names = st.sampled_from("abc")
scalars = st.sampled_from([None, True, 1, 1.0, "x", math.nan, (1,), frozenset({1})])
trees = st.dictionaries(
    names,
    st.recursive(scalars, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6),
    max_size=3,
)
mappings = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda inner: st.dictionaries(names, inner, max_size=3) | st.lists(inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


# A model of changes: set a value at a path, make a dict of what is there unless it is one, or delete it.

GONE = object()
A_DICT = object()
paths = st.lists(names, min_size=1, max_size=3)
changes = st.tuples(paths, st.sampled_from([GONE, 1, 2, "x"]))


def changed(data, *steps):
    """Return a copy of the data with the changes made, one after the other."""
    data = copy.deepcopy(data)
    for path, value in steps:
        (set_at if value is not GONE else delete_at)(data, path, value)
    return data


def set_at(data, path, value):
    for name in path[:-1]:
        if type(data.get(name)) is not dict:
            data[name] = {}
        data = data[name]
    if value is not A_DICT:
        data[path[-1]] = value
    elif type(data.get(path[-1])) is not dict:
        data[path[-1]] = {}


def delete_at(data, path, _):
    for name in path[:-1]:
        data = data.get(name)
        if type(data) is not dict:
            return
    data.pop(path[-1], None)


def differ(one, other):
    return any(a != b for a, b in zip(one, other, strict=False))


@given(mappings, mappings)
def test_who_changed_nothing_takes_over_what_the_other_made(base, other):
    assert same(merge(base, base, other), other)
    assert same(merge(base, other, base), other)


@given(mappings, mappings, mappings)
def test_the_arguments_stay_as_they_are(base, mine, theirs):
    before = copy.deepcopy((base, mine, theirs))
    merged = merge(base, mine, theirs)
    assert same((base, mine, theirs), before)
    assert merged is not mine
    assert merged is not theirs


@given(trees, changes, changes)
def test_changes_of_different_places_commute(base, mine, theirs):
    if differ(mine[0], theirs[0]):
        here, there = changed(base, mine), changed(base, theirs)
        assert same(merge(base, here, there), merge(base, there, here))
        assert same(merge(base, here, there), changed(base, theirs, mine))


@given(mappings, mappings, names)
def test_a_deletion_survives_where_the_other_side_left_the_key_alone(base, other, name):
    without = {key: value for key, value in base.items() if key != name}
    other = {**{key: value for key, value in other.items() if key != name}, **{k: base[k] for k in base if k == name}}
    assert name not in merge(base, without, other)
    assert name not in merge(base, other, without)


@given(trees, changes, changes)
def test_the_result_of_two_changes_is_what_one_of_the_two_orders_makes(base, mine, theirs):
    merged = merge(base, changed(base, mine), changed(base, theirs))
    assert any(same(merged, made) for made in (changed(base, theirs, mine), changed(base, mine, theirs)))


def difference(base, now, path=()):
    """Return the changes that lead from one to the other, leaf by leaf."""
    for name in [*base, *(name for name in now if name not in base)]:
        was, is_ = base.get(name, GONE), now.get(name, GONE)
        if same(was, is_):
            continue
        if type(is_) is dict and (type(was) is dict or is_):
            yield from difference(was if type(was) is dict else {}, is_, (*path, name))
        elif type(is_) is dict:  # with nothing in it yet: what others put into theirs stays
            yield (*path, name), A_DICT
        else:
            yield (*path, name), is_


def prune(data):
    """Return the data without empty dicts: what becomes of the dict around a change is not part of the change."""
    pruned = {name: prune(value) if type(value) is dict else value for name, value in data.items()}
    return {name: value for name, value in pruned.items() if value != {}}


@given(trees, st.lists(changes, max_size=4), st.lists(changes, max_size=4))
def test_many_changes_are_made_on_top_of_theirs(base, mine, theirs):
    mine, theirs = changed(base, *mine), changed(base, *theirs)
    on_top = changed(theirs, *difference(base, mine))
    assert same(prune(merge(base, mine, theirs)), prune(on_top))


@given(st.lists(scalars), st.lists(scalars), st.lists(scalars))
def test_two_lists_that_only_grew_keep_both_tails(base, mine, theirs):
    merged = merge({"l": base}, {"l": base + mine}, {"l": base + theirs})
    assert same(merged, {"l": base + theirs + mine})


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged"),
    [
        pytest.param([1], [1, 2], [], [1, 2], id="mine grew, theirs shrank"),
        pytest.param([1, 2], [2], [1, 2, 3], [2], id="mine lost its head"),
        pytest.param([1], [1, 2], "text", [1, 2], id="theirs is no list any more"),
        pytest.param([1], [True, 2], [1, 3], [True, 2], id="an item of another type is another item"),
        pytest.param([], [1], [1], [1, 1], id="both added the same"),
        pytest.param({"a": {"x": 1}}, {"a": {}}, {"a": 5}, {"a": 5}, id="a deletion inside what they replaced"),
        pytest.param(
            {"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {"a": 5}, {"a": {"y": 2}}, id="an addition to what they replaced"
        ),
        pytest.param({"a": 5}, {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}, id="both made a dict of it"),
        pytest.param({"a": 5}, {"a": {}}, {"a": {"y": 2}}, {"a": {"y": 2}}, id="mine is a dict with nothing in it yet"),
        pytest.param({"a": 1}, {}, {"a": 2}, {"a": 2}, id="their change of what I deleted"),
        pytest.param({"a": 1}, {"a": 2}, {}, {"a": 2}, id="my change of what they deleted"),
    ],
)
def test_where_both_changed_a_value_the_later_writer_s_counts(base, mine, theirs, merged):
    assert same(merge({"key": base}, {"key": mine}, {"key": theirs}), {"key": merged})


def test_a_new_dict_that_both_made_under_one_key_holds_what_both_put_in():
    mine, theirs = {"cart": {"tea": 1}}, {"cart": {"milk": 2}}
    assert merge({}, mine, theirs) == {"cart": {"tea": 1, "milk": 2}}


def test_what_they_deleted_stays_deleted_inside_what_i_added_to():
    base = {"cart": {"tea": 1}, "notes": ["a"]}
    mine = {"cart": {"tea": 1, "milk": 2}, "notes": ["a", "b"]}
    assert merge(base, mine, {}) == {"cart": {"milk": 2}, "notes": ["b"]}


def ours(mine):
    return containers(mine)


@given(mappings, mappings, mappings)
def test_adopting_what_was_merged_makes_mine_the_same_as_it(base, mine, theirs):
    merged = merge(base, mine, theirs)
    expected = copy.deepcopy(merged)
    adopt(mine, merged, ours(mine))
    assert same(mine, expected)


@given(mappings, mappings)
def test_adopting_keeps_the_containers_that_the_app_holds(mine, other):
    held = {name: value for name, value in mine.items() if type(value) in (dict, list)}
    adopt(mine, other, ours(mine))
    for name, value in held.items():
        if type(other.get(name)) is type(value):
            assert mine[name] is value
            assert same(value, other[name])


@given(mappings, mappings, mappings)
def test_what_was_adopted_can_be_changed_without_a_change_to_the_base(base, mine, theirs):
    before = copy.deepcopy(base)
    adopt(mine, merge(base, mine, theirs), ours(mine))
    for container in list(containers(mine).values()):
        container.clear()
    assert same(base, before)


def test_one_list_under_two_keys_is_two_after_they_changed_differently():
    shared = [1]
    mine = {"a": shared, "b": shared}
    adopt(mine, merge({"a": [1], "b": [1]}, mine, {"a": [2], "b": [1]}), ours(mine))
    assert mine == {"a": [2], "b": [1]}


@given(mappings)
def test_a_copy_is_the_same(value):
    assert same(value, copy.deepcopy(value))


def _reversed(value):
    if type(value) is dict:
        return {key: _reversed(item) for key, item in reversed(value.items())}
    return [_reversed(item) for item in value] if type(value) is list else value


@given(mappings)
def test_the_order_of_keys_makes_no_difference(value):
    assert same(value, _reversed(value))


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
    assert not same(one, other)
    assert not same({"k": [one]}, {"k": [other]})


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
    assert same(one, other)


def test_a_container_that_the_app_put_in_is_replaced_and_stays_as_it_was():
    """It may be a constant of the app's, which all visitors share."""
    defaults = {"theme": "dark"}
    mine = {"settings": defaults}
    adopt(mine, merge({}, mine, {"settings": {"name": "Ada"}}), {})
    assert mine == {"settings": {"theme": "dark", "name": "Ada"}}
    assert defaults == {"theme": "dark"}
