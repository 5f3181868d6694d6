"""`flask.session` in the events of Flask-SocketIO: a session without a response."""

from __future__ import annotations

from typing import Any

import flask_login
import flask_socketio
import pytest
from flask import Flask, session

from tests.flask_apps import app_with_sessions
from wsgisession import SessionError, SessionGone

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class User(flask_login.UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


def chat_app(**options: Any) -> tuple[Flask, Any, list[Any]]:
    """An app, its sockets, and what went wrong in their events."""
    app = app_with_sessions(options=options)
    flask_login.LoginManager(app).user_loader(User)
    chat: Any = flask_socketio.SocketIO(app, manage_session=False, async_mode="threading")
    failed: list[Any] = []
    chat.on_error_default(failed.append)
    mine: Any = session

    @app.get("/login/<name>")
    def login(name: str) -> str:
        mine.login(name)
        return "in"

    @app.get("/who")
    def who() -> str:
        return str(mine.user_id)

    chat.on_event("put", lambda key, value: mine.__setitem__(key, value))
    chat.on_event("append", lambda value: mine.setdefault("items", []).append(value))
    chat.on_event("login", lambda name: mine.login(name))
    chat.on_event("regenerate", lambda: mine.regenerate())
    chat.on_event("flask-login", lambda name: flask_login.login_user(User(name)) and None)
    chat.on_event("logout", lambda: mine.logout())
    chat.on_event("save", lambda: mine.save())
    return app, chat, failed


def connected(app: Flask, chat: Any, *, path: str = "/put?a=1") -> tuple[Any, Any]:
    """Return a browser that has a session, and its socket."""
    client = app.test_client()
    client.get(path)
    return client, chat.test_client(app, flask_test_client=client)


def cookie_of(client: Any) -> str:
    return str(client.get_cookie("session").value)


def test_what_events_write_is_there_in_the_next_request():
    app, chat, failed = chat_app()
    client, socket = connected(app, chat)
    socket.emit("append", 1)
    socket.emit("append", 2)
    socket.emit("put", "room", "lobby")
    assert client.get("/get").json == {"a": "1", "items": [1, 2], "room": "lobby"}
    assert failed == []


@pytest.mark.parametrize(("event", "args"), [("login", ["ada"]), ("regenerate", [])])
def test_an_event_cannot_ask_for_a_new_id_and_the_visitor_keeps_the_session(event, args):
    app, chat, failed = chat_app()
    client, socket = connected(app, chat)
    before = cookie_of(client)
    socket.emit(event, *args)
    (error,) = failed
    assert isinstance(error, SessionError)
    assert "call login and regenerate in an ordinary request" in str(error)
    assert client.get("/get").json == {"a": "1"}
    assert cookie_of(client) == before


def test_a_user_whom_an_event_logs_in_gets_the_new_id_with_the_next_response():
    app, chat, failed = chat_app()
    client, socket = connected(app, chat)
    before = cookie_of(client)
    socket.emit("flask-login", "ada")
    assert failed == []
    assert client.get("/who").text == "ada"
    assert cookie_of(client) != before
    planted = app.test_client()
    planted.set_cookie("session", before)
    assert planted.get("/who").text == "None"
    assert client.get("/get").json["a"] == "1"


def test_a_user_whom_an_event_logs_in_is_in_the_index_at_once():
    app, chat, _ = chat_app()
    _, socket = connected(app, chat)
    socket.emit("flask-login", "ada")
    assert len(app.extensions["wsgisession"].manager.sessions_for("ada")) == 1


def test_another_user_whom_an_event_logs_in_does_not_inherit_data():
    app, chat, failed = chat_app()
    client, socket = connected(app, chat, path="/login/bob")
    socket.emit("put", "note", "of bob")
    socket.emit("put", "user_id", "ada")
    assert failed == []
    assert client.get("/get").json == {"user_id": "ada"}


def test_events_go_on_after_a_login_by_event():
    app, chat, failed = chat_app()
    client, socket = connected(app, chat)
    socket.emit("flask-login", "ada")
    socket.emit("put", "room", "lobby")
    assert failed == []
    found = client.get("/get").json
    assert (found["a"], found["_user_id"], found["room"]) == ("1", "ada", "lobby")


def test_a_logout_in_an_event_ends_the_session():
    app, chat, failed = chat_app()
    client, socket = connected(app, chat, path="/login/ada")
    socket.emit("logout")
    assert failed == []
    assert client.get("/who").text == "None"


@pytest.mark.parametrize("options", [{}, {"save_uninitialized": True}, {"rolling": True, "resave": True}])
def test_an_event_of_a_visitor_without_a_session_starts_none(options):
    app, chat, failed = chat_app(**options)
    socket = chat.test_client(app, flask_test_client=app.test_client())
    socket.emit("put", "room", "lobby")
    (error,) = failed
    assert isinstance(error, SessionGone)
    assert "write in a request first" in str(error)
    assert list(app.extensions["wsgisession"].manager.all_sessions()) == []


def test_an_event_does_not_renew_an_id_that_the_browser_would_not_get():
    now = [1_000_000.0]
    app, chat, failed = chat_app(clock=lambda: now[0], renewal_timeout=60)
    client, socket = connected(app, chat)
    before = cookie_of(client)
    now[0] += 120
    socket.emit("put", "room", "lobby")
    assert failed == []
    assert client.get("/get").json == {"a": "1", "room": "lobby"}
    assert cookie_of(client) != before
