"""Cookies as browsers take them (RFC 6265bis), and Cookie headers as anybody may send them."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgisession._core.cookies import CookieOptions, cookie_finder, expire_cookie, set_cookie
from wsgisession._core.secure import is_plain_loopback
from wsgisession.errors import ConfigurationError

NOW = 1_000_000_000.0


def attributes(header):
    """Return the name and value, and the attributes as a browser reads them."""
    pair, *rest = header.split("; ")
    found = [(name.lower(), value) for name, _, value in (attribute.partition("=") for attribute in rest)]
    assert len(dict(found)) == len(found), "an attribute is there twice"
    return pair, dict(found)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_age": 0}, "max_age"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": timedelta(0)}, "max_age"),
        ({"max_age": timedelta(days=400, seconds=1)}, "400 days"),
        ({"max_age": float("nan")}, "max_age"),
        ({"max_age": float("inf")}, "400 days"),
        ({"max_age": True}, "max_age"),
        ({"max_age": "60"}, "max_age"),
        ({"same_site": "none", "secure": False}, "without Secure"),
        ({"same_site": "Sometimes"}, "same_site"),
        ({"same_site": None}, "same_site"),
        ({"partitioned": True, "secure": False}, "Partitioned without Secure"),
        ({"secure": "yes"}, "secure"),
        ({"secure": None}, "secure"),
        ({"secure": 0}, "secure"),
        ({"http_only": "no"}, "http_only"),
        ({"partitioned": 1}, "partitioned"),
        ({"path": "app"}, 'start with "/"'),
        ({"path": ""}, 'start with "/"'),
        ({"path": None}, "path"),
        ({"path": "/a;b"}, "path"),
        ({"path": "/a\r\nSet-Cookie: x=y"}, "path"),
        ({"path": "/\x7f"}, "path"),
        ({"path": "/é"}, "path"),
        ({"path": "/" + "a" * 1024}, "1024"),
        ({"domain": ""}, "domain"),
        ({"domain": "."}, "domain"),
        ({"domain": "a..b"}, "domain"),
        ({"domain": "example.com; Secure"}, "domain"),
        ({"domain": "example.com\n"}, "domain"),
        ({"domain": "example.com:80"}, "domain"),
        ({"domain": "https://example.com"}, "domain"),
        ({"domain": "a" * 64 + ".com"}, "domain"),
        ({"domain": "a." * 600 + "com"}, "1024"),
        ({"domain": 5}, "domain"),
    ],
    ids=repr,
)
def test_options_that_a_browser_would_refuse_or_cut_are_refused_at_start(options, sentence):
    """SECURITY 7, 11, 14, 15, 59."""
    with pytest.raises(ConfigurationError, match=sentence):
        CookieOptions(**options)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("__Host-sid", {"domain": "example.com"}, "domain"),
        ("__host-sid", {"path": "/app"}, "path"),
        ("__HOST-sid", {"secure": False}, "Secure"),
        ("__Secure-sid", {"secure": False}, "Secure"),
        ("__sEcUrE-sid", {"secure": False}, "Secure"),
        ("__Http-sid", {"secure": False}, "Secure"),
        ("__Http-sid", {"http_only": False}, "HttpOnly"),
        ("__Host-Http-sid", {"http_only": False}, "HttpOnly"),
        ("__hOST-hTTP-sid", {"http_only": False}, "HttpOnly"),
        ("__Host-Http-sid", {"path": "/app"}, "path"),
        ("", {}, "token"),
        ("a;b", {}, "token"),
        ("a\r\nSet-Cookie:x", {}, "token"),
        ("a=b", {}, "token"),
        ("a b", {}, "token"),
        ("a\n", {}, "token"),
        ("sîd", {}, "token"),
        ("a" * 257, {}, "token"),
        (None, {}, "token"),
        (b"sid", {}, "token"),
    ],
    ids=repr,
)
def test_a_name_that_does_not_go_with_the_options_is_refused(name, options, sentence):
    """SECURITY 8, 15: what a prefix promises is kept, in whatever case it is written."""
    with pytest.raises(ConfigurationError, match=sentence):
        CookieOptions(**options).check_name(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sid", {"secure": False, "path": "/app", "domain": ".example.com", "http_only": False}),
        ("connect.sid", {"max_age": 0.5}),
        ("__Host-sid", {}),
        ("__Host-sid", {"http_only": False}),
        ("__Secure-sid", {"domain": "example.com", "path": "/app"}),
        ("__Host-Http-sid", {"secure": True}),
        ("!#$%&'*+-.^_`|~", {"max_age": timedelta(days=400)}),
        ("a" * 256, {"path": "/" + "a" * 1023, "domain": "xn--bcher-kva.example"}),
    ],
)
def test_options_and_names_that_browsers_take_are_taken(name, options):
    CookieOptions(**options).check_name(name)


def test_the_defaults_are_what_the_checklist_asks_for():
    """SECURITY 5, 6, 7, 10: host-only, HttpOnly, Lax, gone with the browser; Secure anywhere but on loopback."""
    options = CookieOptions()
    assert (options.max_age, options.path, options.domain, options.partitioned) == (None, "/", None, False)
    assert (options.http_only, options.same_site, options.secure) == (True, "Lax", "auto")


@pytest.mark.parametrize(("given", "meant"), [("lax", "Lax"), ("STRICT", "Strict"), ("none", "None")])
def test_same_site_is_understood_in_any_case(given, meant):
    assert CookieOptions(same_site=given).same_site == meant


def test_a_timedelta_is_a_max_age_in_seconds():
    assert CookieOptions(max_age=timedelta(days=14)).seconds == 14 * 86400


@pytest.mark.parametrize(
    ("name", "options", "on_loopback"),
    [
        ("sid", {}, False),
        ("sid", {"secure": True}, True),
        ("sid", {"same_site": "None"}, True),
        ("sid", {"partitioned": True}, True),
        ("__Host-sid", {}, True),
        ("__secure-sid", {}, True),
        ("__Http-sid", {}, True),
    ],
)
def test_auto_is_secure_except_on_plain_loopback_where_nothing_else_asks_for_it(name, options, on_loopback):
    """SECURITY 5, in the contract's form."""
    assert CookieOptions(**options).is_secure(name, plain_loopback=True) is on_loopback
    assert CookieOptions(**options).is_secure(name, plain_loopback=False) is True


