"""The JSON that Express stores: what of Python's it can hold, and what is refused before anything is written."""

from __future__ import annotations

import decimal
import json
import uuid
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from tests.environs import request
from tests.texts import data_of, dumped, texts_of
from wsgisession import ConfigurationError, SerializationError, SessionManager
from wsgisession._core.content import Content
from wsgisession._core.cookies import CookieOptions
from wsgisession.express.codec import CLIENT, RESERVED, ExpressCodec
from wsgisession.stores import Record

NOW = 2_000_000_000.5
SECRET = "for the tests, and long enough"
DAY = 86_400


def codec(*, dates=False, max_size=1 << 20, **options):
    return ExpressCodec(max_size=max_size, options=CookieOptions(**options), dates=dates, clock=lambda: NOW)


def written(data, **options):
    made = codec(**options)
    return json.loads(made.pack(Content(texts_of(made, data), NOW), handle="one"))


def again(data):
    """Return the data as the next request reads them."""
    made = codec()
    packed = made.pack(Content(texts_of(made, data), NOW), handle="one")
    return data_of(made, made.unpack(packed, handle="one").texts)


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


json_objects = st.dictionaries(st.text().filter(lambda key: key not in RESERVED | {CLIENT}), json_like, max_size=5)


@given(json_objects)
def test_what_json_holds_comes_back(data):
    assert again(data) == data


@given(json_objects)
def test_a_text_says_the_same_as_itself_in_another_order(data):
    made = codec()
    assert made.same(dumped(made, data), dumped(made, dict(reversed(data.items()))))


