"""How long a session of Django's lasts, and what a save that is refused says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from werkzeug.test import Client

from tests.django_project import set_up

set_up()

from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from tests.test_django_users import OnEngine, put
from wsgisession import SerializationError, SessionManager, SessionMiddleware, StoreError
from wsgisession.django import EnvironSession, SessionStore, get_manager
from wsgisession.testing import FakeClock

DAY = 86_400
SECRET = "a secret for the lifetimes of sessions"
CENTURY = 100 * 365 * DAY


@pytest.fixture(scope="module", autouse=True)
def database() -> Iterator[None]:
    from django.db import connection

    call_command("migrate", verbosity=0)
    yield
    connection.close()


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    clock = FakeClock()
    with override_settings(WSGISESSION={"store": "memory://", "clock": clock}):
        yield clock


def saved(**values: Any) -> SessionStore:
    session = SessionStore()
    session.update({"a": 1, **values})
    session.save()
    return session


@pytest.mark.parametrize("days", [31, 60, 365])
def test_an_expiry_longer_than_30_days_lasts_that_long(clock, days):
    session = SessionStore()
    session["a"] = 1
    session.set_expiry(days * DAY)
    session.save()
    clock.advance(days * DAY - 10)
    assert SessionStore(session.session_key).get("a") == 1


@pytest.mark.parametrize("age", [401 * DAY, 5 * 365 * DAY, CENTURY, 2**31, 10**12])
def test_a_longer_age_than_browsers_keep_a_cookie_lasts_as_long_as_they_do(clock, age):
    with override_settings(SESSION_COOKIE_AGE=age):
        session = saved()
        clock.advance(399 * DAY)
        assert SessionStore(session.session_key).get("a") == 1  # and restarts the idle timeout
        clock.advance(399 * DAY)
        assert SessionStore(session.session_key).get("a") == 1
        assert session.get_expiry_age() == age


@pytest.mark.parametrize("expiry", [datetime(2090, 1, 20, tzinfo=timezone.utc), 10**10, timedelta(days=9999)])
def test_an_expiry_in_the_far_future_is_accepted(clock, expiry):
    session = SessionStore()
    session["a"] = 1
    session.set_expiry(expiry)
    session.save()
    session.cycle_key()
    assert SessionStore(session.session_key).get("a") == 1


def test_an_age_of_a_century_works_in_a_wrapped_app():
    wrapped = SessionMiddleware(get_wsgi_application(), secret=SECRET, store="memory://", name="sessionid")
    with override_settings(SESSION_COOKIE_AGE=CENTURY):
        client = Client(wrapped)
        assert [client.get("/count").text for _ in range(2)] == ["1", "2"]
        cookie = client.get_cookie("sessionid")
        assert cookie is not None
        assert 399 * DAY < cookie.max_age <= 400 * DAY


def test_a_cycled_key_leaves_the_absolute_timeout_where_it_was():
    clock = FakeClock()
    given = {"store": "memory://", "clock": clock, "absolute_timeout": 7200}
    with override_settings(WSGISESSION=given, SESSION_COOKIE_AGE=3600):
        session = saved(_auth_user_id="7")
        for _ in range(3):
            clock.advance(1800)
            session = SessionStore(session.session_key)
            session.cycle_key()
        clock.advance(1799)
        assert SessionStore(session.session_key).get("a") == 1
        clock.advance(1)
        assert SessionStore(session.session_key).get("a") is None


# A save that is refused.


@pytest.mark.parametrize("method", ["save", "create", "cycle_key"])
@pytest.mark.parametrize("is_stored", [True, False])
def test_a_value_that_cannot_be_stored_is_named_each_time_and_the_next_save_works(clock, method, is_stored):
    session = saved() if is_stored else SessionStore()
    before = session.session_key
    session["bad"] = object()
    for _ in range(3):
        with pytest.raises(SerializationError, match=r"session\['bad'\]"):
            getattr(session, method)()
    assert session.session_key == before
    session["bad"] = "good"
    session.save()
    assert SessionStore(session.session_key)["bad"] == "good"


@pytest.mark.parametrize("method", ["save", "cycle_key"])
def test_a_session_that_is_too_large_says_so_each_time(method):
    with override_settings(WSGISESSION={"store": "memory://", "max_size": 500}):
        session = saved()
        session["large"] = "x" * 1000
        for _ in range(3):
            with pytest.raises(SerializationError, match="too large"):
                getattr(session, method)()
        del session["large"]
        getattr(session, method)()
        assert SessionStore(session.session_key).load() == {"a": 1}


def test_a_store_that_failed_is_asked_again(clock, monkeypatch):
    session = saved()
    session["b"] = 2

    def down(*_: Any, **__: Any) -> None:
        raise StoreError("the store is down")

    for method in ("replace", "create"):
        with monkeypatch.context() as failing:
            failing.setattr(get_manager().store, method, down)
            with pytest.raises(StoreError, match="down"):
                session.save() if method == "replace" else session.cycle_key()
    session.cycle_key()
    assert SessionStore(session.session_key).load() == {"a": 1, "b": 2}


def test_a_save_of_a_session_that_has_ended_says_so_each_time(clock):
    session = saved()
    SessionStore(session.session_key).delete()
    session["b"] = 2
    for _ in range(3):
        with pytest.raises(UpdateError, match="deleted, revoked, or has expired"):
            session.save()


def test_a_key_that_is_taken_leaves_the_session_as_it_was(clock):
    session = saved()
    session["b"] = 2
    with pytest.raises(CreateError):
        session.save(must_create=True)
    session.save()
    assert SessionStore(session.session_key).load() == {"a": 1, "b": 2}


def test_a_stale_cookie_is_no_error_if_every_request_saves_the_session(clock):
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        client = Client(get_wsgi_application())
        client.get("/count")
        get_manager().purge_expired()
        cookie = client.get_cookie("sessionid")
        assert cookie is not None
        SessionStore(cookie.value).delete()
        assert client.get("/up").status_code == 200
        assert client.get_cookie("sessionid") is None
        assert client.get("/count").text == "1"
        assert client.get("/up").headers["Set-Cookie"]


# Flushing begins anew, and reading again changes nothing.


def test_what_is_written_after_a_flush_is_kept_even_if_it_equals_what_was_flushed(clock):
    browser = OnEngine()
    browser.visit(put(cart=["tea"], _auth_user_id="1"))

    def start_over(request: Any) -> None:
        request.session.flush()
        request.session.update({"cart": ["tea"], "_auth_user_id": "2"})

    browser.visit(start_over)
    assert browser.visit(lambda request: request.session["cart"]) == ["tea"]


def test_load_drops_no_change_and_does_not_overwrite_what_others_write(clock):
    mine = SessionStore(saved().session_key)
    mine["mine"] = 1
    theirs = SessionStore(mine.session_key)
    theirs["theirs"] = 2
    theirs.save()
    assert mine.load() == {"a": 1, "theirs": 2}
    later = SessionStore(mine.session_key)
    later["later"] = 3
    later.save()
    mine.save()
    assert SessionStore(mine.session_key).load() == {"a": 1, "mine": 1, "theirs": 2, "later": 3}


@pytest.fixture
def manager() -> Iterator[SessionManager]:
    manager = SessionManager(secret=SECRET, store="memory://")
    yield manager
    manager.close()


def test_in_a_wrapped_app_create_keeps_what_the_request_wrote_and_load_drops_nothing(manager):
    session = EnvironSession(manager.open("", None))
    session["cart"] = [1]
    session.create()
    assert len(session.session_key or "") == 40
    session["more"] = 2
    assert session.load() == {"cart": [1]}
    assert dict(session.items()) == {"cart": [1], "more": 2}


def test_in_a_wrapped_app_delete_without_a_record_leaves_what_was_written(manager):
    session = EnvironSession(manager.open("", None))
    session["cart"] = [1]
    session.delete()
    session.save()
    assert dict(session.items()) == {"cart": [1]}
