"""The library's decisions: requests that each do one thing to their session, and how long sessions last."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, current_app, render_template, session

pages = Blueprint("inside", __name__)


def read() -> None:
    session.get("number")


def change() -> None:
    session["number"] = session.get("number", 0) + 1


def change_deep_inside() -> None:
    session.setdefault("tree", {"branches": [[]]})["branches"][0].append("leaf")


def change_and_change_back() -> None:
    session["other"] = 1
    del session["other"]


def get_new_id() -> None:
    session.regenerate()


def keep_or_forget() -> None:
    session.permanent = not session.permanent


def end_and_write() -> None:
    session.destroy()
    session["number"] = 1


# For each button: the function, the label, and the code.
ACTIONS: dict[str, tuple[Callable[[], None], str, str]] = {
    "read": (read, "Read", 'session.get("number")'),
    "change": (change, "Change", 'session["number"] += 1'),
    "deep": (change_deep_inside, "Change deep inside", 'session["tree"]["branches"][0].append("leaf")'),
    "back": (change_and_change_back, "Change and change back", 'session["other"] = 1; del session["other"]'),
    "id": (get_new_id, "Get a new ID", "session.regenerate()"),
    "keep": (keep_or_forget, "Keep or forget the cookie", "session.permanent = not session.permanent"),
    "end": (end_and_write, "End and write", 'session.destroy(); session["number"] = 1'),
}


@pages.get("/inside")
def show() -> str:
    return render_template("inside.html", actions=ACTIONS)


@pages.post(f"/inside/<any({', '.join(ACTIONS)}):action>")
def act(action: str) -> str:
    ACTIONS[action][0]()
    return render_template("inside.html", actions=ACTIONS, done=action)


@pages.get("/inside/untouched")
def untouched() -> str:
    return render_template("untouched.html")


@pages.get("/timeouts")
def timeouts() -> str:
    began = session.authenticated_at or session.created_at
    return render_template(
        "timeouts.html",
        idle=session.expires_at,
        absolute=began + current_app.config["SESSION_ABSOLUTE_TIMEOUT"],
    )
