"""What the tests of users are helped with: a logged-in client, a clock, fixtures for pytest, and a page of the docs."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from tests.servers import ROOT
from wsgisession import ConfigurationError, SessionManager, SessionMiddleware, get_session
from wsgisession.flask import FlaskSessions
from wsgisession.testing import FakeClock, logged_in

SECRET = "a secret for the tests alone"


@Request.application
def who(request: Request) -> Response:
    session = get_session(request.environ)
    return Response(f"{session.user_id} {session.get('role')}")


def flask_app(**options: Any) -> flask.Flask:
    app = flask.Flask("who")
    app.config.update(SECRET_KEY=SECRET, TESTING=True)
    FlaskSessions(app, **options)

    @app.route("/")
    def show() -> str:
        return f"{flask.session.get('user_id')} {flask.session.get('role')}"

    return app


def wrapped_in_flask() -> flask.Flask:
    """Both ways at once: the middleware's session counts."""
    app = flask_app(store="memory://?max_sessions=1")
    app.wsgi_app = SessionMiddleware(app.wsgi_app, secret=SECRET, name="outer")
    return app


APPS = {
    "werkzeug": lambda: SessionMiddleware(who, secret=SECRET),
    "behind other middleware": lambda: ProxyFix(DispatcherMiddleware(SessionMiddleware(who, secret=SECRET), {})),
    "with a domain": lambda: SessionMiddleware(who, secret=SECRET, cookie={"domain": "localhost", "path": "/"}),
    "secure": lambda: SessionMiddleware(who, secret=SECRET, name="__Host-sid"),
    "an ID of its own": lambda: SessionMiddleware(
        who, secret=SECRET, genid=lambda environ: "an-id-of-the-app-" + "x" * 9
    ),
    "flask": flask_app,
    "flask behind a proxy": lambda: ProxyFix(flask_app()),
    "flask and the middleware": wrapped_in_flask,
}


@pytest.mark.parametrize("name", APPS)
def test_a_client_is_logged_in_by_one_line(name):
    client = logged_in(APPS[name](), user_id=7, role="admin")
    assert client.get("/").text == "7 admin"


def test_a_client_that_is_there_is_logged_in_and_then_as_another():
    client = Client(SessionMiddleware(who, secret=SECRET))
    assert logged_in(client, 7, role="admin") is client
    assert client.get("/").text == "7 admin"
    logged_in(client, 8)
    assert client.get("/").text == "8 None"


def test_of_a_flask_app_it_makes_flasks_own_client():
    app = flask_app()
    client = logged_in(app, user_id=7)
    assert isinstance(client, flask.testing.FlaskClient)
    with client.session_transaction() as session:
        assert session["user_id"] == 7


def test_flasks_server_name_is_where_the_cookie_goes():
    app = flask_app()
    app.config["SERVER_NAME"] = "shop.example:8080"
    assert logged_in(app, user_id=7).get("/").text == "7 None"


def test_a_manager_may_be_named():
    manager = SessionManager(secret=SECRET)
    middleware = SessionMiddleware(who, manager)
    client = logged_in(lambda *arguments: middleware(*arguments), user_id=7, manager=manager)
    assert client.get("/").text == "7 None"


def test_an_app_without_sessions_learns_how_to_get_some():
    with pytest.raises(ConfigurationError, match="wrap it in SessionMiddleware, call FlaskSessions"):
        logged_in(who, user_id=7)


def test_the_clock_stands_still_until_it_is_moved():
    clock = FakeClock(1000)
    assert clock() == clock() == 1000
    clock.advance(1.5)
    clock.advance(timedelta(minutes=1))
    assert clock() == 1061.5
    assert FakeClock()() > 1_700_000_000


def test_neither_flask_nor_pytest_is_needed():
    code = (
        "import sys; sys.modules.update(flask=None, pytest=None); from wsgisession.testing import logged_in, FakeClock"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)


# The fixtures

ASKED_FOR = 'pytest_plugins = ["wsgisession.testing.pytest"]\n'
"""What a user writes into conftest.py."""


def run_pytest(folder: Path, *options: str) -> str:
    """Run the tests in a folder as a user does, with every plugin that the installed packages bring."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, *options],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return run.stdout + run.stderr


def test_no_plugin_and_no_module_next_to_the_package_is_installed():
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    assert "pytest11" not in setup["options.entry_points"]
    assert "py_modules" not in setup["options"]
    assert setup["options.packages.find"]["include"] == "wsgisession*"
    assert [path.name for path in ROOT.glob("*.py")] == ["noxfile.py"]


def test_what_the_page_of_the_docs_shows_passes(tmp_path):
    page = (ROOT / "docs" / "testing.md").read_text()
    assert ASKED_FOR in page
    blocks = dict(re.findall(r"^```python (\w+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    the_app = blocks["werkzeug"].partition("\n\n\ndef test_")[0]
    for name, block in blocks.items():
        (tmp_path / f"test_{name}.py").write_text(
            block if name == "werkzeug" else f"{the_app}\n\nimport pytest\n{block}"
        )
    (tmp_path / "conftest.py").write_text(ASKED_FOR)
    assert set(blocks) == {"werkzeug", "clock", "pytest", "store"}
    told = run_pytest(tmp_path, "-k", "not fork", "-q")
    assert re.search(r"^\d\d passed", told, re.MULTILINE), told


def test_each_test_has_its_own_clock_and_store(tmp_path):
    (tmp_path / "conftest.py").write_text(ASKED_FOR)
    (tmp_path / "test_own.py").write_text("""
import pytest

@pytest.mark.parametrize("n", range(2))
def test_own(n, session_manager, session_clock):
    assert list(session_manager.all_sessions()) == []
    session = session_manager.open("", None)
    session.login("ada")
    session_manager.commit(session, {"wsgi.url_scheme": "https", "HTTP_HOST": "localhost"})
    began = session.created_at
    session_clock.advance(10)
    assert (session_manager.info(session.handle).expires_at - began).total_seconds() == 86_400
""")
    assert "2 passed" in run_pytest(tmp_path)


def test_a_test_run_that_does_not_ask_for_the_fixtures_does_not_load_the_package(tmp_path):
    (tmp_path / "test_other.py").write_text("""
import sys

def test_other():
    assert [name for name in sys.modules if name.startswith("wsgisession")] == []

def test_fixture(session_clock):
    pass
""")
    told = run_pytest(tmp_path)
    assert "1 passed, 1 error" in told
    assert "fixture 'session_clock' not found" in told
