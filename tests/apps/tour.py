"""A plain WSGI app that answers in each way that WSGI has: a list, a generator, ``write`` and a file."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from wsgisession import Session, SessionMiddleware, get_session


def count(session: Session) -> int:
    session["count"] = session.get("count", 0) + 1
    return session["count"]


def stream(session: Session) -> Iterator[bytes]:
    """A generator's first chunk may come with a cookie; what it changes later is kept too."""
    session["streams"] = [1]
    yield b"one "
    session["streams"].append(2)
    yield b"two"


def revoke(session: Session, query: dict[str, str]) -> bool:
    return app.manager.revoke(query["handle"], user_id=session.user_id)


def show(session: Session) -> dict[str, Any]:
    return {"user": session.user_id, "handle": session.handle if session else None, "data": dict(session)}


ACTIONS: dict[str, Callable[[Session, dict[str, str]], Any]] = {
    "/count": lambda session, query: session.transaction(count),
    "/login": lambda session, query: session.login(query["user"]),
    "/logout": lambda session, query: session.logout(),
    "/show": lambda session, query: show(session),
    "/revoke": revoke,
}


def tour(environ, start_response):
    path = environ["PATH_INFO"]
    if path in ("/stream", "/file", "/write"):
        return as_text(environ, start_response)
    answer: Any = "up"
    if path != "/up":
        form = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        query = dict(parse_qsl(environ["QUERY_STRING"]) + parse_qsl(form))
        answer = ACTIONS[path](get_session(environ), query)
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def as_text(environ, start_response):
    session = get_session(environ)
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    match environ["PATH_INFO"]:
        case "/stream":
            return stream(session)
        case "/file":
            session["file"] = True
            return environ.get("wsgi.file_wrapper", lambda file: iter(file.read, b""))(io.BytesIO(b"a file"))
        case _:
            session["written"] = True
            write(b"written ")
            return [b"out"]


app = SessionMiddleware(tour, store=os.environ["STORE"])
