"""In a real Chromium: Flask with its CSRF check, and Django with the engine and our middleware."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, jsonify
from flask_wtf.csrf import CSRFProtect, generate_csrf

from tests.device.chromium import Observed
from tests.device.test_browser import SHORT, Served, bound, chromium, content, thief_of, wait_for, wait_for_expiry
from tests.django_project import set_up

set_up()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from wsgisession.flask import FlaskSessions, session


@contextmanager
def served(app: Any, folder: Path) -> Iterator[Served]:
    server = Served(SimpleNamespace(app=app, clock=time.time), folder)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()


def test_a_flask_app_is_bound_refreshed_and_keeps_its_csrf_token(tmp_path):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="for the tests, and long enough",
        SESSION_STORE=f"sqlite:///{tmp_path / 's.db'}",
        SESSION_DEVICE_BINDING=SHORT,
    )
    FlaskSessions(app)
    CSRFProtect(app)

    @app.get("/login")
    def login():
        session.login("ada")
        return jsonify(csrf=generate_csrf())

    @app.get("/")
    def page():
        return jsonify(user=session.user_id, bound=session.is_bound, csrf=generate_csrf())

    @app.post("/form")
    def form():
        return jsonify(user=session.user_id)

    with served(app, tmp_path) as site, chromium(site) as context:
        page, observed = bound(context, site)
        assert observed.results("creation", "fetchResult") == ["Success"]
        token = content(page, site.url)["csrf"]
        wait_for_expiry(context, page)
        posted = page.evaluate(
            "token => fetch('/form', {method: 'POST', headers: {'X-CSRFToken': token}}).then(a => a.json())", token
        )
        assert posted == {"user": "ada"}
        thief = thief_of(context, site)
        thief.jar.pop("session_device")
        time.sleep(1.1)  # the grace
        assert thief.get("/").json["user"] is None
        assert content(page, site.url) | {"csrf": ""} == {"user": "ada", "bound": True, "csrf": ""}
        assert observed.of("termination") == []


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """The one thread in which Django runs, because its database in memory belongs to one."""
    from django.db import connection

    with ThreadPoolExecutor(1) as thread:
        thread.submit(call_command, "migrate", verbosity=0).result()
        thread.submit(User.objects.create_user, "ada", password="lovelace").result()
        yield thread
        thread.submit(lambda: connection.close()).result()


def test_a_django_project_is_bound_and_refreshed(tmp_path, thread):
    options = {"store": f"sqlite:///{tmp_path / 's.db'}", "device_binding": SHORT}
    with ExitStack() as stack:
        stack.enter_context(override_settings(WSGISESSION=options, SESSION_COOKIE_SECURE=True))
        django = get_wsgi_application()

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            return thread.submit(lambda: list(django(environ, start_response))).result()

        site = stack.enter_context(served(app, tmp_path))
        context = stack.enter_context(chromium(site))
        page = context.pages[0]
        observed = Observed(page)
        page.goto(f"{site.url}/untouched")
        form = "{method: 'POST', body: new URLSearchParams({password: 'lovelace'})}"
        page.evaluate(f"fetch('/sign-in', {form}).then(answer => answer.text())")
        wait_for(lambda: observed.of("creation"), page)
        assert observed.results("creation", "fetchResult") == ["Success"]
        wait_for_expiry(context, page)
        assert "_auth_user_id" in content(page, f"{site.url}/show")["data"]
        assert observed.of("termination") == []
        thief = thief_of(context, site)
        thief.jar.pop("sessionid_device")
        time.sleep(1.1)  # the grace
        assert thief.get("/show").json["data"] == {}
