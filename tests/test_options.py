"""An operator's mistake fails at start, in one sentence that says the cure and shows no secret."""

from __future__ import annotations

import pytest

from wsgisession import ConfigurationError, CookieOptions, SessionManager, SessionMiddleware
from wsgisession.stores.memory import MemoryStore

SECRET = "a secret that is long enough"


@pytest.fixture(autouse=True)
def no_secret_in_the_environment(monkeypatch):
    monkeypatch.delenv("SESSION_SECRET", raising=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"secret": "short"}, "wsgisession secret"),
        ({"secret": []}, "empty"),
        ({"secret": 7}, "int"),
        ({"store": None}, "URL"),
        ({"store": 7}, "URL"),
        ({"store": "localhost:6379"}, "URL"),
        ({"store": "nosuch://localhost"}, "nosuch"),
        ({"store": MemoryStore}, "URL"),
        ({"name": "a b"}, "name"),
        ({"name": None}, "name"),
        ({"resave": 1}, "resave"),
        ({"save_uninitialized": "no"}, "save_uninitialized"),
        ({"rolling": None}, "rolling"),
        ({"track_client": "yes"}, "track_client"),
        ({"unset": "delete"}, "'keep', 'destroy'"),
        ({"unset": []}, "'keep', 'destroy'"),
        ({"on_conflict": "ignore"}, "'merge', 'overwrite', 'refuse'"),
        ({"on_gone": None}, "'discard', 'raise'"),
        ({"on_store_error": "ignore"}, "'raise', 'unavailable'"),
        ({"cookie": 5}, "cookie"),
        ({"cookie": False}, "cookie"),
        ({"cookie": "lax"}, "cookie"),
        ({"cookie": {"samesite": "Lax"}}, "same_site"),
        ({"cookie": {"max_age": -1}}, "max_age"),
        ({"cookie": {"domain": "example.com"}, "name": "__Host-sid"}, "domain"),
        ({"idle_timeout": "1h"}, "idle_timeout"),
        ({"idle_timeout": 100, "absolute_timeout": 50}, "absolute_timeout"),
        ({"user_key": ""}, "user_key"),
        ({"user_key": []}, "user_key"),
        ({"user_key": 5}, "user_key"),
        ({"user_key": ["user_id", 5]}, "user_key"),
        ({"user_loader": "load"}, "user_loader"),
        ({"genid": "x"}, "genid"),
        ({"on_event": []}, "on_event"),
        ({"on_event": "print"}, "on_event"),
        ({"on_event": [print, 5]}, "on_event"),
        ({"clock": 5}, "clock"),
        ({"random": 5}, "random"),
        ({"max_sessions_per_user": 0}, "max_sessions_per_user"),
        ({"max_sessions_per_user": True}, "max_sessions_per_user"),
        ({"max_sessions_per_user": 1.5}, "max_sessions_per_user"),
        ({"max_size": 0}, "max_size"),
        ({"max_size": True}, "max_size"),
        ({"max_size": "1 MB"}, "max_size"),
        ({"encryption_key": "short"}, "encryption_key"),
        ({"encryption_key": []}, "empty"),
        ({"encryption_key": b"x" * 31}, "32 bytes"),
        ({"encryption_key": "*" * 43}, "32 bytes"),
        ({"encryption_key": 7}, "encryption"),
    ],
    ids=repr,
)
def test_a_setting_that_cannot_be_right_is_refused_at_start(options, sentence):
    """SECURITY 59."""
    with pytest.raises(ConfigurationError, match=sentence):
        SessionManager(**{"secret": SECRET, **options})


def test_the_same_is_refused_when_the_middleware_is_built():
    with pytest.raises(ConfigurationError, match="Secure"):
        SessionMiddleware(print, secret=SECRET, cookie={"same_site": "None", "secure": False})


def test_a_mistake_is_a_value_error_too():
    with pytest.raises(ValueError):
        SessionManager(secret="short")


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError):
        SessionManager(secret=SECRET, httponly=True)


