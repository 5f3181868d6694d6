"""Login, logout, errors, and streams in Bottle, Falcon, Pyramid, CherryPy, and WebOb apps that are wrapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import bottle
import cherrypy
import falcon
import pytest
import webob
import webob.exc
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import Response
from webob.dec import wsgify
from werkzeug.test import Client

from tests.web import SECRET
from wsgisession import SessionMiddleware, get_session

Environ = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def count(environ: Environ) -> str:
    session = get_session(environ)
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


def enter(environ: Environ) -> str:
    get_session(environ).login("ada")
    return "in"


def leave(environ: Environ) -> str:
    get_session(environ).logout()
    return "out"


def lost(environ: Environ) -> None:
    get_session(environ)["n"] = 100


def streamed(environ: Environ) -> Iterator[bytes]:
    get_session(environ)["first"] = 1
    yield b"a"
    get_session(environ)["late"] = 1
    yield b"b"


PAGES: dict[str, Callable[[Environ], str]] = {"count": count, "enter": enter, "leave": leave}


def in_bottle() -> Any:
    app = bottle.Bottle()
    for name, page in PAGES.items():
        app.get(f"/{name}")(lambda page=page: page(bottle.request.environ))

    @app.get("/lost")
    def not_found() -> None:
        lost(bottle.request.environ)
        bottle.abort(404, "lost")

    app.get("/streamed")(lambda: streamed(bottle.request.environ))
    return app


class FalconPage:
    def __init__(self, page: Callable[[Environ], Any]) -> None:
        self.page = page

    def on_get(self, request: Any, response: Any) -> None:
        result = self.page(request.env)
        if result is None:
            raise falcon.HTTPNotFound
        if isinstance(result, str):
            response.text = result
        else:
            response.stream = result


def in_falcon() -> Any:
    app = falcon.App()
    for name, page in {**PAGES, "lost": lost, "streamed": streamed}.items():
        app.add_route(f"/{name}", FalconPage(page))
    return app


def in_pyramid() -> Any:
    def view_of(page: Callable[[Environ], Any]) -> Callable[[Any], Any]:
        def view(request: Any) -> Any:
            result = page(request.environ)
            if result is None:
                raise HTTPNotFound
            return Response(result) if isinstance(result, str) else Response(app_iter=result)

        return view

    with Configurator() as config:
        for name, page in {**PAGES, "lost": lost, "streamed": streamed}.items():
            config.add_route(name, f"/{name}")
            config.add_view(view_of(page), route_name=name)
        return config.make_wsgi_app()


class CherryPages:
    @cherrypy.expose
    def default(self, name: str) -> Any:
        if name == "lost":
            lost(cherrypy.request.wsgi_environ)
            raise cherrypy.HTTPError(404)
        return PAGES[name](cherrypy.request.wsgi_environ)

    @cherrypy.expose
    @cherrypy.config(**{"response.stream": True})
    def streamed(self) -> Any:
        return streamed(cherrypy.request.wsgi_environ)


def in_cherrypy() -> Any:
    cherrypy.log.screen = False
    return cherrypy.Application(CherryPages(), "")


def in_webob() -> Any:
    @wsgify
    def app(request: Any) -> Any:
        name = request.path_info.strip("/")
        if name == "lost":
            lost(request.environ)
            raise webob.exc.HTTPNotFound
        if name == "streamed":
            return webob.Response(app_iter=streamed(request.environ))
        return PAGES[name](request.environ)

    return app


@pytest.fixture(params=[in_bottle, in_falcon, in_pyramid, in_cherrypy, in_webob])
def client(request) -> Iterator[Client]:
    app = SessionMiddleware(request.param(), secret=SECRET, store="memory://")
    yield Client(app)
    app.manager.close()


def test_a_visitor_has_a_session_of_their_own(client):
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
    assert Client(client.application).get("/count").text == "1"


def test_a_login_changes_the_id_and_a_logout_expires_the_cookie(client):
    client.get("/count")
    before = client.get_cookie("sid").value
    client.get("/enter")
    assert client.get_cookie("sid").value != before
    assert client.get("/count").text == "2"
    (known,) = client.application.manager.sessions_for("ada")
    client.get("/leave")
    assert client.get_cookie("sid") is None
    assert client.application.manager.load(known.handle) is None
    assert client.get("/count").text == "1"


def test_what_was_written_before_an_error_page_is_kept(client):
    client.get("/count")
    assert client.get("/lost").status_code == 404
    assert client.get("/count").text == "101"


def test_a_stream_can_write_before_its_first_chunk_and_to_a_stored_session_later(client):
    response = client.get("/streamed", buffered=True)
    assert response.data == b"ab"
    assert "Set-Cookie" in response.headers
    (known,) = client.application.manager.all_sessions()
    assert dict(known.data) == {"first": 1, "late": 1}
