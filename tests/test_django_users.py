"""Whose session it is in Django: new keys, and what another user does not inherit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import django
import pytest

from tests.django_project import set_up

set_up()

from django.contrib.auth import alogin, alogout, login, logout
from django.contrib.auth.models import User, update_last_login
from django.contrib.auth.signals import user_logged_in
from django.core.management import call_command
from django.http import HttpRequest
from django.test import override_settings

from wsgisession import SerializationError, SessionManager, get_session
from wsgisession.django import EnvironSession, SessionMiddleware, SessionStore, get_manager

BACKEND = "django.contrib.auth.backends.ModelBackend"
SECRET = "a secret for the users of a wrapped app"


@pytest.fixture(scope="module", autouse=True)
def database() -> Iterator[None]:
    from django.db import connection

    call_command("migrate", verbosity=0)
    yield
    connection.close()


@pytest.fixture
def users() -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(ada=User.objects.create_user("ada"), bob=User.objects.create_user("bob"))
    User.objects.all().delete()


class OnEngine:
    """A browser of an app on the engine: it keeps the key, as Django's cookie does."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.seen: set[str] = set()

    def visit(self, view: Callable[[HttpRequest], Any]) -> Any:
        request = HttpRequest()
        request.session = SessionStore(self.key)
        result = view(request)
        if request.session.modified and not request.session.is_empty():
            request.session.save()
        self._keep(request.session.session_key)
        return result

    def _keep(self, key: str | None) -> None:
        self.key = key
        if key is not None:
            self.seen.add(key)
            assert len(key) == 40


class InWrappedApp(OnEngine):
    """A browser of a wrapped app."""

    def __init__(self, manager: SessionManager) -> None:
        super().__init__()
        self.manager = manager

    def visit(self, view: Callable[[HttpRequest], Any]) -> Any:
        header = "" if self.key is None else f"sid={self.manager.signer.sign(self.key)}"
        environ: dict[str, Any] = {"wsgi.url_scheme": "http", "HTTP_HOST": "localhost"}
        session = environ["wsgisession.session"] = self.manager.open(header, environ)
        request = HttpRequest()
        request.META = environ
        middleware = SessionMiddleware(lambda _: None)
        middleware.process_request(request)
        assert isinstance(request.session, EnvironSession)
        result = view(request)
        middleware.process_response(request, None)
        self.manager.commit(session, environ)
        self._keep(get_session(environ).id if session._visit.is_stored else None)
        return result


@pytest.fixture(params=["engine", "wrapped"])
def browser(request, store_url) -> Iterator[OnEngine]:
    if request.param == "engine":
        with override_settings(WSGISESSION={"store": store_url}):
            yield OnEngine()
        return
    manager = SessionManager(secret=SECRET, store=store_url, user_key="_auth_user_id")
    yield InWrappedApp(manager)
    manager.close()


def data(request: HttpRequest) -> dict[str, Any]:
    return {key: value for key, value in request.session.items() if not key.startswith("_auth_user_")}


def put(**values: Any) -> Callable[[HttpRequest], None]:
    return lambda request: request.session.update(values)


def enter(user: User) -> Callable[[HttpRequest], None]:
    return lambda request: login(request, user, BACKEND)


def forget_user(request: HttpRequest) -> None:
    del request.session["_auth_user_id"]


def test_an_anonymous_visitors_data_is_kept_at_login_under_a_new_key(browser, users):
    browser.visit(put(cart=["tea"]))
    before = browser.key
    browser.visit(enter(users.ada))
    assert browser.visit(data) == {"cart": ["tea"]}
    assert browser.key != before
    assert len(browser.seen) == 2


def test_a_login_in_another_users_browser_inherits_nothing(browser, users):
    browser.visit(enter(users.ada))
    browser.visit(put(cart=["tea"], note="ada's"))
    browser.visit(enter(users.bob))
    assert browser.visit(data) == {}


