"""Device-bound sessions in Flask: the endpoints and the answers to unproven requests come before everything else."""

from __future__ import annotations

from threading import Lock

from flask import Flask, Response, request
from flask import session as _flask_session

from ..device.gate import Gate
from ..session import Session

_installing = Lock()


def install(app: Flask) -> None:
    """Let the app answer for devices before its own ``before_request`` functions, such as those that check for CSRF.

    Settings are read at the first request, which may already be a refresh: so this works in a request too.
    """
    with _installing:
        present = app.before_request_funcs.get(None, [])
        if _answer not in present:  # a new list, because another thread may be walking the old one
            app.before_request_funcs[None] = [_answer, *present]


def _answer() -> Response | None:
    session = _flask_session._get_current_object()  # type: ignore[attr-defined]
    if not isinstance(session, Session):
        return None
    visit = session._visit
    if visit.services.devices is None:  # the settings have changed since
        return None
    gate = Gate(visit.services)
    answer = gate.at_endpoint(request.environ) or gate.help_visit(request.environ, visit)
    if answer is None:
        return None
    visit.sealed = True  # the request has no part in the session, so nothing is saved or sent for it
    return Response(answer.body, answer.status, answer.headers)
