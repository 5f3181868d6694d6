"""Moving in from the sessions in Django's own database."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta

import pytest
from werkzeug.test import Client

from tests.django_project import set_up

set_up()

from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session as OldSession
from django.core import signing
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from wsgisession import SessionMiddleware, StoreError
from wsgisession.django import SessionStore, get_manager

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


DATABASE = "django.contrib.sessions.backends.db"


@pytest.fixture
def moved_in(store_url, user) -> Iterator[tuple[Client, str]]:
    """A browser that has logged in under Django's own engine, and its key; the settings have changed since."""
    with override_settings(SESSION_ENGINE=DATABASE):
        client = Client(get_wsgi_application())
        sign_in(client)
        client.get("/put/cart/apples")
    with override_settings(WSGISESSION={"store": store_url, "carry_over": DATABASE}):
        client.application = get_wsgi_application()
        yield client, client.get_cookie("sessionid").value
    OldSession.objects.all().delete()


def test_a_login_in_djangos_database_is_carried_over(moved_in, user):
    client, old_key = moved_in
    data = client.get("/show").json["data"]
    assert (data["cart"], data["_auth_user_id"]) == ("apples", str(user.pk))
    assert client.get("/admin/").status_code == 200
    assert client.get_cookie("sessionid").value != old_key
    assert not OldSession.objects.filter(pk=old_key).exists()
    assert len(get_manager().sessions_for(user.pk)) == 1


def test_an_old_session_that_cannot_be_stored_is_left_behind_with_a_warning(moved_in, store_url, caplog):
    client, old_key = moved_in
    with override_settings(WSGISESSION={"store": store_url, "carry_over": DATABASE, "max_size": 100}):
        client.application = get_wsgi_application()
        assert client.get("/show").json == {"data": {}}
    assert "could not be carried over: the session is too large" in caplog.text
    assert OldSession.objects.filter(pk=old_key).exists()


def test_requests_next_to_the_first_come_to_the_same_session(moved_in):
    client, _ = moved_in
    beside = copy_of(client)
    client.get("/put/first/1")
    beside.get("/put/second/2")
    assert {"first", "second", "cart"} <= client.get("/show").json["data"].keys()
    assert client.get_cookie("sessionid").value == beside.get_cookie("sessionid").value


def test_an_old_key_is_not_answered_for_long(moved_in, monkeypatch):
    client, _ = moved_in
    stolen = copy_of(client)
    client.get("/show")
    monkeypatch.setattr("wsgisession.django.engine._OLD_KEY_IS_ACCEPTED_FOR", -1.0)
    assert stolen.get("/show").json == {"data": {}}
    assert "cart" in client.get("/show").json["data"]


@pytest.mark.parametrize("path", ["/sign-out", "/clear"])
def test_what_was_carried_over_and_ended_stays_ended(moved_in, path):
    client, _ = moved_in
    kept = copy_of(client)
    client.get("/show")
    client.get(path)
    assert kept.get("/show").json == {"data": {}}


def test_a_flush_before_anything_was_read_ends_the_old_session_too(moved_in):
    client, old_key = moved_in
    kept = copy_of(client)
    client.get("/clear")
    assert not OldSession.objects.filter(pk=old_key).exists()
    assert kept.get("/show").json == {"data": {}}


def test_a_session_that_was_logged_out_while_another_request_carries_it_over_stays_logged_out(moved_in, monkeypatch):
    client, old_key = moved_in
    late = copy_of(client)
    read = DatabaseStore.load

    def logged_out_meanwhile(store):
        data = read(store)
        monkeypatch.undo()
        client.get("/show")
        client.get("/sign-out")
        return data

    monkeypatch.setattr(DatabaseStore, "load", logged_out_meanwhile)
    assert late.get("/show").json == {"data": {}}


def test_a_request_that_fails_and_rolls_back_loses_no_session(moved_in):
    client, old_key = moved_in
    with pytest.raises(RuntimeError), transaction.atomic():
        SessionStore(old_key).load()
        raise RuntimeError
    assert OldSession.objects.filter(pk=old_key).exists()
    assert "cart" in client.get("/show").json["data"]
    assert not OldSession.objects.filter(pk=old_key).exists()


def test_a_store_that_fails_leaves_the_old_session_where_it_is(moved_in, monkeypatch):
    client, old_key = moved_in

    def down(*_, **__):
        raise StoreError("the store is down")

    monkeypatch.setattr(get_manager().store, "create", down)
    with pytest.raises(StoreError):
        SessionStore(old_key).load()
    monkeypatch.undo()
    assert "cart" in client.get("/show").json["data"]


def test_nothing_is_carried_over_without_being_asked_for(sqlite_url, user):
    with override_settings(SESSION_ENGINE=DATABASE):
        client = Client(get_wsgi_application())
        sign_in(client)
    with override_settings(WSGISESSION={"store": sqlite_url}):
        client.application = get_wsgi_application()
        assert client.get("/show").json == {"data": {}}
    assert OldSession.objects.count() == 1
    OldSession.objects.all().delete()


def test_what_is_pickled_in_the_database_is_not_read(sqlite_url):
    key = "p" * 32
    pickled = signing.dumps({"x": 1}, salt=SessionStore().key_salt, serializer=Pickles)
    OldSession.objects.create(pk=key, session_data=pickled, expire_date=timezone.now() + timedelta(days=1))
    carry_over = {"store": sqlite_url, "carry_over": DATABASE}
    with override_settings(WSGISESSION=carry_over, SESSION_SERIALIZER="tests.test_django_carry_over.Pickles"):
        assert SessionStore(key).load() == {}
    assert not Pickles.were_read
    OldSession.objects.all().delete()


class Pickles:
    were_read = False

    def dumps(self, data):
        return pickle.dumps(data)

    def loads(self, data):
        Pickles.were_read = True
