"""Flask-Paranoid on whatever sessions Flask has: it ends a session whose browser suddenly is another one."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, session
from flask_paranoid import Paranoid

FIRST, OTHER = {"User-Agent": "first"}, {"User-Agent": "other"}


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.secret_key = "foo"  # noqa: S105
    app.paranoid = Paranoid(app)  # type: ignore[attr-defined]
    app.add_url_rule("/", "index", lambda: f"{session.setdefault('visits', 'none yet')}")
    app.add_url_rule("/remember", "remember", lambda: session.update(visits="many") or "ok")
    app.add_url_rule("/sorry", "sorry", lambda: "sorry")
    return app


def ended(client: Any, *, path: str = "/") -> Any:
    client.get("/remember", headers=FIRST)
    assert client.get("/", headers=FIRST).text == "many"
    before = client.get_cookie("session").value
    response = client.get(path, headers=OTHER)
    assert client.get_cookie("session") is None or client.get_cookie("session").value != before
    return response


def test_the_same_browser_keeps_its_session(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/remember", headers=FIRST).status_code == 200
    assert [client.get("/", headers=FIRST).text for _ in range(2)] == ["many", "many"]


def test_another_browser_is_answered_with_401_and_loses_the_session(app: Flask) -> None:
    client = app.test_client()
    assert ended(client).status_code == 401
    assert client.get("/", headers=FIRST).text == "none yet"


@pytest.mark.parametrize("page", ["/elsewhere", "https://example.org/elsewhere", "sorry"])
def test_another_browser_is_redirected(app: Flask, page: str) -> None:
    app.paranoid.redirect_view = page  # type: ignore[attr-defined]
    response = ended(app.test_client())
    assert response.status_code == 302
    assert response.location == {"sorry": "/sorry"}.get(page, page)


def test_another_browser_gets_what_the_callback_returns(app: Flask) -> None:
    app.paranoid.on_invalid_session(lambda: "from the callback")  # type: ignore[attr-defined]
    client = app.test_client()
    assert ended(client).text == "from the callback"
    assert client.get("/", headers=OTHER).text == "none yet"