def test_secure_false_means_just_that():
    assert CookieOptions(secure=False).is_secure("sid", plain_loopback=False) is False


@pytest.mark.parametrize(
    ("cookie", "path", "covered"),
    [
        ("/", "/", True),
        ("/", "/anything", True),
        ("/admin", "/admin", True),
        ("/admin", "/admin/", True),
        ("/admin", "/admin/users", True),
        ("/admin", "/administrator", False),
        ("/admin", "/admi", False),
        ("/admin", "/", False),
        ("/admin", "/Admin", False),
        ("/admin/", "/admin", False),
        ("/admin/", "/admin/", True),
        ("/admin/", "/admin/users", True),
    ],
)
def test_a_cookie_covers_its_path_and_what_is_under_it(cookie, path, covered):
    """RFC 6265bis section 5.1.4."""
    assert CookieOptions(path=cookie).covers(path) is covered


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("", []),
        ("sid=x", ["x"]),
        ("a=1; sid=x; b=2", ["x"]),
        ("a=1;sid=x", ["x"]),
        ("sid=x;", ["x"]),
        ("  sid \t=  x \t; b=2", ["x"]),
        ('sid="x"', ["x"]),
        ('sid="', ['"']),
        ('sid=""', [""]),
        ("sid=", [""]),
        ("sid=a=b", ["a=b"]),
        ("sid=X", ["X"]),
        ("sid=x; sid=y", ["x", "y"]),
        ("Sid=x", []),
        ("SID=x; sid=y", ["y"]),
        ("xsid=x", []),
        ("sidx=x", []),
        ("x sid=x", []),
        ("s%69d=x", []),
        ("sid", []),
        ("sid; a=b", []),
        ("other=sid=x", []),
        ("sid\x00=x", []),
        ("a=1, sid=x", []),
        ("sid=x\xff", ["x\xff"]),
    ],
    ids=repr,
)
def test_a_cookie_is_found_by_its_exact_name(header, values):
    """SECURITY 9."""
    assert list(cookie_finder("sid")(header)) == values


def test_a_prefix_in_other_letters_is_another_cookie():
    """SECURITY 9."""
    assert list(cookie_finder("__Host-sid")("__host-sid=x; __Host-sid=y; __HOST-SID=z")) == ["y"]


def test_the_letters_of_a_name_are_not_a_pattern():
    assert list(cookie_finder("connect.sid")("connectXsid=x; connect.sid=y")) == ["y"]
    assert list(cookie_finder("a|b*")("a=1; a|b*=2")) == ["2"]


@pytest.mark.parametrize(
    "header",
    [
        "; ".join(f"cookie{number}={'x' * 50}" for number in range(900)) + "; sid=y",
        "sid=y; " + ";" * 60_000,
        "sid=y; sid" + " " * 60_000,
        ("; sid" + "\t" * 100) * 600 + "; sid=y",
        " " * 60_000 + ";sid=y",
        "sid=y;" + 'sid"' * 15_000,
    ],
    ids=["many", "semicolons", "spaces", "names", "leading", "quotes"],
)
def test_a_header_of_any_make_is_searched_in_bounded_time(header):
    """SECURITY 49: under 50 ms, also where it is full of almost our cookie."""
    started = time.process_time()
    assert list(cookie_finder("sid")(header)) == ["y"]
    assert time.process_time() - started < 0.05


def test_a_header_over_64_kib_has_no_cookie():
    """SECURITY 49."""
    find = cookie_finder("sid")
    assert list(find("sid=" + "x" * (64 * 1024 - 4))) == ["x" * (64 * 1024 - 4)]
    assert list(find("sid=" + "x" * (64 * 1024 - 3))) == []


