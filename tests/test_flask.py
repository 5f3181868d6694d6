"""Flask: its own session settings are respected, and what worked with its cookie sessions works here."""

from __future__ import annotations

import contextlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from wsgiref.validate import validator

import pytest
from flask import (
    Flask,
    flash,
    get_flashed_messages,
    request,
    session,
)
from markupsafe import Markup
from werkzeug.test import Client

from tests.flask_apps import OLD, SECRET, app_with_sessions, attributes
from tests.visits import WatchedStore
from wsgisession import ConfigurationError, Session
from wsgisession.flask import FlaskSession, FlaskSessions, interface

# Every store.


def test_a_session_lives_from_request_to_request(store_url):
    app = app_with_sessions(SESSION_STORE=store_url)
    client = app.test_client()
    assert client.get("/put?a=1").status_code == 200
    assert client.get("/put?b=2").status_code == 200
    assert client.get("/get").json == {"a": "1", "b": "2"}
    client.get("/clear")
    assert client.get_cookie("session") is None
    assert client.get("/get").json == {}
    app.extensions["wsgisession"].manager.close()


# Flask's settings.


def test_the_cookie_is_as_flask_is_configured():
    response = app_with_sessions(
        SESSION_COOKIE_NAME="shop",
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_PATH="/put",
        SESSION_COOKIE_HTTPONLY=False,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="None",
        SESSION_COOKIE_PARTITIONED=True,
    ).test_client().get("/put?a=1", base_url="https://example.com")  # fmt: skip
    sent = attributes(response)
    assert sent.pop("shop")
    assert sent == {"Domain": "example.com", "Path": "/put", "Secure": "", "SameSite": "None", "Partitioned": ""}


def test_the_cookie_has_safe_attributes_by_default():
    sent = attributes(app_with_sessions().test_client().get("/put?a=1", base_url="https://example.com"))
    assert sent.pop("session")
    assert sent == {"Path": "/", "Secure": "", "HttpOnly": "", "SameSite": "Lax"}


def test_the_cookie_is_for_where_the_app_is_mounted():
    app = app_with_sessions(APPLICATION_ROOT="/shop")
    assert attributes(app.test_client().get("/put?a=1"))["Path"] == "/shop"


def test_a_cookie_is_cleared_with_all_the_attributes_it_was_set_with():
    settings: dict[str, Any] = {"SECURE": True, "SAMESITE": "None", "PARTITIONED": True, "DOMAIN": "example.com"}
    app = app_with_sessions(**{f"SESSION_COOKIE_{name}": value for name, value in settings.items()})
    client = app.test_client()
    put = attributes(client.get("/put?a=1", base_url="https://example.com"))
    cleared = attributes(client.get("/clear", base_url="https://example.com"))
    assert cleared.pop("session") == ""
    assert cleared.pop("Max-Age") == "0"
    assert cleared.pop("Expires")
    assert put.pop("session")
    assert cleared == put


def test_settings_may_change_after_the_extension_was_attached():
    app = Flask(__name__)
    FlaskSessions(app)
    app.add_url_rule("/", view_func=lambda: str(session.setdefault("n", 1)))
    client = app.test_client()
    app.secret_key = SECRET
    assert "session" in attributes(client.get("/"))
    app.config["SESSION_COOKIE_NAME"] = "other"
    assert "other" in attributes(client.get("/"))
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert attributes(app.test_client().get("/"))["SameSite"] == "Strict"


@pytest.mark.parametrize(
    ("setting", "value", "attribute", "sent"),
    [
        ("SESSION_COOKIE_DOMAIN", "example.com", "Domain", "example.com"),
        ("SESSION_COOKIE_PATH", "/put", "Path", "/put"),
        ("APPLICATION_ROOT", "/shop", "Path", "/shop"),
        ("SESSION_COOKIE_SECURE", True, "Secure", ""),
        ("SESSION_COOKIE_HTTPONLY", False, "HttpOnly", None),
        ("SESSION_COOKIE_PARTITIONED", True, "Partitioned", ""),
        ("SESSION_COOKIE_SAMESITE", "Strict", "SameSite", "Strict"),
        ("PERMANENT_SESSION_LIFETIME", 60, "Max-Age", "60"),
    ],
)
def test_each_setting_of_the_cookie_is_read_at_each_request(setting, value, attribute, sent):
    app = app_with_sessions()
    before = attributes(app.test_client().get("/put?a=1&_permanent=1"))
    assert before.get(attribute) != sent
    app.config[setting] = value
    assert attributes(app.test_client().get("/put?a=1&_permanent=1")).get(attribute) == sent


