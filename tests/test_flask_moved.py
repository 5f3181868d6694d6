"""Apps that ran on Flask's or Flask-Session's sessions before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from cachelib import SimpleCache
from flask import Flask, get_flashed_messages, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_session import Session as FlaskSessionExtension
from redis import Redis

from tests.flask_apps import SECRET, app_with_sessions, attributes, make_app
from wsgisession.flask import FlaskSessions
from wsgisession.flask.settings import settings_of, warn_once
from wsgisession.testing import FakeClock


@pytest.fixture(autouse=True)
def _forget_what_was_logged() -> None:
    warn_once.cache_clear()


def records_of(app: Flask) -> list[dict[str, Any]]:
    return [dict(info.data) for info in app.extensions["wsgisession"].manager.all_sessions()]


def meanwhile(app: Flask, path: str) -> None:
    """Run another request of the same browser to its end."""
    other = app.test_client()
    other.set_cookie("session", request.cookies["session"])
    other.get(path)


# A session that has nothing in it.


@pytest.mark.parametrize("permanent", [True, False])
def test_a_new_session_that_is_only_permanent_is_not_stored(permanent):
    app = app_with_sessions()
    app.before_request(lambda: setattr(session, "permanent", permanent))
    for _ in range(3):
        assert "Set-Cookie" not in app.test_client().get("/").headers
    assert records_of(app) == []
    app.test_client().get("/put?a=1")
    assert records_of(app) == [{"_permanent": permanent, "a": "1"}]


def test_a_session_that_becomes_permanent_stays_stored():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?a=1")
    app.before_request_funcs.setdefault(None, []).append(lambda: setattr(session, "permanent", True))
    assert "Max-Age" in attributes(client.get("/get"))
    assert records_of(app) == [{"a": "1", "_permanent": True}]


def emptying_app() -> Flask:
    app = app_with_sessions()

    @app.get("/empty/<how>")
    def empty(how: str) -> str:
        if how == "pop":
            session.pop("a")
        elif how == "del":
            del session["a"]
        elif how == "popitem":
            session.popitem()
        elif how == "flashes":
            get_flashed_messages()
        else:
            session.clear()
        if "meanwhile" in request.args:
            meanwhile(app, "/put?b=2")
        return ""

    return app


@pytest.mark.parametrize("how", ["pop", "del", "popitem", "clear"])
def test_a_session_that_lost_its_last_key_ends(how):
    app = emptying_app()
    client = app.test_client()
    client.get("/put?a=1")
    assert attributes(client.get(f"/empty/{how}"))["Max-Age"] == "0"
    assert records_of(app) == []


@pytest.mark.parametrize("how", ["pop", "del", "popitem"])
def test_a_session_that_lost_its_last_key_while_another_request_wrote_continues(how):
    app = emptying_app()
    client = app.test_client()
    client.get("/put?a=1")
    assert "Set-Cookie" not in client.get(f"/empty/{how}?meanwhile").headers
    assert client.get("/get").json == {"b": "2"}


def test_shown_flash_messages_do_not_take_along_what_another_request_wrote():
    app = emptying_app()
    client = app.test_client()
    with client.session_transaction() as mine:
        mine["_flashes"] = [("message", "Welcome")]
    client.get("/empty/flashes?meanwhile")
    assert client.get("/get").json == {"b": "2"}


def test_a_session_that_was_cleared_is_final():
    app = emptying_app()
    client = app.test_client()
    client.get("/put?a=1")
    assert attributes(client.get("/empty/clear?meanwhile"))["Max-Age"] == "0"
    assert records_of(app) == []


# A session's own cookie.


def test_a_lifetime_that_the_app_gives_one_session_lasts():
    clock = FakeClock()
    app = app_with_sessions(options={"clock": clock})

    @app.get("/remember")
    def remember() -> str:
        session.login("ada")  # type: ignore[attr-defined]
        session.cookie.max_age = timedelta(days=20)  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    assert attributes(client.get("/remember"))["Max-Age"] == "1728000"
    for _ in range(4):
        clock.advance(5 * 86400)
        assert client.get("/get").json["user_id"] == "ada"
        client.get(f"/put?at={clock()}")


def test_a_permanent_session_follows_the_setting_until_the_app_gives_it_a_lifetime():
    app = app_with_sessions(PERMANENT_SESSION_LIFETIME=3600)

    @app.get("/longer")
    def longer() -> str:
        session.cookie.max_age = 7200  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    assert attributes(client.get("/put?a=1&_permanent=1"))["Max-Age"] == "3600"
    assert attributes(client.get("/longer"))["Max-Age"] == "7200"
    assert attributes(client.get("/get"))["Max-Age"] == "7200"
    app.permanent_session_lifetime = timedelta(seconds=60)
    assert attributes(client.get("/get"))["Max-Age"] == "7200"


# The mapping.


def test_a_session_can_be_copied_and_joined_as_a_dict():
    app = app_with_sessions()

    @app.get("/copy")
    def copy() -> dict[str, Any]:
        mine: Any = session
        copied = mine.copy()
        copied["b"] = 2
        return {"copy": copied, "left": mine | {"c": 3}, "right": {"a": 0, "c": 3} | mine, "mine": dict(mine)}

    client = app.test_client()
    client.get("/put?a=1")
    assert client.get("/copy").json == {
        "copy": {"a": "1", "b": 2},
        "left": {"a": "1", "c": 3},
        "right": {"a": "1", "c": 3},
        "mine": {"a": "1"},
    }


def test_the_regenerate_of_flask_sessions_interface_gives_a_new_id():
    app = app_with_sessions()

    @app.get("/regenerate")
    def regenerate() -> str:
        app.session_interface.regenerate(session)  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.get("/put?a=1")
    before = client.get_cookie("session")
    client.get("/regenerate")
    after = client.get_cookie("session")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    assert client.get("/get").json == {"a": "1"}


# What an error reporter sees.


def as_an_error_reporter(value: Any) -> Any:
    """Look at a local variable as sentry-sdk's serializer does."""
    shown = getattr(type(value), "__sentry_repr__", None)
    if callable(shown):
        return shown(value)
    return dict(value.items()) if isinstance(value, Mapping) else repr(value)


