"""A counter over Socket.IO that shares the session with the pages."""

from __future__ import annotations

from flask import Blueprint, render_template, session
from flask_socketio import SocketIO

from wsgisession import Session, SessionGone

from .receipt import manager

pages = Blueprint("live", __name__)

# WebSockets only: one connection stays with one worker, so that any number of workers will do.
socketio = SocketIO(async_mode="threading", manage_session=False, transports=["websocket"])


@pages.get("/live")
def show() -> str:
    return render_template("live.html", count=session.setdefault("count", 0))


@socketio.on("count")
def count() -> int | None:
    """Count one more, and answer how many that makes; None for a session that has ended since the page came.

    No response follows that could carry a cookie. So the session is opened by its handle, which never starts one.
    """
    try:
        with manager().edit(session.handle) as shared:
            return shared.transaction(one_more)
    except SessionGone:
        return None


def one_more(session: Session) -> int:
    session["count"] = session.get("count", 0) + 1
    return int(session["count"])
