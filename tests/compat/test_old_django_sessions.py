"""Sessions that the old version kept for Django go on under their old keys: by the engine, and in a wrapped app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import Client

from tests.compat import contents
from tests.compat.generate import files
from tests.compat.layouts import restore, restore_records
from tests.compat.test_old_records import READ_AT, Clock, written_by_the_old_version
from tests.django_project import set_up
from wsgisession import SessionManager, SessionMiddleware
from wsgisession.stores import Store, open_store

set_up()

from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from wsgisession.django import SessionStore, get_manager

ENGINE = list(files("django-engine"))
WRAPPED = list(files("django-wrapped"))


class Old:
    """A Django project whose visitors come with keys and cookies from before."""

    def __init__(self, app: Any, cookies: dict[str, str]) -> None:
        self.app, self.cookies = app, cookies

    def client(self, name: str) -> Client:
        client = Client(self.app)
        client.set_cookie("sessionid", self.cookies[name])
        return client


def filled_store(request: pytest.FixtureRequest, kind: str, name: str) -> tuple[Store, dict[str, str]]:
    url: str = request.getfixturevalue(f"{kind}_url")
    written, store = written_by_the_old_version(kind, name), open_store(url)
    if "records" in written:
        restore_records(store, written["records"], now=contents.RENEWED_AT)
    else:
        restore(url, written)
    return store, written["cookies"]


@pytest.fixture(params=[*ENGINE, *WRAPPED], ids="-".join)
def old(request) -> Iterator[Old]:
    store, cookies = filled_store(request, *request.param)
    own = {"store": store, "clock": Clock()} if request.param in ENGINE else {"store": "memory://"}
    with override_settings(SECRET_KEY=contents.SECRET, WSGISESSION=own):
        app: Any = get_wsgi_application()
        if request.param in WRAPPED:
            manager = SessionManager(secret=contents.SECRET, store=store, name="sessionid", clock=Clock())
            app = SessionMiddleware(app, manager)
        yield Old(app, cookies)
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=ENGINE, ids="-".join)
def keys(request, clock) -> Iterator[dict[str, str]]:
    """The keys of the engine's old sessions, in a process whose settings name their store."""
    store, cookies = filled_store(request, *request.param)
    with override_settings(SECRET_KEY=contents.SECRET, WSGISESSION={"store": store, "clock": clock}):
        yield cookies
    store.close()


@pytest.mark.parametrize("name", ["plain", "expiry"])
def test_a_view_reads_and_changes_an_old_session(old, name):
    client = old.client(name)
    before = {key: str(value) for key, value in contents.DJANGO[name].items()}
    assert client.get("/show").json == {"data": before}
    client.get("/put/added/today")
    assert client.get("/show").json == {"data": {**before, "added": "today"}}
    assert old.client(name).get("/show").json == {"data": {**before, "added": "today"}}


def test_the_key_of_an_old_session_stays(old):
    client = old.client("plain")
    assert client.get("/key").text == old.cookies["plain"].partition(".")[0]
    client.get("/put/added/today")
    assert client.get("/key").text == old.cookies["plain"].partition(".")[0]


def test_an_old_session_can_be_flushed(old):
    client = old.client("user")
    client.get("/clear")
    assert old.client("user").get("/show").json == {"data": {}}


def test_the_engine_finds_the_data_with_their_types(keys):
    for name, data in contents.DJANGO.items():
        session = SessionStore(keys[name])
        assert dict(session.items()) == data, name
        assert session.session_key == keys[name]
        assert session.exists(keys[name])


def test_the_engine_changes_and_saves_an_old_session(keys):
    session = SessionStore(keys["plain"])
    session["cart"].append({"id": 8})
    session.modified = True
    session.save()
    assert SessionStore(keys["plain"])["cart"] == [{"id": 7}, {"id": 8}]


def test_an_old_session_gets_a_new_key_and_keeps_its_data(keys):
    session = SessionStore(keys["plain"])
    session.cycle_key()
    session.save()
    assert session.session_key != keys["plain"]
    assert not SessionStore().exists(keys["plain"])
    assert dict(SessionStore(session.session_key).items()) == contents.DJANGO["plain"]


def test_the_old_sessions_of_a_user_are_listed_and_revoked(keys):
    (info,) = get_manager().sessions_for(3)
    assert info.data["n"] == 2
    assert get_manager().revoke_user("3") == 1
    assert not SessionStore().exists(keys["user"])


def test_an_expiry_that_the_app_set_is_in_force(keys, clock):
    session = SessionStore(keys["expiry"])
    assert session.get_expiry_age() == 300
    clock.now = READ_AT + 301
    assert not SessionStore().exists(keys["expiry"])
    assert SessionStore().exists(keys["plain"])
