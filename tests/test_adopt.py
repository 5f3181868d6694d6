"""A merge changes the objects that the app holds, and leaves alone those that it put in."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from tests.same import same
from tests.texts import merged
from wsgisession._core.codec import NativeCodec
from wsgisession._core.content import containers
from wsgisession._core.merge import adopt

CODEC = NativeCodec(max_size=1 << 20)


def merge(base, mine, theirs):
    return merged(CODEC, base, mine, theirs)


names = st.sampled_from("abc")
mappings = st.dictionaries(
    names,
    st.recursive(
        st.sampled_from([None, True, 1, 1.5, "x", (1,), frozenset({1})]),
        lambda inner: st.dictionaries(names, inner, max_size=3) | st.lists(inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@given(mappings, mappings, mappings)
def test_adopting_what_was_merged_makes_mine_the_same_as_it(base, mine, theirs):
    merged = merge(base, mine, theirs)
    expected = copy.deepcopy(merged)
    adopt(mine, merged, containers(mine))
    assert same(mine, expected)


@given(mappings, mappings)
def test_adopting_keeps_the_containers_that_the_app_holds(mine, other):
    held = {name: value for name, value in mine.items() if type(value) in (dict, list)}
    adopt(mine, other, containers(mine))
    for name, value in held.items():
        if type(other.get(name)) is type(value):
            assert mine[name] is value
            assert same(value, other[name])


@given(mappings, mappings, mappings)
def test_what_was_adopted_can_be_changed_without_a_change_to_the_base(base, mine, theirs):
    before = copy.deepcopy(base)
    adopt(mine, merge(base, mine, theirs), containers(mine))
    for container in list(containers(mine).values()):
        container.clear()
    assert same(base, before)


def test_one_list_under_two_keys_is_two_after_they_changed_differently():
    shared = [1]
    mine = {"a": shared, "b": shared}
    adopt(mine, merge({"a": [1], "b": [1]}, mine, {"a": [2], "b": [1]}), containers(mine))
    assert mine == {"a": [2], "b": [1]}


def test_a_container_that_the_app_put_in_is_replaced_and_stays_as_it_was():
    """It may be a constant of the app's, which all visitors share."""
    defaults = {"theme": "dark"}
    mine = {"settings": defaults}
    adopt(mine, merge({}, mine, {"settings": {"name": "Ada"}}), {})
    assert mine == {"settings": {"theme": "dark", "name": "Ada"}}
    assert defaults == {"theme": "dark"}
