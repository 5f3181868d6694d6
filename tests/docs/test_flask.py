"""The examples of the guide for Flask run, and do what it says."""

from __future__ import annotations

import re
from datetime import timedelta
from inspect import signature
from typing import Any

import flask_login
import pytest
from flask import Flask, session

from tests.docs.pages import blocks, text_of
from wsgisession import SessionManager
from wsgisession.flask import FlaskSessions

PAGE = "flask.md"
SECRET = "a secret that is long enough"


@pytest.fixture
def shown(tmp_path, monkeypatch) -> dict[str, Any]:
    """What is defined after all blocks of the page were run in order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASK_SECRET_KEY", SECRET)
    monkeypatch.setenv("FLASK_SESSION_STORE", "memory://")
    names: dict[str, Any] = {"__name__": "guide"}
    for block in blocks(PAGE):
        exec(block, names)
    flask_login.LoginManager(names["app"]).user_loader(_user)
    return names


def _user(name: str) -> flask_login.UserMixin:
    user = flask_login.UserMixin()
    user.id = name
    return user


def test_its_views_do_what_it_says(shown):
    client = shown["app"].test_client()
    assert [client.post("/cart/apple").json, client.post("/cart/pear").json] == [{"items": 1}, {"items": 2}]
    assert client.get("/account").location == "/sign-in?next=/account"
    assert client.get("/articles").status_code == 401
    client.post("/login")
    assert [client.get("/account").text, client.get("/articles").text] == ["ada's account", "articles"]
    client.post("/logout")
    assert client.get("/account").status_code == 303


def test_its_test_passes(shown):
    shown["test_the_account_page_needs_a_login"]()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_flask_logins_user_ends_all_sessions(shown):
    app: Flask = shown["app"]
    app.add_url_rule("/in", view_func=lambda: str(flask_login.login_user(_user("ada"))))
    laptop, phone = app.test_client(), app.test_client()
    for client in (laptop, phone):
        client.get("/in")
    assert laptop.post("/log-out-everywhere").json == {"ended": 2}
    assert phone.post("/log-out-everywhere").status_code == 401


def test_the_wrapped_app_has_its_middlewares_sessions(shown, tmp_path):
    shop: Flask = shown["shop"]
    shop.add_url_rule("/", view_func=lambda: str(shown["session"].setdefault("visits", 1)))
    assert "sid=" in shop.test_client().get("/").headers["Set-Cookie"]
    assert (tmp_path / "sessions.db").is_file()
    shop.extensions["wsgisession"].manager.close()


def test_its_settings_are_settings():
    table = text_of(PAGE).split("\n## Settings\n")[1].split("\n## ")[0]
    first, *parts = re.findall(r"`(_[A-Z]+)`", table)
    names = {f"SESSION_COOKIE{part}" for part in (first, *parts)} | set(re.findall(r"`([A-Z]\w+[A-Z])`", table))
    options = {f"SESSION_{option.upper()}" for option in signature(SessionManager).parameters}
    since_flask_31 = {"SESSION_COOKIE_PARTITIONED", "SECRET_KEY_FALLBACKS"}
    assert names - options - set(Flask("any").config) - since_flask_31 == set()
    assert {name for name in Flask("any").config if name.startswith("SESSION_")} <= names


# The differences from Flask's cookie sessions, as the page names them.


def lifetime_of(client: Any, path: str) -> timedelta:
    client.get(path)
    (found,) = client.application.extensions["wsgisession"].manager.all_sessions()
    return found.expires_at - found.created_at


@pytest.fixture
def plain() -> Flask:
    app = Flask("plain")
    app.secret_key = SECRET
    FlaskSessions(app, store="memory://")

    @app.get("/set")
    def set_() -> str:
        session["n"] = {1, 2}
        return "set"

    @app.get("/keep")
    def keep() -> str:
        session["n"] = 1
        session.permanent = True
        return "kept"

    app.add_url_rule("/read", "read", lambda: str(session.get("n")))
    app.add_url_rule("/alone", "alone", lambda: "alone")
    return app


@pytest.mark.parametrize(("path", "days"), [("/set", 1), ("/keep", 31)])
def test_a_session_ends_after_a_day_without_use_unless_it_is_permanent(plain, path, days):
    lifetime = lifetime_of(plain.test_client(), path)
    assert timedelta(days=days) * 0.94 < lifetime <= timedelta(days=days, seconds=2)


def test_samesite_is_sent_and_a_set_comes_back_as_a_set(plain):
    client = plain.test_client()
    assert "SameSite=Lax" in client.get("/set").headers["Set-Cookie"]
    assert client.get("/read").text == "{1, 2}"


def test_a_request_that_does_not_touch_the_session_does_not_refresh_the_cookie(plain):
    client = plain.test_client()
    client.get("/keep")
    assert "Set-Cookie" not in client.get("/alone").headers
    assert "Set-Cookie" in client.get("/read").headers