def test_a_manager_and_options_do_not_go_together():
    with pytest.raises(TypeError, match="not both"):
        SessionMiddleware(print, SessionManager(secret=SECRET), name="sid")


def test_the_environment_s_secret_is_taken_where_none_is_given(monkeypatch):
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    from_environment, given = SessionManager(), SessionManager(secret=SECRET)
    assert from_environment._services.signer.sign("A" * 43) == given._services.signer.sign("A" * 43)


def test_the_secret_that_is_given_goes_before_the_environment_s(monkeypatch):
    monkeypatch.setenv("SESSION_SECRET", "another secret, also long enough")
    other, given = SessionManager(), SessionManager(secret=SECRET)
    assert other._services.signer.sign("A" * 43) != given._services.signer.sign("A" * 43)


def test_no_secret_at_all_is_refused_with_the_command_that_makes_one():
    with pytest.raises(ConfigurationError, match=r"SESSION_SECRET.*wsgisession secret"):
        SessionManager()


def test_an_empty_secret_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("SESSION_SECRET", "")
    with pytest.raises(ConfigurationError, match="at least 16"):
        SessionManager()


def test_no_refusal_shows_a_secret_or_a_password():
    """SECURITY 56."""
    for options in (
        {"secret": "hunter2 hunter2"},
        {"secret": SECRET, "encryption_key": "hunter2"},
        {"secret": SECRET, "store": "nosuch://user:hunter2@localhost"},
    ):
        with pytest.raises(ConfigurationError) as refused:
            SessionManager(**options)
        assert "hunter2" not in str(refused.value)
        assert "hunter2" not in repr(refused.value.__cause__)


def test_no_repr_shows_a_secret_or_a_password():
    """SECURITY 56."""
    manager = SessionManager(secret=SECRET, store="redis://user:hunter2@localhost")
    shown = repr(manager) + repr(SessionMiddleware(print, manager)) + repr(manager._services.signer)
    assert "hunter2" not in shown
    assert SECRET not in shown


@pytest.mark.parametrize("cookie", [None, {}, {"max_age": 60}, CookieOptions(max_age=60)])
def test_the_cookie_s_options_are_an_object_or_a_dict_of_its_names(cookie):
    made = SessionManager(secret=SECRET, cookie=cookie).cookie
    assert made == (CookieOptions(max_age=60) if cookie else CookieOptions())


def test_nothing_but_the_secret_needs_to_be_given():
    """SECURITY 59."""
    manager = SessionMiddleware(print, secret=SECRET).manager
    assert (manager.name, manager.cookie, repr(manager.store)[:12]) == ("sid", CookieOptions(), "<MemoryStore")


def test_a_store_that_was_made_already_is_taken_as_it_is():
    store = MemoryStore()
    assert SessionManager(secret=SECRET, store=store).store is store


@pytest.mark.parametrize("user_key", ["uid", ["uid"], ("uid",)])
def test_a_user_key_is_one_or_several(user_key):
    assert SessionManager(secret=SECRET, user_key=user_key)._services.user_keys == ("uid",)


@pytest.mark.parametrize("option", ["max_size", "max_sessions_per_user"])
def test_a_limit_of_one_is_a_limit(option):
    SessionManager(secret=SECRET, **{option: 1})


def test_nothing_connects_at_start():
    SessionManager(secret=SECRET, store="redis://localhost:1")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"on_conflict": "mereg"}, "on_conflict must be one of .*, not 'mereg'; did you mean 'merge'?"),
        ({"on_store_error": "Unavailable"}, "not 'Unavailable'; did you mean 'unavailable'?"),
        ({"idle_timeout": "15 min"}, "idle_timeout must be seconds or a timedelta, not '15 min'"),
        ({"on_event": "log"}, "on_event must be callable, or a list of callables, not 'log'"),
    ],
)
def test_a_wrong_value_is_quoted_and_the_intended_one_suggested(options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        SessionManager(secret=SECRET, **options)
