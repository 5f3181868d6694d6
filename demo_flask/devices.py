"""Your devices: every browser in which the user is signed in, with a button that ends its session."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from .account import fresh_login_required
from .receipt import manager

BROWSERS = {"Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Macintosh", "Linux")

pages = Blueprint("devices", __name__)


@pages.get("/devices")
@fresh_login_required
def show() -> str:
    return render_template("devices.html", devices=manager().sessions_for(session.user_id))


@pages.post("/devices/end")
@fresh_login_required
def end() -> Response:
    # With the user ID: the handle comes from the browser, and could be the handle of another user's session.
    if manager().revoke(request.form["handle"], user_id=session.user_id):
        flash("That device is signed out, and will show it on its next click.")
    return redirect(url_for("devices.show"), 303)


@pages.post("/devices/end-others")
@fresh_login_required
def end_others() -> Response:
    count = manager().revoke_user(session.user_id, except_handle=session.handle)
    flash(f"{count} other {'device is' if count == 1 else 'devices are'} signed out.")
    return redirect(url_for("devices.show"), 303)


@pages.app_template_filter()
def device_name(user_agent: str | None) -> str:
    """Name the browser and the system as people would."""
    agent = user_agent or ""
    browser = next((name for mark, name in BROWSERS.items() if mark in agent), None)
    system = next((name for name in SYSTEMS if name in agent), None)
    return " on ".join(part for part in (browser, system) if part) or agent[:40] or "Unknown program"
