"""Values to store, made at random."""

from __future__ import annotations

import math
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from markupsafe import Markup

# Of an offset of less than a second CPython's own isoformat does not come back.
zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
texts = st.text(st.characters() | st.sampled_from('~"\\\ud800\udfff'))
finite = st.floats(allow_nan=False, allow_infinity=False)
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
scalar_keys = (
    st.text(st.characters() | st.sampled_from("~\ud800"), max_size=4)
    | st.sampled_from(["~", "~dict", "~set", "~float", "~map", "~7", "~~", "~null"])
    | st.integers()
    | finite
    | st.booleans()
    | st.none()
)
"""What a key may be."""

keys = st.text(max_size=4) | st.sampled_from(["~", "~dict", "~set", "~float", "~map"])
"""The keys of most dicts."""


def _key_text(key: Any) -> str:
    return key if type(key) is str else repr(key).replace("None", "null").lower()


def _as_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return the dict of the pairs, without keys whose text is another's too."""
    return dict({_key_text(key): (key, value) for key, value in pairs}.values())


def _dicts(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(keys, inner, max_size=3) | st.lists(st.tuples(scalar_keys, inner), max_size=3).map(_as_dict)


values = st.recursive(
    hashable | st.just(math.nan) | st.sampled_from([Decimal("NaN"), Decimal("-Infinity"), Decimal("1.10")]),
    lambda inner: st.lists(inner, max_size=3) | _dicts(inner) | st.tuples(inner) | st.sets(hashable, max_size=3),
    max_leaves=10,
)
"""Everything that the native format can store."""

mappings = _dicts(values)
"""The content of a session."""

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)
"""What JSON can hold."""
