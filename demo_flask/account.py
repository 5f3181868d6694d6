"""Signing up, in, and out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from functools import wraps
from typing import Any

from flask import Blueprint, current_app, flash, redirect, render_template, request, session, url_for
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import BooleanField, PasswordField, StringField
from wtforms.validators import InputRequired, Length

from wsgisession.flask import login_required

from .guesses import Guesses
from .users import User, Users

pages = Blueprint("account", __name__)


class SignIn(FlaskForm):
    name = StringField("Name", [InputRequired(), Length(max=40)], render_kw={"autocomplete": "username"})
    password = PasswordField(
        "Password", [InputRequired(), Length(max=200)], render_kw={"autocomplete": "current-password"}
    )


class SignUp(FlaskForm):
    name = StringField("Name", [InputRequired(), Length(max=40)], render_kw={"autocomplete": "username"})
    password = PasswordField(
        "Password", [InputRequired(), Length(min=8, max=200)], render_kw={"autocomplete": "new-password"}
    )
    is_admin = BooleanField("Let me see the admin page")


class Confirm(FlaskForm):
    password = PasswordField(
        "Password", [InputRequired(), Length(max=200)], render_kw={"autocomplete": "current-password"}
    )


@pages.route("/sign-up", methods=["GET", "POST"])
def sign_up() -> str | Response:
    form = SignUp()
    if form.validate_on_submit():
        roles = ["admin"] if form.is_admin.data else []
        if user := current_app.extensions["users"].add(form.name.data, form.password.data, roles):
            return welcome(user)
        form.name.errors = ["This name is taken."]
    return render_template("sign_up.html", form=form)


@pages.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> str | Response:
    form = SignIn()
    if form.validate_on_submit():
        user = checked(form.name.data, form.password.data)
        if isinstance(user, User):
            return welcome(user)
        form.password.errors = [user or "No account has this name and password."]
    return render_template("sign_in.html", form=form)


@pages.route("/confirm", methods=["GET", "POST"])
@login_required(login_url="account.sign_in")
def confirm() -> str | Response:
    """Ask for the password again, before anything that a borrowed browser must not do."""
    form = Confirm()
    if form.validate_on_submit():
        user = checked(session["name"], form.password.data)
        if isinstance(user, User):
            return welcome(user)
        form.password.errors = [user or "This is not your password."]
    return render_template("confirm.html", form=form)


@pages.post("/sign-out")
def sign_out() -> Response:
    session.logout(clear_site_data=True)
    return redirect(url_for("home"), 303)


def checked(name: str, password: str) -> User | str | None:
    """Return the user with this name and password, or None; a sentence if there were too many wrong guesses."""
    users: Users = current_app.extensions["users"]
    guesses: Guesses = current_app.extensions["guesses"]
    guess = guesses.begin(name, request.remote_addr or "")
    if guess is None:
        return "Too many wrong passwords. Try again in five minutes."
    user = users.find(name, password)
    if user is not None:
        guesses.succeeded(name, guess)
    return user


def welcome(user: User) -> Response:
    """Log the user in. The session continues under a new ID, so anyone who knew the old ID has nothing."""
    before = session.handle
    session.pop("csrf_token", None)
    session.login(user.id, name=user.name, roles=user.roles, handle_before=before)
    flash(f"Welcome, {user.name}. Your session has a new ID, and the old one no longer works.")
    return redirect(next_page(), 303)


def next_page() -> str:
    """Return the page that the visitor was going to: a page of this site, never of another one."""
    wanted = request.args.get("next", "")
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if is_ours else url_for("home")


def fresh_login_required(view: Callable[..., Any]) -> Callable[..., Any]:
    """Accept users who gave their password recently; ask the others for it again."""

    @wraps(view)
    @login_required(login_url="account.sign_in")
    def guarded(*args: Any, **kwargs: Any) -> Any:
        at = session.authenticated_at
        if at is not None and datetime.now(timezone.utc) - at < current_app.config["FRESH_FOR"]:
            return view(*args, **kwargs)
        page = request.path if request.method == "GET" else url_for(f"{request.blueprint}.show")
        return redirect(url_for("account.confirm", next=page), 303)

    return guarded
