"""A typed Flask app: ``flask.session`` as it always was, and with a `Session`'s methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask
from flask import Flask, Response, redirect

from wsgisession import SessionManager
from wsgisession.flask import FlaskSession, FlaskSessions, login_required, role_required, session

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from typing_extensions import assert_type

app = Flask(__name__)
sessions = FlaskSessions(app, store="memory://")
FlaskSessions().init_app(app)


@app.get("/")
def as_it_always_was() -> str:
    flask.session["visits"] = flask.session.get("visits", 0) + 1
    flask.session.permanent = True
    flask.session.modified = True
    flask.session.login("ada")  # type: ignore[attr-defined]
    return str(flask.session["visits"])


@app.post("/login")
def login() -> ResponseReturnValue:
    session.login("ada", roles=["admin"])
    session.permanent = True
    return redirect("/account")


@app.get("/account/<int:number>")
@login_required
def account(number: int) -> str:
    return f"{number} of {session.user_id}"


@app.get("/messages")
@login_required(login_url="login")
def messages() -> tuple[dict[str, list[str]], int]:
    return {"messages": []}, 200


@app.get("/admin")
@role_required("admin", roles=lambda mine: mine["groups"], login_url="login")
async def admin() -> Response:
    return Response("admin")


@role_required(1)  # type: ignore[arg-type]
def no_number_is_a_role() -> str:
    return ""


@login_required  # type: ignore[arg-type]
def no_answer() -> object:
    return object()


def outside_of_requests(handle: str) -> None:
    assert_type(session, FlaskSession)
    assert_type(session.new, bool)
    assert_type(sessions.manager, SessionManager)
    account("seven")  # type: ignore[arg-type]
