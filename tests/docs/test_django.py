"""The examples of the guide to Django run, and its tables agree with the code."""

from __future__ import annotations

import inspect
import os
import re
from typing import Any

import pytest
from werkzeug.test import Client

from tests.django_project import set_up
from tests.docs.pages import blocks, names, rows
from tests.servers import ROOT

set_up()

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session as OldSession
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.test import override_settings

from wsgisession import SessionManager
from wsgisession.django import SessionStore, check_settings, get_manager
from wsgisession.django.settings import DJANGOS_OWN

PAGE = "django.md"
THEIR_REDIS = "redis://localhost:6379/0"


def block(kind: str, store: str = "") -> str:
    (found,) = blocks(PAGE, f"python {kind}")
    return found.replace(THEIR_REDIS, store or THEIR_REDIS)


def ran(lines: str, **names: Any) -> dict[str, Any]:
    exec(lines, names)  # the lines that a reader copies
    return names


def settings_in(lines: str) -> Any:
    return override_settings(**{name: value for name, value in ran(lines).items() if name.isupper()})


def first_cells(heading: str) -> list[str]:
    return [name for row in rows(PAGE, heading) for name in names(row[0])]


@pytest.fixture
def user():
    call_command("migrate", verbosity=0)
    yield User.objects.create_user("ada", password="lovelace")
    User.objects.all().delete()
    connection.close()


def test_its_settings_give_a_project_its_sessions(sqlite_url):
    with settings_in(block("settings", sqlite_url)):
        assert check_settings() == []
        client = Client(get_wsgi_application())
        assert [client.get("/count").text for _ in range(2)] == ["1", "2"]
        assert len(list(get_manager().store.scan(now=0))) == 1


def test_its_settings_carry_sessions_over(sqlite_url, user):
    client = Client(None)
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.db"):
        client.application = get_wsgi_application()
        client.post("/sign-in", data={"password": "lovelace"})
    with settings_in(block("moving", sqlite_url)):
        client.application = get_wsgi_application()
        assert client.get("/show").json["data"]["_auth_user_id"] == str(user.pk)
    assert not OldSession.objects.exists()


def test_its_lines_revoke(sqlite_url, user):
    with override_settings(WSGISESSION={"store": sqlite_url}):
        for _ in range(3):
            session = SessionStore()
            session["_auth_user_id"] = str(user.pk)
            session.create()
        assert len(ran(block("revoking"), user=user)["devices"]) == 3
        assert get_manager().sessions_for(user.pk) == []


def test_its_wrapped_app_needs_no_settings_of_ours(sqlite_url, monkeypatch):
    monkeypatch.setenv("SESSION_SECRET", "for the guide, and long enough")
    with override_settings(WSGISESSION={}):
        application = ran(block("wrapped", sqlite_url), os=os)["application"]
        client = Client(application)
        assert [client.get("/nested").text for _ in range(2)] == ["1", "2"]
        application.manager.close()


def test_its_options_are_those_that_may_be_given():
    known = inspect.signature(SessionManager).parameters.keys() - DJANGOS_OWN.keys()
    listed = [name for name in first_cells("Settings") if not name.startswith("wsgisession.")]
    assert sorted(listed) == sorted({*known, "carry_over"})


def test_every_option_of_the_manager_that_is_refused_is_one():
    assert DJANGOS_OWN.keys() <= inspect.signature(SessionManager).parameters.keys()


def test_its_checks_are_those_of_the_code():
    source = (ROOT / "wsgisession" / "django" / "checks.py").read_text()
    listed = [name for name in first_cells("Settings") if name.startswith("wsgisession.")]
    assert listed == sorted(re.findall(r'id="([^"]+)"', source))
