"""An app on the real express-session, the same app on ours, and a browser that visits both.

The packages are installed by npm, once, into a folder of the user's cache: outside of the checkout.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from werkzeug.test import create_environ, run_wsgi_app

from tests.servers import HOST, Server, ServerUnavailable
from wsgisession import Session, SessionManager, SessionMiddleware
from wsgisession.wsgi.environ import KEY

HERE = Path(__file__).parent
NAME = "connect.sid"
SECRET = "for the tests, and long enough"

Step = Sequence[Any]


class RegistryUnavailable(ServerUnavailable):
    """npm is there, and what it is to install cannot be had: no fault of the machine's."""


def node_packages() -> Path:
    """Return the folder in which the packages of package.json are, installed there if need be.

    :raises ServerUnavailable: where Node.js is missing, or the packages cannot be had.
    """
    if not shutil.which("node") or not shutil.which("npm"):
        raise ServerUnavailable('there is no Node.js: install Node.js 20 with npm to test format="express" against it')
    wanted = (HERE / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsgisession-tests"
    folder = cache / f"express-{hashlib.sha256(wanted).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            _install(Path(fresh) / "made", wanted)
            if not folder.exists():
                (Path(fresh) / "made").rename(folder)
    return folder / "node_modules"


def _install(folder: Path, wanted: bytes) -> None:
    folder.mkdir()
    (folder / "package.json").write_bytes(wanted)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RegistryUnavailable(f"npm cannot install the packages of Express: {done.stderr.strip()[-500:]}")


class Node(Server):
    """A process that makes apps on express-session."""

    def __init__(self) -> None:
        packages = node_packages()
        super().__init__()
        self.environment = {**os.environ, "NODE_PATH": str(packages), "PORT": str(self.port), "NODE_ENV": "test"}

    def command(self) -> list[str]:
        return [shutil.which("node") or "node", str(HERE / "server.js")]

    def answers(self) -> bool:
        self.ask("DELETE", "/apps/0")
        return True

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, list[str], Any]:
        """Return the status, the Set-Cookie headers and the answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        cookies = [value for name, value in response.getheaders() if name.lower() == "set-cookie"]
        return response.status, cookies, json.loads(answer)


class Answer(NamedTuple):
    """What a visit got.

    :ivar data: the session's data at the end of the request; None if there was no session.
    """

    status: int
    set_cookie: str | None
    id: str | None
    data: Any


class Browser:
    """Keeps one cookie, for both apps."""

    def __init__(self, cookie: str | None = None) -> None:
        self.cookie = cookie

    @property
    def header(self) -> str:
        return "" if self.cookie is None else f"{NAME}={self.cookie}"

    def take(self, set_cookie: str | None) -> None:
        if set_cookie is None:
            return
        value, attributes = parsed(set_cookie)
        self.cookie = None if attributes.get("max-age") == "0" or _is_past(attributes.get("expires")) else value


def parsed(set_cookie: str) -> tuple[str, dict[str, str]]:
    """Return the value and the attributes of a cookie, their names in lower case."""
    pair, *rest = set_cookie.split("; ")
    name, _, value = pair.partition("=")
    assert name == NAME
    return value, {name.lower(): value for name, _, value in (each.partition("=") for each in rest)}


def _is_past(expires: str | None) -> bool:
    return expires is not None and parsedate_to_datetime(expires).year == 1970


class Express:
    """An app on express-session.

    :param store: the kind and the options of its store.
    :param options: of express-session.
    """

    def __init__(self, node: Node, store: dict[str, Any], **options: Any) -> None:
        settings = {"secret": SECRET, "resave": False, "saveUninitialized": False, "name": NAME, **options}
        status, _, self._number = node.ask("POST", "/apps", {"store": store, "session": settings})
        assert status == 200, self._number
        self._node = node

    def visit(self, browser: Browser, *steps: Step, scheme: str = "http") -> Answer:
        headers = {"Cookie": browser.header} if browser.header else {}
        path = f"/apps/{self._number}/visit"
        status, cookies, answer = self._node.ask(
            "POST", path, list(map(list, steps)), **{"X-Forwarded-Proto": scheme}, **headers
        )
        assert len(cookies) <= 1
        assert "error" not in answer, answer
        set_cookie = cookies[0] if cookies else None
        browser.take(set_cookie)
        return Answer(status, set_cookie, answer["id"], answer["data"])

    def record(self, session_id: str) -> Any:
        """Return what its store reads."""
        _, _, answer = self._node.ask("GET", f"/apps/{self._number}/record?id={quote(session_id, safe='')}")
        assert answer["error"] is None, answer
        return answer["found"]

    def close(self) -> None:
        self._node.ask("DELETE", f"/apps/{self._number}")


class Ours:
    """The same app on this library, with ``format="express"``, asked without a server."""

    def __init__(self, store: Any, **options: Any) -> None:
        self.manager = SessionManager(
            **{"secret": SECRET, "store": store, "format": "express", "name": NAME, **options}
        )
        self._app = SessionMiddleware(_app, self.manager)

    def visit(
        self, browser: Browser, *steps: Step, scheme: str = "http", between: Callable[[], object] | None = None
    ) -> Answer:
        """:param between: called after the steps, before the response leaves."""
        headers = [("Cookie", browser.header)] if browser.header else []
        environ = create_environ("/visit", f"{scheme}://{HOST}/", method="POST", headers=headers)
        environ["tests.steps"], environ["tests.between"] = steps, between
        body, status, answered = run_wsgi_app(self._app, environ)
        cookies = answered.getlist("Set-Cookie")
        assert len(cookies) <= 1
        answer = json.loads(b"".join(body))
        set_cookie = cookies[0] if cookies else None
        browser.take(set_cookie)
        return Answer(int(status.split()[0]), set_cookie, answer["id"], answer["data"])

    def close(self) -> None:
        self.manager.close()


def _app(environ: Any, start_response: Any) -> Iterable[bytes]:
    session: Session = environ[KEY]
    ended = False
    for verb, *values in environ["tests.steps"]:
        if verb == "drop":
            environ[KEY] = None
        else:
            _VERBS[verb](session, *values)
        ended = ended or verb in ("drop", "destroy")
    if ended or not environ["tests.steps"]:  # without steps, nobody touches the session
        answer = {"id": None, "data": None}
    else:
        answer = {"id": session.id, "data": dict(session)}
    if environ["tests.between"] is not None:
        environ["tests.between"]()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def _set_max_age(session: Session, milliseconds: float | None) -> None:
    session.cookie.max_age = None if milliseconds is None else milliseconds / 1000


_VERBS: dict[str, Callable[..., object]] = {
    "get": lambda session: session.get("nothing"),
    "set": lambda session, key, value: session.__setitem__(key, value),
    "remove": lambda session, key: session.pop(key, None),
    "nested": lambda session, key, inner, value: session.setdefault(key, {}).__setitem__(inner, value),
    "push": lambda session, key, value: session.setdefault(key, []).append(value),
    "add": lambda session, key: session.__setitem__(key, session.get(key, 0) + 1),
    "regenerate": lambda session: session.regenerate(keep_data=False),
    "rotate": lambda session: session.regenerate(),
    "login": lambda session, user: session.login(user),
    "destroy": lambda session: session.destroy(),
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "touch": lambda session: session.touch(),
    "maxAge": _set_max_age,
}


def together(*functions: Callable[[], object]) -> None:
    """Call the functions in threads of their own, at once, and raise what any of them raised."""
    start, errors = threading.Barrier(len(functions)), []

    def run(function: Callable[[], object]) -> None:
        start.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def where(kind: str, url: str, **options: Any) -> tuple[dict[str, Any], str]:
    """Return the store of a test's URL for Express and for us."""
    parts = urlsplit(url)
    own = dict(part.split("=", 1) for part in parts.query.split("&") if part)
    taken = {name: own.pop(name) for name in ("prefix", "schema", "table", "collection", "stringify") if name in own}
    bare = parts._replace(query="&".join(f"{name}={value}" for name, value in own.items())).geturl()
    names = {"prefix": "prefix", "schema": "schemaName", "table": "tableName", "collection": "collectionName"}
    known = {names[name]: value.replace("%3A", ":") for name, value in taken.items() if name in names}
    if "stringify" in taken:
        known["stringify"] = taken["stringify"] == "true"
    return {"kind": kind, "url": bare, **known, **options}, url
