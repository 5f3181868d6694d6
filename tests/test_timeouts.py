"""The arithmetic of the timeouts: what is refused at start, and what the defaults come to."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgisession._core.timeouts import DAY, Timeouts
from wsgisession.errors import ConfigurationError


def timeouts(**options):
    defaults = {
        "idle_timeout": None,
        "absolute_timeout": 30 * DAY,
        "touch_after": None,
        "renewal_timeout": None,
        "renewal_grace": 30,
        "max_age": None,
    }
    return Timeouts.from_options(**{**defaults, **options})


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({}, DAY),
        ({"max_age": 3600.0}, 3600),
        ({"max_age": 60 * DAY}, 30 * DAY),
        ({"max_age": 60 * DAY, "absolute_timeout": None}, 60 * DAY),
        ({"absolute_timeout": 3600}, 3600),
        ({"absolute_timeout": timedelta(hours=12), "idle_timeout": timedelta(minutes=30)}, 1800),
        ({"idle_timeout": 30 * DAY}, 30 * DAY),
        ({"idle_timeout": 5 * DAY, "max_age": 60.0}, 5 * DAY),
    ],
)
def test_the_idle_timeout_follows_the_cookie_within_the_absolute_one(options, idle):
    made = timeouts(**options)
    assert made.default == idle
    assert made.ttl(options.get("max_age")) == idle


def test_a_session_with_its_own_max_age_has_its_own_idle_timeout():
    assert timeouts(max_age=60.0).ttl(600.0) == 600
    assert timeouts(max_age=60.0).ttl(None) == DAY
    assert timeouts(idle_timeout=60).ttl(600.0) == 60
    assert timeouts(absolute_timeout=300).ttl(600.0) == 300


def test_the_deadline_is_the_absolute_timeout_after_the_beginning():
    assert timeouts(absolute_timeout=100).deadline(5.0) == 105
    assert timeouts(absolute_timeout=None).deadline(5.0) == math.inf


@pytest.mark.parametrize(
    ("given", "fraction"), [(None, 0.05), (0, 0), (0.0, 0), (60, 60 / DAY), (timedelta(hours=12), 0.5)]
)
def test_touch_after_is_kept_as_a_fraction_of_the_idle_timeout(given, fraction):
    assert timeouts(touch_after=given).touch_after == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"idle_timeout": -1}, "idle_timeout"),
        ({"idle_timeout": timedelta(0)}, "idle_timeout"),
        ({"idle_timeout": True}, "idle_timeout"),
        ({"idle_timeout": "1 day"}, "idle_timeout"),
        ({"idle_timeout": math.nan}, "idle_timeout"),
        ({"absolute_timeout": math.inf}, "absolute_timeout"),
        ({"absolute_timeout": 0}, "absolute_timeout"),
        ({"absolute_timeout": 11 * 366 * DAY}, "ten years"),
        ({"absolute_timeout": 100, "idle_timeout": 101}, "longer than absolute_timeout"),
        ({"idle_timeout": 60, "touch_after": 60}, "touch_after"),
        ({"touch_after": -1}, "touch_after"),
        ({"touch_after": False}, "touch_after"),
        ({"touch_after": "5%"}, "touch_after"),
        ({"max_age": 60.0, "touch_after": 61}, "touch_after"),
        ({"renewal_timeout": 0}, "renewal_timeout"),
        ({"renewal_timeout": 30}, "renewal_grace"),
        ({"renewal_timeout": 60, "renewal_grace": 0}, "renewal_grace"),
        ({"renewal_timeout": 60, "renewal_grace": -5}, "renewal_grace"),
    ],
    ids=repr,
)
def test_a_timeout_that_cannot_be_right_is_refused_at_start(options, sentence):
    """SECURITY 59."""
    with pytest.raises(ConfigurationError, match=rf"\b{sentence}\b"):
        timeouts(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"absolute_timeout": 10 * 366 * DAY},
        {"idle_timeout": 0.001},
        {"idle_timeout": 60, "absolute_timeout": 60},
        {"idle_timeout": 60, "touch_after": 59},
        {"renewal_timeout": 60, "renewal_grace": 59},
        {"renewal_timeout": timedelta(minutes=15), "renewal_grace": timedelta(seconds=1)},
    ],
    ids=repr,
)
def test_a_timeout_within_its_limits_is_taken(options):
    timeouts(**options)


def test_renewal_is_kept_in_seconds_and_off_unless_it_is_asked_for():
    made = timeouts(renewal_timeout=timedelta(minutes=15))
    assert (made.renewal, made.grace) == (900, 30)
    assert timeouts().renewal is None


def test_timeouts_cannot_be_changed():
    with pytest.raises(AttributeError):
        timeouts().idle = 5


durations = st.none() | st.floats(1, 1e6)


@given(durations, durations, durations, durations)
def test_no_session_idles_past_the_absolute_timeout(idle, absolute, max_age, own):
    try:
        made = timeouts(idle_timeout=idle, absolute_timeout=absolute, max_age=max_age)
    except ConfigurationError:
        assert idle > absolute
        return
    for ttl in (made.default, made.ttl(own)):
        assert 0 < ttl <= made.deadline(0)
