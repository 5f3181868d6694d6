"""The secrets of a Flask app, good and weak."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from tests.flask_apps import OLD, SECRET, app_with_sessions
from wsgisession import ConfigurationError
from wsgisession.flask import FlaskSessions
from wsgisession.flask.settings import warn_once

SERVER = {"SERVER_SOFTWARE": "gunicorn/23.0.0"}
HERE = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def _forget_what_was_logged() -> None:
    warn_once.cache_clear()


def test_the_secret_can_be_changed_without_logging_anybody_out():
    app = app_with_sessions(OLD)
    client = app.test_client()
    client.get("/put?a=1")
    app.config.update(SECRET_KEY=SECRET, SECRET_KEY_FALLBACKS=[OLD])
    assert client.get("/get").json == {"a": "1"}
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert client.get("/get").json == {}


def test_a_secret_that_was_wrong_for_a_while_logs_nobody_out():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?a=1")
    app.secret_key = OLD
    assert client.get("/get").json == {}
    app.secret_key = SECRET
    assert client.get("/get").json == {"a": "1"}


@pytest.mark.parametrize("fallbacks", [OLD, OLD.encode()])
def test_fallbacks_that_are_one_text_are_refused(fallbacks):
    app = app_with_sessions(SECRET_KEY_FALLBACKS=fallbacks, PROPAGATE_EXCEPTIONS=True)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="give a list"):
            app.test_client().get("/get")


def test_without_a_secret_there_is_the_null_session():
    app = app_with_sessions(None, PROPAGATE_EXCEPTIONS=True)
    assert app.test_client().get("/get").json == {}
    with pytest.raises(RuntimeError, match="no secret key was set"):
        app.test_client().get("/put?a=1")


WEAK = [
    ({"SECRET_KEY": "dev"}, "SECRET_KEY has 3 bytes"),
    ({"SECRET_KEY": b"keyboard cat keyboard cat"}, "SECRET_KEY is one that anybody would try"),
    ({"SECRET_KEY_FALLBACKS": [b""]}, "a secret in SECRET_KEY_FALLBACKS has 0 bytes"),
]


@pytest.mark.parametrize(("settings", "message"), WEAK)
def test_a_weak_secret_works_for_a_test_client_and_is_logged_once(settings, message, caplog):
    app = app_with_sessions(PROPAGATE_EXCEPTIONS=True, **settings)
    client = app.test_client()
    client.get("/put?a=1")
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert client.get("/get").json == {"a": "1"}
    (warning,) = caplog.messages
    assert warning.startswith(message)
    assert "wsgisession secret" in warning


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "shop.localhost:5000", "[::1]:5000", "0.0.0.0:8000"])
def test_a_weak_secret_works_over_plain_http_on_this_machine(host, caplog):
    client = app_with_sessions("dev").test_client()
    response = client.get("/put?a=1", base_url=f"http://{host}", environ_overrides=SERVER)
    assert response.status_code == 200
    assert len([one for one in caplog.messages if one.startswith("SECRET_KEY has 3 bytes")]) == 1


ELSEWHERE: dict[str, dict[str, Any]] = {
    "another host": {"base_url": "http://shop.example"},
    "https": {"base_url": "https://localhost"},
    "a proxy that says https": {"base_url": HERE, "headers": {"X-Forwarded-Proto": "https"}},
    "a proxy for another host": {"base_url": HERE, "headers": {"X-Forwarded-Host": "shop.example"}},
    "a proxy for another client": {"base_url": HERE, "headers": {"X-Forwarded-For": "8.8.8.8"}},
    "a client of another machine": {"base_url": HERE, "environ_overrides": SERVER | {"REMOTE_ADDR": "8.8.8.8"}},
    "nginx without headers": {
        "base_url": HERE,
        "headers": {"Connection": "close"},
        "environ_overrides": SERVER | {"SERVER_PROTOCOL": "HTTP/1.0"},
    },
}


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("mode", ["TESTING", "DEBUG", "neither"])
@pytest.mark.parametrize(("settings", "message"), WEAK)
def test_a_weak_secret_is_refused_elsewhere_in_any_mode(settings, message, mode, where):
    app = app_with_sessions(PROPAGATE_EXCEPTIONS=True, **{mode: True}, **settings)
    request = {"environ_overrides": SERVER} | ELSEWHERE[where]
    for path in ("/get", "/put?a=1", "/"):
        with pytest.raises(ConfigurationError, match=message):
            app.test_client().get(path, **request)


@pytest.mark.parametrize(
    "named",
    [
        {"SERVER_SOFTWARE": "x"},
        {"uwsgi.version": b"2.0"},
        {"wsgi.multiprocess": True},
        {"wsgi.multithread": True},
        {"serverless.event": {}},
        {"apig_wsgi.full_event": {}},
        {"lambda.context": None},
    ],
)
def test_a_server_is_recognized_by_what_it_puts_into_the_environ(named):
    app = app_with_sessions("dev", PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(ConfigurationError):
        app.test_client().get("/get", base_url="http://shop.example", environ_overrides=named)


def test_a_request_from_elsewhere_does_not_spoil_the_tests_of_the_developer():
    app = app_with_sessions("dev")
    client = app.test_client()
    client.get("/put?a=1")
    assert client.get("/get", base_url="https://localhost", environ_overrides=SERVER).status_code == 500
    assert client.get("/get").json == {"a": "1"}


def test_a_good_secret_needs_no_developers_machine(caplog):
    client = app_with_sessions().test_client()
    assert client.get("/put?a=1", base_url="http://shop.example", environ_overrides=SERVER).status_code == 200
    assert [one for one in caplog.messages if "SECRET_KEY" in one] == []


def test_a_weak_secret_of_our_own_setting_is_refused_in_tests_too():
    app = app_with_sessions(SESSION_SECRET="short", PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(ConfigurationError, match="SESSION_SECRET has 5 bytes|the secret has 5 bytes"):
        app.test_client().get("/put?a=1")


def test_a_weak_argument_is_refused_at_once():
    with pytest.raises(ConfigurationError, match="has 5 bytes"):
        FlaskSessions(Flask("any"), secret="short")


def test_a_weak_secret_key_does_not_matter_if_another_secret_was_given(caplog):
    app = app_with_sessions("dev", options={"secret": SECRET}, PROPAGATE_EXCEPTIONS=True)
    app.test_client().get("/put?a=1", base_url="http://shop.example", environ_overrides=SERVER)
    assert [one for one in caplog.messages if "SECRET_KEY" in one] == []


def test_a_secret_that_is_not_text_is_refused_in_tests_too():
    app = app_with_sessions(SECRET_KEY=1234, PROPAGATE_EXCEPTIONS=True, TESTING=True)
    with pytest.raises(ConfigurationError, match="SECRET_KEY must be str or bytes, not int"):
        app.test_client().get("/get")


def test_a_good_secret_opens_the_same_sessions_in_debug_mode():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?a=1")
    app.debug = True
    assert client.get("/get").json == {"a": "1"}


def test_a_command_works_with_a_weak_secret():
    app = app_with_sessions("dev")
    app.test_client().get("/put?user_id=ada")
    assert app.extensions["wsgisession"].manager.revoke_user("ada") == 1
