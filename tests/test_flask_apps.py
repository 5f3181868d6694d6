"""Flask apps as people put them together: factories, blueprints, tests, streams, middleware around them."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import click
import pytest
from flask import (
    Blueprint,
    Flask,
    render_template_string,
    session,
    stream_with_context,
)
from flask.cli import FlaskGroup
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client
from werkzeug.wrappers import Response

from tests.flask_apps import OLD, SECRET, app_with_sessions, attributes, make_app
from wsgisession import ConfigurationError, SessionMiddleware
from wsgisession.flask import FlaskSessions

# How apps are put together.


def test_one_extension_serves_the_apps_of_a_factory_each_with_its_own_manager():
    sessions = FlaskSessions()
    one, other = make_app(), make_app(SESSION_COOKIE_NAME="other")
    for app in (one, other):
        sessions.init_app(app)
    client, stranger = one.test_client(), other.test_client()
    client.get("/put?a=1")
    stranger.get("/put?b=2")
    assert (client.get("/get").json, stranger.get("/get").json) == ({"a": "1"}, {"b": "2"})
    with one.app_context():
        mine = sessions.manager
    with other.app_context():
        assert (mine.name, sessions.manager.name) == ("session", "other")
        assert sessions.manager is not mine
        assert sessions.manager.store is not mine.store


def test_a_cookie_of_one_app_is_nothing_to_another_with_another_secret():
    client = app_with_sessions().test_client()
    client.get("/put?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    stranger = app_with_sessions(OLD).test_client()
    stranger.set_cookie("session", cookie.value)
    assert stranger.get("/get").json == {}


def test_the_manager_is_there_outside_of_requests():
    app = make_app()
    sessions = FlaskSessions(app)
    client = app.test_client()
    client.get("/put?user_id=ada")
    (info,) = sessions.manager.sessions_for("ada")
    with sessions.manager.edit(info.handle) as theirs:
        theirs["seen"] = 1
    assert client.get("/get").json == {"user_id": "ada", "seen": 1}
    with app.app_context():
        assert sessions.manager.revoke_user("ada") == 1
    assert client.get("/get").json == {}


def test_a_manager_without_a_secret_says_what_is_missing():
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        _ = FlaskSessions(make_app(None)).manager
    with pytest.raises(ConfigurationError, match="init_app"):
        _ = FlaskSessions().manager


def test_a_command_of_the_app_ends_the_sessions_of_a_user():
    app = make_app()
    sessions = FlaskSessions(app)
    app.cli.command("lock")(click.argument("user")(lambda user: print(sessions.manager.revoke_user(user))))
    client = app.test_client()
    client.get("/put?user_id=ada")
    assert app.test_cli_runner().invoke(args=["lock", "ada"]).output == "1\n"
    assert client.get("/get").json == {}


def test_the_shell_of_the_app_has_its_sessions():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?user_id=ada&a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    typed = f"""
from flask import session
visit = app.test_request_context(headers={{"Cookie": "session={cookie.value}"}})
visit.push(); print(dict(session)); visit.pop()
print(app.extensions["wsgisession"].manager.revoke_user("ada"))
"""
    shown = app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app), ["shell"], input=typed)
    assert "{'user_id': 'ada', 'a': '1'}\n1\n" in shown.output.replace(">>> ", "")
    assert client.get("/get").json == {}


def test_blueprints_and_templates_see_the_session():
    app = app_with_sessions()
    shop = Blueprint("shop", __name__, url_prefix="/shop")
    shop.add_url_rule("/", view_func=lambda: render_template_string("{{ session.a }} {{ session['a'] }}"))
    app.register_blueprint(shop)
    client = app.test_client()
    client.get("/put?a=<b>")
    assert client.get("/shop/").text == "&lt;b&gt; &lt;b&gt;"


def test_a_test_opens_the_session_between_requests():
    client = app_with_sessions().test_client()
    with client.session_transaction() as mine:
        mine["a"] = 1
    assert client.get("/get").json == {"a": 1}
    with client.session_transaction() as mine:
        assert mine.pop("a") == 1
        mine["b"] = 2
    with client:
        client.get("/get")
        assert dict(session) == {"b": 2}


def test_a_stream_reads_the_session_and_changes_one_that_is_there():
    app = app_with_sessions()

    @app.get("/stream")
    def stream() -> Response:
        def numbers() -> Any:
            for _ in range(3):
                session["n"] = session.get("n", 0) + 1
                yield f"{session['n']},"

        return Response(stream_with_context(numbers()))

    client = app.test_client()
    client.get("/put?a=1")
    response = client.get("/stream")
    assert response.text == "1,2,3,"
    response.close()
    assert client.get("/get").json == {"a": "1", "n": 3}


def test_async_views_have_the_session():
    app = app_with_sessions()

    @app.get("/async")
    async def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    client = app.test_client()
    assert [client.get("/async").text for _ in range(3)] == ["1", "2", "3"]


def test_an_app_that_is_wrapped_too_uses_the_session_of_its_middleware():
    app = app_with_sessions(None)
    wrapped = SessionMiddleware(app, secret=SECRET, name="outer")
    client = Client(wrapped)
    assert list(attributes(client.get("/put?a=1")))[0] == "outer"
    assert client.get("/get").json == {"a": "1"}
    assert attributes(client.get("/clear"))["Max-Age"] == "0"
    assert client.get("/get").json == {}


def wrapped_in_place(**settings: Any) -> Flask:
    app = app_with_sessions(**settings)
    wsgi: Any = app
    wsgi.wsgi_app = ProxyFix(SessionMiddleware(app.wsgi_app, secret=SECRET, name="outer"))
    return app


@pytest.mark.parametrize("secret", [None, OLD])
def test_an_app_that_is_wrapped_too_has_the_manager_of_its_middleware(secret):
    app = wrapped_in_place(secret=secret)
    client = app.test_client()
    client.get("/put?user_id=ada")
    manager = app.extensions["wsgisession"].manager
    assert manager.name == "outer"
    assert [info.data for info in manager.sessions_for("ada")] == [{"user_id": "ada"}]
    assert manager.revoke_user("ada") == 1
    assert client.get("/get").json == {}


def test_of_two_middlewares_around_the_app_the_inner_one_counts():
    app = wrapped_in_place()
    wsgi: Any = app
    wsgi.wsgi_app = SessionMiddleware(app.wsgi_app, secret=SECRET, name="outermost")
    assert "outer" in attributes(app.test_client().get("/put?a=1"))
    assert app.extensions["wsgisession"].manager.name == "outer"


def test_a_user_who_changes_in_a_wrapped_app_gets_a_new_id():
    client = wrapped_in_place().test_client()
    client.get("/put?a=1")
    assert "outer" in attributes(client.get("/put?user_id=ada"))
    assert "Set-Cookie" not in client.get("/put?a=2").headers
    assert client.get("/get").json == {"a": "2", "user_id": "ada"}


def test_a_test_opens_the_session_of_a_wrapped_app():
    client = wrapped_in_place(secret=None).test_client()
    with client.session_transaction() as mine:
        mine["a"] = 1
    assert client.get("/get").json == {"a": 1}
    client.get("/put?b=2")
    with client.session_transaction() as mine:
        assert dict(mine) == {"a": 1, "b": "2"}


def test_a_wrapped_app_streams_and_remembers_what_changed_on_the_way():
    app = wrapped_in_place()

    @app.get("/stream")
    def stream() -> Response:
        def numbers() -> Any:
            for _ in range(3):
                session["n"] = session.get("n", 0) + 1
                yield f"{session['n']},"

        return Response(stream_with_context(numbers()))

    client = app.test_client()
    with contextlib.closing(client.get("/stream")) as response:
        assert response.text == "1,2,3,"
    assert client.get("/get").json == {"n": 3}


def test_a_nested_request_of_a_wrapped_app_is_its_own():
    app = app_with_sessions()
    app.add_url_rule("/inner", view_func=lambda: app.test_client().get("/put?b=2").text)
    client = Client(SessionMiddleware(app, secret=SECRET))
    assert client.get("/inner").text == "put"
    assert client.get("/get").json == {}


def test_an_app_is_freed_when_nobody_holds_it():
    gc.collect()
    gc.disable()
    try:
        app = Flask(__name__, static_folder=None)  # the route of a static folder holds its app
        app.secret_key = SECRET
        FlaskSessions(app)
        app.add_url_rule("/", view_func=lambda: str(session.setdefault("a", 1)))
        assert "session" in attributes(app.test_client().get("/"))
        gone = weakref.ref(app)
        del app
        assert gone() is None
    finally:
        gc.enable()