def test_a_login_after_the_user_key_was_removed_inherits_nothing(browser, users):
    browser.visit(enter(users.ada))
    browser.visit(put(note="ada's", cart=["tea"]))
    browser.visit(forget_user)
    assert browser.visit(data) == {"note": "ada's", "cart": ["tea"]}

    def switch(request: HttpRequest) -> None:
        request.session["next"] = "/basket"
        login(request, users.bob, BACKEND)

    browser.visit(switch)
    assert browser.visit(data) == {"next": "/basket"}


def test_a_user_key_that_is_written_directly_changes_the_key_and_inherits_nothing(browser, users):
    browser.visit(enter(users.ada))
    browser.visit(put(note="ada's"))
    before = browser.key
    browser.visit(put(_auth_user_id=str(users.bob.pk)))
    assert browser.visit(data) == {}
    assert browser.key not in (None, before)
    ghost = OnEngine() if type(browser) is OnEngine else InWrappedApp(browser.manager)
    ghost.key = before
    assert ghost.visit(lambda request: dict(request.session.items())) == {}


def test_logout_and_login_as_another_user_in_one_request_works(browser, users):
    browser.visit(enter(users.ada))
    browser.visit(put(cart=["tea"]))

    def switch(request: HttpRequest) -> None:
        logout(request)
        login(request, users.bob, BACKEND)
        request.session["cart"] = ["tea"]

    browser.visit(switch)
    assert browser.visit(lambda request: request.session["_auth_user_id"]) == str(users.bob.pk)
    assert browser.visit(data) == {"cart": ["tea"]}


def test_the_key_that_a_login_shows_is_the_one_that_the_browser_gets(browser, users):
    keys = []

    def sign_in(request: HttpRequest) -> None:
        login(request, users.ada, BACKEND)
        keys.append(request.session.session_key)
        request.session["more"] = 1

    browser.visit(put(cart=["tea"]))
    browser.visit(sign_in)
    assert keys == [browser.key]


def test_an_unrelated_user_id_of_the_app_is_not_the_user(store_url, users):
    with override_settings(WSGISESSION={"store": store_url}):
        browser = OnEngine()
        browser.visit(enter(users.ada))
        before = browser.key
        browser.visit(put(user_id="somebody in another system"))
        assert browser.key == before
        assert browser.visit(data) == {"user_id": "somebody in another system"}
        assert len(list(get_manager().sessions_for(users.ada.pk))) == 1


def test_a_refused_login_leaves_the_old_key_without_the_user(store_url, users):
    with override_settings(WSGISESSION={"store": store_url}):
        browser = OnEngine()
        browser.visit(put(cart=["tea"]))
        session = SessionStore(browser.key)
        session["_auth_user_id"], session["bad"] = "7", object()
        for _ in range(2):
            with pytest.raises(SerializationError, match="bad"):
                session.save()
        del session["bad"]
        session.save()
        assert session.session_key != browser.key
        assert SessionStore(browser.key).load() == {}


@pytest.fixture
def no_last_login() -> Iterator[None]:
    """Let logins write nothing to the database, which is in the memory of another thread."""
    options = {"dispatch_uid": "update_last_login"}
    user_logged_in.disconnect(**options)
    yield
    user_logged_in.connect(update_last_login, **options)


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django's sessions have async methods since 5.1")
@pytest.mark.usefixtures("no_last_login")
def test_the_async_login_and_logout_do_the_same(store_url, users):
    async def switch(request: HttpRequest) -> None:
        request.session["note"] = "ada's"
        await alogin(request, users.ada, BACKEND)
        await alogout(request)
        await alogin(request, users.bob, BACKEND)
        await request.session.aset("n", 1)
        await request.session.asave()

    with override_settings(WSGISESSION={"store": store_url}):
        browser = OnEngine()
        browser.visit(put(cart=["tea"]))
        request = HttpRequest()
        request.session = SessionStore(browser.key)
        asyncio.run(switch(request))
        assert dict(SessionStore(request.session.session_key).items())["_auth_user_id"] == str(users.bob.pk)
        assert data(request) == {"n": 1}