def test_one_true_and_text_are_three_values():
    made = codec()
    texts = [dumped(made, {"n": value}) for value in (1, True, "1", None)]
    assert [made.same(texts[0], text) for text in texts] == [True, False, False, False]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, (2,)), [1, [2]]),
        (1.0, 1),
        (-0.0, 0),
        (1e21, 1e21),
        (datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone.utc), "2026-01-02T03:04:05.678Z"),
        (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:00:00.000Z"),
        (datetime(2026, 1, 2), "2026-01-02T00:00:00.000Z"),
        (Markup("<b>"), "<b>"),
        ("\ud800 and \0", "\ud800 and \0"),
        (1152921504606847000, 1152921504606847000),
        (9007199254740994, 9007199254740994),
    ],
)
def test_a_value_is_read_again_as_javascript_would_read_it(value, read):
    found = again({"x": value})["x"]
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "JSON has no nan"),
        (float("-inf"), "JSON has no -inf"),
        (2**53 + 1, "round"),
        (2**60, "round"),
        (10**400, "round"),
        (b"bytes", "bytes"),
        ({1}, "set"),
        (decimal.Decimal(1), "Decimal"),
        (uuid.UUID(int=1), "UUID"),
        (date(2026, 1, 1), "date"),
        (timedelta(1), "timedelta"),
        (object(), "object"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_the_way_to_it(value, reason):
    with pytest.raises(SerializationError, match=rf"session\['a'\]\[1\]\['b'\].*{reason}"):
        dumped(codec(), {"a": [0, {"b": value}]})


def test_what_contains_itself_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(SerializationError, match="contains itself"):
        dumped(codec(), {"loop": loop})


@pytest.mark.parametrize(("key", "dates"), [("_wsgisession_client", False), ("_created", True)])
def test_a_key_of_the_metadata_is_refused(key, dates):
    with pytest.raises(SerializationError, match="express-session uses the key itself"):
        dumped(codec(dates=dates), {key: None})


@pytest.mark.parametrize("key", ["cookie", "id", "save", "constructor", "__proto__"])
def test_a_key_that_express_has_taken_is_refused_and_not_read(key):
    made = codec()
    with pytest.raises(SerializationError, match="express-session uses the key itself"):
        dumped(made, {key: 1})
    dumped(made, {"inside": {key: 1}})
    packed = json.dumps({"cookie": {"originalMaxAge": None}, "n": 1, **({key: {}} if key != "cookie" else {})})
    assert data_of(made, made.unpack(packed.encode(), handle="one").texts) == {"n": 1}


def test_a_record_says_all_of_the_cookie_in_the_order_of_express():
    cookie = written({}, max_age=90.5, domain="example.com", secure=True, same_site="None", partitioned=True)["cookie"]
    assert list(cookie.items()) == [
        ("originalMaxAge", 90_500),
        ("partitioned", True),
        ("expires", "2033-05-18T03:34:51.000Z"),
        ("secure", True),
        ("httpOnly", True),
        ("domain", "example.com"),
        ("path", "/"),
        ("sameSite", "none"),
    ]


def test_a_cookie_that_ends_with_the_browser_has_no_end():
    assert written({"n": 1}) == {
        "cookie": {"originalMaxAge": None, "expires": None, "httpOnly": True, "path": "/", "sameSite": "lax"},
        "n": 1,
    }


def test_what_stood_in_the_cookie_stays():
    made = codec()
    cookie = {
        "originalMaxAge": 1000,
        "priority": "high",
        "expires": "x",
        "secure": False,
        "path": "/",
        "sameSite": True,
    }
    packed = json.dumps({"cookie": cookie}).encode()
    again = json.loads(made.pack(made.unpack(packed, handle="one"), handle="one"))["cookie"]
    assert again == {**cookie, "expires": "2033-05-18T03:33:21.500Z"}


@pytest.mark.parametrize("age", [1e300, -1e300, pytest.param(10**400, id="10**400"), 0, -1, 0.5])
def test_any_lifetime_can_be_read_and_written(age):
    made = codec()
    packed = json.dumps({"cookie": {"originalMaxAge": age}}).encode()
    assert made.glance(packed, [])[0] > 0
    assert json.loads(made.pack(made.unpack(packed, handle="one"), handle="one"))["cookie"]["originalMaxAge"] == age


@pytest.mark.parametrize(
    "packed", [b"", b"{", b"[]", b"1", b"{}", b'{"cookie":1}', b'["ws1",1,null,{}]', b"\xff", b'{"cookie":NaN}']
)
def test_what_is_not_a_session_of_express_is_none(packed):
    with pytest.raises(SerializationError):
        codec().unpack(packed, handle="one")
    assert codec().glance(packed, [])[0] is None


def test_a_session_that_is_too_large_is_refused():
    with pytest.raises(SerializationError, match="too large"):
        written({"x": "y" * 200}, max_size=100)


def test_a_record_is_dated_only_for_an_absolute_timeout():
    assert "_created" not in written({})
    assert written({}, dates=True)["_created"] == 1000 * NOW


@pytest.mark.parametrize("created", [None, "x", True, -1, 1e30])
def test_a_record_with_no_usable_date_counts_from_now(created):
    made = codec(dates=True)
    content = made.unpack(json.dumps({"cookie": {}, "_created": created}).encode(), handle="one")
    assert content.created_at == NOW
    assert not made.is_dated(content)


@pytest.mark.parametrize("option", ["renewal_timeout", "encryption_key"])
def test_what_belongs_to_the_native_format_is_refused(option):
    with pytest.raises(ConfigurationError, match=f"{option} belongs to the native format"):
        SessionManager(secret=SECRET, format="express", **{option: 600})


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigurationError, match="'native', 'express'"):
        SessionManager(secret=SECRET, format="rails")


def test_the_absolute_timeout_is_off_unless_it_is_set():
    def ends(**options):
        times = [NOW]
        timeouts = {"idle_timeout": 90 * 86_400, **options}
        manager = SessionManager(secret=SECRET, format="express", clock=lambda: times[-1], **timeouts)
        session = manager.open("", None)
        session["n"] = 1
        manager.commit(session, request())
        times.append(NOW + 40 * 86_400)
        return manager.load(session.handle) is None

    assert not ends()
    assert not ends(absolute_timeout=None)
    assert ends(absolute_timeout=30 * 86_400)


def test_a_list_that_was_a_tuple_is_not_a_change_of_mine_in_a_merge():
    manager = SessionManager(secret=SECRET, format="express")
    first = manager.open("", None)
    first["t"], first["n"] = (1, 2), 1
    manager.commit(first, request())
    other = manager.load(first.handle)
    other["t"] = [3]
    manager.finish(other)
    first["n"] = 2
    manager.finish(first)
    assert dict(manager.load(first.handle)) == {"t": [3], "n": 2}


@pytest.mark.parametrize(
    ("options", "ttl"),
    [
        ({}, 86_400),
        ({"idle_timeout": 600}, 600),
        ({"cookie": {"max_age": 60}}, 60),
        ({"cookie": {"max_age": 60}, "idle_timeout": 600}, 60),
        ({"cookie": {"max_age": 600}, "absolute_timeout": 60}, 60),
    ],
)
def test_the_lifetime_of_the_cookie_goes_before_the_idle_timeout(options, ttl):
    manager = SessionManager(secret=SECRET, format="express", clock=lambda: NOW, **options)
    session = manager.open("", None)
    session["n"] = 1
    manager.commit(session, request())
    assert manager.load(session.handle).expires_at.timestamp() == NOW + ttl


