"""Sessions of another library continue as our sessions, once, and do not come back after a logout."""

from __future__ import annotations

import re
import sqlite3
import uuid
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
import redis
from flask import Flask, Response, request, session, stream_with_context
from itsdangerous import Signer
from markupsafe import Markup
from werkzeug.test import Client

from tests.servers import ROOT
from tests.visits import Clock, Site, WatchedStore
from wsgisession import ConfigurationError, SessionGone, SessionMiddleware, StoreError, get_session
from wsgisession.flask import FlaskSessions
from wsgisession.moving import FlaskSessionRedis

SECRET = "a secret that is long enough"
OLDER = "the secret of last year, long enough"
SID = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


def app_of_before(secret: str = SECRET, **settings: Any) -> Flask:
    """One whose sessions are in Flask's own cookies."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secret, **settings)

    @app.get("/")
    def untouched() -> str:
        return "hello"

    @app.get("/get")
    def get() -> dict[str, Any]:
        return {key: repr(value) for key, value in session.items()}

    @app.get("/put")
    def put() -> str:
        session.update(request.args)
        return "put"

    @app.get("/clear")
    def clear() -> str:
        session.clear()
        return "cleared"

    return app


def app_of_now(**settings: Any) -> tuple[Flask, WatchedStore]:
    store = WatchedStore()
    app = app_of_before(SESSION_STORE=store, SESSION_CARRY_OVER=True)
    app.config.update(settings)
    FlaskSessions(app)

    @app.get("/logout")
    def logout() -> str:
        session.logout()
        return "bye"

    @app.get("/reload")
    def reload() -> str:
        session["unsaved"] = "gone"
        session.reload()
        return ",".join(session)

    @app.get("/save")
    def save() -> str:
        session["user"] = "eve"
        session.save()
        session.reload()
        seen = session["user"]
        session.logout()
        session.reload()
        return f"{seen} {dict(session)}"

    @app.get("/late")
    def late() -> Response:
        def body():
            yield "user: "
            yield session.get("user", "nobody")

        return Response(stream_with_context(body()))

    return app, store


def cookie_of_before(app: Flask | None = None, **data: Any) -> str:
    client = (app or app_of_before()).test_client()
    with client.session_transaction() as mine:
        mine.update(data or {"user": "ada"})
    return client.get_cookie("session").value


def visitor(app: Flask, value: str | None = None) -> Any:
    client = app.test_client()
    if value is not None:
        client.set_cookie("session", value)
    return client


def test_who_was_logged_in_by_flasks_cookie_still_is():
    app, store = app_of_now()
    client = visitor(app, cookie_of_before())
    assert client.get("/get").json == {"user": "'ada'"}
    assert client.get("/get").json == {"user": "'ada'"}
    assert client.get_cookie("session").value.count(".") == 1
    assert store.calls["create"] == 1


def test_the_old_cookies_values_come_back_as_they_were():
    values = {"tuple": (1, "two"), "bytes": b"\x00", "markup": Markup("<b>"), "uuid": uuid.UUID(int=7),
              "at": datetime(2026, 1, 2, tzinfo=timezone.utc), "nested": {"list": [1, {"a": None}]}}  # fmt: skip
    app, _ = app_of_now()
    client = visitor(app, cookie_of_before(**values))
    client.get("/get")
    assert client.get("/get").json == {key: repr(value) for key, value in values.items()}


def test_a_request_that_leaves_the_session_alone_carries_nothing_over():
    app, store = app_of_now()
    response = visitor(app, cookie_of_before()).get("/")
    assert "Set-Cookie" not in response.headers
    assert not store.calls


def test_without_the_switch_an_old_cookie_is_nobodys():
    app, store = app_of_now(SESSION_CARRY_OVER=False)
    assert visitor(app, cookie_of_before()).get("/get").json == {}
    assert store.calls["create"] == 0


def test_what_the_first_request_writes_is_added():
    app, _ = app_of_now()
    client = visitor(app, cookie_of_before())
    client.get("/put?lang=de")
    assert client.get("/get").json == {"user": "'ada'", "lang": "'de'"}


def test_a_permanent_session_stays_one():
    app, _ = app_of_now(PERMANENT_SESSION_LIFETIME=3600)
    client = visitor(app, cookie_of_before(_permanent=True, user="ada"))
    assert "Max-Age=3600" in client.get("/get").headers["Set-Cookie"]


def test_a_cookie_that_an_older_secret_signed_is_carried_over():
    app, _ = app_of_now(SECRET_KEY_FALLBACKS=[OLDER])
    probe = visitor(app, cookie_of_before(app_of_before(OLDER))).get("/get").json
    assert probe == ({"user": "'ada'"} if "SECRET_KEY_FALLBACKS" in Flask.default_config else {})


@pytest.mark.parametrize(
    "forged",
    [
        lambda: cookie_of_before(app_of_before("a secret of somebody else's")),
        lambda: cookie_of_before()[:-2] + "xx",
        lambda: "a.b.c",
        lambda: "x" * 4000,
    ],
)
def test_a_forged_cookie_is_a_new_session(forged):
    app, store = app_of_now()
    response = visitor(app, forged()).get("/get")
    assert response.json == {}
    assert store.calls["create"] == 0
    assert "Set-Cookie" not in response.headers


def test_an_old_cookie_is_carried_over_no_longer_than_flask_took_it(monkeypatch):
    value = cookie_of_before()
    later = Clock()
    monkeypatch.setattr("itsdangerous.timed.time.time", later)
    later.now = datetime.now(timezone.utc).timestamp() + 3601
    assert visitor(app_of_now(PERMANENT_SESSION_LIFETIME=3600)[0], value).get("/get").json == {}
    assert visitor(app_of_now(PERMANENT_SESSION_LIFETIME=3700)[0], value).get("/get").json == {"user": "'ada'"}


def test_carrying_over_ends_at_its_date():
    clock = Clock()
    until = datetime.fromtimestamp(clock.now, timezone.utc) + timedelta(seconds=1)
    app, _ = app_of_now(SESSION_CARRY_OVER_UNTIL=until, SESSION_CLOCK=clock)
    value = cookie_of_before()
    assert visitor(app, value).get("/get").json == {"user": "'ada'"}
    clock += 1
    assert visitor(app, value).get("/get").json == {}


@pytest.mark.parametrize("way_out", ["/logout", "/clear"])
@pytest.mark.parametrize("first", ["/", "/get"])
def test_who_logs_out_is_not_logged_in_again_by_the_old_cookie(way_out, first):
    app, store = app_of_now()
    client = visitor(app, cookie_of_before())
    client.get(first)
    client.get(way_out)
    assert client.get_cookie("session") is None
    assert client.get("/get").json == {}
    assert not store.handles


def test_next_to_the_cookie_of_an_ended_session_an_old_one_is_not_read():
    app, store = app_of_now()
    value = cookie_of_before()
    client = visitor(app, value)
    client.get("/get")
    mine = client.get_cookie("session").value
    for handle in store.handles:
        app.extensions["wsgisession"].manager.revoke(handle)
    header = {"Cookie": f"session={mine}; session={value}"}
    assert app.test_client(use_cookies=False).get("/get", headers=header).json == {}


def test_an_old_cookie_next_to_a_session_of_ours_is_left_alone():
    app, _ = app_of_now()
    client = visitor(app)
    client.get("/put?user=eve")
    header = {"Cookie": f"session={cookie_of_before()}; session={client.get_cookie('session').value}"}
    assert app.test_client(use_cookies=False).get("/get", headers=header).json == {"user": "'eve'"}


def test_reloading_a_session_that_was_only_carried_over_reads_the_old_cookie_again():
    app, _ = app_of_now()
    client = visitor(app, cookie_of_before())
    assert client.get("/reload").text == "user"
    assert client.get("/get").json == {"user": "'ada'"}


def test_a_logout_in_the_request_that_carried_over_and_stored_holds():
    app, store = app_of_now()
    client = visitor(app, cookie_of_before())
    assert client.get("/save").text == "eve {}"
    assert client.get("/get").json == {}
    assert not store.handles


def test_after_the_headers_left_an_old_session_can_be_read_and_stays_in_its_cookie(caplog):
    app, store = app_of_now()
    client = visitor(app, cookie_of_before())
    assert client.get("/late", buffered=True).text == "user: ada"
    assert not caplog.records
    assert store.calls["create"] == 0
    assert client.get("/get").json == {"user": "'ada'"}


def test_a_store_that_is_down_leaves_the_old_cookie_for_the_next_request():
    def fail() -> None:
        raise StoreError("down")

    app, store = app_of_now(SESSION_ON_STORE_ERROR="unavailable")
    client = visitor(app, cookie_of_before())
    store.before["create"] = fail
    response = client.get("/get")
    assert (response.status_code, "Set-Cookie" in response.headers) == (503, False)
    assert client.get("/get").json == {"user": "'ada'"}


def test_data_that_cannot_be_stored_are_left_behind_with_one_warning(caplog):
    app, _ = app_of_now(SESSION_MAX_SIZE=300)
    big = cookie_of_before(text="x" * 400)
    for _ in range(2):
        assert visitor(app, big).get("/get").json == {}
    (record,) = caplog.records
    assert "could not be carried over" in record.message
    assert "xxx" not in record.message


def test_a_carried_over_login_counts_among_its_users():
    app, _ = app_of_now()
    client = visitor(app, cookie_of_before(_user_id="7"))
    client.get("/get")
    assert len(app.extensions["wsgisession"].manager.sessions_for(7)) == 1


def test_without_a_secret_there_is_flasks_null_session():
    app, _ = app_of_now(SECRET_KEY=None)
    assert visitor(app, cookie_of_before()).get("/get").json == {}


@pytest.mark.parametrize("settings", [{"SESSION_CARRY_OVER": "yes"}, {"SESSION_CARRY_OVER_UNTIL": datetime(2026, 1, 1)},
                                      {"SESSION_CARRY_OVER_UNTIL": 7}])  # fmt: skip
def test_a_setting_that_cannot_be_right_is_refused(settings):
    app, _ = app_of_now(**settings)
    app.testing = True
    with pytest.raises(ConfigurationError, match="carry_over"):
        app.test_client().get("/get")


def test_another_cookie_name_is_refused():
    app = app_of_before()
    app.testing = True
    FlaskSessions(app, carry_over=True, name="sid")
    with pytest.raises(ConfigurationError, match="'session'"):
        app.test_client().get("/get")


def test_an_app_can_read_whatever_it_had_before():
    app, _ = app_of_now(SESSION_CARRY_OVER={"token-of-before": {"user": "ada"}}.get)
    assert visitor(app, "token-of-before").get("/get").json == {"user": "'ada'"}
    assert visitor(app, "another-token").get("/get").json == {}


# Flask-Session


@pytest.fixture
def client_of_redis(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        yield client
        client.delete(f"session:{SID}")


@pytest.mark.parametrize("encode", [msgspec.msgpack.encode, msgspec.json.encode])
def test_a_record_of_flask_session_is_carried_over(client_of_redis, encode):
    client_of_redis.set(f"session:{SID}", encode({"_permanent": True, "user": "ada"}), ex=60)
    app, store = app_of_now(SESSION_CARRY_OVER=FlaskSessionRedis(client_of_redis))
    client = visitor(app, SID)
    assert client.get("/get").json == {"_permanent": "True", "user": "'ada'"}
    client_of_redis.delete(f"session:{SID}")
    assert client.get("/get").json == {"_permanent": "True", "user": "'ada'"}
    assert store.calls["create"] == 1


def test_a_pickled_record_is_not_read_and_reported_once(client_of_redis, caplog):
    client_of_redis.set(f"session:{SID}", b"\x80\x04}\x94\x8c\x04user\x94\x8c\x03ada\x94s.", ex=60)
    app, _ = app_of_now(SESSION_CARRY_OVER=FlaskSessionRedis(client_of_redis))
    for _ in range(2):
        assert visitor(app, SID).get("/get").json == {}
    (report,) = [one for one in caplog.messages if "could not be carried over" in one]
    assert "neither msgpack nor JSON" in report


def test_a_record_of_flask_session_keeps_the_types_of_its_keys(client_of_redis):
    data = {"cart": {7: 2, "tea": 1, True: [1]}, "user": "ada"}
    client_of_redis.set(f"session:{SID}", msgspec.msgpack.encode(data), ex=60)
    app, store = app_of_now(SESSION_CARRY_OVER=FlaskSessionRedis(client_of_redis))
    client = visitor(app, SID)
    for _ in range(2):  # read from the old record, and then from ours
        assert client.get("/get").json["cart"] == "{7: 2, 'tea': 1, True: [1]}"
    assert store.calls["create"] == 1


def test_a_client_that_decodes_what_it_reads_works_for_json(redis_server, client_of_redis):
    client_of_redis.set(f"session:{SID}", msgspec.json.encode({"user": "Zoë"}), ex=60)
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        app, _ = app_of_now(SESSION_CARRY_OVER=FlaskSessionRedis(client))
        assert visitor(app, SID).get("/get").json == {"user": "'Zoë'"}


def test_with_its_signer_only_signed_cookies_count(client_of_redis):
    client_of_redis.set(f"session:{SID}", msgspec.msgpack.encode({"user": "ada"}), ex=60)
    app, _ = app_of_now(SESSION_CARRY_OVER=FlaskSessionRedis(client_of_redis, secret=SECRET))
    signed = Signer(SECRET, salt="flask-session", key_derivation="hmac").sign(SID).decode()
    assert visitor(app, signed).get("/get").json == {"user": "'ada'"}
    assert visitor(app, SID).get("/get").json == {}
    assert visitor(app, signed[:-2] + "xx").get("/get").json == {}


class NoRedis:
    """A client that notes what it is asked, and fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get(self, key: str) -> bytes:
        self.asked.append(key)
        raise redis.ConnectionError("refused")


