"""The app: Flask as anywhere, with `SessionMiddleware` around it and its own ``session``.

Where sessions are kept (``STORE``) and what signs their cookies (``SESSION_SECRET``) come from the environment.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.local import LocalProxy
from werkzeug.wrappers import Response

from wsgisession import Session, SessionManager, SessionMiddleware, get_session

GOODS = {"apple": 40, "bread": 320, "cheese": 650}  # in cents

sessions = SessionManager(
    store=os.environ["STORE"],
    cookie={"max_age": timedelta(days=14)},
    track_client=True,
    on_store_error="unavailable",
)
app = Flask(__name__)
app.wsgi_app = SessionMiddleware(app.wsgi_app, sessions)  # type: ignore[method-assign]
session: Session = LocalProxy(lambda: get_session(request.environ))  # type: ignore[assignment]


@app.before_request
def refuse_forms_of_other_sites() -> None:
    """SameSite=Lax keeps other sites' forms without our cookie; this also stops those of a neighbour on this host."""
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        abort(403)


@app.get("/")
def home() -> str:
    session["visits"] = session.get("visits", 0) + 1
    devices = [] if session.user_id is None else sessions.sessions_for(session.user_id)
    return render_template(
        "home.html", session=session, goods=GOODS, devices=devices, store=sessions.store, worker=os.getpid()
    )


@app.post("/login")
def log_in() -> Response:
    name = request.form["name"].strip()[:40]
    if name and session.user_id is None:
        session.login(name)
    return redirect(url_for("home"), 303)


@app.post("/logout")
def log_out() -> Response:
    session.logout()
    return redirect(url_for("home"), 303)


@app.post("/cart")
def change_cart() -> Response:
    item, change = request.form["item"], request.form.get("change", type=int)
    if item not in GOODS or change not in (1, -1):
        abort(400)
    # A transaction, so that of two clicks at once each counts. What changes deep inside the session is noticed.
    session.transaction(lambda session: put_into(session.setdefault("cart", {}), item, change))
    return redirect(url_for("home"), 303)


def put_into(cart: dict[str, Any], item: str, change: int) -> None:
    line = cart.setdefault(item, {"quantity": 0, "cents": GOODS[item]})
    line["quantity"] += change
    if line["quantity"] <= 0:
        del cart[item]


@app.post("/revoke")
def revoke() -> Response:
    if session.user_id is not None:
        sessions.revoke(request.form["handle"], user_id=session.user_id)
    return redirect(url_for("home"), 303)
