"""Session fixation, tried on two sites: one only stores the name of the user, and one calls ``session.login``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, render_template, session

from wsgisession.flask import FlaskSessions

from .receipt import manager

pages = Blueprint("fixation", __name__)


@pages.get("/fixation")
def show(attempts: list[dict[str, Any]] | None = None) -> str:
    before = session.get("handle_before")
    is_dead = before is not None and manager().load(before) is None
    return render_template("fixation.html", before=before, is_dead=is_dead, attempts=attempts)


@pages.post("/fixation")
def attack() -> str:
    return show([attempt(sign_in_carelessly), attempt(sign_in)])


def sign_in_carelessly() -> None:
    session["name"] = "Ada"  # not under "user_id", for which the library changes the ID


def sign_in() -> None:
    session.login("Ada", name="Ada")


def attempt(sign_in: Callable[[], None]) -> dict[str, Any]:
    """Plant a session in Ada's browser, sign Ada in, and return what each of the two then sees."""
    site = site_with(sign_in)
    attacker, ada = site.test_client(), site.test_client()
    planted = attacker.get("/").json
    ada.set_cookie("session", attacker.get_cookie("session").value)
    ada.post("/sign-in")
    return {"planted": planted, "ada": ada.get("/").json, "attacker": attacker.get("/").json}


def site_with(sign_in: Callable[[], None]) -> Flask:
    """Make a site with two addresses: one shows the current user, and Ada signs in at the other."""
    site = Flask("site")
    site.secret_key = "the secret of a site that lives for one click"
    FlaskSessions(site, store="memory://")

    @site.get("/")
    def who() -> dict[str, Any]:
        session["visits"] = session.get("visits", 0) + 1
        return {"user": session.get("name"), "handle": session.handle}

    @site.post("/sign-in")
    def enter() -> str:
        sign_in()
        return "Welcome"

    return site
