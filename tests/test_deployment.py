"""The recipes of docs/deployment.md, as far as they can be run: what a proxy says, on a real gunicorn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from urllib.request import Request, urlopen

import pytest

from tests.servers import ROOT
from tests.web import Gunicorn

PAGE = (ROOT / "docs" / "deployment.md").read_text()
NGINX = dict(re.findall(r"proxy_set_header (\S+)\s+(\S+);", PAGE))
VALUES = {"$host": "shop.example", "$remote_addr": "203.0.113.7", "$scheme": "https"}


@pytest.fixture(scope="module")
def server() -> Iterator[Gunicorn]:
    """The app of the page, under gunicorn as in its unit, on a port instead of the socket."""
    code = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]
    server = Gunicorn("shop:app", "--workers", "4")
    (server.folder / "shop.py").write_text(code.replace("/var/lib/shop/", f"{server.folder}/"))
    try:
        yield server.start()
    finally:
        server.stop()


def visit(server: Gunicorn, **headers: str) -> tuple[str, SimpleCookie]:
    with urlopen(
        Request(server.url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    ) as answer:
        return answer.read().decode(), SimpleCookie(answer.headers["Set-Cookie"])


def test_behind_the_proxy_the_app_knows_that_it_is_on_https_and_the_cookie_is_secure(server):
    scheme, cookies = visit(server, **{name.replace("-", "_"): VALUES[value] for name, value in NGINX.items()})
    assert scheme == "https"
    assert cookies["sid"]["secure"]
    assert cookies["sid"]["httponly"]


def test_without_the_proxy_a_visitor_on_this_machine_gets_a_cookie_that_plain_http_keeps(server):
    scheme, cookies = visit(server)
    assert scheme == "http"
    assert not cookies["sid"]["secure"]


def test_the_proxy_says_all_that_the_app_is_set_to_believe():
    assert {name for name, value in NGINX.items()} == {
        "Host",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
    }
    assert "ProxyFix(SessionMiddleware(shop" in PAGE
    assert "x_for=1, x_proto=1, x_host=1" in PAGE


@pytest.mark.parametrize("unit", re.findall(r"^```ini\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
def test_the_units_run_what_is_there(unit):
    for command in re.findall(r"^ExecStart=\S+/bin/(\S+ \S+)", unit, re.MULTILINE):
        assert command.split()[0] in ("gunicorn", "wsgisession")
        assert command in ("gunicorn --workers", "wsgisession purge")
