"""A session that lost its last key ends in Flask, unless another request put something in at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, request, session

from wsgisession.flask import FlaskSessions


@pytest.fixture
def site(store_url: str):
    app = Flask(__name__)
    app.config.update(SECRET_KEY="a secret that is long enough", SESSION_STORE=store_url)
    sessions = FlaskSessions(app)
    yield app
    sessions.manager.close()


def visit(app: Flask, path: str, cookie: str | None) -> Any:
    client = app.test_client()
    if cookie is not None:
        client.set_cookie("session", cookie)
    return client.get(path)


def pages(app: Flask, **views: Callable[[], Any]) -> None:
    for name, view in views.items():
        app.add_url_rule(f"/{name}", name, lambda view=view: view() or "ok")


def cookie_after(app: Flask, path: str) -> str:
    header = visit(app, path, None).headers["Set-Cookie"]
    return header.split(";")[0].removeprefix("session=")


def remove_last() -> None:
    session.pop("message")


def test_a_session_that_lost_its_last_key_ends(site):
    pages(site, put=lambda: session.update(message="hi"), pop=remove_last, read=lambda: dict(session))
    cookie = cookie_after(site, "/put")
    assert "Max-Age=0" in visit(site, "/pop", cookie).headers["Set-Cookie"]
    assert visit(site, "/read", cookie).data == b"ok"


@pytest.mark.parametrize("repeated", [1, 3])
def test_what_another_request_put_in_at_the_same_time_stays(site, repeated):
    def remove_while_others_put() -> None:
        remove_last()
        for number in range(repeated):
            visit(site, f"/other?{number}", request.cookies["session"])

    pages(
        site,
        put=lambda: session.update(message="hi"),
        other=lambda: session.update({request.query_string.decode(): True}),
        pop=remove_while_others_put,
        read=lambda: dict(session),
    )
    cookie = cookie_after(site, "/put")
    assert visit(site, "/pop", cookie).headers.getlist("Set-Cookie") == []
    assert visit(site, "/read", cookie).json == {str(number): True for number in range(repeated)}


def test_clear_ends_the_session_whatever_another_request_put_in(site):
    def clear_while_another_puts() -> None:
        session.clear()
        visit(site, "/other", request.cookies["session"])

    pages(
        site,
        put=lambda: session.update(message="hi"),
        other=lambda: session.update(n=1),
        clear=clear_while_another_puts,
        read=lambda: dict(session),
    )
    cookie = cookie_after(site, "/put")
    assert "Max-Age=0" in visit(site, "/clear", cookie).headers["Set-Cookie"]
    assert visit(site, "/read", cookie).data == b"ok"