def test_sessions_outlive_a_change_of_settings():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?a=1")
    app.config["PERMANENT_SESSION_LIFETIME"] = 60
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert client.get("/get").json == {"a": "1"}


def test_a_store_named_by_a_url_is_closed_when_another_takes_its_place(sqlite_url, monkeypatch):
    app, closed = app_with_sessions(SESSION_STORE=sqlite_url), []
    sessions = app.extensions["wsgisession"]
    client = app.test_client()
    client.get("/put?a=1")
    store = sessions.manager.store
    monkeypatch.setattr(type(store), "close", lambda self: closed.append(self))
    app.config["PERMANENT_SESSION_LIFETIME"] = 60
    assert client.get("/get").json == {"a": "1"}
    assert closed == []
    app.config["SESSION_STORE"] = "memory://"
    assert client.get("/get").json == {}
    assert closed == [store]
    monkeypatch.undo()
    store.close()


def test_a_store_that_the_app_made_is_the_apps_to_close(monkeypatch):
    ours, closed = WatchedStore(), []
    app = app_with_sessions(SESSION_STORE=ours)
    monkeypatch.setattr(WatchedStore, "close", lambda self: closed.append(self))
    app.test_client().get("/put?a=1")
    app.config["SESSION_STORE"] = "memory://"
    app.test_client().get("/put?a=1")
    assert closed == []


def test_keyword_arguments_go_before_the_configuration():
    ours, theirs = WatchedStore(), WatchedStore()
    app = app_with_sessions(options={"store": ours}, SESSION_STORE=theirs, SESSION_IDLE_TIMEOUT=60)
    app.test_client().get("/put?a=1")
    assert (len(ours.handles), len(theirs.handles)) == (1, 0)
    assert ours.calls == {"create": 1}


def test_an_option_that_nobody_knows_is_refused():
    with pytest.raises(ConfigurationError, match="'stroe'"):
        FlaskSessions(stroe="memory://")


def test_a_user_that_is_under_another_key_from_now_on_keeps_the_session_id():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?account=ada")
    app.config["SESSION_USER_KEY"] = "account"
    assert "Set-Cookie" not in client.get("/get").headers
    assert app.extensions["wsgisession"].manager.sessions_for("ada") == []
    client.get("/put?a=1")
    assert len(app.extensions["wsgisession"].manager.sessions_for("ada")) == 1


# session.permanent.


def permanent_app(**settings: Any) -> Flask:
    app = app_with_sessions(**settings)

    @app.get("/permanent/<int:wanted>")
    def make_permanent(wanted: int) -> str:
        session.permanent = bool(wanted)
        session["a"] = 1
        return "so be it"

    return app


def test_a_permanent_session_has_flasks_lifetime_and_a_passing_one_ends_with_the_browser():
    client = permanent_app(PERMANENT_SESSION_LIFETIME=timedelta(hours=1)).test_client()
    assert attributes(client.get("/permanent/1"))["Max-Age"] == "3600"
    assert client.get("/get").json == {"_permanent": True, "a": 1}
    assert "Max-Age" not in attributes(client.get("/permanent/0"))


@pytest.mark.parametrize("refresh", [True, False])
def test_a_permanent_cookie_is_sent_with_each_request_that_reads_it_if_so_set(refresh):
    client = permanent_app(SESSION_REFRESH_EACH_REQUEST=refresh).test_client()
    client.get("/permanent/1")
    assert ("Set-Cookie" in client.get("/get").headers) is refresh


def test_a_lifetime_can_change_for_sessions_that_are_there():
    app = permanent_app(SESSION_REFRESH_EACH_REQUEST=False)
    client = app.test_client()
    client.get("/permanent/1")
    app.permanent_session_lifetime = timedelta(minutes=1)
    assert attributes(client.get("/get"))["Max-Age"] == "60"


# What it costs.


def test_an_untouched_session_costs_no_call_and_no_header():
    store = WatchedStore()
    client = app_with_sessions(options={"store": store}).test_client()
    client.get("/put?a=1")
    store.calls.clear()
    response = client.get("/")
    assert (store.calls, response.vary.as_set()) == ({}, set())
    assert "Set-Cookie" not in response.headers


def test_settings_are_read_again_only_when_one_has_changed(monkeypatch):
    read: list[Any] = []
    app = app_with_sessions(SECRET_KEY_FALLBACKS=[OLD])
    settings_of = interface.settings_of
    monkeypatch.setattr(interface, "settings_of", lambda *given: read.append(1) or settings_of(*given))
    client = app.test_client()
    for _ in range(3):
        client.get("/")
    assert len(read) == 1
    app.config["SECRET_KEY_FALLBACKS"].append(SECRET)
    client.get("/")
    assert len(read) == 2


