"""``session`` in the templates of a Flask app: the app's keys first, and nothing secret."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from flask import Flask, render_template_string, request, session
from jinja2 import DictLoader

from tests.flask_apps import SECRET, app_with_sessions
from wsgisession.flask import FlaskSessions


def app_showing(**options: Any) -> Flask:
    """Show at /show what a template made of its query."""
    app = app_with_sessions(options=options)

    @app.get("/show")
    def show() -> str:
        return render_template_string(request.args["template"])

    @app.get("/imported")
    def imported() -> str:
        app.jinja_env.loader = DictLoader(
            {"macros": "{% macro shown() %}" + request.args["template"] + "{% endmacro %}"}
        )
        return render_template_string("{% import 'macros' as macros %}{{ macros.shown() }}")

    @app.get("/bare")
    def bare() -> str:
        return app.jinja_env.from_string(request.args["template"]).render()

    @app.get("/passed")
    def passed() -> str:
        return render_template_string(request.args["template"], session=session)

    @app.get("/passed-itself")
    def passed_itself() -> str:
        mine = session._get_current_object()  # type: ignore[attr-defined]
        return render_template_string(request.args["template"], session=mine)

    @app.get("/login")
    def login() -> str:
        session.login("ada")  # type: ignore[attr-defined]
        return "in"

    return app


PLACES = ["/show", "/imported", "/bare", "/passed", "/passed-itself"]


def shown(client: Any, template: str, place: str = "/show") -> str:
    response = client.get(place, query_string={"template": template})
    assert response.status_code == 200
    return unescape(response.text)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", ["user", "visit", "id", "cookie", "views", "state", "handle", "new", "items", "save"])
def test_a_name_is_the_apps_key_first(place, key):
    client = app_showing().test_client()
    client.get(f"/put?{key}=mine")
    assert shown(client, f"{{{{ session.{key} }}}} {{{{ session['{key}'] }}}}", place) == "mine mine"


@pytest.mark.parametrize("place", PLACES)
def test_public_members_are_there_as_in_flask(place):
    client = app_showing().test_client()
    client.get("/put?a=1")
    template = "{{ session.new }} {{ session.permanent }} {{ session.get('a') }} {{ session.get('b', 2) }}"
    assert shown(client, template, place) == "False False 1 2"
    assert shown(client, "{% for k, v in session.items() %}{{ k }}={{ v }}{% endfor %}", place) == "a=1"
    assert shown(client, "{{ 'a' in session }} {{ session|length }} {{ session|list }}", place) == "True 1 ['a']"
    assert shown(client, "{{ session.pop('a') }}{{ session.a }}", place) == "1"
    assert client.get("/get").json == {}


@pytest.mark.parametrize("place", PLACES)
def test_the_members_of_a_session_are_there_after_the_apps_keys(place):
    client = app_showing(user_loader=str.upper).test_client()
    client.get("/login")
    assert shown(client, "{{ session.user_id }} {{ session.user }} {{ session.is_new }}", place) == "ada ADA False"
    assert len(shown(client, "{{ session.handle }}", place)) > 20


NAMES = ["id", "cookie", "_visit", "_manager", "_outer", "_touched", "keeper", "state", "visit", "sid"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_no_secret_and_nothing_internal_has_a_name(place, name):
    client = app_showing().test_client()
    client.get("/put?a=1")
    assert shown(client, f"{{{{ session.{name} }}}}{{{{ session['{name}'] }}}}", place) == ""


def test_in_the_format_of_express_the_handle_is_the_id_and_not_shown():
    client = app_showing(format="express").test_client()
    client.get("/put?a=1")
    assert shown(client, "{{ session.handle }}") == ""


def test_neither_the_session_nor_its_repr_shows_the_cookie():
    client = app_showing().test_client()
    client.get("/put?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    session_id = cookie.value.partition(".")[0]
    assert session_id not in shown(client, "{{ session }} {{ session|pprint }} {{ session.copy() }}")


def test_a_template_that_does_not_name_the_session_does_not_read_it():
    client = app_showing().test_client()
    client.get("/put?a=1")
    assert "Vary" not in client.get("/show?template=hello").headers
    assert client.get("/show?template={{ session.a }}").headers["Vary"] == "Cookie"


def test_a_function_that_gets_the_session_from_a_template_can_change_it():
    app = app_showing()

    @app.template_global()
    def count(mine: Any) -> int:
        mine["n"] = mine.get("n", 0) + 1
        return len({**mine})

    client = app.test_client()
    assert shown(client, "{{ count(session) }}") == "1"
    assert client.get("/get").json == {"n": 1}
    assert shown(client, "{{ (session | dictsort) }}") == "[('n', 1)]"


def test_the_null_session_of_an_app_without_a_secret_is_in_its_templates():
    app = app_showing()
    app.secret_key = None
    assert shown(app.test_client(), "{{ session.user }}{{ session.new }}{{ session|length }}") == "False0"


def test_an_app_that_has_used_its_templates_already_is_guarded_too():
    app = Flask(__name__)
    app.secret_key = SECRET
    assert app.jinja_env is app.jinja_env
    FlaskSessions(app)
    app.add_url_rule("/", "index", lambda: session.setdefault("a", "1"))
    app.add_url_rule("/id", "id", lambda: app.jinja_env.from_string("{{ session.id }}").render())
    client = app.test_client()
    client.get("/")
    assert client.get("/id").text == ""


def test_the_apps_own_name_for_the_session_stays():
    app = app_showing()
    app.context_processor(lambda: {"session": "the app's"})
    assert shown(app.test_client(), "{{ session }}") == "the app's"


def test_the_options_of_the_environment_can_be_set_after_the_extension():
    app = app_showing()
    app.jinja_options = {"variable_start_string": "<<", "variable_end_string": ">>"}
    client = app.test_client()
    client.get("/put?a=1")
    assert shown(client, "<< session.a >>") == "1"
