"""What stands on `flask.session`, as it is published: Flask-Login, Flask-WTF, Socket.IO, Authlib and others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from threading import Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

import flask_admin
import flask_login
import flask_security
import flask_socketio
import flask_wtf
import pytest
import socketio
from authlib.integrations.base_client.errors import MismatchingStateError
from authlib.integrations.flask_client import OAuth
from flask import Flask, flash, render_template_string, request, session
from flask.testing import FlaskClient
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.servers import HOST
from tests.web import Browser
from wsgisession import SessionGone
from wsgisession.flask import FlaskSessions

# Flask-Login and others use what newer Pythons would have them leave.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SECRET = "a secret that is long enough"


def make_app(**settings: Any) -> tuple[Flask, FlaskSessions]:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, **settings)
    return app, FlaskSessions(app)


def cookie_of(client: FlaskClient, name: str = "session") -> str:
    cookie = client.get_cookie(name)
    assert cookie is not None
    return cookie.value


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve the app with a thread a request, on a real socket; give its URL."""
    server = make_server(HOST, 0, app, threaded=True, request_handler=_Quiet)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://{HOST}:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Flask-Login.


class User(flask_login.UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


def login_app(**settings: Any) -> tuple[Flask, FlaskSessions]:
    app, sessions = make_app(**settings)
    manager = flask_login.LoginManager(app)
    manager.user_loader(User)

    @app.get("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(User(name), remember="remember" in request.args)
        return "welcome"

    @app.get("/logout")
    def logout() -> str:
        flask_login.logout_user()
        return "bye"

    @app.get("/confirm")
    def confirm() -> str:
        flask_login.confirm_login()
        return "confirmed"

    @app.get("/put")
    def put() -> str:
        session.update(request.args)
        return "put"

    @app.get("/me")
    @flask_login.login_required
    def me() -> str:
        return str(flask_login.current_user.id)

    @app.get("/pay")
    @flask_login.fresh_login_required
    def pay() -> str:
        return "paid"

    return app, sessions


def test_flask_login_logs_in_and_out():
    client = login_app()[0].test_client()
    assert client.get("/me").status_code == 401
    client.get("/login/ada")
    assert (client.get("/me").text, client.get("/pay").text) == ("ada", "paid")
    client.get("/logout")
    assert client.get("/me").status_code == 401


def test_a_login_by_flask_login_gets_a_new_session_id_and_the_old_one_opens_nothing():
    app, _ = login_app()
    client, thief = app.test_client(), app.test_client()
    client.get("/put?cart=1")
    planted = cookie_of(client)
    thief.set_cookie("session", planted)
    client.get("/login/ada")
    assert cookie_of(client) != planted
    assert client.get("/me").text == "ada"
    assert thief.get("/me").status_code == 401
    with client.session_transaction() as mine:
        assert mine["cart"] == "1"


def test_another_user_on_the_same_browser_gets_another_id(store_url):
    app, sessions = login_app(SESSION_STORE=store_url)
    client = app.test_client()
    client.get("/login/ada")
    first = cookie_of(client)
    client.get("/login/bob")
    assert cookie_of(client) != first
    assert client.get("/me").text == "bob"
    sessions.manager.close()


def test_a_second_click_on_the_login_button_is_not_logged_out():
    app, _ = login_app()
    client, first = app.test_client(), app.test_client()

    @app.get("/click")
    def click() -> str:
        assert session["cart"] == "1"
        first.get("/login/ada")
        flask_login.login_user(User("ada"))
        return "welcome"

    client.get("/put?cart=1")
    first.set_cookie("session", cookie_of(client))
    client.get("/click")
    assert [client.get("/me").text, first.get("/me").text] == ["ada", "ada"]


def test_a_login_that_the_view_saves_gets_a_new_session_id_too():
    app, _ = login_app()
    client = app.test_client()

    @app.get("/login-and-save")
    def login_and_save() -> str:
        flask_login.login_user(User("ada"))
        session.save()
        return "welcome"

    client.get("/put?cart=1")
    planted = cookie_of(client)
    client.get("/login-and-save")
    assert cookie_of(client) != planted
    assert client.get("/me").text == "ada"


ENCRYPTED = {"SESSION_ENCRYPTION_KEY": bytes(range(7, 231, 7))}


@pytest.mark.parametrize("options", [{}, ENCRYPTED], ids=["plain", "encrypted"])
def test_the_id_stays_while_the_user_does(store_url, options):
    app, sessions = login_app(SESSION_STORE=store_url, **options)
    client = app.test_client()
    for path in ("/put?a=1", "/login/ada"):
        client.get(path)
        first = cookie_of(client)
        client.get("/put", query_string={"after": path})
        client.get("/confirm")
        assert cookie_of(client) == first
    sessions.manager.close()


def test_the_users_of_flask_login_are_in_the_index():
    app, sessions = login_app()
    laptop, phone = app.test_client(), app.test_client()
    for client in (laptop, phone):
        client.get("/login/ada")
    assert [info.user_id for info in sessions.manager.sessions_for("ada")] == ["ada", "ada"]
    laptop.get("/logout")
    assert len(sessions.manager.sessions_for("ada")) == 1
    assert sessions.manager.revoke_user("ada") == 1
    assert phone.get("/me").status_code == 401


def test_the_limit_of_sessions_a_user_counts_logins_of_flask_login():
    app, _ = login_app(SESSION_MAX_SESSIONS_PER_USER=1)
    laptop, phone = app.test_client(), app.test_client()
    laptop.get("/login/ada")
    phone.get("/login/ada")
    assert [laptop.get("/me").status_code, phone.get("/me").status_code] == [401, 200]


def test_flask_login_remembers_whom_it_should_and_that_login_is_not_fresh():
    app, _ = login_app()
    client = app.test_client()
    client.get("/login/ada?remember=1")
    client.delete_cookie("session")
    assert client.get("/me").text == "ada"
    assert client.get("/pay").status_code == 401
    client.get("/confirm")
    assert client.get("/pay").text == "paid"
    client.get("/logout")
    assert client.get_cookie("remember_token") is None
    assert client.get("/me").status_code == 401


def test_a_revoked_user_with_a_remember_cookie_is_logged_in_again_but_not_freshly():
    app, sessions = login_app()
    client = app.test_client()
    client.get("/login/ada?remember=1")
    assert sessions.manager.revoke_user("ada") == 1
    assert client.get("/pay").status_code == 401
    assert client.get("/me").text == "ada"


@pytest.mark.parametrize("mode", ["strong", "basic"])
def test_flask_logins_protection_ends_a_session_from_another_browser_or_makes_it_stale(mode):
    client = login_app(SESSION_PROTECTION=mode)[0].test_client()
    at_home, elsewhere = {"User-Agent": "home"}, {"User-Agent": "elsewhere"}
    client.get("/login/ada", headers=at_home)
    assert client.get("/pay", headers=at_home).text == "paid"
    assert client.get("/me", headers=elsewhere).status_code == (401 if mode == "strong" else 200)
    assert client.get("/pay", headers=at_home).status_code == 401


# Flask-WTF.


def form_app() -> Flask:
    app, _ = make_app()
    flask_wtf.CSRFProtect(app)

    class Form(flask_wtf.FlaskForm):
        pass

    @app.get("/form")
    def form() -> str:
        return render_template_string("{{ form.csrf_token }} {{ csrf_token() }}", form=Form())

    @app.post("/submit")
    def submit() -> str:
        return "valid" if Form().validate_on_submit() else "invalid"

    return app


def token_for(client: FlaskClient) -> str:
    found = re.search(r'value="([^"]+)"', client.get("/form").text)
    assert found is not None
    return found[1]


def test_a_form_of_flask_wtf_is_accepted_with_its_sessions_token():
    client = form_app().test_client()
    first, second = token_for(client), token_for(client)
    for token in (first, second):
        assert client.post("/submit", data={"csrf_token": token}).text == "valid"


def test_a_form_of_flask_wtf_is_refused_without_a_token_or_with_another_sessions():
    app = form_app()
    client, stranger = app.test_client(), app.test_client()
    token_for(client)
    assert client.post("/submit").status_code == 400
    assert client.post("/submit", data={"csrf_token": token_for(stranger)}).status_code == 400


# Socket.IO.


def chat_app() -> tuple[Flask, FlaskSessions]:
    app, sessions = make_app()

    @app.get("/login/<name>")
    def login(name: str) -> str:
        session.login(name)  # type: ignore[attr-defined]
        return "welcome"

    @app.get("/data")
    def data() -> dict[str, Any]:
        return dict(session)

    return app, sessions


@contextlib.contextmanager
def connected(url: str, browser: Browser) -> Iterator[socketio.SimpleClient]:
    headers = {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.jar)}
    with socketio.SimpleClient() as client:
        client.connect(url, headers=headers, transports=["websocket"])
        wire = client.client.eio.ws
        wire.close = partial(wire.close, timeout=0)  # it would wait three seconds for the server to close, too
        yield client


@pytest.fixture
def chat() -> Iterator[tuple[str, FlaskSessions]]:
    """A server of python-socketio in front of the app: what it keeps of a visitor is the session's handle."""
    app, sessions = chat_app()
    server = socketio.Server(async_mode="threading")

    @server.event
    def connect(sid: str, environ: dict[str, Any]) -> None:
        with app.request_context(environ):
            if session.user_id is None:  # type: ignore[attr-defined]
                raise ConnectionRefusedError("log in first")
            server.save_session(sid, {"handle": session.handle})  # type: ignore[attr-defined]

    @server.event
    def put(sid: str, key: str, value: Any) -> str:
        try:
            with sessions.manager.edit(server.get_session(sid)["handle"]) as theirs:
                theirs[key] = value
                return str(theirs.user_id)
        except SessionGone:
            return "log in again"

    with serving(socketio.WSGIApp(server, app)) as url:
        yield url, sessions


def test_an_event_of_socket_io_changes_the_session_that_http_sees(chat):
    url, _ = chat
    browser = Browser(url)
    browser.get("/login/ada")
    with connected(url, browser) as client:
        assert client.call("put", ("room", "lobby")) == "ada"
        assert browser.get("/data") == {"user_id": "ada", "room": "lobby"}


def test_a_stranger_is_refused_by_a_connect_handler_that_reads_the_session(chat):
    url, _ = chat
    with pytest.raises(socketio.exceptions.ConnectionError), socketio.SimpleClient() as client:
        client.connect(url, transports=["polling"])


def test_an_event_of_a_session_that_was_revoked_changes_nothing(chat):
    url, sessions = chat
    browser = Browser(url)
    browser.get("/login/ada")
    with connected(url, browser) as client:
        assert client.call("put", ("room", "lobby")) == "ada"
        sessions.manager.revoke_user("ada")
        assert client.call("put", ("room", "attic")) == "log in again"
    assert browser.get("/data") == {}


def socketio_app(*, manage_session: bool) -> Flask:
    app, _ = chat_app()
    chat = flask_socketio.SocketIO(app, manage_session=manage_session, async_mode="threading")

    @chat.on("connect")
    def connect() -> bool:
        return "user_id" in session

    @chat.on("put")
    def put(key: str, value: Any) -> Any:
        before = session.get(key)
        session[key] = value
        return before

    return app


@pytest.mark.parametrize("is_shared", [True, False])
def test_flask_socketio_shares_the_session_with_http_or_keeps_a_copy(is_shared):
    with serving(socketio_app(manage_session=not is_shared)) as url:
        browser = Browser(url)
        browser.get("/login/ada")
        with connected(url, browser) as client:
            assert client.call("put", ("room", "lobby")) is None
            assert browser.get("/data") == {"user_id": "ada"} | ({"room": "lobby"} if is_shared else {})
            assert client.call("put", ("room", "attic")) == "lobby"


def test_flask_socketio_refuses_a_stranger_by_the_session():
    refusal = pytest.raises(socketio.exceptions.ConnectionError)
    with serving(socketio_app(manage_session=False)) as url, refusal, socketio.SimpleClient() as client:
        client.connect(url, transports=["polling"])


# Authlib.


def provider() -> tuple[Any, list[dict[str, str]]]:
    """An OAuth provider that lets anybody in, and what it was asked for a token with."""
    asked: list[dict[str, str]] = []

    @Request.application
    def answer(request: Request) -> Response:
        if request.path == "/authorize":
            back = urlencode({"code": "a-code", "state": request.args["state"]})
            return Response("", 302, {"Location": f"{request.args['redirect_uri']}?{back}"})
        asked.append(request.form.to_dict())
        return Response('{"access_token": "a-token", "token_type": "Bearer"}', content_type="application/json")

    return answer, asked


@pytest.fixture
def oauth() -> Iterator[tuple[Flask, list[dict[str, str]]]]:
    answer, asked = provider()
    with serving(answer) as url:
        app, _ = make_app(PROPAGATE_EXCEPTIONS=True)
        client: Any = OAuth(app).register(
            "stub",
            client_id="us",
            client_secret="ours",
            authorize_url=f"{url}/authorize",
            access_token_url=f"{url}/token",
            client_kwargs={"code_challenge_method": "S256"},
        )
        app.add_url_rule("/start", view_func=lambda: client.authorize_redirect("http://localhost/callback"))
        app.add_url_rule("/callback", "callback", lambda: client.authorize_access_token()["access_token"])
        app.add_url_rule("/data", "data", lambda: dict(session))
        yield app, asked


def sent_back(client: FlaskClient) -> str:
    """Begin at the app, go to the provider, and return where that sends the browser."""
    url = urlsplit(client.get("/start").location)
    with contextlib.closing(HTTPConnection(url.netloc, timeout=10)) as connection:
        connection.request("GET", f"{url.path}?{url.query}")
        location = connection.getresponse().getheader("Location")
    assert location is not None
    return location


def test_oauth_with_authlib_comes_back_with_its_state(oauth):
    app, asked = oauth
    client = app.test_client()
    assert client.get(sent_back(client)).text == "a-token"
    assert asked[0]["code"] == "a-code"
    assert asked[0]["code_verifier"]
    assert client.get("/data").json == {}


def test_two_tabs_can_log_in_at_once_with_authlib(oauth):
    app, _ = oauth
    client = app.test_client()
    one, other = sent_back(client), sent_back(client)
    assert [client.get(one).text, client.get(other).text] == ["a-token", "a-token"]


@pytest.mark.parametrize("state", ["forged", ""])
def test_authlib_refuses_a_callback_with_another_state(oauth, state):
    app, asked = oauth
    client = app.test_client()
    sent_back(client)
    with pytest.raises(MismatchingStateError):
        client.get(f"/callback?{urlencode({'code': 'a-code', 'state': state})}")
    assert asked == []


def test_authlib_refuses_a_callback_in_another_browser_and_the_same_one_twice(oauth):
    app, _ = oauth
    client, stranger = app.test_client(), app.test_client()
    back = sent_back(client)
    with pytest.raises(MismatchingStateError):
        stranger.get(back)
    assert client.get(back).text == "a-token"
    with pytest.raises(MismatchingStateError):
        client.get(back)


# Flask-Admin.


class Secret(flask_admin.AdminIndexView):
    def is_accessible(self) -> bool:
        return bool(flask_login.current_user.is_authenticated)

    @flask_admin.expose("/")
    def index(self) -> Any:
        flash("hello again")
        return self.render("admin/index.html")


def test_flask_admin_lets_in_who_is_logged_in_and_shows_what_was_flashed():
    app, sessions = login_app()
    flask_admin.Admin(app, index_view=Secret())
    client = app.test_client()
    assert client.get("/admin/").status_code == 403
    client.get("/login/ada")
    page = client.get("/admin/")
    assert (page.status_code, page.text.count("hello again")) == (200, 1)
    sessions.manager.revoke_user("ada")
    assert client.get("/admin/").status_code == 403


# Flask-Security.


class Member(flask_security.UserMixin):
    fs_uniquifier = email = password = active = None

    def __init__(self, **columns: Any) -> None:
        self.__dict__.update(columns)


class Members(flask_security.UserDatastore):
    """Of one member, in memory."""

    member: Member | None = None

    def __init__(self) -> None:
        super().__init__(Member, flask_security.RoleMixin)

    def put(self, model: Any) -> Any:
        self.member = model
        return model

    def commit(self) -> None:
        pass

    def find_user(self, case_insensitive: bool = False, **columns: Any) -> Any:
        found = all(getattr(self.member, name, None) == value for name, value in columns.items())
        return self.member if found else None


def security_app() -> tuple[Flask, FlaskSessions, Member]:
    app, sessions = make_app(
        SECURITY_PASSWORD_SALT="salt",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SCHEMES=["plaintext"],
        SECURITY_DEPRECATED_PASSWORD_SCHEMES=[],
        SECURITY_PASSWORD_SINGLE_HASH=["plaintext"],
        SECURITY_CHANGEABLE=True,
        SECURITY_SEND_PASSWORD_CHANGE_EMAIL=False,
        WTF_CSRF_ENABLED=False,
    )
    members = Members()
    flask_security.Security(app, members)
    with app.app_context():
        ada = members.create_user(email="ada@example.com", password="correct horse")
    app.add_url_rule("/me", view_func=flask_security.auth_required()(lambda: flask_security.current_user.email))
    return app, sessions, ada


def test_flask_security_logs_in_and_a_new_password_logs_the_others_out():
    app, sessions, ada = security_app()
    laptop, phone = app.test_client(), app.test_client()
    for client in (laptop, phone):
        client.environ_base["HTTP_ACCEPT"] = "application/json"
        answer = client.post("/login", json={"email": "ada@example.com", "password": "correct horse"})
        assert (answer.status_code, client.get("/me").text) == (200, "ada@example.com")
    assert len(sessions.manager.sessions_for(ada.fs_uniquifier)) == 2
    words = {"password": "correct horse", "new_password": "battery staple", "new_password_confirm": "battery staple"}
    assert laptop.post("/change", json=words).status_code == 200
    assert [laptop.get("/me").status_code, phone.get("/me").status_code] == [200, 401]
    assert sessions.manager.revoke_user(ada.fs_uniquifier) == 1
    assert laptop.get("/me").status_code == 401
