"""How two writers' bindings merge: set once, never undone, and counters only grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsgisession._core.binding import device_of, is_bound, merged

OFFER = {"offer": "o"}
BOUND = {"id": "a", "alg": "ES256", "jwk": {}, "thumbprint": "t", "bound_at": 1.0, "proven_at": 1.0, "n": 0}


def test_a_writer_that_has_not_seen_the_binding_does_not_undo_it():
    assert merged(None, BOUND) == BOUND
    assert merged(OFFER, BOUND) == BOUND


def test_a_binding_is_set_over_none_and_over_an_offer():
    assert merged(BOUND, None) == BOUND
    assert merged(BOUND, OFFER) == BOUND


def test_a_second_binding_loses():
    assert merged({**BOUND, "id": "b", "n": 9}, BOUND) == BOUND


def test_counters_take_the_larger_value_whoever_writes_last():
    newer, older = {**BOUND, "n": 4, "proven_at": 2.0}, {**BOUND, "n": 3, "proven_at": 5.0}
    assert merged(newer, older) == merged(older, newer) == {**BOUND, "n": 4, "proven_at": 5.0}


def test_only_a_binding_with_an_id_counts():
    assert [is_bound(field) for field in (None, OFFER, BOUND)] == [False, False, True]
    assert device_of(None) is device_of(OFFER) is None


FIELDS = st.sampled_from([None, OFFER, BOUND]) | st.builds(
    lambda n, at: {**BOUND, "n": n, "proven_at": at}, st.integers(0, 9), st.floats(0, 9)
)


@given(FIELDS, FIELDS)
def test_no_order_of_writes_loses_a_binding_or_counts_back(mine, theirs):
    result = merged(mine, theirs)
    assert is_bound(result) == (is_bound(mine) or is_bound(theirs))
    if is_bound(result):
        assert result is not None
        assert result["n"] == max((field or {}).get("n", 0) for field in (mine, theirs))
    assert merged(result, theirs) == merged(theirs, result) == result
