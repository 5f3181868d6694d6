"""What the README shows runs, and what its tables, and those of the documents it leads to, say is so."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import flask
import pytest
from flask import Flask

from tests.servers import ROOT
from tests.visits import Browser, Site
from tests.web import SECRET, Gunicorn
from tests.web import Browser as RealBrowser
from wsgisession import SessionManager, stores
from wsgisession._core.reply import Reply

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def rows(heading: str, page: str = "README.md") -> list[list[str]]:
    """The cells of the table under this heading."""
    section = re.split(rf"^##? {heading}$", (ROOT / page).read_text(), flags=re.MULTILINE)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_example_does_what_the_console_shows():
    (app,), (console,) = blocks("python"), blocks("console")
    (options,) = re.findall(r"^gunicorn (.*) hello:app$", README, re.MULTILINE)
    server = Gunicorn("hello:app", *options.split())
    (server.folder / "hello.py").write_text(app)
    try:
        browser = RealBrowser(server.start().url)
        visits = re.findall(r"^\$ curl (.*)\n(.*\n)", console, re.MULTILINE)
        assert [visited(browser, command) for command, _ in visits] == [answer for _, answer in visits]
        assert (server.folder / "sessions.db").is_file()
    finally:
        server.stop()


def visited(browser: RealBrowser, command: str) -> Any:
    """Do what curl would."""
    *options, url = shlex.split(command)
    path = urlsplit(url).path
    if "-d" not in options:
        return browser.get(path)
    return browser.post(path, **dict(parse_qsl(options[options.index("-d") + 1])))


def test_its_lines_give_flask_its_sessions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = Flask("shop")
    app.secret_key = SECRET
    app.add_url_rule("/", view_func=lambda: str(flask.session.setdefault("visits", 1)))
    (lines,) = blocks("python flask")
    exec(lines, {"app": app})  # what a reader pastes
    manager = app.extensions["wsgisession"].manager
    with app.test_client() as client:
        client.get("/")
    assert len(list(manager.store.scan(now=0))) == 1
    assert (tmp_path / "sessions.db").is_file()
    manager.close()


def test_its_lines_give_django_its_sessions(tmp_path):
    (lines,) = blocks("python django")
    (tmp_path / "shop.py").write_text(DJANGO + lines + "main()\n")
    shown = subprocess.run([sys.executable, "-W", "error", "shop.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert (shown.stdout, shown.stderr) == ("1\n2\n", "")
    assert (tmp_path / "sessions.db").is_file()


DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from werkzeug.test import Client

SECRET_KEY = "a secret that is long enough for Django too"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "__main__"
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]


def count(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


urlpatterns = [path("", count)]


def main():
    settings.configure(**{name: value for name, value in globals().items() if name.isupper()})
    client = Client(get_wsgi_application())
    print(client.get("/").text, client.get("/").text, sep="\\n")


"""
"""A project in one file, to which the settings that the README shows are added."""


def test_its_commands_are_targets_of_make():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert targets == ["test", "demo"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_its_options_are_those_of_the_manager():
    listed = [name for option, _, _ in rows("Options", "docs/options.md") for name in names(option)]
    assert sorted(listed) == sorted(set(inspect.signature(SessionManager).parameters))


@pytest.mark.parametrize("option", ["store", "name", "resave", "save_uninitialized", "rolling", "unset", "track_client",
                                    "on_conflict", "on_gone", "on_store_error"])  # fmt: skip
def test_its_defaults_are_those_of_the_manager(option):
    (default,) = [names(cell)[0] for listed, cell, _ in rows("Options", "docs/options.md") if names(listed) == [option]]
    expected = inspect.signature(SessionManager).parameters[option].default
    assert default == (f'"{expected}"' if isinstance(expected, str) else repr(expected))


def test_its_stores_are_those_that_can_be_opened():
    listed = {name.partition("://")[0]: extra for urls, _, extra in rows("Stores") for name in names(urls)}
    known = {scheme: extra or "" for scheme, (_, _, extra) in stores._BUILT_IN.items() if "valkey" not in scheme}
    assert {scheme: extra.strip("`") for scheme, extra in listed.items()} == known


# How it decides to write: for each row what happened before, and what the request does.


def a_visitor_with_a_session(site: Site) -> Browser:
    browser = site.browser()
    browser.put(cart={"apples": [1]})
    return browser


def a_visitor_without_a_record(site: Site) -> Browser:
    browser = a_visitor_with_a_session(site)
    site.manager.revoke(browser.handle)
    return browser


def read(session: Any) -> None:
    assert session.get("nothing") is None


def change(session: Any) -> None:
    session["cart"]["apples"].append(2)


def change_and_back(session: Any) -> None:
    session["cart"]["apples"].append(2)
    session["cart"]["apples"].pop()


ROWS: dict[str, tuple[Callable[[Site], Browser], Callable[[Any], Any]]] = {
    "leaves the session alone": (a_visitor_with_a_session, lambda session: None),
    "reads the session, and there is none": (Site.browser, read),
    "reads the session that is there": (a_visitor_with_a_session, read),
    "writes to a new session": (Site.browser, lambda session: session.update(a=1)),
    "changes the session that is there, however deep inside": (a_visitor_with_a_session, change),
    "changes it, and back again": (a_visitor_with_a_session, change_and_back),
    "calls `login` or `regenerate`": (a_visitor_with_a_session, lambda session: session.login("ada")),
    "calls `logout` or `destroy`": (a_visitor_with_a_session, lambda session: session.logout()),
    "changes a session that another request ends meanwhile": (a_visitor_with_a_session, change),
    "reads the session, and its record is gone": (a_visitor_without_a_record, read),
    "reads the session, and the cookie is forged": (lambda site: site.browser("forged"), read),
}


@pytest.mark.parametrize(("does", "asked", "cookie"), rows("How it decides to write", "docs/life.md"))
def test_it_decides_as_the_table_says(does, asked, cookie):
    site = Site()
    before, act = ROWS[does]
    browser = before(site)
    if "meanwhile" in does:
        handle = browser.handle
        site.store.before["replace"] = lambda: site.store.delete(handle, now=site.clock())
    site.store.calls.clear()
    with browser.request() as session:
        act(session)
    calls = set(site.store.calls) - ({"delete"} if "meanwhile" in does else set())
    assert calls == set(re.findall(r"`(\w+)`", asked))
    assert what_became_of_the_cookie(browser.reply) == cookie.partition(",")[0]


def what_became_of_the_cookie(reply: Reply) -> str:
    if reply.set_cookie is None:
        return "left alone"
    return "expired" if "Max-Age=0" in reply.set_cookie else "sent"


def test_a_change_sends_a_cookie_that_has_a_max_age():
    browser = Site(cookie={"max_age": 60}).browser()
    browser.put(a=1)
    browser.put(a=2)
    assert what_became_of_the_cookie(browser.reply) == "sent"
