"""format="express" in Flask and Django."""

from __future__ import annotations

import json

import pytest
from flask import Flask, session

from tests.django_project import set_up
from wsgisession import ConfigurationError
from wsgisession.flask import FlaskSessions

SECRET = "for the tests, and long enough"


@pytest.fixture
def app():
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, SESSION_FORMAT="express", SESSION_COOKIE_NAME="connect.sid")

    @app.get("/set")
    def set_value():
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    return app


def members(manager, session_id):
    record = manager.store.load(session_id, now=manager._services.records._clock(), touch_after=None)
    return json.loads(record.data)["cookie"]


def test_flask_sends_a_cookie_that_express_reads(app):
    manager = FlaskSessions(app).manager
    client = app.test_client()
    assert client.get("/set").text == "1"
    assert client.get("/set").text == "2"
    value = client.get_cookie("connect.sid").value
    assert value.startswith(("s%3A", "s:"))
    (info,) = manager.all_sessions()
    assert members(manager, info.handle)["sameSite"] == "lax"


def test_flask_leaves_the_lifetime_that_express_has_set(app):
    manager = FlaskSessions(app).manager
    cookie = {"originalMaxAge": 3_600_000, "expires": "2033-03-03T03:03:03.333Z", "httpOnly": True, "path": "/"}
    packed = json.dumps({"cookie": cookie, "n": 1}).encode()
    content = manager._services.records.codec.unpack(packed, handle="an ID of Express's")
    manager._services.records.create("an ID of Express's", content)
    client = app.test_client()
    client.set_cookie("connect.sid", manager._services.signer.sign("an ID of Express's"))
    answer = client.get("/set")
    assert answer.text == "2"
    assert "Max-Age=3600" in answer.headers["Set-Cookie"]
    assert members(manager, "an ID of Express's")["originalMaxAge"] == 3_600_000


def test_django_on_its_own_middleware_says_what_to_do():
    set_up()
    from django.test import override_settings

    from wsgisession.django import get_manager

    with (
        override_settings(WSGISESSION={"store": "memory://", "format": "express"}),
        pytest.raises(ConfigurationError, match="SessionMiddleware"),
    ):
        get_manager()
