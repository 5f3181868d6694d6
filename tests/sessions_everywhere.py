"""A plugin of pytest's for the test suites of others: every Flask app has its sessions on the server.

Their apps have secrets such as "test key", which are refused outside of tests; here they pass.
"""

from __future__ import annotations

from typing import Any

import flask

from wsgisession._core import ids as signing
from wsgisession.flask import FlaskSessions

_make = flask.Flask.__init__


def _make_with_sessions(app: flask.Flask, *args: Any, **options: Any) -> None:
    _make(app, *args, **options)
    if type(app).session_interface is flask.Flask.session_interface:  # not where a test has one of its own
        FlaskSessions(app)


def _as_bytes(secret: str | bytes) -> bytes:
    return secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret


flask.Flask.__init__ = _make_with_sessions  # type: ignore[method-assign]
signing._checked = _as_bytes  # type: ignore[assignment]
