"""A typed WSGI app."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from werkzeug import Request, Response

from wsgisession import (
    CookieOptions,
    Session,
    SessionEvent,
    SessionInfo,
    SessionManager,
    SessionMiddleware,
    get_session,
    open_store,
)
from wsgisession.guards import protect, require_role, require_user

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import assert_type


def told(event: SessionEvent) -> None:
    if event.name == "reveked":  # type: ignore[comparison-overlap]
        print("a misspelled name is found")
    print(event.name, event.handle, event.reason)


manager = SessionManager(
    secret=["a secret that is long enough", b"the secret of last year"],
    store=open_store("memory://"),
    cookie=CookieOptions(max_age=timedelta(days=14), same_site="Strict"),
    idle_timeout=timedelta(hours=1),
    user_key="account",
    on_conflict="refuse",
    on_event=told,
)


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    session = get_session(environ)
    session["visits"] = session.get("visits", 0) + 1
    start_response("200 OK", [])
    return [str(session["visits"]).encode()]


@Request.application
def site(request: Request) -> Response:
    session = get_session(request.environ)
    session.login("ada", roles=["admin"])
    cart: list[int] = session.setdefault("cart", [])
    cart.append(1)
    session.transaction(count)
    session.cookie.max_age = timedelta(minutes=1)
    session.cookie.max_age = None
    session.cookie.max_age = 60
    return Response(session.user_id)


def count(session: Session) -> int:
    session["n"] = session.get("n", 0) + 1
    return len(session)


app: WSGIApplication = SessionMiddleware(plain, manager)
other: WSGIApplication = SessionMiddleware(
    protect(site, {"/account": require_user, "/admin": require_role("admin", roles=lambda session: session["groups"])}),
    secret="a secret that is long enough",
    store="redis://localhost:6379/0",
    cookie={"max_age": 60},
)
SessionManager(secret="a secret that is long enough", on_conflict="never")  # type: ignore[arg-type]


def outside_of_requests(handle: str) -> None:
    with manager.edit(handle) as session:
        assert_type(session, Session)
        assert_type(session["anything"], Any)
        assert_type(session.id, "str | None")
        assert_type(session.handle, str)
        assert_type(session.created_at, datetime)
        assert_type(session.authenticated_at, "datetime | None")
        assert_type(session.cookie.max_age, "float | None")
        assert_type(session.cookie.secure, "bool | str")
        assert_type(session.transaction(count), int)
        session[1] = "keys are text"
        session.user_id = "ada"  # type: ignore[misc]
    assert_type(manager.sessions_for("ada"), list[SessionInfo])
    assert_type(manager.load(handle), "Session | None")
    assert_type(manager.revoke(handle, user_id=7), bool)
    assert_type(manager.revoke_user("ada"), int)
    manager.load(7)  # type: ignore[arg-type]
