"""Device-bound sessions as ``flask.session``: alone, with Flask-WTF's CSRF check, with Flask-Login, and wrapped."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, abort, jsonify
from flask_login import LoginManager, UserMixin, login_user, logout_user
from flask_wtf.csrf import CSRFProtect, generate_csrf

from tests.device.client import Browser
from wsgisession import DeviceBinding, SessionMiddleware
from wsgisession.flask import FlaskSessions, login_required, require_device_proof, session
from wsgisession.testing import FakeClock

SECRET = "for the tests, and long enough"


def app_with(clock: FakeClock, *, wrapped: bool = False, **config: object) -> Flask:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": SECRET, "SESSION_STORE": "memory://", **config})
    if wrapped:
        app.wsgi_app = SessionMiddleware(app.wsgi_app, secret=SECRET, device_binding=True, clock=clock)
        FlaskSessions(app)
    else:
        app.config.setdefault("SESSION_DEVICE_BINDING", True)
        FlaskSessions(app, clock=clock)

    @app.get("/login")
    def login():
        session.login("ada")
        return page()

    @app.get("/")
    def page():
        return jsonify(user=session.user_id, bound=session.is_bound, csrf=generate_csrf())

    @app.get("/logout")
    def logout():
        session.logout()
        return "bye"

    @app.post("/form")
    def form():
        return "done"

    @app.get("/bound")
    @login_required(bound=True)
    def bound():
        return "only for bound sessions"

    @app.get("/pay")
    @require_device_proof(max_age=60)
    def pay():
        return "paid"

    return app


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def bound_browser(app: Flask, clock: FakeClock) -> Browser:
    browser = Browser(app, clock)
    browser.get("/login")
    assert len(browser.sessions) == 1
    clock.advance(20)
    return browser


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "wrapped"])
def test_a_login_is_bound_and_refreshed_before_the_csrf_check(clock, wrapped):
    app = app_with(clock, wrapped=wrapped)
    CSRFProtect(app)
    browser = bound_browser(app, clock)
    thief = browser.copied()
    clock.advance(640)
    assert browser.post("/form").status == 400  # the check is on, and does not see the endpoints
    answer = browser.get("/").json
    assert (answer["user"], answer["bound"]) == ("ada", True)
    assert thief.exchange("GET", "https://app.example.com/", {}).json["user"] is None
    assert browser.ended == []


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "wrapped"])
def test_the_guards_ask_for_a_bound_session_and_a_fresh_proof(clock, wrapped):
    app = app_with(clock, wrapped=wrapped)
    browser = bound_browser(app, clock)
    clock.advance(100)
    assert browser.get("/bound").status == 200
    assert browser.get("/pay").text == "paid"
    assert [sent.status for sent in browser.sent[-3:]] == [307, 200, 200]
    browser.sessions.clear()
    browser.get("/logout")
    unbound = Browser(app, clock)
    unbound.habits.new_key = None  # type: ignore[assignment]
    super(Browser, unbound).request("GET", "https://app.example.com/login", site="none", mode="navigate")
    assert (
        super(Browser, unbound).request("GET", "https://app.example.com/bound", site="none", mode="navigate").status
        == 403
    )


def test_a_link_from_another_site_leads_to_the_users_page(clock):
    browser = bound_browser(app_with(clock), clock)
    clock.advance(610)
    assert browser.get("/", site="cross-site").json["user"] == "ada"


def test_the_first_request_of_a_process_may_be_a_refresh(clock, tmp_path):
    store = f"sqlite:///{tmp_path / 's.db'}"
    browser = bound_browser(app_with(clock, SESSION_STORE=store), clock)
    clock.advance(610)
    browser.app = app_with(clock, SESSION_STORE=store)
    assert browser.get("/").json["user"] == "ada"
    assert browser.ended == []


def test_many_first_requests_at_once_install_it_once(clock, tmp_path):
    store = f"sqlite:///{tmp_path / 's.db'}"
    browser = bound_browser(app_with(clock, SESSION_STORE=store), clock)
    clock.advance(610)
    app = app_with(clock, SESSION_STORE=store)
    ran, barrier = [], threading.Barrier(4)
    app.before_request(lambda: ran.append(1))

    def first():
        client = Browser(app, clock)
        barrier.wait()
        return client.exchange("POST", browser.session.refresh_url, {"Sec-Secure-Session-Id": "x"}).status

    with ThreadPoolExecutor(4) as pool:
        assert [one.result() for one in [pool.submit(first) for _ in range(4)]] == [200] * 4
    assert ran == []
    assert len(app.before_request_funcs[None]) == 2


def test_flask_login_is_offered_registration_too(clock):
    app = app_with(clock)
    manager = LoginManager(app)

    class User(UserMixin):
        def __init__(self, user_id: str) -> None:
            self.id = user_id

    manager.user_loader(User)

    @app.get("/flask-login")
    def flask_login():
        login_user(User("bob"))
        return "hello"

    @app.get("/flask-logout")
    def flask_logout():
        logout_user()
        return "bye"

    browser = Browser(app, clock)
    browser.get("/")
    browser.get("/flask-login")
    assert len(browser.sessions) == 1
    clock.advance(640)
    answer = browser.get("/").json
    assert (answer["user"], answer["bound"]) == ("bob", True)


def test_an_answer_to_a_device_saves_nothing_and_sends_no_session_cookie(clock):
    app = app_with(clock, PERMANENT_SESSION_LIFETIME=86_400)
    browser = Browser(app, clock)

    @app.get("/permanent")
    def permanent():
        session.login("ada")
        session.permanent = True
        return "x"

    browser.get("/permanent")
    clock.advance(610)
    answer = browser.exchange("POST", browser.session.refresh_url, {"Sec-Secure-Session-Id": browser.session.id})
    assert answer.status == 403
    assert answer.all("Set-Cookie") == []


def test_error_pages_of_the_app_do_not_replace_the_answers(clock):
    app = app_with(clock)
    app.register_error_handler(404, lambda error: ("lost", 404))
    app.register_error_handler(403, lambda error: ("forbidden", 403))
    app.before_request(lambda: abort(404))
    browser = Browser(app, clock)
    answer = browser.exchange("POST", "https://app.example.com/.session-device/refresh", {})
    assert answer.status == 400


def test_the_options_are_flask_settings(clock):
    app = app_with(clock, SESSION_DEVICE_BINDING=DeviceBinding(path="/auth/device", lifetime=900))
    browser = bound_browser(app, clock)
    assert browser.session.refresh_url.endswith("/auth/device/refresh")
    assert (
        app_with(clock, SESSION_DEVICE_BINDING={"lifetime": 900})
        .test_client()
        .get("/", base_url="https://x")
        .status_code
        == 200
    )


def test_without_the_option_nothing_is_imported_and_no_function_runs_first(clock):
    import subprocess

    program = """
import sys
from flask import Flask
from wsgisession.flask import FlaskSessions, session
app = Flask("x"); app.secret_key = "for the tests, and long enough"; FlaskSessions(app)
app.get("/")(lambda: str(session.get("x")))
assert app.test_client().get("/").status_code == 200
assert not app.before_request_funcs, app.before_request_funcs
assert not [name for name in sys.modules if name.startswith(("wsgisession.device", "cryptography"))]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
