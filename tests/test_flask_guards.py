"""`login_required` and `role_required` in Flask."""

from __future__ import annotations

import pytest
from flask import (
    Flask,
    request,
    session,
)

from tests.flask_apps import app_with_sessions, make_app
from wsgisession import ConfigurationError
from wsgisession.flask import login_required, role_required
from wsgisession.wsgi.access import Verdict, refuse

# Who may pass.


def guarded_app() -> Flask:
    app = app_with_sessions()

    @app.get("/login")
    def login() -> str:
        session.login("ada", roles=request.args.getlist("role"), groups=["staff"])  # type: ignore[attr-defined]
        return "welcome"

    @app.get("/account")
    @login_required
    def account() -> str:
        """The account."""
        return "account"

    @app.get("/async/<name>")
    @login_required(login_url="login")
    async def asynchronous(name: str) -> str:
        return name

    @app.get("/admin")
    @role_required("admin", "root", login_url="/login")
    async def admin() -> str:
        return "admin"

    @app.get("/staff")
    @role_required("staff", roles=lambda mine: mine["groups"])
    def staff() -> str:
        return "staff"

    return app


def test_a_stranger_gets_401():
    response = guarded_app().test_client().get("/account")
    assert (response.status_code, "Please log in first." in response.text) == (401, True)


def test_a_program_gets_the_refusal_as_json():
    headers = {"Accept": "application/json"}
    client = guarded_app().test_client()
    for path in ("/account", "/async/a"):
        response = client.get(path, headers=headers)
        assert (response.status_code, response.json) == (401, {"error": "Please log in first."})


def test_a_browser_is_sent_to_an_endpoint_or_a_path_with_the_original_path():
    client = guarded_app().test_client()
    assert client.get("/async/a?b=1").location == "/login?next=/async/a%3Fb%3D1"
    assert client.get("/admin").location == "/login?next=/admin"
    mounted = client.get("/admin", base_url="http://localhost/shop")
    assert (mounted.status_code, mounted.location) == (303, "/login?next=/shop/admin")


def test_a_logged_in_user_passes_if_a_role_allows_it():
    client = guarded_app().test_client()
    client.get("/login?role=editor")
    answers = {path: client.get(path).status_code for path in ("/account", "/async/a", "/admin", "/staff")}
    assert answers == {"/account": 200, "/async/a": 200, "/admin": 403, "/staff": 200}
    client.get("/login?role=root")
    assert client.get("/admin").text == "admin"
    assert client.get("/async/me").text == "me"


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("path", ["/account", "/admin", "/staff"])
def test_no_cache_keeps_a_refusal_for_the_next_visitor(path, accept):
    client = guarded_app().test_client()
    if path == "/staff":
        client.get("/put?user_id=ada&groups=guest")
    response = client.get(path, headers={"Accept": accept})
    assert response.status_code == {"/account": 401, "/staff": 403}.get(path, 303 if accept == "text/html" else 401)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.vary.as_set() == {"accept", "cookie"}


def test_the_refusal_of_a_view_is_that_of_a_guard():
    client = guarded_app().test_client()
    for accept in ("text/html", "application/json"):
        environ = {"HTTP_ACCEPT": accept, "PATH_INFO": "/admin"}
        refusal = refuse(Verdict.LOGIN_NEEDED, environ, login_url="/login")
        response = client.get("/admin", headers={"Accept": accept})
        assert (response.status_code, response.location) == (refusal.status, refusal.location)
        assert (response.data, response.content_type) == (refusal.body, refusal.kind)


@pytest.mark.parametrize("nobody", ["", False, None, [], {}, ()])
def test_nobody_is_logged_in_under_a_value_that_names_nobody(nobody):
    app = guarded_app()
    app.before_request(lambda: session.update(user_id=nobody))
    client = app.test_client()
    for _ in range(2):
        assert client.get("/account").status_code == 401
    assert list(app.extensions["wsgisession"].manager.sessions_for("")) == []


@pytest.mark.parametrize(("path", "status"), [("/account", 401), ("/admin", 303), ("/staff", 401)])
def test_without_a_secret_nobody_is_logged_in(path, status):
    app = guarded_app()
    app.secret_key = None
    response = app.test_client().get(path)
    assert (response.status_code, response.headers["Cache-Control"]) == (status, "no-store")


def test_a_guard_over_flasks_own_sessions_says_what_is_missing():
    app = make_app(PROPAGATE_EXCEPTIONS=True)
    app.add_url_rule("/account", view_func=login_required(lambda: ""))
    with pytest.raises(ConfigurationError, match=r"FlaskSessions\(app\)"):
        app.test_client().get("/account")


def test_a_guarded_view_keeps_its_name():
    assert guarded_app().view_functions["account"].__doc__ == "The account."


def test_the_app_says_how_a_refusal_looks():
    app = guarded_app()
    app.register_error_handler(401, lambda error: (f"no: {error.description}", 401))
    response = app.test_client().get("/account")
    assert (response.text, response.headers["Cache-Control"]) == ("no: Please log in first.", "no-store")
