"""Guards around any WSGI app, over HTTP."""

from __future__ import annotations

from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from wsgisession import SessionError, SessionMiddleware, get_session
from wsgisession.guards import protect, require_role, require_user

SECRET = "a secret that is long enough"


@Request.application
def site(request: Request) -> Response:
    session = get_session(request.environ)
    if request.path == "/login":
        session.login("ada", roles=request.args.getlist("role"))
    return Response(f"{request.path} for {session.user_id}")


def browser(guarded: Any) -> Client:
    return Client(SessionMiddleware(guarded, secret=SECRET))


def logged_in(guarded: Any, *roles: str) -> Client:
    client = browser(protect(site, {"/": lambda app: guarded, "/login": lambda app: app}))
    assert client.get("/login", query_string={"role": list(roles)}).status_code == 200
    return client


def test_a_stranger_gets_401_and_the_app_is_not_asked():
    response = browser(require_user(site)).get("/")
    assert (response.status_code, response.text.count("Please log in first.")) == (401, 2)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.vary.as_set() == {"accept", "cookie"}


def test_a_logged_in_user_passes():
    assert logged_in(require_user(site)).get("/page").text == "/page for ada"


def test_a_program_gets_the_refusal_as_json():
    response = browser(require_user(site, login_url="/login")).get("/", headers={"Accept": "application/json"})
    assert (response.status_code, response.json) == (401, {"error": "Please log in first."})


def test_a_browser_is_sent_to_the_login_page_with_the_original_path():
    response = browser(require_user(site, login_url="/login")).get("/cart?item=1")
    assert (response.status_code, response.location) == (303, "/login?next=/cart%3Fitem%3D1")


def test_a_role_is_needed_in_addition():
    guarded = require_role("admin")(site)
    assert browser(guarded).get("/").status_code == 401
    assert logged_in(guarded, "editor").get("/").status_code == 403
    assert logged_in(guarded, "editor", "admin").get("/").status_code == 200


def test_a_user_without_the_role_is_not_sent_to_log_in_again():
    response = logged_in(require_role("admin", login_url="/login")(site)).get("/")
    assert (response.status_code, response.location) == (403, None)


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_refusal_keeps_to_the_rules_of_wsgi(method, accept):
    client = Client(validator(SessionMiddleware(require_user(site), secret=SECRET)))
    response = client.open("/", method=method, headers={"Accept": accept}, query_string="a=1")
    assert response.status_code == 401
    assert int(response.headers["Content-Length"]) > 0
    assert bool(response.data) is (method != "HEAD")
    response.close()


ADMIN = {"/account": require_user, "/admin": require_role("admin"), "/admin/help/": lambda app: app}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/login", 200),
        ("/administrator", 200),
        ("/admin", 403),
        ("/admin/", 403),
        ("/admin/users", 403),
        ("/admin/help", 200),
        ("/admin/help/me", 200),
        ("/account", 200),
    ],
)
def test_the_longest_path_that_covers_the_request_counts(path, status):
    client = browser(protect(site, ADMIN))
    client.get("/login")
    assert client.get(path).status_code == status


@pytest.mark.parametrize("path", ["//admin", "/./admin", "/public/../admin", "/admin/../public", "///admin/users"])
def test_another_spelling_of_a_path_does_not_get_round_its_guard(path):
    client = browser(protect(site, {"/admin": require_user}))
    assert client.get("/", environ_overrides={"PATH_INFO": path}).status_code == 401


def test_a_guard_works_in_an_app_that_is_mounted_somewhere():
    client = browser(protect(site, {"/admin": require_user}))
    assert client.get("/admin", base_url="http://localhost/shop").status_code == 401


def test_the_original_path_goes_through_the_outer_app():
    response = browser(require_user(site, login_url="/shop/login")).get("/cart", base_url="http://localhost/shop")
    assert response.location == "/shop/login?next=/shop/cart"


def test_a_guard_outside_the_middleware_says_what_is_missing():
    with pytest.raises(SessionError, match="wrap the app"):
        Client(require_user(site)).get("/")
