"""Device-bound sessions in Django: with the engine and our middleware, and wrapped in `SessionMiddleware`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.device.client import Browser, Client
from tests.device.django_login import post_form
from tests.django_project import set_up

set_up()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from wsgisession import DeviceBinding, SessionMiddleware
from wsgisession.django import SessionStore, check_settings, get_manager
from wsgisession.testing import FakeClock

SECRET = "for the tests, and long enough"
DJANGOS_OWN = "django.contrib.sessions.middleware.SessionMiddleware"


@pytest.fixture(scope="module", autouse=True)
def database() -> Iterator[None]:
    from django.db import connection

    call_command("migrate", verbosity=0)
    yield
    connection.close()


@pytest.fixture(autouse=True)
def user() -> Iterator[User]:
    user = User.objects.create_user("ada", password="lovelace")
    yield user
    User.objects.all().delete()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def settings_with(clock: FakeClock, store: str = "memory://", **more: Any) -> override_settings:
    options = {"store": store, "device_binding": True, "clock": clock, **more}
    return override_settings(WSGISESSION=options, SESSION_COOKIE_SECURE=True, SESSION_COOKIE_NAME="sid")


@pytest.fixture(params=["engine", "wrapped"])
def app(request, clock, store_url) -> Iterator[Callable[..., Any]]:
    if request.param == "engine":
        with settings_with(clock, store_url):
            get_manager().store.prepare()
            yield get_wsgi_application()
            get_manager().close()
    else:
        wrapped = SessionMiddleware(
            get_wsgi_application(), secret=SECRET, store=store_url, device_binding=True, clock=clock
        )
        wrapped.manager.store.prepare()
        yield wrapped
        wrapped.manager.close()


def sign_in(client: Client) -> None:
    post_form(client, "/sign-in", password="lovelace")


def data(client: Client, **options: Any) -> Any:
    return client.get("/show", **options).json["data"]


def test_a_login_is_bound_and_a_thief_gets_nothing(app, clock):
    browser = Browser(app, clock)
    browser.get("/count")
    sign_in(browser)
    assert len(browser.sessions) == 1
    thief = browser.copied()
    clock.advance(20)
    assert "_auth_user_id" in data(browser)
    for _ in range(3):
        clock.advance(640)
        assert "_auth_user_id" in data(browser)
        answer = thief.exchange("GET", "https://app.example.com/show", {})
        assert (answer.json["data"], answer.all("Set-Cookie")) == ({}, [])
    assert browser.ended == []


@pytest.mark.parametrize("path", ["/count", "/sign-out", "/show"])
def test_a_thief_changes_nothing_and_gets_no_cookie(app, clock, path):
    browser = Browser(app, clock)
    sign_in(browser)
    thief = browser.copied()
    clock.advance(640)
    answer = thief.exchange("GET", f"https://app.example.com{path}", {})
    assert answer.all("Set-Cookie") == []
    assert "_auth_user_id" in data(browser)


def test_a_link_from_another_site_leads_to_the_users_page(app, clock):
    browser = Browser(app, clock)
    sign_in(browser)
    clock.advance(610)
    assert "_auth_user_id" in data(browser, site="cross-site")


def test_a_stale_second_cookie_is_proved_again(app, clock):
    browser = Browser(app, clock)
    sign_in(browser)
    browser.jar["sid_device"].expires = None
    clock.advance(5000)
    assert "_auth_user_id" in data(browser)


def test_a_browser_that_lost_its_key_can_use_a_form_again(app, clock):
    browser = Browser(app, clock)
    sign_in(browser)
    browser.sessions.clear()
    clock.advance(640)
    assert browser.get("/count", site="none").text == "1"
    assert browser.get("/count").text == "2"
    sign_in(browser)
    assert len(browser.sessions) == 1


def test_a_logout_ends_both_cookies_and_the_browsers_session(app, clock):
    browser = Browser(app, clock)
    sign_in(browser)
    browser.get("/sign-out")
    assert "sid_device" not in browser.jar
    browser.get("/show")
    assert browser.sessions == {}


def test_without_a_request_a_bound_session_of_the_engine_is_empty_and_can_be_ended(clock):
    with settings_with(clock):
        browser = Browser(get_wsgi_application(), clock)
        sign_in(browser)
        clock.advance(20)
        key = browser.jar["sid"].value
        assert dict(SessionStore(key).load()) == {}
        assert SessionStore().exists(key)
        SessionStore(key).delete()
        assert not SessionStore().exists(key)


def errors(**changes: Any) -> list[str]:
    with override_settings(**changes):
        return [message.id for message in check_settings()]


def test_the_system_checks_say_what_is_missing(clock, tmp_path):
    from django.conf import settings

    ours = settings.MIDDLEWARE
    store = f"sqlite:///{tmp_path / 's.db'}"
    wanted = {"WSGISESSION": {"store": store, "device_binding": True}, "SESSION_COOKIE_SECURE": True}
    assert errors(**wanted) == []
    assert errors(**wanted, MIDDLEWARE=[DJANGOS_OWN, *ours[1:]]) == ["wsgisession.E004"]
    assert "wsgisession.E001" in errors(**{**wanted, "SESSION_COOKIE_SECURE": False})
    wrong = {"store": store, "device_binding": DeviceBinding(include_site=True, origin="https://example.com")}
    assert errors(**{**wanted, "WSGISESSION": wrong}) == ["wsgisession.E001"]


def test_a_view_can_ask_for_a_bound_session_and_a_fresh_proof(app, clock):
    browser = Browser(app, clock)
    assert browser.get("/pay").status == 401
    sign_in(browser)
    clock.advance(100)
    browser.sent.clear()
    assert browser.get("/pay").json == {"bound": True, "algorithm": "ES256"}
    assert [sent.status for sent in browser.sent] == [307, 200, 200]
    assert browser.get("/pay-async").status == 200
    clock.advance(100)
    assert browser.post("/pay-async").status == 401


def test_a_view_refuses_a_session_that_is_not_bound(app, clock):
    old = Client(app, clock)
    sign_in(old)
    assert old.get("/show").status == 200
    assert old.get("/pay").status == 403
