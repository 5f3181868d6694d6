"""Flask's settings become the manager's options."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from wsgisession import ConfigurationError, CookieOptions, SessionManager
from wsgisession.flask.settings import OPTIONS, _warn_once, options_of, snapshot

SECRET = "a secret that is long enough"
OLD = "the secret of last year, long enough"


def options(given: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    app = Flask("any")
    app.config.update({"SECRET_KEY": SECRET, **settings})
    return options_of(app, given or {})


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


@pytest.mark.parametrize("value", ["", None])
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
        secret_key = "shop"
        testing = True
        permanent_session_lifetime = timedelta(days=60)

    found = options_of(Shop("any"), {})
    assert found["absolute_timeout"] == 60 * 86400
    SessionManager(**found)


@pytest.mark.parametrize("fallbacks", [OLD, OLD.encode()])
def test_fallbacks_that_are_one_text_are_refused(fallbacks):
    with pytest.raises(ConfigurationError, match="give a list"):
        options(SECRET_KEY_FALLBACKS=fallbacks)


@pytest.mark.parametrize("setting", ["TESTING", "DEBUG"])
def test_only_a_weak_secret_is_strengthened_and_only_where_nobody_depends_on_it(setting):
    settings = {"SECRET_KEY": "dev", "SECRET_KEY_FALLBACKS": [SECRET]}
    assert options(**settings)["secret"] == ["dev", SECRET]
    weak, good = options(**settings, **{setting: True})["secret"]
    assert (len(weak), good) == (64, SECRET)


def test_a_secret_that_is_one_text_is_one_secret_in_tests_too():
    assert options(SESSION_SECRET=SECRET, TESTING=True)["secret"] == [SECRET]
    assert options({"secret": OLD}, TESTING=True)["secret"] == [OLD]


def test_a_snapshot_does_not_follow_a_change_inside_a_setting():
    config = Flask("any").config
    config["SECRET_KEY_FALLBACKS"] = [OLD]
    before = snapshot(config)
    assert before == config
    config["SECRET_KEY_FALLBACKS"].append(SECRET)
    assert before != config


def warnings_of(caplog, **settings: Any) -> list[str]:
    _warn_once.cache_clear()  # other tests may have caused them
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
def test_a_mistyped_setting_is_told_in_the_log_with_the_one_that_was_meant(mistyped, meant, caplog):
    (warning,) = warnings_of(caplog, **{mistyped: "a value that is nobody's business"})
    assert warning == f"FlaskSessions has no setting {mistyped}: was {meant} meant?"


def test_a_mistyped_setting_is_told_once(caplog):
    for seconds in (60, 61):
        options(SESSION_STOER="memory://", SESSION_IDLE_TIMEOUT=seconds)
    assert len(caplog.messages) == 1


def test_settings_of_other_extensions_and_of_the_app_are_no_mistakes(caplog):
    of_flask_session = (
        "TYPE PERMANENT USE_SIGNER KEY_PREFIX ID_LENGTH SID_LENGTH SERIALIZATION_FORMAT CLEANUP_N_REQUESTS "
        "REDIS MEMCACHED CACHELIB FILE_DIR FILE_THRESHOLD FILE_MODE MONGODB MONGODB_DB MONGODB_COLLECT SQLALCHEMY "
        "SQLALCHEMY_TABLE SQLALCHEMY_SEQUENCE SQLALCHEMY_SCHEMA SQLALCHEMY_BIND_KEY DYNAMODB DYNAMODB_TABLE"
    )
    of_flask_login, of_the_app = "PROTECTION", "WARNING_MINUTES"
    names = [*of_flask_session.split(), of_flask_login, of_the_app]
    assert warnings_of(caplog, **{f"SESSION_{name}": "any" for name in names}) == []


def test_settings_that_are_known_are_no_mistakes(caplog):
    known = {f"SESSION_{option.upper()}": [SECRET] for option in OPTIONS - {"cookie", "name"}}
    assert warnings_of(caplog, **known) == []
