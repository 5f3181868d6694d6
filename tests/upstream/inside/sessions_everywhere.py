"""A plugin for pytest: every Flask app keeps its sessions in our store, as if it had the line `FlaskSessions(app)`."""

from __future__ import annotations

import os
from typing import Any

import flask

from wsgisession.flask import FlaskSessions

STORE = os.environ["UPSTREAM_STORE"]  # now: there are tests that empty the environment

_make = flask.Flask.__init__


def _make_with_sessions(app: flask.Flask, *args: Any, **options: Any) -> None:
    _make(app, *args, **options)
    if type(app).session_interface is flask.Flask.session_interface:  # not where a test brings its own
        FlaskSessions(app, store=STORE)


flask.Flask.__init__ = _make_with_sessions  # type: ignore[method-assign]
