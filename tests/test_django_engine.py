"""Django's session engine, and what Django's own tests ask of every session backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import django
import pytest
from werkzeug.test import Client

from tests.django_project import set_up

set_up()

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.utils import timezone

from wsgisession import SessionManager, SessionMiddleware
from wsgisession.django import EnvironSession, SessionStore, get_manager

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


@pytest.mark.parametrize("write", ["save", "cycle_key"])
def test_what_a_view_holds_of_the_session_stays_in_use_after_a_merge(engine, write):
    first = SessionStore()
    first["cart"] = ["tea"]
    first.save()
    mine, theirs = SessionStore(first.session_key), SessionStore(first.session_key)
    cart = mine["cart"]
    theirs["other"] = 1
    theirs.save()
    mine["more"] = 2
    getattr(mine, write)()
    cart.append("milk")
    mine.save()
    assert dict(SessionStore(mine.session_key).items()) == {"cart": ["tea", "milk"], "more": 2, "other": 1}


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
    handles = [handle for handle, _ in get_manager().store.scan(now=get_manager()._services.clock())]
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


def test_keys_that_are_not_str_become_json_text_as_in_djangos_own_sessions(engine):
    session = SessionStore()
    session[7] = {1: "a", None: {True: "b"}}
    session.save()
    again = SessionStore(session.session_key)
    assert dict(again.items()) == {"7": {"1": "a", "null": {"true": "b"}}}
    again["7"]["1"] = "c"
    again.save()
    assert dict(SessionStore(session.session_key).items()) == {"7": {"1": "c", "null": {"true": "b"}}}


def test_typed_values_come_back_as_they_were(engine):
    now = timezone.now()
    session = SessionStore()
    session.update({"tuple": (1, 2), "at": now, "bytes": b"\0", "set": {1}})
    session.create()
    assert dict(SessionStore(session.session_key).items()) == {"tuple": (1, 2), "at": now, "bytes": b"\0", "set": {1}}


# What Django's own tests ask of every session backend, asked of the engine and of the environ's session.


@pytest.fixture(params=["engine", "wrapped"])
def backend(request, store_url) -> Iterator[Callable[..., SessionBase]]:
    """Opens a session by its key, or a new one."""
    if request.param == "engine":
        with override_settings(WSGISESSION={"store": store_url}):
            yield SessionStore
        return
    manager = SessionManager(secret=SECRET, store=store_url)

    def opened(key: str | None = None) -> EnvironSession:
        return EnvironSession(manager.open("" if key is None else f"sid={manager._services.signer.sign(key)}", None))

    yield opened
    manager.close()


def run(session: SessionBase, method: str, *args: Any) -> Any:
    """Call a method the way that it was asked for: "a" stands before the name of an async one."""
    found = getattr(session, method)(*args)
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


both_ways = pytest.mark.parametrize("a", ["", "a"], ids=["sync", "async"])


@both_ways
def test_each_access_notes_whether_it_changed_anything(backend, a):
    steps = [
        (("get", "x"), False), (("keys",), False), (("values",), False), (("items",), False),
        (("pop", "x", None), False), (("has_key", "x"), False), (("get_expiry_age",), False),
        (("setdefault", "y", 1), True), (("update", {"x": 1}), True), (("pop", "x"), True),
        (("set_expiry", 5), True), (("set_test_cookie",), True), (("flush",), True),
    ]  # fmt: skip
    for (method, *args), modified in steps:
        session = backend()
        session["x"] = 1
        session.accessed = session.modified = False
        run(session, a + method, *(["y", None] if method == "pop" and not modified else args))
        assert (session.accessed, session.modified) == (True, modified), method


def test_reading_what_is_not_there_is_a_key_error(backend):
    for read in (backend().pop, backend().__getitem__):
        with pytest.raises(KeyError):
            read("x")


@both_ways
def test_a_saved_session_is_there_until_it_is_deleted(backend, a):
    session = backend()
    assert session.session_key is None
    session["x"] = 1
    run(session, f"{a}save")
    key = session.session_key
    assert run(session, f"{a}exists", key)
    assert session["x"] == 1
    assert run(backend(key), f"{a}load") == {"x": 1}
    run(session, f"{a}delete")
    assert not run(session, f"{a}exists", key)
    assert run(backend(key), f"{a}load") == {}


@both_ways
def test_create_stores_an_empty_session_at_once(backend, a):
    session = backend()
    run(session, f"{a}create")
    assert session.modified
    assert backend(session.session_key).exists(session.session_key)


@both_ways
def test_flush_ends_the_session_and_leaves_no_key(backend, a):
    session = backend()
    session["x"] = 1
    session.save()
    key = session.session_key
    run(session, f"{a}flush")
    assert session.session_key is None
    assert list(session.items()) == []
    assert backend(key).load() == {}


@both_ways
@pytest.mark.parametrize("is_read", [True, False])
def test_a_cycled_key_is_another_one_with_the_same_data(backend, a, is_read):
    first = backend()
    first.update({"a": 1, "b": [2]})
    first.save()
    session, before = backend(first.session_key) if is_read else first, first.session_key
    run(session, f"{a}cycle_key")
    assert session.session_key not in (None, before)
    assert dict(session.items()) == {"a": 1, "b": [2]}
    assert run(session, f"{a}exists", session.session_key)
    assert not run(session, f"{a}exists", before)


@both_ways
def test_a_save_of_a_deleted_session_is_an_update_error(backend, a):
    session = backend()
    session["x"] = 1
    run(session, f"{a}save", True)
    run(backend(session.session_key), f"{a}delete")
    session["x"] = 2
    with pytest.raises(UpdateError):
        run(session, f"{a}save")
    assert run(session, f"{a}load") == {}


@both_ways
def test_an_unknown_key_makes_no_record_and_is_not_used(backend, a):
    session = backend("A" * 43)
    assert run(session, f"{a}load") == {}
    assert session.session_key is None
    assert not run(session, f"{a}exists", "A" * 43)
    run(session, f"{a}save")
    assert session.session_key != "A" * 43


@both_ways
def test_expiry_is_reckoned_as_django_does(backend, a):
    session, now = backend(), timezone.now()
    two_weeks = settings.SESSION_COOKIE_AGE
    for given, age in [(10, 10), (now + timedelta(seconds=60), 60), (0, two_weeks), (None, two_weeks)]:
        run(session, f"{a}set_expiry", given)
        assert age - 5 <= run(session, f"{a}get_expiry_age") <= age
        assert abs(run(session, f"{a}get_expiry_date") - now - timedelta(seconds=age)) < timedelta(seconds=5)
        assert run(session, f"{a}get_expire_at_browser_close") is (given == 0)
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
        assert run(session, f"{a}get_expire_at_browser_close") is True


@both_ways
def test_an_expiry_in_the_past_ends_the_session_at_once(backend, a):
    session = backend()
    session["x"] = 1
    session.save()
    key = session.session_key
    run(session, f"{a}set_expiry", -timedelta(seconds=10))
    run(session, f"{a}save")
    assert backend(key).load() == {}


def test_a_fixed_date_that_has_passed_ends_the_session_however_often_it_was_read(backend):
    session = backend()
    session["x"] = 1
    session.set_expiry(timezone.now() + timedelta(seconds=0.2))
    session.save() if isinstance(session, SessionStore) else session.session.save()
    while timezone.now() < datetime.fromisoformat(session["_session_expiry"]):
        pass
    late = backend(session.session_key)
    assert late.get("x") is None


@both_ways
def test_a_test_cookie_works_once(backend, a):
    session = backend()
    assert not run(session, f"{a}test_cookie_worked")
    run(session, f"{a}set_test_cookie")
    session.save()
    again = backend(session.session_key)
    assert run(again, f"{a}test_cookie_worked")
    run(again, f"{a}delete_test_cookie")
    assert not run(again, f"{a}test_cookie_worked")


def test_what_was_encoded_is_decoded_and_anything_else_is_empty(backend):
    session = backend()
    assert session.decode(session.encode({"x": 1})) == {"x": 1}
    assert session.decode("bad:encoded:value") == {}


@pytest.mark.parametrize("key", ["", "1234567", "short"])
def test_a_key_that_is_too_short_is_none(key):
    assert SessionStore(key).session_key is None


def test_a_session_key_is_read_only(backend):
    with pytest.raises(AttributeError):
        backend().session_key = "A" * 43


def test_a_taken_key_is_a_create_error(engine):
    first = SessionStore()
    first.create()
    second = SessionStore(first.session_key)
    with pytest.raises(CreateError):
        second.save(must_create=True)


@both_ways
def test_clear_expired_asks_the_store(sqlite_url, a):
    at = [1_800_000_000.0]
    with override_settings(WSGISESSION={"store": sqlite_url, "clock": lambda: at[0]}):
        session = SessionStore()
        session.create()
        at[0] += 15 * 86_400
        run(session, f"{a}clear_expired")
        at[0] -= 15 * 86_400
        assert not session.exists(session.session_key)


def test_a_session_ends_another_one_by_its_key(backend):
    other, session = backend(), backend()
    other["a"], session["b"] = 1, 2
    other.save()
    session.save()
    assert session.exists(other.session_key)
    session.delete(other.session_key)
    assert not session.exists(other.session_key)
    assert backend(session.session_key).load() == {"b": 2}
    session.delete("no key of ours")


def test_a_key_that_a_view_has_made_is_that_of_the_next_request(client):
    key = client.get("/key").text
    assert key
    assert client.get("/key").text == key