def cookie_of(manager):
    (record,) = manager.all_records()
    return json.loads(record.data)["cookie"]


@pytest.mark.parametrize(("scheme", "host", "secure"), [("https", "example.com", True), ("http", "localhost", None)])
@pytest.mark.parametrize("early", [False, True])
def test_a_new_record_says_whether_its_cookie_is_secure(scheme, host, secure, early):
    manager = SessionManager(secret=SECRET, format="express")
    session = manager.open("", None)
    session["n"] = 1
    if early:
        session.save()
    reply = manager.commit(session, request(scheme=scheme, host=host))
    assert cookie_of(manager).get("secure") is secure
    assert ("; Secure" in reply.set_cookie) is bool(secure)


@pytest.mark.parametrize("said", [{}, {"sameSite": None}, {"sameSite": False}, {"sameSite": "auto"}, {"sameSite": 1}])
def test_a_cookie_of_which_express_says_no_same_site_is_lax_and_the_record_stays_so(said):
    """SECURITY 7."""
    manager = SessionManager(secret=SECRET, format="express", clock=lambda: NOW, rolling=True)
    packed = json.dumps({"cookie": {"originalMaxAge": 60_000, "path": "/", **said}, "n": 1}).encode()
    manager.store.create("of Express", Record(packed, 60.0, None), now=NOW)
    session = manager.open(f"sid={manager._services.signer.sign('of Express')}", None)
    session["n"] += 1
    assert manager.commit(session, request()).set_cookie.endswith("; SameSite=Lax")
    cookie = cookie_of(manager)
    assert {name: cookie[name] for name in cookie if name == "sameSite"} == said


@pytest.mark.parametrize("data", [{"user_id": "x" * 2000}, {"user_id": "\0"}, {"much": "x" * 5000}])
def test_a_session_of_express_that_could_not_be_written_here_is_read_and_ended(data):
    manager = SessionManager(secret=SECRET, format="express", clock=lambda: NOW, absolute_timeout=DAY, max_size=3000)
    packed = json.dumps({"cookie": {"originalMaxAge": None}, **data}).encode()
    manager.store.create("of Express", Record(packed, 60.0, None), now=NOW)
    session = manager.open(f"sid={manager._services.signer.sign('of Express')}", None)
    assert dict(session) == data
    session.logout()
    manager.commit(session, request())
    assert manager.load("of Express") is None


@pytest.mark.parametrize("ttl", [1e13, 1e300])
def test_a_session_that_express_never_lets_expire_can_be_listed(ttl):
    manager = SessionManager(secret=SECRET, format="express", clock=lambda: NOW)
    packed = json.dumps({"cookie": {"originalMaxAge": 1e16}, "user_id": "ann"}).encode()
    manager.store.create("of Express", Record(packed, ttl, "ann"), now=NOW)
    (info,) = manager.sessions_for("ann")
    assert info.expires_at == manager.load("of Express").expires_at
    assert info.expires_at.year == 9999


def test_a_visitor_without_a_session_is_not_a_reason_for_a_warning(caplog):
    manager = SessionManager(secret=SECRET, format="express")
    session = manager.open("", None)
    assert session.get("n") is None
    manager.commit(session, request(scheme="http", host="example.com"))
    assert caplog.records == []


def test_a_login_beyond_the_limit_ends_the_oldest_and_what_express_began_at_no_known_time():
    now = [NOW]
    manager = SessionManager(
        secret=SECRET, format="express", max_sessions_per_user=2, clock=lambda: now[-1], user_key="user"
    )
    cookie = {"originalMaxAge": None, "expires": None, "path": "/"}
    packed = json.dumps({"cookie": cookie, "user": "ann"}).encode()
    manager.store.create("of Express", Record(packed, 86_400.0, "ann"), now=NOW)
    made = []
    for _ in range(3):
        now.append(now[-1] + 10)
        session = manager.open("", None)
        session.login("ann")
        manager.commit(session, request())
        made.append(session.handle)
    assert {info.handle for info in manager.sessions_for("ann")} == set(made[1:])