def test_a_session_that_was_only_read_is_not_written_and_varies():
    store = WatchedStore()
    client = app_with_sessions(options={"store": store}).test_client()
    client.get("/put?a=1")
    store.calls.clear()
    response = client.get("/get")
    assert store.calls == {"load": 1}
    assert response.vary.as_set() == {"cookie"}
    assert "Set-Cookie" not in response.headers


def test_a_view_that_says_it_looked_at_the_session_varies_without_a_call():
    store = WatchedStore()
    app = app_with_sessions(options={"store": store})

    @app.get("/looked")
    def looked() -> str:
        session.accessed = True
        return ""

    client = app.test_client()
    client.get("/put?a=1")
    store.calls.clear()
    assert client.get("/looked").vary.as_set() == {"cookie"}
    assert store.calls == {}


def test_first_requests_side_by_side_make_one_manager(monkeypatch):
    app = app_with_sessions()
    mine: Any = app.session_interface
    both = threading.Barrier(2)
    settings_of = interface.settings_of

    def slowly(*given: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # two that read the settings at once meet here; behind a lock they cannot
        return settings_of(*given)

    monkeypatch.setattr(interface, "settings_of", slowly)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(mine.manager, [app, app])
    assert one is other


def test_the_repr_reads_nothing():
    store = WatchedStore()
    app = app_with_sessions(options={"store": store})

    @app.get("/repr")
    def show() -> str:
        return repr(session)

    client = app.test_client()
    client.get("/put?a=1")
    store.calls.clear()
    assert client.get("/repr").text == "<Session, not read yet>"
    assert store.calls == {}


def test_flask_keeps_to_the_rules_of_wsgi():
    client = Client(validator(app_with_sessions()))
    response = client.get("/get", query_string="a=1")
    assert response.status_code == 200
    response.close()


# Values.


def test_typed_values_come_back_as_they_were():
    values = {
        "tuple": (1, ("a", 2)),
        "bytes": b"\0\xff",
        "markup": Markup("<b>"),
        "uuid": uuid.UUID(int=7),
        "datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "nested": [{"deep": (b"",)}],
    }
    app, back = app_with_sessions(), {}
    app.add_url_rule("/fill", view_func=lambda: session.update(values) or "")
    app.add_url_rule("/read", "read", lambda: back.update(session) or "")
    client = app.test_client()
    client.get("/fill")
    client.get("/read")
    assert back == values
    assert [type(value) for value in back.values()] == [type(value) for value in values.values()]


def test_flashed_messages_come_back_once():
    app = app_with_sessions()
    app.add_url_rule("/flash", view_func=lambda: flash(Markup("<b>hi"), "info") or "")
    app.add_url_rule("/told", "told", lambda: repr(get_flashed_messages(with_categories=True)))
    client = app.test_client()
    client.get("/flash")
    assert client.get("/told").text == "[('info', Markup('<b>hi'))]"
    assert client.get("/told").text == "[]"


def test_a_nested_change_is_detected():
    app = app_with_sessions()

    @app.get("/add")
    def add() -> str:
        session.setdefault("cart", {"items": []})["items"].append(1)
        return str(len(session["cart"]["items"]))

    client = app.test_client()
    assert [client.get("/add").text for _ in range(3)] == ["1", "2", "3"]


def test_accessed_and_modified_can_be_set():
    app = app_with_sessions()
    interface: Any = app.session_interface
    with app.test_request_context("/"):
        mine = interface.open_session(app, request)
        assert isinstance(mine, FlaskSession)
        assert not mine.accessed
        assert isinstance(mine, Session)
        mine.accessed = True
        assert mine.accessed
        assert repr(mine) == "<Session, not read yet>"
        mine.accessed = False
        assert not mine.accessed
        assert mine.new
        mine["a"] = 1
        assert mine.modified
        mine.modified = False
        assert not mine.modified
        mine.modified = True
        assert mine.modified


def test_a_test_can_ask_after_the_request_whether_it_changed_the_session():
    client = app_with_sessions().test_client()
    answers = []
    for path in ("/", "/put?a=1", "/put?a=1", "/put?a=2", "/get"):
        with client:
            client.get(path)
            answers.append(session.modified)
    assert answers == [False, True, False, True, False]


def test_changes_that_are_declared_none_are_not_written():
    app = app_with_sessions()

    @app.get("/pretend")
    def pretend() -> str:
        session["b"] = 2
        session.modified = False
        return ""

    client = app.test_client()
    client.get("/put?a=1")
    client.get("/pretend")
    assert client.get("/get").json == {"a": "1"}
