"""A plain WSGI app that does to its session what the URL says, and reports the process that did it."""

from __future__ import annotations

import json
import os
from urllib.parse import parse_qsl

from wsgisession import Session, SessionMiddleware, get_session


def count(session: Session) -> None:
    session["count"] = session.get("count", 0) + 1


def act(session: Session, action: str, query: dict[str, str]) -> None:
    match action:
        case "/login":
            session.login(query["user"])
        case "/set":
            session[query["key"]] = query.get("value", "")
        case "/delete":
            session.pop(query["key"], None)
        case "/append":
            session.setdefault("cart", {}).setdefault("items", []).append(query["item"])
        case "/count":
            session.transaction(count)
        case "/logout":
            session.logout()
        case "/revoke":
            app.manager.revoke(query["handle"], user_id=session.user_id)
        case "/revoke-others":
            app.manager.revoke_user(session.user_id, except_handle=session.handle)


def counter(environ, start_response):
    action = environ["PATH_INFO"]
    answer = {"pid": os.getpid()}
    if action != "/up":
        session = get_session(environ)
        act(session, action, dict(parse_qsl(environ["QUERY_STRING"])))
        answer |= {"user": session.user_id, "handle": session.handle, "data": dict(session)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


app = SessionMiddleware(counter, store=os.environ["STORE"])
app.manager.sessions_for("nobody")  # the store is used before the fork, where the app is loaded before it
