"""Which visitors are let through, and the responses for the others."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.visits import Site
from wsgisession.wsgi.access import Verdict, judge, login_address, prefers_json, refuse, roles_of


def session_of(site: Site | None = None, **data: Any) -> Any:
    with (site or Site()).browser().request() as session:
        session.update(data)
        return session


def way_back(path: str, query: str = "") -> str:
    (back,) = parse_qs(urlsplit(login_address("/login", path, query)).query)["next"]
    return back


def test_a_stranger_is_asked_who_he_is():
    assert judge(session_of()) is Verdict.LOGIN_NEEDED
    assert judge(session_of(roles=["admin"]), ["admin"]) is Verdict.LOGIN_NEEDED


def test_a_logged_in_user_passes_where_no_role_is_needed():
    assert judge(session_of(user_id="ada")) is Verdict.ALLOWED


def test_a_user_whom_the_loader_no_longer_knows_is_not_logged_in():
    users = {"ada": {"roles": ["admin"]}}
    site = Site(user_loader=users.get)
    for name, verdict in {"ada": Verdict.ALLOWED, "deleted": Verdict.LOGIN_NEEDED}.items():
        session = session_of(site, user_id=name)
        assert judge(session) is verdict
        assert judge(session, ["admin"], roles=lambda session: session.user["roles"]) is verdict


def test_a_user_named_zero_is_logged_in():
    assert judge(session_of(user_id=0)) is Verdict.ALLOWED


@pytest.mark.parametrize("roles", ["admin", ["editor", "admin"], ("admin",), {"admin": 1}])
def test_one_of_the_roles_is_enough(roles):
    assert judge(session_of(user_id="ada", roles=roles), ["admin", "root"]) is Verdict.ALLOWED


@pytest.mark.parametrize("roles", [None, [], "administrator", ["adm"], "a"])
def test_without_one_of_the_roles_a_user_is_refused(roles):
    assert judge(session_of(user_id="ada", roles=roles), ["admin"]) is Verdict.FORBIDDEN


def test_roles_stand_under_another_key_or_come_from_a_callable():
    session = session_of(user_id="ada", groups="staff")
    assert judge(session, ["staff"], roles="groups") is Verdict.ALLOWED
    assert judge(session, ["ada"], roles=lambda session: [session.user_id]) is Verdict.ALLOWED
    assert roles_of(session, lambda session: None) == set()


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json", True),
        ("text/html;q=0.5, application/json", True),
        ("image/png", False),
        ("a;q=b;;,,", False),
    ],
)
def test_json_is_for_who_would_rather_have_it(accept, is_json):
    assert prefers_json(accept) is is_json


def test_the_original_path_keeps_path_and_query():
    assert way_back("/a b", "x=1&y=%26") == "/a%20b?x=1&y=%26"


def test_the_original_path_keeps_letters_that_are_not_ascii():
    assert way_back("/é".encode().decode("latin-1")) == "/%C3%A9"


def test_a_question_mark_in_the_path_does_not_begin_a_query():
    assert way_back("/what?") == "/what%3F"


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "\\\\evil.example/", "///evil.example/"])
def test_the_original_path_never_leads_to_another_host(path):
    assert way_back(path) == "/evil.example/"


def test_a_login_page_with_a_query_keeps_it():
    assert login_address("/login?by=mail", "/a", "") == "/login?by=mail&next=/a"


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.LOGIN_NEEDED, 401), (Verdict.FORBIDDEN, 403)])
def test_people_get_a_page_and_programs_in_json(verdict, status):
    page, answer = refuse(verdict, {}), refuse(verdict, {"HTTP_ACCEPT": "application/json"})
    assert (page.status, answer.status) == (status, status)
    assert (page.is_page, answer.is_page) == (True, False)
    assert page.sentence in page.body.decode()
    assert json.loads(answer.body) == {"error": answer.sentence}


@pytest.mark.parametrize("verdict", [Verdict.LOGIN_NEEDED, Verdict.FORBIDDEN])
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("login_url", [None, "/login"])
def test_a_refusal_is_for_one_visitor_only(verdict, accept, login_url):
    refusal = refuse(verdict, {"HTTP_ACCEPT": accept}, login_url=login_url)
    headers = dict(refusal.headers)
    assert (headers["Vary"], headers["Cache-Control"]) == ("Accept", "no-store")
    assert int(headers["Content-Length"]) == len(refusal.body)
    assert headers.get("Location") == refusal.location


def test_a_browser_without_a_user_is_sent_to_the_login_page_and_a_program_is_not():
    environ = {"SCRIPT_NAME": "/shop", "PATH_INFO": "/cart", "QUERY_STRING": "item=1"}
    refusal = refuse(Verdict.LOGIN_NEEDED, environ, login_url="/login")
    assert (refusal.status, refusal.location) == (303, "/login?next=/shop/cart%3Fitem%3D1")
    assert (refusal.is_page, refusal.body) == (False, b"")
    assert refuse(Verdict.FORBIDDEN, environ, login_url="/login").location is None
    assert refuse(Verdict.LOGIN_NEEDED, {"HTTP_ACCEPT": "application/json"}, login_url="/login").location is None
