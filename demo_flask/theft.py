"""A stolen cookie: copy your own cookies into another program, and see what they are worth there."""

from __future__ import annotations

import shlex
from datetime import timedelta

from flask import Blueprint, Response, current_app, render_template, request, session, url_for

from wsgisession import DeviceBinding
from wsgisession.device.options import LEEWAY
from wsgisession.flask import login_required

pages = Blueprint("theft", __name__)


@pages.get("/theft")
def show(commands: dict[str, str] | None = None) -> str:
    return render_template("theft.html", commands=commands, works_until=works_until(), is_on=is_on())


@pages.post("/theft")
@login_required
def steal() -> str:
    """Show the cookies, which no other page does: everyone who sees them is signed in, unless they are bound."""
    return show(
        {
            "both": command(dict(request.cookies)),
            "long": command({name: value for name, value in request.cookies.items() if not name.endswith("_device")}),
        }
    )


@pages.get("/theft/who")
def who() -> Response:
    """Say who the cookies belong to: what a thief's program asks."""
    name = session.get("name")
    return Response(f"You are signed in as {name}.\n" if name else "You are nobody.\n", mimetype="text/plain")


def is_on() -> bool:
    """Say whether this demo binds sessions, which takes https."""
    return bool(current_app.config.get("SESSION_DEVICE_BINDING"))


def works_until() -> str | None:
    """Say until when a copied pair of cookies works, on the server's clock."""
    if session.user_id is None or session.device is None:
        return None
    lasts = timedelta(seconds=DeviceBinding().seconds + LEEWAY)
    return f"{session.device.proven_at.astimezone() + lasts:%H:%M:%S}"


def command(cookies: dict[str, str]) -> str:
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    options = "--insecure " if request.is_secure else ""
    return f"curl {options}--cookie {shlex.quote(header)} {url_for('theft.who', _external=True)}"
