"""What a client, a stranger with the store, or an operator's typing error may send: no exception reaches the client."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.visitors import Site
from tests.visits import SECRET, WatchedStore
from wsgisession import ConfigurationError, Session
from wsgisession.stores import Record, open_store

quick = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
few = settings(quick, max_examples=40)

latin = st.text(st.characters(max_codepoint=255), max_size=300)
"""Whatever a WSGI server may put in an environ (PEP 3333)."""

piece = st.sampled_from(
    ["sid", "sid=", "=", ";", "; ", ",", '"', "\\", "\0", " ", "%00", "s:", ".", "A" * 43, "é", "\t"]
)
headers = st.one_of(latin, st.lists(st.one_of(piece, latin), max_size=20).map("".join))


def read(session: Session) -> dict[str, Any]:
    return dict(session)


@pytest.fixture(scope="module")
def watched() -> Site:
    """A site whose store counts its calls."""
    return Site(WatchedStore())


def answered(site: Site, header: str) -> dict[str, Any]:
    browser = site.browser()
    found: dict[str, Any] = browser.visit(read, cookies=header)
    assert browser.response.status_code == 200
    assert browser.sent is None or browser.sent.value == ""
    return found


# The cookie.


@quick
@given(headers)
@example("sid=" + "x" * 100_000)
@example("sid=" * 10_000)
@example(";" * 50_000)
def test_security_48_49_any_cookie_header_is_answered_without_a_look_into_the_store(watched, header):
    """SECURITY 48, 49: what does not verify costs no store command."""
    before = watched.store.calls.copy()
    assert answered(watched, header) == {}
    assert watched.store.calls == before


@quick
@given(latin)
def test_security_48_any_value_is_answered_without_a_look_into_the_store(watched, value):
    """SECURITY 48."""
    before = watched.store.calls.copy()
    assert answered(watched, f"sid={value}") == {}
    assert watched.store.calls == before


@quick
@given(st.integers(0, 200), st.characters(max_codepoint=255, exclude_characters="; \t\"'"))
def test_security_48_a_cookie_of_which_a_character_is_another_is_none(watched, place, other):
    """SECURITY 48: changed, cut off, or with something after it."""
    value = watched.logged_in().cookie
    at = place % len(value)
    assume(other != value[at])
    before = watched.store.calls.copy()
    for bad in (value[:at] + other + value[at + 1 :], value[:at], value + other):
        assert answered(watched, f"sid={bad}") == {}
    assert watched.store.calls == before


@quick
@given(headers)
def test_security_49_a_true_cookie_is_found_next_to_any_other(watched, header):
    """SECURITY 49: whatever stands before it, short of eight cookies of its name and an open quote."""
    browser = watched.logged_in()
    beside = header.replace("sid", "other").replace('"', "")
    assert answered(watched, f"{beside}; sid={browser.cookie}") == {"user_id": "ada"}


def test_security_49_of_hundreds_of_verified_cookies_eight_are_looked_up():
    """SECURITY 49: valid ones, whose records are gone."""
    site = Site(WatchedStore())
    gone = []
    for _ in range(40):
        browser = site.logged_in()
        gone.append(browser.cookie)
        site.manager.revoke(browser.handle)
    before = site.store.calls.copy()
    assert answered(site, "; ".join(f"sid={value}" for value in gone * 10)) == {}
    assert 0 < (site.store.calls - before)["load"] <= 8
    assert set(site.store.calls - before) == {"load"}


@pytest.mark.parametrize("name", ["sid", "other"])
def test_security_49_hundreds_of_cookies_take_no_time(watched, name):
    """SECURITY 49."""
    header = "; ".join(f"{name}={'A' * 43}.{'A' * 43}" for _ in range(1000))
    answered(watched, header)
    started = time.perf_counter()
    answered(watched, header)
    assert time.perf_counter() - started < 0.05


# The stored bytes.


LIKE_RECORDS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@pytest.fixture(params=[None, bytes(range(32))], ids=["plain", "encrypted"])
def site(store, request) -> Site:
    return Site(store, encryption_key=request.param)


@few
@given(
    LIKE_RECORDS,
    st.floats(0, 1, exclude_max=True),
    st.binary(max_size=4),
    st.sampled_from(["stranger", "other", "cut"]),
)
def test_security_50_51_whatever_is_in_the_store_nobody_gets_an_error(site, strange, place, other, kind):
    """SECURITY 50, 51: bytes of a stranger, or ours of which some are others; the visitor may begin anew and leave."""
    browser = site.logged_in()
    handle, now = browser.handle, site.manager._services.clock()
    record = site.store.load(handle, now=now, touch_after=None)
    assert record is not None
    ours, at = record.data, int(place * len(record.data))
    planted = {"stranger": strange, "other": ours[:at] + other + ours[at + 1 :], "cut": ours[:at]}[kind]
    with contextlib.suppress(Exception):  # a store of text or JSON alone may refuse it
        site.store.replace(handle, Record(planted, record.ttl, record.user_id, record.version), now=now)
    for order in (read, lambda session: session.update(n=1), lambda session: session.login("ada"), Session.logout):
        browser.visit(order)
        assert browser.response.status_code == 200
    site.manager.sessions_for("ada")
    site.manager.revoke_user("ada")


# The URL.

schemes = [
    "memory",
    "sqlite",
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "redis+cluster",
    "postgresql",
    "mongodb",
    "",
]
urls = st.one_of(
    st.text(max_size=60),
    st.builds("{}://{}".format, st.sampled_from(schemes), st.text(max_size=60)),
    st.builds(
        "{}://u:hush-hush@{}:{}/{}?{}={}".format,
        st.sampled_from(schemes),
        st.sampled_from(["localhost", "[::1]", "[", "a,b", "", "x y"]),
        st.one_of(st.integers(-1, 70_000), st.text(max_size=4)),
        st.text(max_size=9),
        st.sampled_from(
            ["timeout", "prefix", "table", "schema", "collection", "max_sessions", "nonsense", "db", "ssl"]
        ),
        st.text(max_size=9),
    ),
)


@settings(quick, max_examples=400)
@given(urls)
def test_any_store_url_is_a_store_or_a_configuration_error_that_shows_no_password(url):
    try:
        store = open_store(url)
    except ConfigurationError as error:
        shown = f"{error} {error.__cause__ or ''}"
    else:
        shown = repr(store)
        store.close()
    assert "hush-hush" not in shown


@settings(quick, max_examples=100)
@given(st.one_of(st.none(), st.integers(), st.binary(), st.lists(st.integers(), max_size=2)))
def test_a_store_that_is_neither_a_url_nor_a_store_is_a_configuration_error(store):
    with pytest.raises(ConfigurationError):
        Site(store, secret=SECRET)
