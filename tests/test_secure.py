"""Whether the cookie is sent with Secure: setups with and without a proxy, and the cookie that each must get."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.visits import SECRET
from wsgisession import CookieOptions, SessionManager
from wsgisession._core.secure import SecureRule, evidence

LOCAL = {"wsgi.url_scheme": "http", "HTTP_HOST": "127.0.0.1:8000", "SERVER_PROTOCOL": "HTTP/1.1"}

DEVELOPMENT: dict[str, dict[str, str]] = {
    "the development server": {},
    "localhost": {"HTTP_HOST": "localhost:5000"},
    "a name below localhost": {"HTTP_HOST": "shop.localhost:3000"},
    "IPv6": {"HTTP_HOST": "[::1]:8000"},
    "0.0.0.0": {"HTTP_HOST": "0.0.0.0:8000"},
    "[::]": {"HTTP_HOST": "[::]:8000"},
    "a container's published port": {"HTTP_HOST": "localhost:8080", "REMOTE_ADDR": "172.17.0.1"},
    "a front-end proxy on this machine": {
        "HTTP_HOST": "localhost:5000",
        "HTTP_X_FORWARDED_PROTO": "http",
        "HTTP_X_FORWARDED_HOST": "localhost:5173",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
    },
    "a front-end proxy in a container": {
        "HTTP_HOST": "localhost:5000",
        "HTTP_X_FORWARDED_PROTO": "http",
        "HTTP_X_FORWARDED_FOR": "172.18.0.1, 192.168.65.1",
        "HTTP_X_FORWARDED_HOST": "localhost:8080",
    },
    "coming back from an OAuth provider": {
        "HTTP_REFERER": "https://accounts.example.com/login",
        "HTTP_SEC_FETCH_SITE": "cross-site",
    },
    "a form of this site": {"HTTP_ORIGIN": "http://127.0.0.1:8000", "HTTP_SEC_FETCH_SITE": "same-origin"},
    "WebTest": {"SERVER_PROTOCOL": "HTTP/1.0"},
    "a load test": {"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_CONNECTION": "keep-alive"},
    "a forwarding header that is no address": {"HTTP_X_FORWARDED_FOR": "unknown"},
    "another name of a forwarded client": {"HTTP_FORWARDED": 'for="_hidden";proto=http;host=localhost'},
}

BEHIND_A_PROXY: dict[str, dict[str, str]] = {
    "nginx before 1.29.7 with its defaults": {"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_CONNECTION": "close"},
    "X-Forwarded-Proto": {"HTTP_X_FORWARDED_PROTO": "https"},
    "X-Forwarded-Proto of two proxies": {"HTTP_X_FORWARDED_PROTO": "https, http"},
    "X-Forwarded-Ssl": {"HTTP_X_FORWARDED_SSL": "on"},
    "Front-End-Https": {"HTTP_FRONT_END_HTTPS": "on"},
    "Apache's X-Forwarded-Host": {"HTTP_X_FORWARDED_HOST": "shop.example"},
    "X-Forwarded-For with a public client": {"HTTP_X_FORWARDED_FOR": "203.0.113.7, 10.0.0.1"},
    "X-Real-IP": {"HTTP_X_REAL_IP": "8.8.8.8"},
    "Forwarded with proto": {"HTTP_FORWARDED": "for=192.0.2.1;proto=https"},
    "Forwarded with host": {"HTTP_FORWARDED": 'host="shop.example:443"'},
    "Forwarded with a public client": {"HTTP_FORWARDED": 'for="8.8.8.8:4711"'},
    "the browser's Origin": {"HTTP_ORIGIN": "https://shop.example", "HTTP_SEC_FETCH_SITE": "same-origin"},
    "the browser's Referer": {"HTTP_REFERER": "https://127.0.0.1/form", "HTTP_SEC_FETCH_SITE": "same-origin"},
    "another host over plain http": {"HTTP_REFERER": "http://intranet/form", "HTTP_SEC_FETCH_SITE": "same-origin"},
}


def setups(table: dict[str, dict[str, str]]) -> Any:
    return pytest.mark.parametrize("headers", table.values(), ids=table.keys())


def cookie_for(headers: dict[str, str], **cookie: Any) -> str:
    manager = SessionManager(secret=SECRET, cookie=cookie)
    session = manager.open("", {})
    session["n"] = 1
    header = manager.commit(session, {**LOCAL, **headers}).set_cookie
    assert header is not None
    return header


@setups(DEVELOPMENT)
def test_a_development_setup_gets_a_cookie_that_it_can_use(headers, caplog):
    assert "; Secure" not in cookie_for(headers)
    assert caplog.records == []


@setups(BEHIND_A_PROXY)
def test_a_site_behind_a_proxy_gets_a_secure_cookie_and_one_warning_with_the_fix(headers, caplog):
    assert "; Secure" in cookie_for(headers)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "ProxyFix" in record.getMessage()


@pytest.mark.parametrize("secure", [True, False])
@setups({**DEVELOPMENT, **BEHIND_A_PROXY})
def test_true_and_false_mean_exactly_that(headers, secure):
    assert ("; Secure" in cookie_for(headers, secure=secure)) is secure


def test_another_host_over_plain_http_gets_a_secure_cookie_and_a_warning_with_both_fixes(caplog):
    assert "; Secure" in cookie_for({"HTTP_HOST": "shop.example"})
    assert "ProxyFix" in caplog.text
    assert "secure" in caplog.text


def test_the_same_reason_is_reported_once(caplog):
    rule, options = SecureRule("sid"), CookieOptions()
    for _ in range(3):
        assert rule.is_secure(options, {**LOCAL, "HTTP_X_FORWARDED_PROTO": "https"})
    assert len(caplog.records) == 1


def test_evidence_counts_for_its_own_request_only():
    rule, options = SecureRule("sid"), CookieOptions()
    assert rule.is_secure(options, {**LOCAL, "HTTP_X_FORWARDED_PROTO": "https"})
    assert not rule.is_secure(options, LOCAL)


NAMES = ["HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_ORIGIN", "HTTP_REFERER", "HTTP_HOST"]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40)))
def test_hostile_headers_raise_nothing(headers):
    evidence({**LOCAL, "HTTP_SEC_FETCH_SITE": "same-origin", **headers})
    SecureRule("sid").is_secure(CookieOptions(), {**LOCAL, **headers})
