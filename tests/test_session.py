"""`Session`: a mapping that is read late, knows what changed, and says what it is."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from markupsafe import Markup

from tests.same import same
from tests.visits import DAY, NOW, Site
from wsgisession import HeadersSentError, SerializationError, Session, SessionError, SessionGone


def at(seconds):
    return datetime.fromtimestamp(NOW + seconds, timezone.utc)


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def browser(site):
    browser = site.browser()
    browser.put(cart=["tea"], prefs={"lang": {"ui": "en"}}, n=1)
    site.store.calls.clear()
    return browser


def reads_and_writes(site):
    return site.store.calls["load"], site.store.calls["create"] + site.store.calls["replace"]


# Laziness.


def test_a_session_that_nobody_touches_costs_nothing(site, browser):
    with browser.request() as session:
        assert repr(session) == "<Session, not read yet>"
        assert not session.is_accessed
        assert not session.is_modified
    assert not site.store.calls
    assert browser.reply.set_cookie is None
    assert not browser.reply.vary


def test_a_session_that_is_read_is_fetched_once_and_not_written(site, browser):
    with browser.request() as session:
        assert session["n"] == 1
        assert "cart" in session
        assert len(session) == 3
        assert session.is_accessed
    assert reads_and_writes(site) == (1, 0)
    assert browser.reply.set_cookie is None
    assert browser.reply.vary


def test_a_session_without_a_cookie_asks_no_store(site):
    browser = site.browser()
    with browser.request() as session:
        assert dict(session) == {}
    assert not site.store.calls
    assert browser.reply.set_cookie is None


def test_a_repr_shows_neither_id_nor_data(site, browser):
    """SECURITY 56."""
    with browser.request() as session:
        session["password"] = "hunter2"
        shown = repr(session) + repr(session.cookie)
        assert session.handle in shown
        assert session.id not in shown
        assert "hunter2" not in shown


# The mapping.


def test_it_is_read_and_written_like_a_dict(browser):
    with browser.request() as session:
        assert session.get("nobody") is None
        with pytest.raises(KeyError):
            session["nobody"]
        with pytest.raises(KeyError):
            del session["nobody"]
        assert session.setdefault("n", 5) == 1
        assert session.pop("n") == 1
        session.update(a=1, b=2)
        assert sorted(session) == ["a", "b", "cart", "prefs"]
        assert session == {"a": 1, "b": 2, "cart": ["tea"], "prefs": {"lang": {"ui": "en"}}}
    assert sorted(browser.data) == ["a", "b", "cart", "prefs"]


def test_clearing_it_keeps_the_id(browser):
    handle = browser.handle
    with browser.request() as session:
        session.clear()
        assert session.is_empty
    assert (browser.data, browser.handle) == ({}, handle)


CHANGES = {
    "set": lambda session: session.update(n=2),
    "set in a dict": lambda session: session["prefs"]["lang"].update(ui="fr"),
    "append": lambda session: session["cart"].append("milk"),
    "delete": lambda session: session.pop("n"),
    "delete in a dict": lambda session: session["prefs"].clear(),
    "through get": lambda session: session.get("cart").append("milk"),
    "through values": lambda session: [value.append(1) for value in session.values() if type(value) is list],
    "through items": lambda session: dict(session.items())["cart"].clear(),
    "another type": lambda session: session.update(n=True),
    "a value that changes after it was put in": lambda session: (lambda x: (session.update(x=x), x.append(1)))([]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_at_any_depth_is_detected_and_written(site, browser, change):
    with browser.request() as session:
        change(session)
        assert session.is_modified
        changed = dict(session)
    assert reads_and_writes(site)[1] == 1
    assert same(browser.data, changed)


@pytest.mark.parametrize(
    "touch",
    [
        lambda session: session.update(n=1),
        lambda session: session["cart"].sort(),
        lambda session: session.update(prefs={"lang": {"ui": "en"}}),
        lambda session: (session.pop("n"), session.update(n=1)),
        lambda session: session["prefs"]["lang"],
    ],
)
def test_what_ends_as_it_began_is_not_a_change(site, browser, touch):
    """SECURITY 39."""
    with browser.request() as session:
        touch(session)
        assert not session.is_modified
    assert reads_and_writes(site) == (1, 0)


def test_a_value_comes_back_as_the_type_it_was(site, browser):
    values = {
        "tuple": (1, [2]),
        "set": {1, "a"},
        "frozenset": frozenset({(1,)}),
        "bytes": b"\xff",
        "datetime": at(0),
        "date": date(2026, 1, 2),
        "timedelta": timedelta(days=-1),
        "decimal": Decimal("1.10"),
        "uuid": UUID(int=5),
        "markup": Markup("<b>"),
        "nothing": None,
    }
    browser.put(values=values)
    assert same(browser.data["values"], values)


def test_a_set_that_grows_in_place_is_detected(browser):
    browser.put(seen={1})
    with browser.request() as session:
        session["seen"].add(2)
    assert browser.data["seen"] == {1, 2}


def test_a_value_that_cannot_be_stored_is_refused_before_anything_is_written(site, browser):
    session = browser.open()
    session["n"] = 2
    session["prefs"]["x"] = object()
    with pytest.raises(SerializationError, match=r"session\['prefs'\]\['x'\]"):
        browser.end(session)
    assert browser.data["n"] == 1
    assert reads_and_writes(site)[1] == 0


def test_a_session_larger_than_max_size_is_refused_and_the_old_one_stays():
    """SECURITY 52."""
    site = Site(max_size=1000)
    browser = site.browser()
    browser.put(a=1)
    session = browser.open()
    session["b"] = "x" * 1000
    with pytest.raises(SerializationError, match="max_size is 1000"):
        browser.end(session)
    assert browser.data == {"a": 1}


# What it is.


def test_a_new_session_is_new_and_empty_until_it_is_written(site):
    browser = site.browser()
    with browser.request() as session:
        assert session.is_new
        assert session.is_empty
        assert not session.is_modified
        session["a"] = 1
        assert session.is_new
        assert not session.is_empty
        assert session.is_modified
    with browser.request() as session:
        assert not session.is_new


def test_its_id_is_a_secret_of_256_bits_and_its_handle_is_another(site):
    """SECURITY 1, 44."""
    browser = site.browser()
    with browser.request() as session:
        session["a"] = 1
        session_id, handle = session.id, session.handle
    assert len(session_id) == 43
    assert browser.cookie.startswith(session_id + ".")
    assert session_id not in handle
    assert site.store.handles == {handle}
    assert (browser.open().id, browser.open().handle) == (session_id, handle)


def test_asking_a_new_session_for_its_id_stores_nothing(site):
    browser = site.browser()
    with browser.request() as session:
        assert session.id
    assert site.store.handles == set()
    assert browser.reply.set_cookie is None


def test_a_session_opened_by_its_handle_has_no_id(site, browser):
    session = site.manager.load(browser.handle)
    assert session.id is None
    assert session.handle == browser.handle


def test_it_knows_its_times(site, browser):
    with browser.request() as session:
        assert session.created_at == at(0)
        assert session.last_seen_at == at(0)
        assert session.authenticated_at is None
        assert session.expires_at == at(DAY)
    site.clock += 5000  # more than the twentieth part of a day after which a read restarts the idle timeout
    with browser.request() as session:
        assert session.created_at == at(0)
        assert session.last_seen_at == at(5000)
        assert session.expires_at == at(5000 + DAY)
        session.login(7)
        assert session.authenticated_at == at(5000)
        assert session.created_at == at(0)


def test_a_new_session_expires_as_if_it_were_stored_now(site):
    assert site.browser().open().expires_at == at(DAY)


def test_it_expires_no_later_than_the_absolute_timeout():
    site = Site(absolute_timeout=2 * DAY)
    browser = site.browser()
    browser.put(a=1)
    for _ in range(3):
        site.clock += 0.5 * DAY
        expires = browser.open().expires_at
    assert expires == at(2 * DAY)


# Its user.


@pytest.mark.parametrize(
    ("data", "user"),
    [
        ({}, None),
        ({"user_id": 7}, 7),
        ({"_user_id": "8"}, "8"),
        ({"_auth_user_id": "9"}, "9"),
        ({"_auth_user_id": "9", "_user_id": "8", "user_id": 7}, 7),
        ({"user_id": None, "_user_id": "8"}, "8"),
        ({"user_id": 0}, 0),
        ({"user_id": UUID(int=1)}, UUID(int=1)),
    ],
)
def test_its_user_is_under_the_first_key_that_has_one(site, data, user):
    browser = site.browser()
    browser.put(**data)
    assert same(browser.open().user_id, user)


def test_its_user_is_loaded_once_a_request():
    asked = []
    site = Site(user_loader=lambda user_id: asked.append(user_id) or f"user {user_id}")
    browser = site.browser()
    with browser.request() as session:
        assert session.user is None
        session.login(7)
        assert (session.user, session.user) == ("user 7", "user 7")
        session.login(8)
        assert session.user == "user 8"
        session.logout()
        assert session.user is None
    assert asked == [7, 8]


def test_a_user_that_the_loader_does_not_know_is_none_and_asked_for_once():
    asked = []
    site = Site(user_loader=asked.append)
    with site.browser().request() as session:
        session.login(7)
        assert (session.user, session.user) == (None, None)
    assert asked == [7]


def test_without_a_loader_there_is_no_user(browser):
    with browser.request() as session:
        session.login(7)
        assert session.user is None


# Where there is no response, or no longer.


def test_after_the_headers_left_a_session_without_a_cookie_cannot_be_written(site):
    browser = site.browser()
    session = browser.open()
    browser.end(session)
    session._visit.sealed = True
    assert dict(session) == {}
    for write in (
        lambda: session.update(a=1),
        session.clear,
        session.save,
        session.regenerate,
        lambda: session.login(7),
    ):
        with pytest.raises(HeadersSentError):
            write()
    assert site.store.handles == set()


def test_after_the_headers_left_a_session_with_a_cookie_is_still_written(site, browser):
    session = browser.open()
    session["n"] = 2
    browser.end(session)
    session._visit.sealed = True
    session["n"] = 3
    with pytest.raises(HeadersSentError):
        session.regenerate()
    site.manager.finish(session)
    assert browser.data["n"] == 3


def test_a_session_opened_by_its_handle_gets_no_new_id(site, browser):
    session = site.manager.load(browser.handle)
    for ask in (session.regenerate, lambda: session.login(7)):
        with pytest.raises(SessionError, match="handle"):
            ask()


def test_a_session_opened_by_its_handle_starts_no_other_after_its_end(site, browser):
    session = site.manager.load(browser.handle)
    session.destroy()
    for write in (lambda: session.update(a=1), session.save, lambda: session.transaction(lambda _: None)):
        with pytest.raises(SessionGone, match="has ended"):
            write()
    assert site.store.handles == set()


def test_two_sessions_are_equal_as_their_data_are(browser):
    assert isinstance(browser.open(), Session)
    assert browser.open() == browser.twin().open()
    with pytest.raises(TypeError):
        hash(browser.open())
