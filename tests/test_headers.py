"""Vary and Cache-Control are merged with what the app set (RFC 9110, RFC 9111), and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgisession._core.reply import NOTHING, Reply, with_reply

COOKIE = Reply("sid=x")
READ = Reply(vary=True)


def values(headers, name):
    return [value for key, value in headers if key.lower() == name.lower()]


def test_a_response_without_a_session_goes_as_it_is():
    headers = [("Content-Type", "text/plain"), ("Vary", "Accept"), ("Vary", "Origin")]
    assert with_reply(headers, NOTHING) is headers


def test_a_repr_contains_no_cookie_value():
    """SECURITY 56."""
    assert [repr(Reply("sid=hush")), repr(READ)] == ["<Reply with a cookie>", "<Reply without a cookie>"]


@pytest.mark.parametrize("reply", [Reply(), READ, COOKIE, Reply("sid=x", vary=True, clear_site_data=True)])
def test_the_app_s_own_list_stays_as_it_is(reply):
    headers = [("Set-Cookie", "a=b"), ("vary", "Accept"), ("CACHE-CONTROL", "public")]
    before = list(headers)
    merged = with_reply(headers, reply)
    assert headers == before
    assert merged[0] == ("Set-Cookie", "a=b")


@pytest.mark.parametrize(
    ("present", "merged"),
    [
        ([], "Cookie"),
        ([""], "Cookie"),
        (["Accept"], "Accept, Cookie"),
        (["Accept, Origin"], "Accept, Origin, Cookie"),
        (["Accept", "Origin"], "Accept, Origin, Cookie"),
        (["Accept,, Origin,"], "Accept, Origin, Cookie"),
        (["Cookie"], "Cookie"),
        (["accept, cookie"], "accept, cookie"),
        (["Accept", "COOKIE"], "Accept, COOKIE"),
        (["Cookie2"], "Cookie2, Cookie"),
        (["*"], "*"),
        (["Accept", "*"], "Accept, *"),
    ],
)
def test_vary_names_the_cookie_once_next_to_what_the_app_varies_by(present, merged):
    """SECURITY 55; RFC 9110 section 12.5.5."""
    assert values(with_reply([("vary", value) for value in present], READ), "Vary") == [merged]


def test_a_cookie_alone_does_not_vary():
    assert values(with_reply([], COOKIE), "Vary") == []


@pytest.mark.parametrize(
    ("present", "merged"),
    [
        ([], "no-store"),
        ([""], "no-store"),
        ([" , "], "no-store"),
        (["public"], "private"),
        (["public, max-age=60"], "private, max-age=60"),
        (["Public, S-MaxAge=60"], "private"),
        (["max-age=60, s-maxage=600"], "private, max-age=60"),
        (["max-age=60", "public"], "private, max-age=60"),
        (["private"], "private"),
        (["Private, max-age=5"], "Private, max-age=5"),
        (["no-store"], "no-store"),
        (["No-Store, max-age=0"], "No-Store, max-age=0"),
        (["public, no-store"], "no-store"),
        (["no-cache"], "private, no-cache"),
        (['no-cache="Set-Cookie"'], 'private, no-cache="Set-Cookie"'),
        (['private="X-One, X-Two"'], "private"),
        (['community="public, s-maxage=1"'], 'private, community="public, s-maxage=1"'),
        (['note="a \\" public, b", max-age=1'], 'private, note="a \\" public, b", max-age=1'),
        (['note="public, never closed'], 'private, note="public, never closed'),
        (["immutable, stale-while-revalidate=30, x=y"], "private, immutable, stale-while-revalidate=30, x=y"),
    ],
)
def test_cache_control_keeps_shared_caches_away_and_the_rest_as_it_was(present, merged):
    """SECURITY 54; RFC 9111 section 5.2.2."""
    assert values(with_reply([("cache-control", value) for value in present], COOKIE), "Cache-Control") == [merged]


def test_a_session_that_was_only_read_leaves_cache_control_alone():
    headers = [("Cache-Control", "public, max-age=60")]
    assert values(with_reply(headers, READ), "Cache-Control") == ["public, max-age=60"]


def test_the_cookie_is_sent_next_to_those_of_the_app():
    """SECURITY 13."""
    assert values(with_reply([("Set-Cookie", "a=b")], COOKIE), "Set-Cookie") == ["a=b", "sid=x"]


def test_clear_site_data_is_sent_on_request():
    """SECURITY 32."""
    assert values(with_reply([], Reply("sid=", clear_site_data=True)), "Clear-Site-Data") == [
        '"cache", "cookies", "storage"'
    ]
    assert values(with_reply([], COOKIE), "Clear-Site-Data") == []


pieces = st.sampled_from(['"', "\\", ",", "=", " ", "public", "no-store", "private", "x"]) | st.text(max_size=3)


@given(st.lists(pieces).map("".join))
def test_any_value_of_the_app_is_merged_without_an_exception(value):
    merged = with_reply([("Vary", value), ("Cache-Control", value)], Reply("sid=x", vary=True))
    assert [name for name, _ in merged] == ["Vary", "Set-Cookie", "Cache-Control"]


@given(st.lists(pieces).map("".join))
def test_merging_again_changes_nothing(value):
    once = with_reply([("Cache-Control", value), ("Vary", "Accept")], Reply("sid=x", vary=True))
    again = with_reply(once, Reply("sid=x", vary=True))
    for name in ("Vary", "Cache-Control"):
        assert values(again, name) == values(once, name)
