"""Flask: its own session settings are honoured, and what worked with its cookie sessions goes on working."""

from __future__ import annotations

import contextlib
import gc
import threading
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from wsgiref.validate import validator

import click
import pytest
from flask import (
    Blueprint,
    Flask,
    flash,
    get_flashed_messages,
    render_template_string,
    request,
    session,
    stream_with_context,
)
from flask.cli import FlaskGroup
from markupsafe import Markup
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client
from werkzeug.wrappers import Response

import wsgisession.flask.interface
from tests.visits import WatchedStore
from wsgisession import ConfigurationError, Session, SessionMiddleware, StoreError
from wsgisession.flask import FlaskSession, FlaskSessions, login_required, role_required
from wsgisession.flask import settings as flask_settings
from wsgisession.wsgi.access import Verdict, refuse

SECRET = "a secret that is long enough"
OLD = "the secret of last year, long enough"


def make_app(secret: str | None = SECRET, **settings: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": secret, **settings})

    @app.get("/")
    def untouched() -> str:
        return "hello"

    @app.get("/put")
    def put() -> str:
        session.update(request.args)
        return "put"

    @app.get("/get")
    def get() -> dict[str, Any]:
        return dict(session)

    @app.get("/clear")
    def clear() -> str:
        session.clear()
        return "cleared"

    return app


def app_with_sessions(secret: str | None = SECRET, *, options: dict[str, Any] | None = None, **settings: Any) -> Flask:
    app = make_app(secret, **settings)
    FlaskSessions(app, **(options or {}))
    return app


def attributes(response: Any) -> dict[str, str]:
    """The attributes of the only Set-Cookie, with the cookie's name and value first."""
    (cookie,) = response.headers.getlist("Set-Cookie")
    pairs = [part.strip().partition("=") for part in cookie.split(";")]
    return {name: value for name, _, value in pairs}


# Every store.


def test_a_session_lives_from_request_to_request(store_url):
    app = app_with_sessions(SESSION_STORE=store_url)
    client = app.test_client()
    assert client.get("/put?a=1").status_code == 200
    assert client.get("/put?b=2").status_code == 200
    assert client.get("/get").json == {"a": "1", "b": "2"}
    client.get("/clear")
    assert client.get_cookie("session") is None
    assert client.get("/get").json == {}
    app.extensions["wsgisession"].manager.close()


# Flask's settings.


def test_the_cookie_is_as_flask_is_told():
    response = app_with_sessions(
        SESSION_COOKIE_NAME="shop",
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_PATH="/put",
        SESSION_COOKIE_HTTPONLY=False,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="None",
        SESSION_COOKIE_PARTITIONED=True,
    ).test_client().get("/put?a=1", base_url="https://example.com")  # fmt: skip
    sent = attributes(response)
    assert sent.pop("shop")
    assert sent == {"Domain": "example.com", "Path": "/put", "Secure": "", "SameSite": "None", "Partitioned": ""}


def test_the_cookie_has_safe_attributes_by_default():
    sent = attributes(app_with_sessions().test_client().get("/put?a=1", base_url="https://example.com"))
    assert sent.pop("session")
    assert sent == {"Path": "/", "Secure": "", "HttpOnly": "", "SameSite": "Lax"}


def test_the_cookie_is_for_where_the_app_stands():
    app = app_with_sessions(APPLICATION_ROOT="/shop")
    assert attributes(app.test_client().get("/put?a=1"))["Path"] == "/shop"


def test_a_cookie_is_cleared_with_all_the_attributes_it_was_set_with():
    settings: dict[str, Any] = {"SECURE": True, "SAMESITE": "None", "PARTITIONED": True, "DOMAIN": "example.com"}
    app = app_with_sessions(**{f"SESSION_COOKIE_{name}": value for name, value in settings.items()})
    client = app.test_client()
    put = attributes(client.get("/put?a=1", base_url="https://example.com"))
    cleared = attributes(client.get("/clear", base_url="https://example.com"))
    assert cleared.pop("session") == ""
    assert cleared.pop("Max-Age") == "0"
    assert cleared.pop("Expires")
    assert put.pop("session")
    assert cleared == put


def test_settings_may_change_after_the_extension_was_attached():
    app = Flask(__name__)
    FlaskSessions(app)
    app.add_url_rule("/", view_func=lambda: str(session.setdefault("n", 1)))
    client = app.test_client()
    app.secret_key = SECRET
    assert "session" in attributes(client.get("/"))
    app.config["SESSION_COOKIE_NAME"] = "other"
    assert "other" in attributes(client.get("/"))
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert attributes(app.test_client().get("/"))["SameSite"] == "Strict"


@pytest.mark.parametrize(
    ("setting", "value", "attribute", "sent"),
    [
        ("SESSION_COOKIE_DOMAIN", "example.com", "Domain", "example.com"),
        ("SESSION_COOKIE_PATH", "/put", "Path", "/put"),
        ("APPLICATION_ROOT", "/shop", "Path", "/shop"),
        ("SESSION_COOKIE_SECURE", True, "Secure", ""),
        ("SESSION_COOKIE_HTTPONLY", False, "HttpOnly", None),
        ("SESSION_COOKIE_PARTITIONED", True, "Partitioned", ""),
        ("SESSION_COOKIE_SAMESITE", "Strict", "SameSite", "Strict"),
        ("PERMANENT_SESSION_LIFETIME", 60, "Max-Age", "60"),
    ],
)
def test_each_setting_of_the_cookie_is_read_at_each_request(setting, value, attribute, sent):
    app = app_with_sessions()
    before = attributes(app.test_client().get("/put?_permanent=1&a=1"))
    assert before.get(attribute) != sent
    app.config[setting] = value
    assert attributes(app.test_client().get("/put?_permanent=1&a=1")).get(attribute) == sent


def test_sessions_outlive_a_change_of_settings():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?a=1")
    app.config["PERMANENT_SESSION_LIFETIME"] = 60
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert client.get("/get").json == {"a": "1"}


def test_the_secret_can_be_changed_without_logging_anybody_out():
    app = app_with_sessions(OLD)
    client = app.test_client()
    client.get("/put?a=1")
    app.config.update(SECRET_KEY=SECRET, SECRET_KEY_FALLBACKS=[OLD])
    assert client.get("/get").json == {"a": "1"}
    app.config["SECRET_KEY_FALLBACKS"].clear()
    assert client.get("/get").json == {}


def test_a_secret_that_was_wrong_for_a_while_logs_nobody_out():
    app = app_with_sessions(OLD)
    client = app.test_client()
    client.get("/put?a=1")
    app.secret_key = SECRET
    response = client.get("/get")
    assert (response.json, "Set-Cookie" in response.headers) == ({}, False)
    app.secret_key = OLD
    assert client.get("/get").json == {"a": "1"}


@pytest.mark.parametrize("fallbacks", [OLD, OLD.encode()])
def test_fallbacks_that_are_one_text_are_refused(fallbacks):
    app = app_with_sessions(SECRET_KEY_FALLBACKS=fallbacks, PROPAGATE_EXCEPTIONS=True)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="give a list"):
            app.test_client().get("/get")


