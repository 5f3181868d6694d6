"""`DeviceBinding` refuses at startup what cannot work, and says what to write instead."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgisession import ConfigurationError, CookieOptions
from wsgisession._core.cookies import set_cookie
from wsgisession.device import DeviceBinding
from wsgisession.device.options import check_combination, device_binding, device_cookie


def check(options: DeviceBinding | None = None, cookie: CookieOptions | None = None, **changes: object) -> None:
    others = {"format": "native", "renewal_grace": float("inf"), **changes}
    check_combination(options or DeviceBinding(), cookie or CookieOptions(), **others)  # type: ignore[arg-type]


def test_the_defaults_are_accepted():
    check()
    assert (DeviceBinding().seconds, DeviceBinding().refresh_path) == (600, "/.session-device/refresh")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"path": "device"}, "path must be a URL path"),
        ({"path": "/"}, "path must be a URL path"),
        ({"path": "/device/"}, "without a slash at its end"),
        ({"path": "/a/../b"}, "path must be a URL path"),
        ({"path": "/a b"}, "path must be a URL path"),
        ({"path": '/a"'}, "path must be a URL path"),
        ({"path": None}, "not None"),
        ({"lifetime": 299}, "testing=True"),
        ({"lifetime": 0.5, "testing": True}, "whole seconds"),
        ({"lifetime": 300.5}, "whole seconds"),
        ({"lifetime": timedelta(days=2)}, "at most 86400"),
        ({"lifetime": float("nan")}, "seconds or a timedelta"),
        ({"lifetime": True}, "seconds or a timedelta"),
        ({"lifetime": "600"}, "seconds or a timedelta"),
        ({"grace": -1}, "at least 0 and at most 60"),
        ({"grace": 61}, "at least 0 and at most 60"),
        ({"algorithms": ()}, '"ES256", "RS256"'),
        ({"algorithms": ("none",)}, '"ES256", "RS256"'),
        ({"algorithms": ("ES256", "ES256")}, '"ES256", "RS256"'),
        ({"algorithms": "ES256"}, "tuple or list"),
        ({"offer": "always"}, '"login" or "never"'),
        ({"on_unproven": "refuse"}, '"answer" or "anonymous"'),
        ({"include_site": True}, "needs origin"),
        ({"include_site": 1}, "True or False"),
        ({"testing": "yes"}, "True or False"),
        ({"origin": "http://example.com"}, "https://"),
        ({"origin": "https://example.com/"}, "https://"),
        ({"origin": "https://example.com/a"}, "https://"),
        ({"origin": "example.com"}, "https://"),
        ({"origin": "https://"}, "https://"),
        ({"origin": "https://a@example.com"}, "https://"),
        ({"origin": 5}, "https://"),
        ({"exclude": "/static"}, "tuple or list"),
        ({"exclude": ("static",)}, "begins with"),
        ({"exclude": ("/a?b",)}, "begins with"),
        ({"initiators": ("https://a.example",)}, "host name"),
        ({"initiators": ("*a.example",)}, "host name"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_the_fix(changes, sentence):
    with pytest.raises(ConfigurationError, match="device_binding's") as caught:
        DeviceBinding(**changes)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "cookie", "changes", "sentence"),
    [
        ({}, {}, {"format": "express"}, 'leave out format="express"'),
        ({}, {"secure": False}, {}, "secure=False"),
        ({}, {"partitioned": True}, {}, "partitioned=True"),
        ({}, {}, {"renewal_grace": 29.0}, "renewal_grace (29 s) must be at least 30 s"),
        ({"include_site": True, "origin": "https://example.com"}, {}, {}, "needs the cookie domain 'example.com'"),
        (
            {"include_site": True, "origin": "https://example.com"},
            {"domain": "app.example.com"},
            {},
            "needs the cookie domain 'example.com'",
        ),
        ({"initiators": ("other.example",)}, {}, {}, "SameSite=Lax"),
        ({"initiators": ("*",)}, {"same_site": "Strict"}, {}, "SameSite=Strict"),
        ({"initiators": ("badexample.com",)}, {"domain": "example.com"}, {}, "SameSite=Lax"),
    ],
)
def test_a_combination_that_cannot_work_is_refused_with_the_fix(options, cookie, changes, sentence):
    with pytest.raises(ConfigurationError) as caught:
        check(DeviceBinding(**options), CookieOptions(**cookie), **changes)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "cookie"),
    [
        ({"include_site": True, "origin": "https://example.com"}, {"domain": ".example.com"}),
        ({"initiators": ("app.example.com", "*.example.com", "example.com")}, {"domain": "example.com"}),
        ({"initiators": ("app.example.com",), "origin": "https://example.com"}, {}),
        ({"initiators": ("*",)}, {"same_site": "None"}),
    ],
)
def test_a_combination_that_works_is_accepted(options, cookie):
    check(DeviceBinding(**options), CookieOptions(**cookie))


def test_true_means_the_defaults_and_a_dict_some_others():
    assert device_binding(True) == DeviceBinding()
    assert device_binding({"lifetime": 900}) == DeviceBinding(lifetime=900)
    assert device_binding(DeviceBinding(offer="never")) == DeviceBinding(offer="never")
    assert device_binding(None) is None
    assert device_binding(False) is None


@pytest.mark.parametrize("given_value", ["yes", 1, 600.0, ["lifetime"], object()])
def test_anything_else_is_refused(given_value):
    with pytest.raises(ConfigurationError, match="device_binding must be True, False, or a DeviceBinding"):
        device_binding(given_value)


def test_a_misspelled_option_is_named():
    with pytest.raises(ConfigurationError, match="no option 'life_time'; it knows path, lifetime"):
        device_binding({"life_time": 600})


def test_durations_may_be_timedeltas():
    options = DeviceBinding(lifetime=timedelta(minutes=8), grace=timedelta(seconds=5))
    assert (options.seconds, options.grace) == (480, 5.0)


@given(
    http_only=st.booleans(),
    same_site=st.sampled_from(["Lax", "Strict", "None"]),
    secure=st.sampled_from(["auto", True]),
    path=st.sampled_from(["/", "/shop"]),
    domain=st.none() | st.just("example.com"),
    max_age=st.none() | st.just(86_400),
)
def test_the_second_cookie_is_like_the_first_but_always_secure_hidden_and_short(**cookie):
    options = device_cookie(CookieOptions(**cookie), DeviceBinding())
    text = set_cookie("sid_device", "v", options, secure=True, lasts=600, now=0.0)  # type: ignore[arg-type]
    attributes = text.split("; ")[1:]
    assert {"Secure", "HttpOnly", "Max-Age=600", f"Path={cookie['path']}", f"SameSite={cookie['same_site']}"} <= set(
        attributes
    )
    assert ("Domain=example.com" in attributes) == (cookie["domain"] is not None)
