"""A counter over Socket.IO that shares the session with the pages."""

from __future__ import annotations

from flask import Blueprint, render_template, session
from flask_socketio import SocketIO

from wsgisession import Session, SessionGone

from .receipt import manager

pages = Blueprint("live", __name__)

# WebSockets only: one connection stays with one worker, so any number of workers can run.
socketio = SocketIO(async_mode="threading", manage_session=False, transports=["websocket"])


@pages.get("/live")
def show() -> str:
    return render_template("live.html", count=session.setdefault("count", 0))


@socketio.on("count")
def count() -> int | None:
    """Add one and return the count; None if the session has ended since the page was loaded.

    No response follows that could carry a cookie, so the session is opened by its handle, which never starts one.
    """
    try:
        with manager().edit(session.handle) as shared:
            return shared.transaction(one_more)
    except SessionGone:
        return None


@socketio.on("alive")
def alive() -> bool:
    """Say whether the session still exists. The page asks every two seconds; this does not count as activity."""
    return session.handle is not None and manager().info(session.handle) is not None


def one_more(session: Session) -> int:
    session["count"] = session.get("count", 0) + 1
    return int(session["count"])