def test_without_a_secret_there_is_the_null_session():
    app = app_with_sessions(None, PROPAGATE_EXCEPTIONS=True)
    assert app.test_client().get("/get").json == {}
    with pytest.raises(RuntimeError, match="no secret key was set"):
        app.test_client().get("/put?a=1")


@pytest.mark.parametrize("setting", ["TESTING", "DEBUG"])
@pytest.mark.parametrize(
    "secrets", [{"SECRET_KEY": "dev"}, {"SESSION_SECRET": "secret"}, {"SECRET_KEY_FALLBACKS": [b""]}]
)
def test_a_weak_secret_is_refused_except_in_tests_and_in_development(setting, secrets, caplog):
    flask_settings._warn_once.cache_clear()
    app = app_with_sessions(PROPAGATE_EXCEPTIONS=True, **secrets)
    with pytest.raises(ConfigurationError):
        app.test_client().get("/put?a=1")
    assert caplog.messages == []
    app.config[setting] = True
    client = app.test_client()
    client.get("/put?a=1")
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert client.get("/get").json == {"a": "1"}
    (message,) = caplog.messages
    assert "wsgisession secret" in message


def test_a_weak_keyword_argument_is_refused_like_a_setting():
    app = app_with_sessions(options={"secret": "short"}, PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(ConfigurationError):
        app.test_client().get("/put?a=1")
    app.testing = True
    assert app.test_client().get("/put?a=1").status_code == 200


def test_a_secret_that_is_none_is_refused_in_tests_too():
    app = app_with_sessions(SECRET_KEY=1234, PROPAGATE_EXCEPTIONS=True, TESTING=True)
    with pytest.raises(ConfigurationError, match="str or bytes"):
        app.test_client().get("/get")


def test_a_good_secret_opens_the_same_sessions_in_debug_mode():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?a=1")
    app.debug = True
    assert client.get("/get").json == {"a": "1"}


def test_a_store_named_by_a_url_is_closed_when_another_takes_its_place(sqlite_url, monkeypatch):
    app, closed = app_with_sessions(SESSION_STORE=sqlite_url), []
    sessions = app.extensions["wsgisession"]
    client = app.test_client()
    client.get("/put?a=1")
    store = sessions.manager.store
    monkeypatch.setattr(type(store), "close", lambda self: closed.append(self))
    app.config["PERMANENT_SESSION_LIFETIME"] = 60
    assert client.get("/get").json == {"a": "1"}
    assert closed == []
    app.config["SESSION_STORE"] = "memory://"
    assert client.get("/get").json == {}
    assert closed == [store]
    monkeypatch.undo()
    store.close()


def test_a_store_that_the_app_made_is_the_apps_to_close(monkeypatch):
    ours, closed = WatchedStore(), []
    app = app_with_sessions(SESSION_STORE=ours)
    monkeypatch.setattr(WatchedStore, "close", lambda self: closed.append(self))
    app.test_client().get("/put?a=1")
    app.config["SESSION_STORE"] = "memory://"
    app.test_client().get("/put?a=1")
    assert closed == []


def test_keyword_arguments_go_before_the_configuration():
    ours, theirs = WatchedStore(), WatchedStore()
    app = app_with_sessions(options={"store": ours}, SESSION_STORE=theirs, SESSION_IDLE_TIMEOUT=60)
    app.test_client().get("/put?a=1")
    assert (len(ours.handles), len(theirs.handles)) == (1, 0)
    assert ours.calls == {"create": 1}


def test_an_option_that_nobody_knows_is_refused():
    with pytest.raises(ConfigurationError, match="'stroe'"):
        FlaskSessions(stroe="memory://")


def test_a_user_that_stands_under_another_key_from_now_on_keeps_the_session_id():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?account=ada")
    app.config["SESSION_USER_KEY"] = "account"
    assert "Set-Cookie" not in client.get("/get").headers
    assert app.extensions["wsgisession"].manager.sessions_for("ada") == []
    client.get("/put?a=1")
    assert len(app.extensions["wsgisession"].manager.sessions_for("ada")) == 1


# session.permanent.


def permanent_app(**settings: Any) -> Flask:
    app = app_with_sessions(**settings)

    @app.get("/permanent/<int:wanted>")
    def make_permanent(wanted: int) -> str:
        session.permanent = bool(wanted)
        session["a"] = 1
        return "so be it"

    return app


def test_a_permanent_session_has_flasks_lifetime_and_a_passing_one_ends_with_the_browser():
    client = permanent_app(PERMANENT_SESSION_LIFETIME=timedelta(hours=1)).test_client()
    assert attributes(client.get("/permanent/1"))["Max-Age"] == "3600"
    assert client.get("/get").json == {"_permanent": True, "a": 1}
    assert "Max-Age" not in attributes(client.get("/permanent/0"))


@pytest.mark.parametrize("refresh", [True, False])
def test_a_permanent_cookie_is_sent_with_each_request_that_reads_it_if_so_set(refresh):
    client = permanent_app(SESSION_REFRESH_EACH_REQUEST=refresh).test_client()
    client.get("/permanent/1")
    assert ("Set-Cookie" in client.get("/get").headers) is refresh


def test_a_lifetime_can_change_for_sessions_that_are_there():
    app = permanent_app(SESSION_REFRESH_EACH_REQUEST=False)
    client = app.test_client()
    client.get("/permanent/1")
    app.permanent_session_lifetime = timedelta(minutes=1)
    assert attributes(client.get("/get"))["Max-Age"] == "60"


# What it costs.


def test_an_untouched_session_costs_no_call_and_no_header():
    store = WatchedStore()
    client = app_with_sessions(options={"store": store}).test_client()
    client.get("/put?a=1")
    store.calls.clear()
    response = client.get("/")
    assert (store.calls, response.vary.as_set()) == ({}, set())
    assert "Set-Cookie" not in response.headers


def test_settings_are_read_again_only_when_one_has_changed(monkeypatch):
    read: list[Any] = []
    app = app_with_sessions(SECRET_KEY_FALLBACKS=[OLD])
    options_of = wsgisession.flask.interface.options_of
    monkeypatch.setattr(wsgisession.flask.interface, "options_of", lambda *given: read.append(1) or options_of(*given))
    client = app.test_client()
    for _ in range(3):
        client.get("/")
    assert len(read) == 1
    app.config["SECRET_KEY_FALLBACKS"].append(SECRET)
    client.get("/")
    assert len(read) == 2


def test_a_session_that_was_only_read_is_not_written_and_varies():
    store = WatchedStore()
    client = app_with_sessions(options={"store": store}).test_client()
    client.get("/put?a=1")
    store.calls.clear()
    response = client.get("/get")
    assert store.calls == {"load": 1}
    assert response.vary.as_set() == {"cookie"}
    assert "Set-Cookie" not in response.headers


def test_a_view_that_says_it_looked_at_the_session_varies_without_a_call():
    store = WatchedStore()
    app = app_with_sessions(options={"store": store})

    @app.get("/looked")
    def looked() -> str:
        session.accessed = True
        return ""

    client = app.test_client()
    client.get("/put?a=1")
    store.calls.clear()
    assert client.get("/looked").vary.as_set() == {"cookie"}
    assert store.calls == {}


def test_first_requests_side_by_side_make_one_manager(monkeypatch):
    app = app_with_sessions()
    interface: Any = app.session_interface
    both = threading.Barrier(2)
    options_of = wsgisession.flask.interface.options_of

    def slowly(*given: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # two that read the settings at once meet here; behind a lock they cannot
        return options_of(*given)

    monkeypatch.setattr(wsgisession.flask.interface, "options_of", slowly)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(interface.manager, [app, app])
    assert one is other


def test_the_repr_reads_nothing():
    store = WatchedStore()
    app = app_with_sessions(options={"store": store})

    @app.get("/repr")
    def show() -> str:
        return repr(session)

    client = app.test_client()
    client.get("/put?a=1")
    store.calls.clear()
    assert client.get("/repr").text == "<Session, not read yet>"
    assert store.calls == {}


def test_flask_keeps_to_the_rules_of_wsgi():
    client = Client(validator(app_with_sessions()))
    response = client.get("/get", query_string="a=1")
    assert response.status_code == 200
    response.close()


# Values.


def test_typed_values_come_back_as_they_were():
    values = {
        "tuple": (1, ("a", 2)),
        "bytes": b"\0\xff",
        "markup": Markup("<b>"),
        "uuid": uuid.UUID(int=7),
        "datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "nested": [{"deep": (b"",)}],
    }
    app, back = app_with_sessions(), {}
    app.add_url_rule("/fill", view_func=lambda: session.update(values) or "")
    app.add_url_rule("/read", "read", lambda: back.update(session) or "")
    client = app.test_client()
    client.get("/fill")
    client.get("/read")
    assert back == values
    assert [type(value) for value in back.values()] == [type(value) for value in values.values()]


def test_flashed_messages_come_back_once():
    app = app_with_sessions()
    app.add_url_rule("/flash", view_func=lambda: flash(Markup("<b>hi"), "info") or "")
    app.add_url_rule("/told", "told", lambda: repr(get_flashed_messages(with_categories=True)))
    client = app.test_client()
    client.get("/flash")
    assert client.get("/told").text == "[('info', Markup('<b>hi'))]"
    assert client.get("/told").text == "[]"


def test_a_nested_change_is_noticed():
    app = app_with_sessions()

    @app.get("/add")
    def add() -> str:
        session.setdefault("cart", {"items": []})["items"].append(1)
        return str(len(session["cart"]["items"]))

    client = app.test_client()
    assert [client.get("/add").text for _ in range(3)] == ["1", "2", "3"]


def test_accessed_and_modified_can_be_set():
    app = app_with_sessions()
    interface: Any = app.session_interface
    with app.test_request_context("/"):
        mine = interface.open_session(app, request)
        assert isinstance(mine, FlaskSession)
        assert not mine.accessed
        assert isinstance(mine, Session)
        mine.accessed = True
        assert mine.accessed
        assert mine._visit.values is None
        mine.accessed = False
        assert not mine.accessed
        assert mine.new
        mine["a"] = 1
        assert mine.modified
        mine.modified = False
        assert not mine.modified
        mine.modified = True
        assert mine.modified


def test_a_test_can_ask_after_the_request_whether_it_changed_the_session():
    client = app_with_sessions().test_client()
    answers = []
    for path in ("/", "/put?a=1", "/put?a=1", "/put?a=2", "/get"):
        with client:
            client.get(path)
            answers.append(session.modified)
    assert answers == [False, True, False, True, False]


def test_changes_that_are_declared_none_are_not_written():
    app = app_with_sessions()

    @app.get("/pretend")
    def pretend() -> str:
        session["b"] = 2
        session.modified = False
        return ""

    client = app.test_client()
    client.get("/put?a=1")
    client.get("/pretend")
    assert client.get("/get").json == {"a": "1"}


# How apps are put together.


def test_one_extension_serves_the_apps_of_a_factory_each_with_its_own_manager():
    sessions = FlaskSessions()
    one, other = make_app(), make_app(SESSION_COOKIE_NAME="other")
    for app in (one, other):
        sessions.init_app(app)
    client, stranger = one.test_client(), other.test_client()
    client.get("/put?a=1")
    stranger.get("/put?b=2")
    assert (client.get("/get").json, stranger.get("/get").json) == ({"a": "1"}, {"b": "2"})
    with one.app_context():
        mine = sessions.manager
    with other.app_context():
        assert (mine.name, sessions.manager.name) == ("session", "other")
        assert sessions.manager is not mine
        assert sessions.manager.store is not mine.store


def test_a_cookie_of_one_app_is_nothing_to_another_with_another_secret():
    client = app_with_sessions().test_client()
    client.get("/put?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    stranger = app_with_sessions(OLD).test_client()
    stranger.set_cookie("session", cookie.value)
    assert stranger.get("/get").json == {}


def test_the_manager_is_there_outside_of_requests():
    app = make_app()
    sessions = FlaskSessions(app)
    client = app.test_client()
    client.get("/put?user_id=ada")
    (info,) = sessions.manager.sessions_for("ada")
    with sessions.manager.edit(info.handle) as theirs:
        theirs["seen"] = 1
    assert client.get("/get").json == {"user_id": "ada", "seen": 1}
    with app.app_context():
        assert sessions.manager.revoke_user("ada") == 1
    assert client.get("/get").json == {}


def test_a_manager_without_a_secret_says_what_is_missing():
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        _ = FlaskSessions(make_app(None)).manager
    with pytest.raises(ConfigurationError, match="init_app"):
        _ = FlaskSessions().manager


def test_a_command_of_the_app_ends_the_sessions_of_a_user():
    app = make_app()
    sessions = FlaskSessions(app)
    app.cli.command("lock")(click.argument("user")(lambda user: print(sessions.manager.revoke_user(user))))
    client = app.test_client()
    client.get("/put?user_id=ada")
    assert app.test_cli_runner().invoke(args=["lock", "ada"]).output == "1\n"
    assert client.get("/get").json == {}


def test_the_shell_of_the_app_has_its_sessions():
    app = app_with_sessions()
    client = app.test_client()
    client.get("/put?user_id=ada&a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    typed = f"""
from flask import session
visit = app.test_request_context(headers={{"Cookie": "session={cookie.value}"}})
visit.push(); print(dict(session)); visit.pop()
print(app.extensions["wsgisession"].manager.revoke_user("ada"))
"""
    shown = app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app), ["shell"], input=typed)
    assert "{'user_id': 'ada', 'a': '1'}\n1\n" in shown.output.replace(">>> ", "")
    assert client.get("/get").json == {}


def test_blueprints_and_templates_see_the_session():
    app = app_with_sessions()
    shop = Blueprint("shop", __name__, url_prefix="/shop")
    shop.add_url_rule("/", view_func=lambda: render_template_string("{{ session.a }} {{ session['a'] }}"))
    app.register_blueprint(shop)
    client = app.test_client()
    client.get("/put?a=<b>")
    assert client.get("/shop/").text == "&lt;b&gt; &lt;b&gt;"


def test_a_test_opens_the_session_between_requests():
    client = app_with_sessions().test_client()
    with client.session_transaction() as mine:
        mine["a"] = 1
    assert client.get("/get").json == {"a": 1}
    with client.session_transaction() as mine:
        assert mine.pop("a") == 1
        mine["b"] = 2
    with client:
        client.get("/get")
        assert dict(session) == {"b": 2}


def test_a_stream_reads_the_session_and_changes_one_that_is_there():
    app = app_with_sessions()

    @app.get("/stream")
    def stream() -> Response:
        def numbers() -> Any:
            for _ in range(3):
                session["n"] = session.get("n", 0) + 1
                yield f"{session['n']},"

        return Response(stream_with_context(numbers()))

    client = app.test_client()
    client.get("/put?a=1")
    response = client.get("/stream")
    assert response.text == "1,2,3,"
    response.close()
    assert client.get("/get").json == {"a": "1", "n": 3}


def test_async_views_have_the_session():
    app = app_with_sessions()

    @app.get("/async")
    async def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    client = app.test_client()
    assert [client.get("/async").text for _ in range(3)] == ["1", "2", "3"]


def test_an_app_that_is_wrapped_too_uses_the_session_of_its_middleware():
    app = app_with_sessions(None)
    wrapped = SessionMiddleware(app, secret=SECRET, name="outer")
    client = Client(wrapped)
    assert list(attributes(client.get("/put?a=1")))[0] == "outer"
    assert client.get("/get").json == {"a": "1"}
    assert attributes(client.get("/clear"))["Max-Age"] == "0"
    assert client.get("/get").json == {}


def wrapped_in_place(**settings: Any) -> Flask:
    app = app_with_sessions(**settings)
    wsgi: Any = app
    wsgi.wsgi_app = ProxyFix(SessionMiddleware(app.wsgi_app, secret=SECRET, name="outer"))
    return app


@pytest.mark.parametrize("secret", [None, OLD])
def test_an_app_that_is_wrapped_too_has_the_manager_of_its_middleware(secret):
    app = wrapped_in_place(secret=secret)
    client = app.test_client()
    client.get("/put?user_id=ada")
    manager = app.extensions["wsgisession"].manager
    assert manager.name == "outer"
    assert [info.data for info in manager.sessions_for("ada")] == [{"user_id": "ada"}]
    assert manager.revoke_user("ada") == 1
    assert client.get("/get").json == {}


def test_of_two_middlewares_around_the_app_the_inner_one_counts():
    app = wrapped_in_place()
    wsgi: Any = app
    wsgi.wsgi_app = SessionMiddleware(app.wsgi_app, secret=SECRET, name="outermost")
    assert "outer" in attributes(app.test_client().get("/put?a=1"))
    assert app.extensions["wsgisession"].manager.name == "outer"


def test_a_user_who_changes_in_a_wrapped_app_gets_a_new_id():
    client = wrapped_in_place().test_client()
    client.get("/put?a=1")
    assert "outer" in attributes(client.get("/put?user_id=ada"))
    assert "Set-Cookie" not in client.get("/put?a=2").headers
    assert client.get("/get").json == {"a": "2", "user_id": "ada"}


def test_a_test_opens_the_session_of_a_wrapped_app():
    client = wrapped_in_place(secret=None).test_client()
    with client.session_transaction() as mine:
        mine["a"] = 1
    assert client.get("/get").json == {"a": 1}
    client.get("/put?b=2")
    with client.session_transaction() as mine:
        assert dict(mine) == {"a": 1, "b": "2"}


def test_a_wrapped_app_streams_and_remembers_what_changed_on_the_way():
    app = wrapped_in_place()

    @app.get("/stream")
    def stream() -> Response:
        def numbers() -> Any:
            for _ in range(3):
                session["n"] = session.get("n", 0) + 1
                yield f"{session['n']},"

        return Response(stream_with_context(numbers()))

    client = app.test_client()
    with contextlib.closing(client.get("/stream")) as response:
        assert response.text == "1,2,3,"
    assert client.get("/get").json == {"n": 3}


def test_a_nested_request_of_a_wrapped_app_is_its_own():
    app = app_with_sessions()
    app.add_url_rule("/inner", view_func=lambda: app.test_client().get("/put?b=2").text)
    client = Client(SessionMiddleware(app, secret=SECRET))
    assert client.get("/inner").text == "put"
    assert client.get("/get").json == {}


def test_an_app_is_freed_when_nobody_holds_it():
    gc.collect()
    gc.disable()
    try:
        app = Flask(__name__, static_folder=None)  # the route of a static folder holds its app
        app.secret_key = SECRET
        FlaskSessions(app)
        app.add_url_rule("/", view_func=lambda: str(session.setdefault("a", 1)))
        assert "session" in attributes(app.test_client().get("/"))
        gone = weakref.ref(app)
        del app
        assert gone() is None
    finally:
        gc.enable()


# A store that fails.


class Broken(WatchedStore):
    """Fails at one verb."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.verb = verb

    def fail(self) -> None:
        def raising() -> None:
            raise StoreError("the store is away")

        self.before[self.verb] = raising


@pytest.mark.parametrize(("verb", "path"), [("load", "/get"), ("create", "/put?a=1")])
def test_a_store_that_is_away_makes_a_503_if_so_set(verb, path):
    store = Broken(verb)
    client = app_with_sessions(options={"store": store, "on_store_error": "unavailable"}).test_client()
    if verb == "load":
        client.get("/put?a=1")
    store.fail()
    response = client.get(path)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.text.startswith("Sessions are not available")
    assert "Set-Cookie" not in response.headers
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(("verb", "path"), [("load", "/get"), ("create", "/put?a=1")])
def test_a_store_that_is_away_is_an_error_otherwise(verb, path):
    store = Broken(verb)
    client = app_with_sessions(options={"store": store}, PROPAGATE_EXCEPTIONS=True).test_client()
    if verb == "load":
        client.get("/put?a=1")
    store.fail()
    with pytest.raises(StoreError, match="away"):
        client.get(path)


def test_what_a_view_wrote_before_the_store_failed_is_not_kept_with_the_503():
    store = Broken("delete")
    app = app_with_sessions(options={"store": store, "on_store_error": "unavailable"})

    @app.get("/leave")
    def leave() -> str:
        session["left"] = True
        session.destroy()
        return ""

    client = app.test_client()
    client.get("/put?a=1")
    store.fail()
    assert client.get("/leave").status_code == 503
    assert client.get("/get").json == {"a": "1"}


# Who may pass.


def guarded_app() -> Flask:
    app = app_with_sessions()

    @app.get("/login")
    def login() -> str:
        session.login("ada", roles=request.args.getlist("role"), groups=["staff"])  # type: ignore[attr-defined]
        return "welcome"

    @app.get("/account")
    @login_required
    def account() -> str:
        """The account."""
        return "account"

    @app.get("/async/<name>")
    @login_required(login_url="login")
    async def asynchronous(name: str) -> str:
        return name

    @app.get("/admin")
    @role_required("admin", "root", login_url="/login")
    async def admin() -> str:
        return "admin"

    @app.get("/staff")
    @role_required("staff", roles=lambda mine: mine["groups"])
    def staff() -> str:
        return "staff"

    return app


def test_a_stranger_gets_401():
    response = guarded_app().test_client().get("/account")
    assert (response.status_code, "Please log in first." in response.text) == (401, True)


def test_a_program_gets_the_refusal_as_json():
    headers = {"Accept": "application/json"}
    client = guarded_app().test_client()
    for path in ("/account", "/async/a"):
        response = client.get(path, headers=headers)
        assert (response.status_code, response.json) == (401, {"error": "Please log in first."})


def test_a_browser_is_sent_to_an_endpoint_or_a_path_with_the_way_back():
    client = guarded_app().test_client()
    assert client.get("/async/a?b=1").location == "/login?next=/async/a%3Fb%3D1"
    assert client.get("/admin").location == "/login?next=/admin"
    mounted = client.get("/admin", base_url="http://localhost/shop")
    assert (mounted.status_code, mounted.location) == (303, "/login?next=/shop/admin")


def test_whoever_is_logged_in_passes_where_his_roles_reach():
    client = guarded_app().test_client()
    client.get("/login?role=editor")
    answers = {path: client.get(path).status_code for path in ("/account", "/async/a", "/admin", "/staff")}
    assert answers == {"/account": 200, "/async/a": 200, "/admin": 403, "/staff": 200}
    client.get("/login?role=root")
    assert client.get("/admin").text == "admin"
    assert client.get("/async/me").text == "me"


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("path", ["/account", "/admin", "/staff"])
def test_no_cache_keeps_a_refusal_for_the_next_visitor(path, accept):
    client = guarded_app().test_client()
    if path == "/staff":
        client.get("/put?user_id=ada&groups=guest")
    response = client.get(path, headers={"Accept": accept})
    assert response.status_code == {"/account": 401, "/staff": 403}.get(path, 303 if accept == "text/html" else 401)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.vary.as_set() == {"accept", "cookie"}


def test_the_refusal_of_a_view_is_that_of_a_guard():
    client = guarded_app().test_client()
    for accept in ("text/html", "application/json"):
        environ = {"HTTP_ACCEPT": accept, "PATH_INFO": "/admin"}
        refusal = refuse(Verdict.WHO_ARE_YOU, environ, login_url="/login")
        response = client.get("/admin", headers={"Accept": accept})
        assert (response.status_code, response.location) == (refusal.status, refusal.location)
        assert (response.data, response.content_type) == (refusal.body, refusal.kind)


@pytest.mark.parametrize(("path", "status"), [("/account", 401), ("/admin", 303), ("/staff", 401)])
def test_without_a_secret_nobody_is_logged_in(path, status):
    app = guarded_app()
    app.secret_key = None
    response = app.test_client().get(path)
    assert (response.status_code, response.headers["Cache-Control"]) == (status, "no-store")


def test_a_guard_over_flasks_own_sessions_says_what_is_missing():
    app = make_app(PROPAGATE_EXCEPTIONS=True)
    app.add_url_rule("/account", view_func=login_required(lambda: ""))
    with pytest.raises(ConfigurationError, match=r"FlaskSessions\(app\)"):
        app.test_client().get("/account")


def test_a_guarded_view_keeps_its_name():
    assert guarded_app().view_functions["account"].__doc__ == "The account."


def test_the_app_says_how_a_refusal_looks():
    app = guarded_app()
    app.register_error_handler(401, lambda error: (f"no: {error.description}", 401))
    response = app.test_client().get("/account")
    assert (response.text, response.headers["Cache-Control"]) == ("no: Please log in first.", "no-store")
