"""The admin page: for users with a role, which is in the session since the sign-in.

If you take a role away from a user, end the user's sessions too: ``manager.revoke_user(user_id)``.
"""

from __future__ import annotations

from itertools import islice

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from wsgisession.flask import role_required

from .receipt import manager

pages = Blueprint("admin", __name__)


@pages.get("/admin")
@role_required("admin", login_url="account.sign_in")
def show() -> str:
    found = sorted(islice(manager().all_sessions(), 100), key=lambda info: info.last_seen_at, reverse=True)
    return render_template("admin.html", found=found)


@pages.post("/admin/end")
@role_required("admin", login_url="account.sign_in")
def end() -> Response:
    if manager().revoke(request.form["handle"]):
        flash("That session has ended.")
    return redirect(url_for("admin.show"), 303)
