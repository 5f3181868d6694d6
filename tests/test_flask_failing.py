"""A store that fails under Flask: one call, one timeout, and one report for each request."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, render_template_string, session

from tests.flask_apps import app_with_sessions
from tests.visits import WatchedStore
from wsgisession import SessionMiddleware, StoreError


class Broken(WatchedStore):
    """Fails at one verb, or at all of them."""

    def __init__(self, verb: str = "") -> None:
        super().__init__()
        self.verb, self.asked = verb, 0

    def fail(self, *, always: bool = False) -> None:
        def raising() -> None:
            self.asked += 1
            if always:
                self.fail(always=True)
            raise StoreError("the store is away")

        for verb in [self.verb] if self.verb else ["load", "create", "replace", "touch", "delete"]:
            self.before[verb] = raising


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
        session.destroy()  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.get("/put?a=1")
    store.fail()
    assert client.get("/leave").status_code == 503
    assert client.get("/get").json == {"a": "1"}


# Each request asks a store that fails once.


def app_for_errors(store: Any, **options: Any) -> Flask:
    app = app_with_sessions(options={"store": store, **options})

    @app.errorhandler(500)
    def sorry(error: Any) -> tuple[str, int]:
        session["last_error"] = str(error.code)
        return render_template_string("sorry, {{ session.user or 'stranger' }}"), 500

    @app.get("/save")
    def save() -> str:
        session["a"] = 2
        session.save()  # type: ignore[attr-defined]
        return "saved"

    @app.get("/swallow/<verb>")
    def swallow(verb: str) -> str:
        try:
            session["a"] = 3
            session.save()  # type: ignore[attr-defined]
        except StoreError:
            if verb == "write":
                session["b"] = 4
        return "success"

    @app.get("/anyway")
    def anyway() -> str:
        try:
            return str(session.get("a"))
        except StoreError:
            return f"nobody: {dict(session)}"

    @app.get("/destroy")
    def destroy() -> str:
        session["b"] = 5
        session.destroy()  # type: ignore[attr-defined]
        return ""

    return app


@pytest.mark.parametrize("on_store_error", ["raise", "unavailable"])
@pytest.mark.parametrize("path", ["/get", "/put?a=2", "/save", "/destroy", "/clear", "/anyway"])
def test_a_request_asks_a_store_that_is_away_once(path, on_store_error, caplog):
    store = Broken()
    app = app_for_errors(store, on_store_error=on_store_error)
    client = app.test_client()
    client.get("/put?a=1&b=1")
    store.fail(always=True)
    response = client.get(path)
    assert response.status_code == {"/anyway": 200}.get(path, 500 if on_store_error == "raise" else 503)
    assert store.asked == 1
    assert len([one for one in caplog.records if one.levelno >= logging.ERROR and one.name != "wsgisession"]) == (
        response.status_code == 500
    )
    assert "Set-Cookie" not in response.headers
    store.before.clear()
    assert client.get("/get").json == {"a": "1", "b": "1"}


def test_a_page_about_the_error_sees_an_empty_session():
    store = Broken("load")
    app = app_for_errors(store)
    client = app.test_client()
    client.get("/put?user=ada")
    store.fail(always=True)
    assert client.get("/get").text == "sorry, stranger"


def test_a_page_that_goes_on_without_the_session_can_read_an_empty_one():
    store = Broken("load")
    client = app_for_errors(store).test_client()
    client.get("/put?a=1")
    store.fail(always=True)
    assert client.get("/anyway").text == "nobody: {}"


@pytest.mark.parametrize("verb", ["write", "nothing"])
def test_an_app_that_continues_after_a_failed_save_never_answers_with_a_success_that_is_not_stored(verb):
    store = Broken("replace")
    client = app_for_errors(store).test_client()
    client.get("/put?a=1")
    store.fail(always=True)
    assert client.get(f"/swallow/{verb}").status_code == 500
    store.before.clear()
    assert client.get("/get").json == {"a": "1"}


def test_an_error_of_the_app_keeps_what_it_wrote_before():
    app = app_with_sessions()

    @app.get("/broken")
    def broken() -> str:
        session["seen"] = True
        raise RuntimeError

    client = app.test_client()
    assert client.get("/broken").status_code == 500
    assert client.get("/get").json == {"seen": True}


def test_a_wrapped_app_asks_a_store_that_is_away_once():
    store = Broken()
    app: Any = app_with_sessions(None)
    app.wsgi_app = SessionMiddleware(app.wsgi_app, secret="a secret that is long enough", store=store)
    client = app.test_client()
    client.get("/put?a=1")
    store.fail(always=True)
    assert client.get("/get").status_code == 500
    assert store.asked == 1


# A store that hangs.


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The URL of a Redis that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0?timeout=0.5"


@pytest.mark.parametrize("on_store_error", ["raise", "unavailable"])
def test_a_request_waits_for_a_store_that_hangs_for_one_timeout(silent_url, on_store_error, caplog):
    app = app_with_sessions(options={"store": silent_url, "on_store_error": on_store_error})
    begun = time.monotonic()
    assert app.test_client().get("/put?a=1").status_code == (500 if on_store_error == "raise" else 503)
    assert time.monotonic() - begun < 0.95
    tracebacks = sum(one.exc_info is not None for one in caplog.records)
    assert tracebacks == (on_store_error == "raise")
    assert caplog.text.count("Traceback") == tracebacks
    app.extensions["wsgisession"].manager.close()
