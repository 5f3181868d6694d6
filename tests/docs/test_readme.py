"""The README's examples run, and its tables agree with the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import flask
from flask import Flask

from benchmarks.comparison import comparison
from tests.docs.pages import blocks, names, rows, text_of
from tests.servers import ROOT
from tests.web import SECRET, Gunicorn
from tests.web import Browser as RealBrowser
from wsgisession import stores

PAGE = "README.md"


def test_the_example_does_what_the_console_shows():
    (app,), (console,) = blocks(PAGE), blocks(PAGE, "console")
    (options,) = re.findall(r"^gunicorn (.*) hello:app$", text_of(PAGE), re.MULTILINE)
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
    (lines,) = blocks(PAGE, "python flask")
    exec(lines, {"app": app})  # what a reader pastes
    manager = app.extensions["wsgisession"].manager
    with app.test_client() as client:
        client.get("/")
    assert len(list(manager.store.scan(now=0))) == 1
    assert (tmp_path / "sessions.db").is_file()
    manager.close()


def test_its_lines_give_django_its_sessions(tmp_path):
    (lines,) = blocks(PAGE, "python django")
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
    targets = re.findall(r"^make (\w+)", text_of(PAGE), re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


ALIASES = ("valkey", "postgres:", "postgresql+")
"""Other spellings of a scheme, which the page on stores lists."""


def test_its_stores_are_those_that_can_be_opened():
    listed = {name.partition("://")[0]: extra for urls, _, extra in rows(PAGE, "Stores") for name in names(urls)}
    known = {scheme: place[2] or "" for scheme, place in stores._BUILT_IN.items()}
    spelled = {scheme: extra for scheme, extra in known.items() if not f"{scheme}:".startswith(ALIASES)}
    assert {scheme: extra.strip("`") for scheme, extra in listed.items()} == spelled


def test_the_page_on_stores_lists_every_other_spelling_of_a_scheme():
    text = text_of("stores.md")
    assert all(f"{scheme}://" in text or "valkey" in scheme for scheme in stores._BUILT_IN)
    assert "the same with `valkey`" in text


def test_its_figures_are_those_of_the_measured_tables():
    (shown,) = re.findall(r"<!-- compare -->\n\n(.*?)\n\n<!-- end -->", text_of(PAGE), re.DOTALL)
    assert shown == comparison(), "run python -m benchmarks.comparison"
