"""The laws of merging what two requests made of one session."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.same import same
from wsgisession._core.codec import NativeCodec
from wsgisession._core.cookies import CookieOptions
from wsgisession._core.merge import additions, merge_texts
from wsgisession.express.codec import ExpressCodec

NATIVE = NativeCodec(max_size=1 << 20)
EXPRESS = ExpressCodec(max_size=1 << 20, options=CookieOptions(), dates=False, clock=lambda: 1e9)

every_format = pytest.mark.parametrize("format", [NATIVE, EXPRESS], ids=["native", "express"])

names = st.sampled_from("abc")
scalars = st.sampled_from([None, True, 1, 1.5, "x", (1,), frozenset({1})])
trees = st.dictionaries(
    names,
    st.recursive(scalars, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6),
    max_size=3,
)
"""Sessions without lists."""

mappings = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda inner: (
            st.dictionaries(names | st.sampled_from([7, None]), inner, max_size=3) | st.lists(inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=3,
)


def texts_of(data, format=NATIVE):
    return {format.name_of(key): format.encode(key, value) for key, value in data.items()}


def data_of(texts, format=NATIVE):
    return {format.key_of(name): format.decode(text) for name, text in texts.items()}


def merge(base, mine, theirs, format=NATIVE, **options):
    return data_of(merge_texts(*(texts_of(data, format) for data in (base, mine, theirs)), format, **options), format)


# A model of changes: set a value at a path, or delete what is there.

GONE: Any = object()
A_DICT: Any = object()
"""To make a dict of what is there, unless it is one."""
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


def delete_at(data, path, _=None):
    for name in path[:-1]:
        data = data.get(name)
        if type(data) is not dict:
            return
    data.pop(path[-1], None)


def value_at(data, path):
    for name in path:
        data = data.get(name, GONE) if type(data) is dict else GONE
    return data


# 1. No change.


@given(mappings, mappings)
def test_if_one_side_changed_nothing_the_result_is_the_other_side(base, other):
    assert same(merge(base, base, other), other)
    assert same(merge(base, other, base), other)


@every_format
def test_texts_that_only_one_side_changed_are_copied_and_never_parsed(format):
    base = {"same": b"<not JSON>", "mine": b"<mine was>", "theirs": b"<theirs was>", "gone": b"<gone>"}
    mine = {"same": b"<not JSON>", "mine": b"<mine is>", "theirs": b"<theirs was>", "new": b"<new>"}
    theirs = {"same": b"<not JSON>", "mine": b"<mine was>", "theirs": b"<theirs is>", "gone": b"<gone>"}
    merged = merge_texts(base, mine, theirs, format)
    assert merged == {"same": b"<not JSON>", "mine": b"<mine is>", "theirs": b"<theirs is>", "new": b"<new>"}


@every_format
def test_inside_a_dict_that_both_changed_only_the_members_that_both_changed_are_written_anew(format):
    base = b'{"rows": [1 , 2], "a":1e2, "cart": {"x" : 1}}'
    mine = b'{"rows": [1 , 2], "a":5, "cart": {"x":1,"y":2}}'
    theirs = b'{"rows": [1 , 2], "a":1e2, "cart": {"x" : 1, "z":3}}'
    merged = merge_texts({"k": base}, {"k": mine}, {"k": theirs}, format)
    assert merged == {"k": b'{"rows":[1 , 2],"a":5,"cart":{"x":1,"z":3,"y":2}}'}


@every_format
@pytest.mark.parametrize("spelled", [b'{"b":[1],"a":{"x":100}}', b'{ "a" : {"x": 1E2}, "b" : [ 1 ] }'])
def test_another_spelling_is_not_a_change(format, spelled):
    base = {"k": b'{"a":{"x":100.0},"b":[1]}' if format is NATIVE else b'{"a":{"x":100},"b":[1]}'}
    spelled = spelled.replace(b'"x":100}', b'"x":100.0}') if format is NATIVE else spelled
    for other in ({"k": b'{"a":5}'}, {"k": b"[2]"}, {}):
        for merged in (
            merge_texts(base, {"k": spelled}, other, format),
            merge_texts(base, other, {"k": spelled}, format),
        ):
            assert merged == other


@given(mappings, mappings, mappings)
def test_the_arguments_stay_as_they_are(base, mine, theirs):
    sides = [texts_of(data) for data in (base, mine, theirs)]
    before = copy.deepcopy(sides)
    merged = merge_texts(*sides, NATIVE)
    assert sides == before
    assert not any(merged is side for side in sides)


# 2. Different places.


@given(trees, changes, changes)
def test_changes_in_different_places_do_not_affect_each_other(base, mine, theirs):
    assume(any(a != b for a, b in zip(mine[0], theirs[0], strict=False)))
    here, there = changed(base, mine), changed(base, theirs)
    assert same(merge(base, here, there), merge(base, there, here))
    assert same(merge(base, here, there), changed(base, theirs, mine))


# 3. Lists that grew.


@given(st.lists(scalars), st.lists(scalars), st.lists(scalars))
def test_two_lists_that_only_grew_keep_both_additions(base, mine, theirs):
    merged = merge({"l": base}, {"l": base + mine}, {"l": base + theirs})
    assert same(merged, {"l": base + theirs + mine})


@given(st.lists(scalars), st.lists(scalars))
def test_two_new_lists_keep_both_additions_and_count_as_one_if_they_are_equal(mine, theirs):
    expected = theirs if same(mine, theirs) else theirs + mine
    assert same(merge({}, {"l": mine}, {"l": theirs}), {"l": expected})
    assert same(merge({"d": {}}, {"d": {"l": mine}}, {"d": {"l": theirs}}), {"d": {"l": expected}})
    assert same(merge({"l": 5}, {"l": mine}, {"l": theirs}), {"l": expected})


def test_of_lists_that_were_there_equal_additions_are_two():
    assert merge({"l": []}, {"l": [1]}, {"l": [1]}) == {"l": [1, 1]}


# 4. Removal.


@given(mappings, mappings, names)
def test_a_removal_removes_a_value_that_the_other_side_left_alone(base, other, name):
    without = {key: value for key, value in base.items() if key != name}
    other = {**{key: value for key, value in other.items() if key != name}, **{k: base[k] for k in base if k == name}}
    assert name not in merge(base, without, other)
    assert name not in merge(base, other, without)


@given(mappings, mappings, names)
def test_what_remains_of_a_value_that_one_side_removed_and_the_other_changed_does_not_depend_on_who_saves_first(
    base, other, name
):
    without = {key: value for key, value in base.items() if key != name}
    other = {**without, **{key: value for key, value in other.items() if key == name}}
    assert same(merge(base, without, other), merge(base, other, without))


@pytest.mark.parametrize(
    ("was", "changed", "remains"),
    [
        pytest.param(["tea"], ["tea", "milk"], ["milk"], id="an item that was added"),
        pytest.param([1, 2, 3], [2, 3, 4], [4], id="an item that was added while another was removed"),
        pytest.param(["a"], ["a", "b", "a"], ["b", "a"], id="an item that is there once more"),
        pytest.param([{"id": 1, "n": 1}], [{"id": 1, "n": 2}], [{"id": 1, "n": 2}], id="an item that was changed"),
        pytest.param([1, 2], [2], GONE, id="nothing of a list of which items were removed"),
        pytest.param([1, 2], [2, 1], GONE, id="nothing of a list that was sorted"),
        pytest.param({"tea": 1}, {"tea": 1, "milk": 2}, {"milk": 2}, id="a key that was added"),
        pytest.param({"tea": 1, "milk": 1}, {"tea": 2, "milk": 1}, {"tea": 2}, id="a key that was changed"),
        pytest.param({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"d": 2}}}, id="at any depth"),
        pytest.param({"a": [1], "b": 1}, {"a": [1, 2], "b": 1}, {"a": [2]}, id="an item in a list in a dict"),
        pytest.param({7: "a", None: 1}, {7: "b", None: 1}, {7: "b"}, id="a key that is not a str"),
        pytest.param({"a": 1, "b": 1}, {"a": 1}, GONE, id="nothing of a dict of which keys were removed"),
        pytest.param([1], [], [], id="an empty list that was assigned"),
        pytest.param({"a": 1}, {}, {}, id="an empty dict that was assigned"),
        pytest.param([1], {"a": 1}, {"a": 1}, id="a value of another type"),
        pytest.param({"a": 1}, 5, 5, id="a scalar in place of a dict"),
        pytest.param(1, 2, 2, id="a scalar that was changed"),
        pytest.param(1, None, None, id="None"),
        pytest.param({1, 2}, {1, 2, 3}, {1, 2, 3}, id="a set, as a whole"),
        pytest.param((1,), (1, 2), (1, 2), id="a tuple, as a whole"),
    ],
)
def test_of_a_value_that_one_side_removed_and_the_other_changed_only_the_change_remains(was, changed, remains):
    expected = {"other": 1} if remains is GONE else {"other": 1, "k": remains}
    base, without, other = {"k": was, "other": 1}, {"other": 1}, {"k": changed, "other": 1}
    assert same(merge(base, without, other), expected)
    assert same(merge(base, other, without), expected)
    outer = [{"outer": data} for data in (base, without, other)]
    assert same(merge(*outer), {"outer": expected})


def test_to_assign_an_empty_value_is_a_change_and_not_a_removal():
    base, grown = {"cart": ["tea"]}, {"cart": ["tea", "milk"]}
    assert merge(base, {"cart": []}, grown) == {"cart": []}  # the later writer
    assert merge(base, grown, {"cart": []}) == {"cart": ["tea", "milk"]}


@given(mappings, mappings)
def test_the_additions_are_what_is_left_if_all_that_was_there_is_removed(base, mine):
    added = data_of(additions(texts_of(base), texts_of(mine), NATIVE))
    assert same(added, merge(base, mine, {}))
    assert same(merge({}, added, {}), added)
    assert added.keys() <= mine.keys()
    assert same(merge(base, base, {}), {})


# 5. The later writer.


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged"),
    [
        pytest.param(1, 2, 3, 2, id="two scalars"),
        pytest.param([1], [1, 2], [], [1, 2], id="mine grew, theirs shrank"),
        pytest.param([1, 2], [2], [1, 2, 3], [2], id="mine lost its head"),
        pytest.param([1], [1, 2], "text", [1, 2], id="theirs is not a list any more"),
        pytest.param([1], [True, 2], [1, 3], [True, 2], id="an item of another type is another item"),
        pytest.param({"x": 1}, 5, {"x": 1, "y": 2}, 5, id="mine replaced the dict"),
        pytest.param({"x": 1}, {"x": 1, "y": 2}, 5, {"y": 2}, id="an addition to a dict that they replaced"),
        pytest.param({"x": 1}, {}, 5, 5, id="a removal from a dict that they replaced"),
        pytest.param(5, {"x": 1}, {"y": 2}, {"y": 2, "x": 1}, id="both made a dict of it"),
        pytest.param({1}, {1, 2}, {1, 3}, {1, 2}, id="two sets"),
        pytest.param({7: 1}, {7: 2}, {7: 3, "7a": 4}, {7: 2, "7a": 4}, id="under a key that is not a str"),
    ],
)
def test_if_both_sides_changed_a_value_the_later_writer_s_counts(base, mine, theirs, merged):
    assert same(merge({"key": base}, {"key": mine}, {"key": theirs}), {"key": merged})
    assert same(merge({"o": {"key": base}}, {"o": {"key": mine}}, {"o": {"key": theirs}}), {"o": {"key": merged}})


def difference(base, now, path=()):
    """Return the changes that lead from one to the other, leaf by leaf."""
    for name in [*base, *(name for name in now if name not in base)]:
        was, is_ = base.get(name, GONE), now.get(name, GONE)
        if is_ is GONE and type(was) is dict:
            yield from difference(was, {}, (*path, name))
        elif was is GONE or is_ is GONE or not same(was, is_):
            if type(is_) is dict and (type(was) is dict or is_):
                yield from difference(was if type(was) is dict else {}, is_, (*path, name))
            else:  # a dict with nothing in it yet takes in what others put into theirs
                yield (*path, name), A_DICT if type(is_) is dict else is_


def prune(data):
    """Return the data without empty dicts: what becomes of the dict around a change is not part of the change."""
    pruned = {name: prune(value) if type(value) is dict else value for name, value in data.items()}
    return {name: value for name, value in pruned.items() if value != {}}


def on_top(base, theirs, steps):
    """Return theirs with my changes made, except that I remove only what I saw."""
    for path, value in steps:
        if value is not GONE or same_or_gone(value_at(base, path), value_at(theirs, path)):
            theirs = changed(theirs, (path, value))
    return theirs


def same_or_gone(one, other):
    return one is other or (one is not GONE and other is not GONE and same(one, other))


@given(trees, st.lists(changes, max_size=4), st.lists(changes, max_size=4))
def test_many_changes_are_made_on_top_of_theirs(base, mine, theirs):
    mine, theirs = changed(base, *mine), changed(base, *theirs)
    steps = list(difference(base, mine))
    assert same(prune(merge(base, mine, theirs)), prune(on_top(base, theirs, steps)))


def is_decided_by_the_later_writer(base, one, other):
    """Tell whether both sides changed one place, or a place and one inside it, to different values."""
    mine, theirs = dict(difference(base, one)), dict(difference(base, other))
    return any(
        not same_or_gone(mine[here], theirs[there]) and mine[here] is not GONE and theirs[there] is not GONE
        if here == there
        else (mine[here] if len(here) < len(there) else theirs[there]) is not GONE
        for here in mine
        for there in theirs
        if here[: len(there)] == there[: len(here)]
    )


@given(trees, st.lists(changes, max_size=4), st.lists(changes, max_size=4))
def test_where_the_later_writer_does_not_decide_the_order_of_saving_does_not_count(base, mine, theirs):
    mine, theirs = changed(base, *mine), changed(base, *theirs)
    assume(not is_decided_by_the_later_writer(base, mine, theirs))
    assert same(prune(merge(base, mine, theirs)), prune(merge(base, theirs, mine)))


# clear().


@given(mappings, mappings, mappings)
def test_after_clear_only_what_the_request_wrote_since_remains(base, mine, theirs):
    assert same(merge(base, mine, theirs, cleared=True), mine)


# Formats.


@every_format
def test_a_new_dict_that_both_made_under_one_key_holds_what_both_put_in(format):
    mine, theirs = {"cart": {"tea": 1}}, {"cart": {"milk": 2}}
    assert merge({}, mine, theirs, format) == {"cart": {"tea": 1, "milk": 2}}


@pytest.mark.parametrize("tag", ["~dict", "~map", "~set", "~x"])
def test_a_dict_that_looks_like_a_tag_merges_as_a_dict(tag):
    assert merge({"k": {}}, {"k": {tag: [1]}}, {"k": {tag: [2]}}) == {"k": {tag: [2, 1]}}
    assert merge({"k": {tag: 1, "a": 1}}, {"k": {tag: 1}}, {"k": {tag: 2, "a": 1}}) == {"k": {tag: 2}}


def test_a_key_with_a_lone_surrogate_merges_as_others():
    assert merge({}, {"k": {"\ud800": 1}}, {"k": {"a": 2}}) == {"k": {"a": 2, "\ud800": 1}}


def test_texts_of_javascript_with_lone_surrogates_merge():
    sides = [
        json.dumps({"k": value}).encode() for value in ({"\ud800": ["\udfff"]}, {"\ud800": ["\udfff", 1]}, {"b": 1})
    ]
    merged = merge_texts(*map(EXPRESS.split, sides), EXPRESS)
    assert data_of(merged, EXPRESS) == {"k": {"b": 1, "\ud800": [1]}}
