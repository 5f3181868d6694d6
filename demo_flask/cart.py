"""The cart: nested data that several tabs change at once, and a test group that stays the same."""

from __future__ import annotations

import secrets
import time
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

GOODS = {"apple": 40, "bread": 320, "cheese": 650}  # in cents

pages = Blueprint("cart", __name__)


@pages.get("/cart")
def show() -> str:
    # Each visitor is in one of two groups, and stays there.
    group = session.setdefault("group", secrets.choice("AB"))
    cart = session.setdefault("cart", {"lines": {}, "history": []})
    total = sum(line["quantity"] * line["cents"] for line in cart["lines"].values())
    return render_template("cart.html", goods=GOODS, cart=cart, group=group, total=total)


@pages.post("/cart")
def change() -> Response:
    item, change = request.form["item"], request.form.get("change", type=int)
    if item not in GOODS or change not in (1, -1):
        abort(400)
    # Two requests that append to one list both keep their additions: nested changes are detected, and merged.
    cart = session.setdefault("cart", {"lines": {}, "history": []})
    cart["history"].append(f"{change:+} {item}")
    if "slowly" in request.form:
        time.sleep(0.4)  # so that requests that are sent together also run together
    # A count depends on the stored value, so this is a transaction: it counts again if another request interfered.
    session.transaction(lambda session: put_into(session["cart"]["lines"], item, change))
    return redirect(url_for("cart.show"), 303)


def put_into(lines: dict[str, Any], item: str, change: int) -> None:
    line = lines.setdefault(item, {"quantity": 0, "cents": GOODS[item]})
    line["quantity"] += change
    if line["quantity"] <= 0:
        del lines[item]
