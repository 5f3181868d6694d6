"""A Django project on these sessions: over HTTP, behind gunicorn, and its settings."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import Client

from tests.django_project import set_up
from tests.web import Browser as RealBrowser
from tests.web import Gunicorn

set_up()

from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from wsgisession import SessionMiddleware, StoreError
from wsgisession.django import check_settings, get_manager

CACHE = "django.contrib.sessions.backends.cache"

SECRET = "a secret for the wrapped Django app"


@pytest.fixture(scope="module", autouse=True)
def database() -> Iterator[None]:
    from django.db import connection

    call_command("migrate", verbosity=0)
    yield
    connection.close()


@pytest.fixture
def user() -> Iterator[User]:
    user = User.objects.create_superuser("ada", password="lovelace")
    yield user
    User.objects.all().delete()


@pytest.fixture
def engine(store_url) -> Iterator[None]:
    with override_settings(WSGISESSION={"store": store_url}):
        yield


@pytest.fixture(params=["engine", "wrapped"])
def client(request, store_url) -> Iterator[Client]:
    """A browser before the project: on the engine with Django's cookie, and wrapped in our middleware."""
    with override_settings(WSGISESSION={"store": store_url}):
        app = get_wsgi_application()
        if request.param == "engine":
            yield Client(app)
            return
        wrapped = SessionMiddleware(app, secret=SECRET, store=store_url, name="sessionid")
        yield Client(wrapped)
        wrapped.manager.close()


def sign_in(client: Client, password: str = "lovelace") -> str:
    response = client.post("/sign-in", data={"password": password})
    assert response.status_code == 200, response.text
    return response.text


def copy_of(client: Client) -> Client:
    """Another client that has stolen, or kept, the cookie."""
    other = Client(client.application)
    cookie = client.get_cookie("sessionid")
    assert cookie is not None
    other.set_cookie("sessionid", cookie.value)
    return other


# The project, over HTTP.


def test_a_value_comes_back_at_the_next_request(client):
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
    assert [client.get("/nested").text for _ in range(2)] == ["1", "2"]


def test_an_untouched_session_sends_no_cookie(client):
    assert "Set-Cookie" not in client.get("/").headers


def test_login_gives_a_new_key_keeps_the_data_and_ends_the_old_session(client, user):
    client.get("/put/before/login")
    before = copy_of(client)
    sign_in(client)
    data = client.get("/show").json["data"]
    assert (data["before"], data["_auth_user_id"]) == ("login", str(user.pk))
    assert before.get("/show").json == {"data": {}}


def test_a_logout_stays_a_logout(client, user):
    sign_in(client)
    stolen = copy_of(client)
    client.get("/sign-out")
    assert stolen.get("/show").json == {"data": {}}
    assert client.get("/show").json == {"data": {}}


def test_a_changed_password_keeps_this_session_and_ends_the_login_of_the_others(client, user):
    sign_in(client)
    other = Client(client.application)
    sign_in(other)
    assert client.get("/new-password").text == "changed"
    assert client.get("/admin/").status_code == 200
    assert other.get("/admin/").status_code == 302


def test_messages_wait_in_the_session_and_are_shown_once(client):
    client.get("/say")
    assert client.get("/hear").text == "hello"
    assert client.get("/hear").text == ""


