"""Flask's settings become the manager's options, and errors name what the developer wrote."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from tests.flask_apps import app_with_sessions
from wsgisession import ConfigurationError, CookieOptions, SessionManager
from wsgisession.flask import FlaskSessions
from wsgisession.flask.settings import OPTIONS, settings_of, snapshot, warn_once

SECRET = "a secret that is long enough"
OLD = "the secret of last year, long enough"


def options(given: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    app = Flask("any")
    app.config.update({"SECRET_KEY": SECRET, **settings})
    return settings_of(app, given or {}).options


def test_an_app_that_sets_a_secret_only_has_flasks_defaults_and_safe_ones():
    assert options() == {
        "secret": [SECRET],
        "name": "session",
        "cookie": {"http_only": True, "path": "/", "secure": "auto"} | partitioned_where_flask_knows_it(),
        "absolute_timeout": 31 * 86400,
    }
    SessionManager(**options())


def partitioned_where_flask_knows_it() -> dict[str, Any]:
    return {"partitioned": False} if "SESSION_COOKIE_PARTITIONED" in Flask("any").config else {}


@pytest.mark.parametrize(
    ("setting", "value", "option", "expected"),
    [
        ("SESSION_COOKIE_NAME", "shop", "name", "shop"),
        ("SECRET_KEY", None, "secret", []),
        ("SECRET_KEY_FALLBACKS", [OLD], "secret", [SECRET, OLD]),
        ("SECRET_KEY_FALLBACKS", (OLD,), "secret", [SECRET, OLD]),
        ("SESSION_SECRET", OLD, "secret", OLD),
        ("SESSION_STORE", "sqlite:///sessions.db", "store", "sqlite:///sessions.db"),
        ("SESSION_IDLE_TIMEOUT", 60, "idle_timeout", 60),
        ("SESSION_ABSOLUTE_TIMEOUT", None, "absolute_timeout", None),
        ("PERMANENT_SESSION_LIFETIME", 60, "absolute_timeout", 30 * 86400),
        ("PERMANENT_SESSION_LIFETIME", timedelta(days=90), "absolute_timeout", 90 * 86400),
    ],
)
def test_a_setting_is_an_option(setting, value, option, expected):
    assert options(**{setting: value})[option] == expected


@pytest.mark.parametrize(
    ("setting", "value", "option", "expected"),
    [
        ("SESSION_COOKIE_DOMAIN", "example.com", "domain", "example.com"),
        ("SESSION_COOKIE_HTTPONLY", False, "http_only", False),
        ("SESSION_COOKIE_SAMESITE", "Strict", "same_site", "Strict"),
        ("SESSION_COOKIE_PARTITIONED", True, "partitioned", True),
        ("SESSION_COOKIE_SECURE", True, "secure", True),
        ("SESSION_COOKIE_PATH", "/shop", "path", "/shop"),
        ("APPLICATION_ROOT", "/shop", "path", "/shop"),
    ],
)
def test_a_setting_is_an_option_of_the_cookie(setting, value, option, expected):
    assert options(**{setting: value})["cookie"][option] == expected


@pytest.mark.parametrize("value", ["", None, False])
def test_an_empty_setting_of_the_cookie_is_none(value):
    assert "domain" not in options(SESSION_COOKIE_DOMAIN=value)["cookie"]


def test_what_is_given_goes_before_the_configuration_and_that_before_flasks_own():
    settings = {"SESSION_STORE": "memory://", "SESSION_ABSOLUTE_TIMEOUT": 60}
    found = options({"store": "sqlite:///sessions.db", "name": "sid"}, **settings)
    assert (found["store"], found["name"], found["absolute_timeout"]) == ("sqlite:///sessions.db", "sid", 60)


def test_of_the_cookie_what_is_not_given_is_as_it_was_configured():
    strict = {"SESSION_COOKIE_SAMESITE": "Strict", "SESSION_COOKIE_PATH": "/shop"}
    cookie = options({"cookie": {"secure": False}}, **strict)["cookie"]
    assert (cookie["secure"], cookie["same_site"], cookie["path"]) == (False, "Strict", "/shop")
    whole = CookieOptions(secure=False)
    assert options({"cookie": whole}, **strict)["cookie"] is whole


def test_every_option_of_a_manager_is_a_setting_but_those_that_flask_has_in_its_own():
    for option in OPTIONS - {"cookie", "name"}:
        assert options(**{f"SESSION_{option.upper()}": [SECRET]})[option] == [SECRET]


def test_an_app_may_have_settings_as_attributes_of_its_class():
    class Shop(Flask):
        secret_key = SECRET
        permanent_session_lifetime = timedelta(days=60)

    found = settings_of(Shop("any"), {}).options
    assert found["absolute_timeout"] == 60 * 86400
    SessionManager(**found)


@pytest.mark.parametrize("fallbacks", [OLD, OLD.encode()])
def test_fallbacks_that_are_one_text_are_refused(fallbacks):
    with pytest.raises(ConfigurationError, match="give a list"):
        options(SECRET_KEY_FALLBACKS=fallbacks)


def test_only_a_weak_secret_is_strengthened():
    app = Flask("any")
    app.config.update(SECRET_KEY="dev", SECRET_KEY_FALLBACKS=[SECRET])
    found = settings_of(app, {})
    weak, good = found.options["secret"]
    assert (len(weak), good) == (64, SECRET)
    assert "SECRET_KEY has 3 bytes" in (found.weakness or "")
    SessionManager(**found.options)


def test_a_good_secret_has_no_weakness():
    app = Flask("any")
    app.config["SECRET_KEY"] = SECRET
    assert settings_of(app, {}).weakness is None


def test_a_snapshot_does_not_follow_a_change_inside_a_setting():
    config = Flask("any").config
    config["SECRET_KEY_FALLBACKS"] = [OLD]
    before = snapshot(config)
    assert before == config
    config["SECRET_KEY_FALLBACKS"].append(SECRET)
    assert before != config


def warnings_of(caplog, **settings: Any) -> list[str]:
    warn_once.cache_clear()  # other tests may have caused them
    options(**settings)
    return caplog.messages


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("SESSION_STROE", "SESSION_STORE"),
        ("SESSION_STORE_URL", "SESSION_STORE"),
        ("SESSION_IDLE_TIMEOT", "SESSION_IDLE_TIMEOUT"),
        ("SESSION_MAX_SESSION_PER_USER", "SESSION_MAX_SESSIONS_PER_USER"),
        ("SESSION_COOKIE_SAME_SITE", "SESSION_COOKIE_SAMESITE"),
        ("SESSION_NAME", "SESSION_COOKIE_NAME"),
        ("SESSION_COOKIE_MAX_AGE", "PERMANENT_SESSION_LIFETIME"),
    ],
)
def test_a_misspelled_setting_is_logged_with_the_one_that_was_meant(mistyped, meant, caplog):
    (warning,) = warnings_of(caplog, **{mistyped: "a value that is nobody's business"})
    assert warning == f"FlaskSessions has no setting {mistyped}: did you mean {meant}?"


def test_a_misspelled_setting_is_logged_once(caplog):
    warn_once.cache_clear()
    for seconds in (60, 61):
        options(SESSION_STOER="memory://", SESSION_IDLE_TIMEOUT=seconds)
    assert len(caplog.messages) == 1


def test_settings_of_other_extensions_and_of_the_app_are_not_mistakes(caplog):
    of_flask_login, of_the_app = "SESSION_PROTECTION", "SESSION_WARNING_MINUTES"
    assert warnings_of(caplog, **{of_flask_login: "strong", of_the_app: 5}) == []


def test_settings_that_are_known_are_not_mistakes(caplog):
    known = {f"SESSION_{option.upper()}": [SECRET] for option in OPTIONS - {"cookie", "name"}}
    assert warnings_of(caplog, **known) == []


# A lifetime that cannot be right.


@pytest.mark.parametrize(
    "value", ["31 days", "3600", timedelta(days=4000), timedelta.max, 10**9, 1e30, float("inf"), [1], None]
)
def test_a_lifetime_that_cannot_be_right_is_an_error_that_names_it(value):
    with pytest.raises(ConfigurationError, match="PERMANENT_SESSION_LIFETIME"):
        options(PERMANENT_SESSION_LIFETIME=value)


@pytest.mark.parametrize("value", [0, -1, 1, 3600, timedelta(days=3650), timedelta(0)])
def test_a_lifetime_of_up_to_ten_years_is_accepted(value):
    SessionManager(**options(PERMANENT_SESSION_LIFETIME=value))


def test_the_error_about_a_lifetime_reaches_the_developer():
    app = app_with_sessions(PERMANENT_SESSION_LIFETIME="a month", PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(ConfigurationError, match="PERMANENT_SESSION_LIFETIME must be .* not 'a month'"):
        app.test_client().get("/get")


# Errors name what the developer wrote.


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SESSION_IDLE_TIMEOUT": "an hour"}, "SESSION_IDLE_TIMEOUT"),
        ({"SESSION_IDLE_TIMEOUT": 90 * 86400, "SESSION_ABSOLUTE_TIMEOUT": 3600}, "SESSION_IDLE_TIMEOUT"),
        ({"SESSION_ON_STORE_ERROR": "ignore"}, "SESSION_ON_STORE_ERROR"),
        ({"SESSION_STORE": 7}, "SESSION_STORE"),
        ({"SESSION_MAX_SESSIONS_PER_USER": 0}, "SESSION_MAX_SESSIONS_PER_USER"),
        ({"SESSION_ROLLING": "yes"}, "SESSION_ROLLING"),
        ({"SESSION_COOKIE_SAMESITE": "Sometimes"}, "SESSION_COOKIE_SAMESITE"),
        ({"SESSION_COOKIE_PATH": "shop"}, "SESSION_COOKIE_PATH"),
        ({"SESSION_COOKIE_DOMAIN": "http://shop.example"}, "SESSION_COOKIE_DOMAIN"),
        ({"SESSION_COOKIE_NAME": "a b"}, "SESSION_COOKIE_NAME|the cookie name 'a b'"),
    ],
)
def test_an_error_about_a_setting_names_the_setting(settings, named):
    app = app_with_sessions(PROPAGATE_EXCEPTIONS=True, **settings)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=named):
            app.test_client().get("/get")


def test_an_error_about_an_argument_names_the_argument():
    app = app_with_sessions(options={"idle_timeout": 90 * 86400}, PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(ConfigurationError, match=r"^idle_timeout"):
        app.test_client().get("/get")


# Arguments are checked at once.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stroe": "memory://"}, "'stroe'; did you mean 'store'"),
        ({"idle_timeout": "an hour"}, "idle_timeout must be"),
        ({"absolute_timeout": -1}, "absolute_timeout must be"),
        ({"store": "postgres-sql://localhost"}, "postgres-sql"),
        ({"store": 7}, "store must be"),
        ({"cookie": {"same_site": "Sometimes"}}, "same_site"),
        ({"cookie": {"samesite": "Lax"}}, "did you mean 'same_site'"),
        ({"cookie": "Lax"}, "cookie must be"),
        ({"name": "a b"}, "a b"),
        ({"on_store_error": "ignore"}, "on_store_error must be"),
        ({"max_sessions_per_user": 0}, "max_sessions_per_user must be"),
        ({"user_loader": 7}, "user_loader must be callable"),
        ({"encryption_key": "short"}, "encryption"),
        ({"secret": []}, "secret"),
        ({"carry_over": "yes"}, "carry_over must be"),
        ({"carry_over": True, "carry_over_until": "tomorrow"}, "carry_over_until must be"),
    ],
)
def test_an_argument_that_cannot_be_right_is_refused_at_once(given, message):
    with pytest.raises(ConfigurationError, match=message):
        FlaskSessions(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"idle_timeout": timedelta(days=60)},
        {"cookie": {"secure": False}},
        {"name": "__Host-shop"},
        {"secret": None},
        {"carry_over": False},
        {"carry_over": True},
        {"store": "sqlite:///sessions.db"},
    ],
)
def test_an_argument_that_can_be_right_with_other_settings_is_not_refused_before_them(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FlaskSessions(**given)
    assert list(tmp_path.iterdir()) == []


def test_checking_the_arguments_opens_no_connection():
    FlaskSessions(store="redis://127.0.0.1:1/0")