@given(
    st.lists(st.sampled_from(["sid", "=", ";", " ", '"', "\t", ",", "é", "\x00", "\n", "x"]) | st.text()).map("".join)
)
def test_a_hostile_header_never_raises(header):
    """SECURITY 49."""
    values = list(cookie_finder("sid")(header))
    assert all(";" not in value for value in values)


@given(st.lists(st.text("abc=\"' ", min_size=1), max_size=8))
def test_what_a_client_sends_as_our_cookies_is_what_is_found(values):
    header = "; ".join(f"sid={value}" for value in values)
    stripped = [value.strip(" ") for value in values]
    bare = [value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value for value in stripped]
    assert list(cookie_finder("sid")(header)) == bare


@pytest.mark.parametrize(
    ("scheme", "host", "loopback"),
    [
        ("http", "localhost", True),
        ("http", "LocalHost:8000", True),
        ("http", "127.0.0.1", True),
        ("http", "127.8.9.10:80", True),
        ("http", "[::1]", True),
        ("http", "[::1]:8000", True),
        ("http", "::1", True),
        ("https", "localhost", False),
        ("https", "127.0.0.1", False),
        ("http", "", False),
        ("http", ":8000", False),
        ("http", "example.com", False),
        ("http", "localhost.example.com", False),
        ("http", "127.0.0.1.example.com", False),
        ("http", "127.0.0.1@example.com", False),
        ("http", "notlocalhost", False),
        ("http", "10.0.0.1", False),
        ("http", "0.0.0.0:8000", True),
        ("http", "[::]:8000", True),
        ("http", "app.localhost:3000", True),
        ("http", "localhost.", True),
        ("http", "[::2]:80", False),
        ("http", "[::1", True),
        ("http", "[fe80::1%lo]", False),
        ("http", "128.0.0.1", False),
        ("http", "\x00", False),
    ],
)
def test_plain_loopback_is_plain_http_to_localhost_or_a_loopback_address(scheme, host, loopback):
    assert is_plain_loopback({"wsgi.url_scheme": scheme, "HTTP_HOST": host}) is loopback


@given(st.text())
def test_any_host_is_judged_without_an_exception(host):
    is_plain_loopback({"wsgi.url_scheme": "http", "HTTP_HOST": host})


def test_a_lasting_cookie_says_when_it_ends_in_both_ways():
    header = set_cookie("sid", "value", CookieOptions(max_age=60), secure=True, lasts=60, now=NOW)
    assert attributes(header) == (
        "sid=value",
        {
            "max-age": "60",
            "expires": "Sun, 09 Sep 2001 01:47:40 GMT",
            "path": "/",
            "secure": "",
            "httponly": "",
            "samesite": "Lax",
        },
    )


def test_a_cookie_that_ends_with_the_browser_says_no_end():
    """SECURITY 10."""
    _, found = attributes(set_cookie("sid", "value", CookieOptions(), secure=False, lasts=None, now=NOW))
    assert found == {"path": "/", "httponly": "", "samesite": "Lax"}


ALL = CookieOptions(
    path="/app", domain=".example.com", http_only=False, same_site="None", secure=True, partitioned=True, max_age=5
)


@pytest.mark.parametrize(
    ("options", "secure"),
    [
        (CookieOptions(), False),
        (CookieOptions(same_site="Strict"), True),
        (ALL, True),
        (CookieOptions(partitioned=True), True),
    ],
)
def test_the_cookie_that_expires_another_has_all_of_its_attributes(options, secure):
    """SECURITY 12, 14: a browser takes it for the same cookie, Partitioned included."""
    pair, expired = attributes(expire_cookie("sid", options, secure=secure))
    _, sent = attributes(set_cookie("sid", "value", options, secure=secure, lasts=5, now=NOW))
    ends = {"max-age": "0", "expires": "Thu, 01 Jan 1970 00:00:00 GMT"}
    assert pair == "sid="
    assert expired == {**sent, **ends}
    assert ("partitioned" in sent) is options.partitioned


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"path": "shop"}, "the cookie's path must start with \"/\", not 'shop'"),
        ({"domain": "https://example.com"}, "the cookie's domain must be a host name .* not 'https://example.com'"),
        ({"max_age": "3600"}, "the cookie's max_age must be seconds, a timedelta, or None, not '3600'"),
        ({"max_age": 35_000_000}, "the cookie's max_age must be .* at most 400 days .* not 3.5e\\+07 seconds"),
        ({"same_site": "Laxx"}, "the cookie's same_site must be .* not 'Laxx'"),
        ({"secure": "yes"}, "the cookie's secure must be .* not 'yes'"),
        ({"http_only": "no"}, "the cookie's http_only must be True or False, not 'no'"),
        ({"partitioned": 1}, "the cookie's partitioned must be True or False, not 1"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        CookieOptions(**options)