def test_an_error_reporter_does_not_read_an_untouched_session():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?a=1")
    with app.test_request_context(headers={"Cookie": f"session={client.get_cookie('session').value}"}):  # type: ignore[union-attr]
        mine = session._get_current_object()  # type: ignore[attr-defined]
        assert as_an_error_reporter(mine) == "<Session, not read yet>"
        assert not mine.is_accessed
        assert mine["a"] == "1"


# What Flask-Session left.


SETTINGS_OF_FLASK_SESSION = """
TYPE PERMANENT USE_SIGNER KEY_PREFIX ID_LENGTH SID_LENGTH SERIALIZATION_FORMAT CLEANUP_N_REQUESTS
REDIS MEMCACHED CACHELIB FILE_DIR FILE_THRESHOLD FILE_MODE MONGODB MONGODB_DB MONGODB_COLLECT SQLALCHEMY
SQLALCHEMY_TABLE SQLALCHEMY_SEQUENCE SQLALCHEMY_SCHEMA SQLALCHEMY_BIND_KEY DYNAMODB DYNAMODB_TABLE
"""


def reports_on(caplog, **settings: Any) -> list[str]:
    app = Flask("any")
    app.config.update(SECRET_KEY=SECRET, **settings)
    settings_of(app, {})
    return list(caplog.messages)


@pytest.mark.parametrize("name", SETTINGS_OF_FLASK_SESSION.split())
def test_each_setting_of_flask_session_is_reported_with_what_replaces_it(name, caplog):
    (report,) = reports_on(caplog, **{f"SESSION_{name}": "any"})
    assert report.startswith(f"SESSION_{name} is a setting of Flask-Session and does nothing here; replace it: ")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"SESSION_TYPE": "redis"}, 'SESSION_STORE = "redis://localhost:6379/0"'),
        ({"SESSION_TYPE": "filesystem"}, 'SESSION_STORE = "sqlite:///sessions.db"'),
        ({"SESSION_REDIS": Redis("cache.internal", 6380, db=3)}, 'SESSION_STORE = "redis://cache.internal:6380/3"'),
        ({"SESSION_REDIS": Redis(unix_socket_path="/run/redis.sock")}, 'SESSION_STORE = "unix:///run/redis.sock?db=0"'),
        ({"SESSION_MONGODB_DB": "shop"}, 'SESSION_STORE = "mongodb://localhost:27017/shop"'),
        ({"SESSION_SQLALCHEMY_TABLE": "visits"}, 'SESSION_STORE = "postgresql://...?table=visits"'),
    ],
)
def test_the_report_contains_the_line_that_replaces_the_setting(settings, line, caplog):
    (report,) = reports_on(caplog, **settings)
    assert report.endswith(line)


def test_the_report_contains_no_password(caplog):
    reports = reports_on(caplog, SESSION_REDIS=Redis(password="hush", username="shop"))
    assert "hush" not in str(reports)


def session_of_flask_session(app: Flask) -> None:
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
    FlaskSessionExtension(app)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_first", [True, False])
def test_a_leftover_session_of_flask_session_is_reported_wherever_it_is(is_first, caplog):
    app = make_app()
    for attach in (session_of_flask_session, FlaskSessions) if is_first else (FlaskSessions, session_of_flask_session):
        attach(app)
    app.test_client().get("/get")
    assert any("remove the lines" in one and "'Session(app)'" in one for one in caplog.messages)


def test_another_interface_in_our_place_is_reported_once(caplog):
    app = app_with_sessions()
    app.session_interface = SecureCookieSessionInterface()
    for _ in range(2):
        assert app.test_client().get("/put?a=1").status_code == 200
    (report,) = caplog.messages
    assert "flask.sessions.SecureCookieSessionInterface" in report


def test_an_app_in_order_is_not_reported(caplog):
    app_with_sessions().test_client().get("/put?a=1")
    assert caplog.messages == []
