"""The guide's two apps, run as they stand there, do what its console shows."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import shutil
from urllib.parse import urlsplit

from tests.express.peer import SECRET, node_packages
from tests.servers import HOST, ROOT, Server
from tests.web import Gunicorn

GUIDE = (ROOT / "docs" / "express.md").read_text()


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    return text


class GuideServer(Server):
    def __init__(self, redis_url: str) -> None:
        super().__init__()
        (self.folder / "server.js").write_text(block("js"))
        known = {"NODE_PATH": str(node_packages()), "PORT": str(self.port)}
        self.environment = {**os.environ, **known, "REDIS_URL": redis_url, "SESSION_SECRET": SECRET}

    def command(self) -> list[str]:
        return [shutil.which("node") or "node", "server.js"]

    def answers(self) -> bool:
        return ask(self.port, "/cart", {}).startswith("nobody")


def ask(port: int, path: str, jar: dict[str, str]) -> str:
    """Do what curl does with a jar of cookies, which do not tell ports apart."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
    connection.request("GET", path, headers={"Cookie": cookies} if cookies else {})
    response = connection.getresponse()
    answer = response.read().decode()
    if set_cookie := response.getheader("Set-Cookie"):
        name, _, value = set_cookie.partition(";")[0].partition("=")
        jar[name] = value
        if not value:
            del jar[name]
    connection.close()
    return answer


def test_the_apps_of_the_guide_do_what_its_console_shows(node, redis_server):
    url = f"{redis_server.url}"
    express = GuideServer(url)
    python = Gunicorn("app:app", REDIS_URL=url, SESSION_SECRET=SECRET)
    (python.folder / "app.py").write_text(block("python"))
    jar: dict[str, str] = {}
    try:
        ports = {3000: express.start().port, 8000: python.start().port}
        for command, answer in re.findall(r"^\$ curl (.*)\n(.*\n)", block("console"), re.MULTILINE):
            place = urlsplit(f"http://{shlex.split(command)[-1]}")
            assert ask(ports[place.port], f"{place.path}?{place.query}", jar) == answer
        assert jar == {}
    finally:
        python.stop()
        express.stop()


def test_every_option_of_express_session_is_in_the_table():
    theirs = GUIDE.partition("## Moving from express-session")[2]
    for option in ("secret", "name", "store", "genid", "resave", "saveUninitialized", "rolling", "unset", "proxy"):
        assert f"| `{option}" in theirs
