"""Every table of the reference agrees with the code: no name is missing or invented, and the defaults are right."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from typing import Any, get_args

import flask
import pytest
from flask_session.defaults import Defaults

import wsgisession
from tests.docs.pages import names, rows
from tests.servers import ROOT
from wsgisession import (
    CookieOptions,
    Session,
    SessionEvent,
    SessionInfo,
    SessionManager,
    SessionMiddleware,
    errors,
    guards,
)
from wsgisession._core import events
from wsgisession.flask.settings import OPTIONS as FLASK_OPTIONS
from wsgisession.stores.pool import MAX_IDLE
from wsgisession.testing import logged_in

PAGE = "reference.md"
OPTIONS = {name: parameter.default for name, parameter in inspect.signature(SessionManager).parameters.items()}


def first_names(heading: str) -> list[str]:
    """Return the names in the first column, without what follows an opening parenthesis."""
    return [name.partition("(")[0] for row in rows(PAGE, heading) for name in names(row[0])]


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_every_option_of_the_manager_is_listed():
    assert sorted(first_names("Options")) == sorted(OPTIONS)


def test_every_option_has_its_default():
    for (option,), default in ((names(row[0]), row[1]) for row in rows(PAGE, "Options")):
        if default == f"`{option}`" or not default.startswith("`"):
            continue  # described in words, below
        shown = names(default)[0]
        value = OPTIONS[option]
        if callable(value):
            assert shown == {"time": "time.time", "_now": "time.time", "urandom": "os.urandom"}[value.__name__]
        elif shown == "SESSION_SECRET":
            assert value is None
        else:
            assert eval(shown) == value, option


def test_the_defaults_in_words_are_the_defaults():
    manager = SessionManager(secret="a secret that is long enough")
    logged_in(SessionMiddleware(lambda environ, start_response: [], manager), user_id="ada")
    (found,) = manager.sessions_for("ada")
    assert abs(found.expires_at - found.created_at - timedelta(days=1)) < timedelta(seconds=2)
    words = {names(row[0])[0]: row[1] for row in rows(PAGE, "Options")}
    assert "1 day" in words["idle_timeout"]
    assert words["absolute_timeout"].startswith("30 days")
    assert float(OPTIONS["absolute_timeout"]) == 30 * 86_400


def test_every_option_of_the_cookie_is_listed_with_its_default():
    table = {names(row[0])[0]: eval(names(row[1])[0]) for row in rows(PAGE, "Cookie options")}
    assert table == {field: getattr(CookieOptions(), field) for field in CookieOptions.__dataclass_fields__}


FOR_ADAPTERS = {"abandon", "all_records", "check_server", "commit", "finish", "open"}
"""Methods of the manager that its docstring leaves to adapters, and that no app calls."""


def test_every_method_of_the_manager_is_listed():
    methods = {name for name in public(SessionManager) if inspect.isfunction(getattr(SessionManager, name))}
    assert set(first_names("Methods")) == methods - FOR_ADAPTERS


MAPPING = {"get", "clear", "pop", "popitem", "setdefault", "update", "keys", "values", "items", "copy"}


def test_every_member_of_a_session_is_listed():
    assert set(first_names("Session")) == public(Session) - MAPPING


def test_every_attribute_of_a_session_info_is_listed():
    assert set(first_names("SessionInfo")) == {name for name in SessionInfo.__dataclass_fields__ if name[0] != "_"}


def test_every_error_is_listed_and_exported():
    defined = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert set(first_names("Errors")) == defined
    assert defined <= set(wsgisession.__all__)


def literals(annotation: Any) -> set[str]:
    """Return the strings of a Literal, or of an optional or imported one."""
    return {each for part in get_args(annotation) for each in ({part} if isinstance(part, str) else literals(part))}


def test_every_event_and_every_reason_is_listed():
    (*events_,) = rows(PAGE, "Events")  # both tables
    listed = {name for row in events_ for name in names(row[0])}
    hints = inspect.get_annotations(SessionEvent, eval_str=True, globals=vars(events))
    assert listed >= literals(hints["name"])
    assert listed == literals(hints["name"]) | literals(hints["reason"])


def test_every_guard_is_listed():
    assert set(first_names("Guards")) == set(guards.__all__)


def test_the_settings_of_flask_are_settings_with_their_defaults():
    config = flask.Flask("any").config
    for setting, default in ((names(row[0])[0], row[1]) for row in rows(PAGE, "Flask settings")):
        option = setting.removeprefix("SESSION_").lower()
        assert setting in config or option in FLASK_OPTIONS or setting.startswith(("SESSION_COOKIE_", "SECRET_KEY"))
        if default.startswith("`") and setting in config and setting != "SESSION_COOKIE_PATH":
            assert eval(names(default)[0]) == config[setting], setting
    assert config["PERMANENT_SESSION_LIFETIME"] == timedelta(days=31)
    listed = set(first_names("Flask settings"))
    assert {name for name in config if name.startswith("SESSION_")} <= listed
    assert {f"SESSION_{option.upper()}" for option in FLASK_OPTIONS - OPTIONS.keys()} <= listed


STORES = {"memory://": "memory.py", "sqlite:///": "sqlite", "redis://": "redis", "postgresql://": "postgresql",
          "mongodb://": "mongodb"}  # fmt: skip
DEFAULTS = {"None": "the connection's", "False": "`false`", "True": "`true`", "MAX_IDLE": str(MAX_IDLE)}


@pytest.mark.parametrize(("url", "place"), STORES.items())
def test_the_parameters_of_a_store_are_those_that_it_takes_with_their_defaults(url, place):
    path = ROOT / "wsgisession" / "stores" / place
    files = [path] if path.is_file() else sorted(path.glob("*.py"))
    sources = "\n".join(file.read_text(encoding="utf-8") for file in files)
    taken = re.findall(r'url\.option\(\s*"(\w+)",\s*([^,]+),', sources)
    expected = {name: DEFAULTS.get(default, default.strip('"').replace("_", "")) for name, default in taken}
    listed = {names(row[1])[0]: row[2] for row in rows(PAGE, "Store URLs") if names(row[0]) == [url]}
    assert set(listed) == set(expected)
    for name, default in expected.items():
        assert listed[name].strip("`") == default.strip("`").removesuffix(".0"), name


def test_every_setting_of_flask_session_has_a_line_that_replaces_it():
    listed = {name for row in rows("migrating.md", "Settings") for name in names(row[0])}
    assert listed == {name for name in vars(Defaults) if name.startswith("SESSION_")}
