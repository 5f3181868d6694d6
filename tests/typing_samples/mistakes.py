"""What a type checker must find: each line with a mistake says so, and no other line has one."""

# pyright: strict

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from wsgisession import Session, SessionEvent, SessionManager, SessionMiddleware
from wsgisession.flask import FlaskSessions

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

SECRET = "a secret that is long enough"


def misspelled_options(app: WSGIApplication, flask_app: Flask) -> None:
    SessionManager(secret=SECRET, idle_timout=60)  # MISTAKE
    SessionMiddleware(app, secret=SECRET, idle_timout=60)  # MISTAKE
    SessionMiddleware(app, secrets=SECRET)  # MISTAKE
    FlaskSessions(flask_app, stor="memory://")  # MISTAKE
    FlaskSessions(idle_timout=60)  # MISTAKE


def options_of_another_type(app: WSGIApplication, flask_app: Flask) -> None:
    SessionManager(secret=SECRET, on_conflict="never")  # MISTAKE
    SessionMiddleware(app, secret=SECRET, rolling="yes")  # MISTAKE
    SessionMiddleware(app, secret=SECRET, on_gone="ignore")  # MISTAKE
    FlaskSessions(flask_app, idle_timeout="an hour")  # MISTAKE


def misspelled_events(event: SessionEvent) -> str:
    if event.name == "destroy":  # MISTAKE
        return "it is called destroyed"
    if event.reason == "bad-signature":  # MISTAKE
        return "it is called bad signature"
    return event.nam  # MISTAKE


def what_a_session_is_not(session: Session) -> None:
    session.views = 1  # MISTAKE
    session.logn(7)  # MISTAKE
    session.cookie.max_age = "60"  # MISTAKE
    session.cookie.same_site = "lax-ish"  # MISTAKE
    session.cookie.maxage = 60  # MISTAKE
    session.user_id = 7  # MISTAKE
