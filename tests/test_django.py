"""Django on this library's stores: the engine, and the middleware for an app that is wrapped in SessionMiddleware."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta

import django
import pytest
from werkzeug.test import Client

from tests.django_project import set_up

set_up()

from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.utils import timezone

from wsgisession import SessionMiddleware, StoreError
from wsgisession.django import SessionStore, check_settings, get_manager

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


# The engine.


def test_two_requests_that_change_different_keys_both_stay(engine):
    first = SessionStore()
    first["base"] = 1
    first.create()
    one, two = SessionStore(first.session_key), SessionStore(first.session_key)
    one["one"], two["two"] = 1, 2
    one.save()
    two.save()
    assert dict(SessionStore(first.session_key).items()) == {"base": 1, "one": 1, "two": 2}


def test_what_others_wrote_before_the_key_was_cycled_is_carried_over(engine):
    session = SessionStore()
    session["base"] = 1
    session.create()
    mine, theirs = SessionStore(session.session_key), SessionStore(session.session_key)
    assert mine["base"] == 1
    theirs["theirs"] = 2
    theirs.save()
    mine["mine"] = 3
    mine.cycle_key()
    mine.save()
    assert dict(SessionStore(mine.session_key).items()) == {"base": 1, "theirs": 2, "mine": 3}
    assert not SessionStore().exists(session.session_key)


def test_a_session_that_was_deleted_is_not_saved_again(engine):
    session = SessionStore()
    session["a"] = 1
    session.create()
    late = SessionStore(session.session_key)
    late["b"] = 2
    session.delete()
    with pytest.raises(UpdateError):
        late.save()
    with pytest.raises(UpdateError):
        late.cycle_key()
    assert not late.exists(session.session_key)


def test_a_fixed_expiry_is_not_moved_by_reading(engine):
    session = SessionStore()
    session["a"] = 1
    session.set_expiry(timezone.now() + timedelta(seconds=60))
    session.create()
    again = SessionStore(session.session_key)
    assert again["a"] == 1
    assert 0 < again.get_expiry_age() <= 60
    past = SessionStore(session.session_key)
    past.set_expiry(timezone.now() - timedelta(seconds=1))
    past.save()
    assert not SessionStore().exists(session.session_key)


def test_the_store_holds_no_usable_key(engine):
    session = SessionStore()
    session["a"] = 1
    session.create()
    handles = [handle for handle, _ in get_manager().store.scan(now=get_manager().lifecycle.now())]
    assert len(handles) == 1
    assert session.session_key not in handles
    assert SessionStore(handles[0]).load() == {}


@pytest.mark.parametrize("key", ["x" * 8, "../../etc/passwd", "' OR 1=1", "\0" * 43, "é" * 43, "A" * 500])
def test_a_key_of_another_shape_never_reaches_the_store(key):
    with override_settings(WSGISESSION={"store": "memory://"}):
        get_manager().store.load = None  # whoever asks it fails
        session = SessionStore(key)
        assert session.load() == {}
        assert session.session_key is None
        assert not session.exists(key)


def test_the_sessions_of_a_django_user_are_listed_and_revoked(engine, user):
    clients = [Client(get_wsgi_application()) for _ in range(3)]
    for client in clients:
        sign_in(client)
    assert len(get_manager().sessions_for(user.pk)) == 3
    assert get_manager().revoke_user(user.pk) == 3
    assert all(client.get("/show").json == {"data": {}} for client in clients)


def test_clearsessions_removes_what_expired(store_url):
    class Clock:
        at = 1_800_000_000.0

        def __call__(self):
            return self.at

    clock = Clock()
    with override_settings(WSGISESSION={"store": store_url, "clock": clock}):
        session = SessionStore()
        session["a"] = 1
        session.create()
        clock.at += 15 * 86_400
        call_command("clearsessions")
        clock.at -= 15 * 86_400
        # Redis keeps an expired record until its own time has passed, and gives it to nobody.
        assert SessionStore().exists(session.session_key) == store_url.startswith("redis")


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django's sessions have them since 5.1")
def test_the_async_methods_do_the_same(engine):
    async def run() -> None:
        session = SessionStore()
        await session.aset("a", 1)
        await session.acreate()
        again = SessionStore(session.session_key)
        assert await again.aget("a") == 1
        await again.acycle_key()
        assert not await again.aexists(session.session_key)
        await again.aflush()

    asyncio.run(run())


def test_typed_values_come_back_as_they_were(engine):
    now = timezone.now()
    session = SessionStore()
    session.update({"tuple": (1, 2), "at": now, "bytes": b"\0", "set": {1}})
    session.create()
    assert dict(SessionStore(session.session_key).items()) == {"tuple": (1, 2), "at": now, "bytes": b"\0", "set": {1}}


# Settings.


@pytest.mark.parametrize(
    ("given", "identifier", "sentence"),
    [
        ({"store": "nosuch://x"}, "wsgisession.E001", "no store is known"),
        ({"store": "memory://", "idle_timeout": -1}, "wsgisession.E001", "idle_timeout"),
        ({"store": "memory://", "colour": "red"}, "wsgisession.E001", "unknown option 'colour'"),
        ({}, "wsgisession.E001", "needs a store"),
        ("redis://", "wsgisession.E001", "must be a dict"),
        ({"store": "memory://"}, "wsgisession.W001", "memory://"),
    ],
)
def test_a_wrong_setting_is_a_system_check(given, identifier, sentence):
    with override_settings(WSGISESSION=given):
        found = check_settings()
    assert [message.id for message in found] == [identifier]
    assert sentence in found[0].msg


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
