"""Pyramid's sessions on the environ's session: what ISession promises, and Pyramid's own parts that use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.csrf import get_csrf_token, new_csrf_token
from pyramid.httpexceptions import HTTPFound
from pyramid.interfaces import ISession, ISessionFactory
from pyramid.request import Request
from pyramid.response import Response
from werkzeug.test import Client
from zope.interface.verify import verifyClass, verifyObject

from tests.web import SECRET
from wsgisession import SessionError, SessionManager, SessionMiddleware
from wsgisession.pyramid import PyramidSession, session_factory

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def manager(store_url) -> Iterator[SessionManager]:
    manager = SessionManager(secret=SECRET, store=store_url)
    yield manager
    manager.close()


@pytest.fixture
def session(manager) -> PyramidSession:
    request = Request.blank("/")
    request.environ["wsgisession.session"] = manager.open("", None)
    return session_factory(request)


# ISession.


def test_the_session_and_its_factory_are_what_pyramid_asks_for(session):
    assert verifyClass(ISession, PyramidSession)
    assert verifyObject(ISession, session)
    assert verifyObject(ISessionFactory, session_factory)


def test_the_session_is_a_dict(session):
    session["a"] = 1
    session.update(b=2)
    assert session.setdefault("c", []) == []
    assert (dict(session), len(session), "a" in session, session.get("x", 3)) == ({"a": 1, "b": 2, "c": []}, 3, True, 3)
    assert session.pop("a") == 1
    del session["b"]
    assert [*session.keys(), *session.values(), *session.items()] == ["c", [], ("c", [])]
    assert session.popitem() == ("c", [])
    session["d"] = 1
    session.clear()
    assert not session


def test_created_is_seconds_since_the_epoch(session):
    assert isinstance(session.created, int)
    assert abs(session.created - time.time()) < 10


def test_flash_messages_wait_in_their_queue_until_they_are_popped(session):
    session.flash("one")
    session.flash("two")
    session.flash("other", "errors")
    assert session.peek_flash() == ["one", "two"]
    assert session.pop_flash() == ["one", "two"]
    assert session.pop_flash() == []
    assert session.peek_flash() == []
    assert session.pop_flash("errors") == ["other"]


def test_a_flash_message_is_doubled_only_where_that_is_allowed(session):
    for allowed in (True, True, False):
        session.flash("same", "", allowed)
    session.flash("new", allow_duplicate=False)
    session.flash(msg={"a": 1}, queue="q", allow_duplicate=False)
    assert session.pop_flash() == ["same", "same", "new"]
    assert session.pop_flash("q") == [{"a": 1}]


def test_a_csrf_token_stays_until_a_new_one_is_made(session):
    token = session.get_csrf_token()
    assert token.isascii()
    assert len(token) == 40
    assert session.get_csrf_token() == token
    assert session.new_csrf_token() != token
    assert session.get_csrf_token() != token


def test_a_changed_nested_value_is_noticed_with_and_without_a_call_of_changed(manager):
    first = PyramidSession(manager.open("", None)._visit)
    first["cart"] = {"tea": 1}
    first.save()
    for calls_changed in (True, False):
        again = PyramidSession(manager.open(f"sid={manager.signer.sign(first.id)}", None)._visit)
        assert not again.is_modified
        again["cart"][f"milk {calls_changed}"] = 1
        if calls_changed:
            again.changed()
        assert again.is_modified
        again.save()
    assert len(manager.load(first.handle)["cart"]) == 3


def test_an_invalidated_session_is_empty_and_goes_on_as_a_new_one(manager):
    first = PyramidSession(manager.open("", None)._visit)
    first["a"] = 1
    first.save()
    session = PyramidSession(manager.open(f"sid={manager.signer.sign(first.id)}", None)._visit)
    assert not session.new
    session.invalidate()
    assert session.new
    assert "a" not in session
    assert manager.load(first.handle) is None
    session["b"] = 2
    session.save()
    assert session.id != first.id
    assert dict(manager.load(session.handle)) == {"b": 2}


def test_an_app_that_is_not_wrapped_is_told_how_to_wrap_it():
    with pytest.raises(SessionError, match="SessionMiddleware"):
        session_factory(Request.blank("/"))


# In an app.


def app(manager: SessionManager, **views: Callable[[Request], Any]) -> Client:
    with Configurator() as config:
        config.include("wsgisession.pyramid")
        for name, view in views.items():
            config.add_route(name, f"/{name}")
            config.add_view(_answering(view), route_name=name, require_csrf=name.startswith("checked"))
        return Client(SessionMiddleware(config.make_wsgi_app(), manager))


def _answering(view: Callable[[Request], Any]) -> Callable[[Request], Any]:
    def answer(request: Request) -> Any:
        result = view(request)
        return result if isinstance(result, Response) else Response(str(result), content_type="text/plain")

    return answer


def test_a_flash_message_is_shown_after_the_redirect_and_once(manager):
    def order(request: Request) -> Response:
        request.session.flash("ordered")
        return HTTPFound("/show")

    client = app(manager, order=order, show=lambda request: request.session.pop_flash())
    assert client.get("/order", follow_redirects=True).text == "['ordered']"
    assert client.get("/show").text == "[]"


def test_pyramids_csrf_protection_uses_the_session(manager):
    client = app(manager, token=get_csrf_token, fresh=new_csrf_token, checked=lambda request: "done")
    token = client.get("/token").text
    assert client.get("/token").text == token
    assert client.post("/checked", data={"csrf_token": token}).text == "done"
    assert client.post("/checked", data={"csrf_token": "wrong"}).status_code == 400
    fresh = client.get("/fresh").text
    assert client.post("/checked", data={"csrf_token": token}).status_code == 400
    assert client.post("/checked", headers={"X-CSRF-Token": fresh}).text == "done"


def test_a_request_that_does_not_use_its_session_sends_no_cookie(manager):
    response = app(manager, plain=lambda request: "plain").get("/plain")
    assert "Set-Cookie" not in response.headers
    assert "Vary" not in response.headers


def test_pyramids_login_in_the_session_gets_a_new_id_where_user_key_names_its_key(store_url):
    manager = SessionManager(secret=SECRET, store=store_url, user_key="auth.userid")
    helper = SessionAuthenticationHelper()

    def enter(request: Request) -> Response:
        helper.remember(request, request.params["name"])
        return Response("in")

    client = app(
        manager,
        put=lambda request: request.session.update(cart=[1]),
        enter=enter,
        show=lambda request: (helper.authenticated_userid(request), request.session.get("cart")),
    )
    client.get("/put")
    before = client.get_cookie("sid").value
    client.get("/enter?name=ada")
    assert client.get_cookie("sid").value != before
    assert client.get("/show").text == "('ada', [1])"
    assert len(list(manager.sessions_for("ada"))) == 1
    client.get("/enter?name=bob")
    assert client.get("/show").text == "('bob', None)"
    manager.close()