def test_the_admin_works(client, user):
    page = client.get("/admin/login/?next=/admin/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    form = {"username": "ada", "password": "lovelace", "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    assert client.post("/admin/login/", data=form).status_code == 302
    page = client.get("/admin/auth/user/add/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    form = {
        "username": "grace",
        "usable_password": "true",
        "password1": "hopper-1906",
        "password2": "hopper-1906",
        "csrfmiddlewaretoken": token[1],
    }
    response = client.post("/admin/auth/user/add/", data=form)
    assert response.status_code == 302
    assert "was added successfully" in client.get(response.headers["Location"]).text
    assert User.objects.filter(username="grace").exists()


def test_an_expiry_in_seconds_reaches_cookie_and_store(client):
    client.get("/expiry/300")
    cookie = client.get_cookie("sessionid")
    assert cookie is not None
    assert cookie.max_age == 300


def test_an_expiry_of_zero_ends_with_the_browser(client):
    client.get("/expiry/0")
    cookie = client.get_cookie("sessionid")
    assert cookie is not None
    assert cookie.max_age is None


def test_a_flushed_session_expires_the_cookie(client):
    client.get("/count")
    stolen = copy_of(client)
    client.get("/clear")
    assert client.get_cookie("sessionid") is None
    assert stolen.get("/show").json == {"data": {}}


# The project behind gunicorn, with two workers.


MANAGE = """
from tests.django_project import wsgi
from django.contrib.auth.models import User
from django.core.management import call_command
from tests.web import until
from wsgisession.django import get_manager
"""


@pytest.fixture
def site(tmp_path) -> Iterator[tuple[RealBrowser, Callable[[str], str]]]:
    """A browser, and what runs lines in the project from a process of its own, as manage.py does."""
    files = {"DATABASE": str(tmp_path / "db.sqlite3"), "SESSION_STORE": f"sqlite:///{tmp_path / 'sessions.db'}"}
    server = Gunicorn("tests.django_project.wsgi:application", "--workers=2", **files)

    def manage(lines: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", MANAGE + lines],
            env=server.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    manage("call_command('migrate', verbosity=0); User.objects.create_superuser('ada', password='lovelace')")
    try:
        yield RealBrowser(server.start().url), manage
    finally:
        server.stop()


def test_a_login_is_one_in_every_worker_until_it_is_revoked_from_outside(site):
    browser, manage = site
    RealBrowser(browser.url).get("/expiry/1")
    page = browser.get("/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    form = {"username": "ada", "password": "lovelace", "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    assert "Site administration" in browser.post("/admin/login/", **form)
    assert [browser.get("/count") for _ in range(8)] == [str(n) for n in range(1, 9)]
    browser.get("/say")
    assert (browser.get("/hear"), browser.get("/hear")) == ("hello", "")
    assert browser.get("/new-password") == "changed"
    assert "Site administration" in browser.get("/admin/")
    expired = "until(lambda: len(list(get_manager().all_sessions())) == 1)"
    count = "print(sum(1 for _ in get_manager().store.scan(now=0)))"
    lines = [expired, count, "call_command('clearsessions')", count, "print(get_manager().revoke_user(1))"]
    assert manage("\n".join(lines)).split() == ["2", "1", "1"]
    assert "Site administration" not in browser.get("/admin/")
    assert browser.get("/show") == {"data": {}}


def run(session: SessionBase, method: str, *args: Any) -> Any:
    """Call a method the way that it was asked for: "a" stands before the name of an async one."""
    found = getattr(session, method)(*args)
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


DATABASE = "django.contrib.sessions.backends.db"

# Settings.


@pytest.mark.parametrize(
    ("given", "identifier", "sentence"),
    [
        ({"store": "nosuch://x"}, "wsgisession.E001", "no store is known"),
        ({"store": "memory://", "idle_timeout": -1}, "wsgisession.E001", "idle_timeout"),
        ({"store": "memory://", "colour": "red"}, "wsgisession.E001", "has no option 'colour'"),
        ({"store": "memory://", "idle_timout": 3}, "wsgisession.E001", "did you mean 'idle_timeout'?"),
        ({}, "wsgisession.E001", "needs a store"),
        ("redis://", "wsgisession.E001", "must be a dict"),
        ({"store": "sqlite:///x.db", "idle_timeout": "x"}, "wsgisession.E001", "idle_timeout"),
        ({"store": "sqlite:///x.db", "user_key": 5}, "wsgisession.E001", "user_key"),
        ({"store": "sqlite:///x.db", "name": "sid"}, "wsgisession.E002", "SESSION_COOKIE_NAME"),
        ({"store": "sqlite:///x.db", "secret": "x" * 40}, "wsgisession.E002", "SECRET_KEY"),
        ({"store": "sqlite:///x.db", "max_sessions_per_user": 1}, "wsgisession.E002", "wrapped"),
        ({"store": "sqlite:///x.db", "carry_over": "nosuch.engine"}, "wsgisession.E001", "no session engine"),
        ({"store": "sqlite:///x.db", "carry_over": CACHE}, "wsgisession.E001", "from the database only"),
        ({"store": "memory://"}, "wsgisession.W001", "memory://"),
    ],
)
def test_a_wrong_setting_is_a_system_check(given, identifier, sentence):
    with override_settings(WSGISESSION=given):
        found = check_settings()
    assert [message.id for message in found] == [identifier]
    assert sentence in found[0].msg


@pytest.mark.parametrize(
    ("cookie", "sentence"),
    [
        ({"SESSION_COOKIE_NAME": "__Host-id"}, "without Secure"),
        ({"SESSION_COOKIE_SAMESITE": "None"}, "SameSite=None"),
        ({"SESSION_COOKIE_NAME": "__Host-id", "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_PATH": "/x"}, "path"),
        ({"SESSION_COOKIE_NAME": "a b"}, "token"),
        ({"SESSION_COOKIE_DOMAIN": "https://example.com"}, "domain"),
        ({"SESSION_COOKIE_AGE": 0}, "max_age"),
    ],
)
def test_a_cookie_that_browsers_refuse_is_a_system_check(sqlite_url, cookie, sentence):
    with override_settings(WSGISESSION={"store": sqlite_url}, **cookie):
        found = check_settings()
    assert [message.id for message in found] == ["wsgisession.E003"]
    assert sentence in found[0].msg


def test_settings_that_nobody_reads_are_a_system_check(sqlite_url):
    with override_settings(WSGISESSION={"store": sqlite_url}, SESSION_ENGINE=DATABASE):
        assert [message.id for message in check_settings()] == ["wsgisession.W002"]


def test_an_unavailable_store_that_nobody_would_answer_for_is_a_system_check(sqlite_url):
    given = {"store": sqlite_url, "on_store_error": "unavailable"}
    with override_settings(WSGISESSION=given):
        assert check_settings() == []
        with override_settings(MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"]):
            assert [message.id for message in check_settings()] == ["wsgisession.W003"]


def test_good_settings_pass_the_checks(sqlite_url):
    with override_settings(WSGISESSION={"store": sqlite_url}):
        assert check_settings() == []


def test_the_checks_run_with_manage_py_check(sqlite_url):
    with override_settings(WSGISESSION={"store": "nosuch://"}), pytest.raises(SystemExit, match=r"E001"):
        try:
            call_command("check")
        except Exception as error:
            raise SystemExit(str(error)) from None


# A store that fails.


def test_a_store_that_is_down_is_a_503_where_that_was_asked_for():
    with override_settings(WSGISESSION={"store": "memory://", "on_store_error": "unavailable"}):
        client = Client(get_wsgi_application())
        client.get("/count")

        def down(*_, **__):
            raise StoreError("the store is down")

        get_manager().store.load = down
        response = client.get("/count")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert "Set-Cookie" not in response.headers
        assert client.get("/").status_code == 200
        del get_manager().store.load
        get_manager().store.replace = down
        assert client.get("/count").status_code == 503
        del get_manager().store.replace
        assert client.get("/count").text == "2"