def test_a_redis_that_is_down_is_not_a_logout():
    app, _ = app_of_now(SESSION_CARRY_OVER=FlaskSessionRedis(NoRedis()), SESSION_ON_STORE_ERROR="unavailable")
    response = visitor(app, SID).get("/get")
    assert (response.status_code, "Set-Cookie" in response.headers) == (503, False)


@pytest.mark.parametrize("value", ["short", "a*b" * 10, "x" * 300, "other:" + SID])
def test_a_value_that_is_not_an_id_is_not_asked_for(value):
    client = NoRedis()
    assert FlaskSessionRedis(client)(value) is None
    assert client.asked == []


def test_a_session_that_ended_is_not_carried_over_by_reloading():
    app, store = app_of_now()
    client = visitor(app, cookie_of_before())
    client.get("/get")
    with app.test_request_context("/", headers={"Cookie": f"session={client.get_cookie('session').value}"}):
        assert session["user"] == "ada"
        for handle in store.handles:
            app.extensions["wsgisession"].manager.revoke(handle)
        with pytest.raises(SessionGone):
            session.reload()


# The guide


GUIDE = (ROOT / "docs" / "migrating.md").read_text()


def block(name: str) -> str:
    (found,) = re.findall(rf"^```python {name}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """Run the lines that a reader copies, in an empty folder, and return the app."""
    monkeypatch.chdir(tmp_path)
    app = app_of_before(SESSION_CLOCK=Clock())

    def run(lines: str) -> Flask:
        exec(lines, {"app": app, "FlaskSessions": FlaskSessions})
        return app

    yield run
    app.extensions["wsgisession"].manager.close()


def test_the_guide_moves_flasks_own_sessions(moved):
    app = moved(block("flask"))
    client = visitor(app, cookie_of_before())
    for _ in range(2):
        assert client.get("/get").json == {"user": "'ada'"}


def test_the_guide_moves_flask_sessions(moved, redis_server, client_of_redis):
    client_of_redis.set(f"session:{SID}", msgspec.msgpack.encode({"user": "ada"}), ex=60)
    lines = block("flask-session").replace("redis://localhost:6379/0", redis_server.url)
    app = moved(lines.replace('Redis(host="localhost")', f"Redis.from_url({redis_server.url!r})"))
    client = visitor(app, SID)
    assert client.get("/get").json == {"user": "'ada'"}
    client.get("/clear")
    client_of_redis.connection_pool.disconnect()


def test_the_guide_moves_sessions_that_a_function_reads(moved):
    with closing(sqlite3.connect("old.db")) as old, old:
        old.execute("CREATE TABLE session (id, data)")
        old.execute("INSERT INTO session VALUES ('7f', '{\"user\": \"ada\"}')")
    app = moved(block("flask-own"))
    assert visitor(app, "7f").get("/get").json == {"user": "'ada'"}
    assert visitor(app, "7e").get("/get").json == {}


class OldSession(dict):
    delete = dict.clear


def test_the_guide_copies_what_beaker_kept():
    site, names = Site(), dict[str, Any]()
    exec(block("beaker"), names)
    old = OldSession(user_id=7, cart=["apple"], more="left")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [repr((get_session(environ).user_id, get_session(environ)["cart"])).encode()]

    def beaker(environ: dict[str, Any], start_response: Any) -> Any:
        return names["CarryOver"](app)({**environ, "beaker.session": old}, start_response)

    browser = Client(SessionMiddleware(beaker, site.manager))
    for _ in range(2):
        assert browser.get("/").text == "(7, ['apple'])"
    assert old == {}
