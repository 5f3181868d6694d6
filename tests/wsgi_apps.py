"""WSGI apps of every kind, and a server and a browser as PEP 3333 has them."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import create_environ

from tests.visits import Site
from wsgisession import (
    Session,
    SessionMiddleware,
    StoreError,
    get_session,
)

TEXT = ("Content-Type", "text/plain")

OK = "200 OK"

Environ = dict[str, Any]


class Failure(Exception):
    """What an app raises."""


class Browser:
    """A WSGI server as PEP 3333 has it, and the browser before it: it keeps cookies and notes what happened when.

    :ivar log: what the server did and was told, in order; apps and stores may write into it too.
    :ivar status: of the last response, or None where none began.
    """

    def __init__(self, app: Any, **environ: Any) -> None:
        self.app, self.environ = app, environ
        self.cookies: dict[str, str] = {}
        self.log: list[Any] = []

    def get(self, path: str = "/", **environ: Any) -> Browser:
        return self.send(self.request(path, **environ))

    def request(self, path: str = "/", *, method: str = "GET", **environ: Any) -> Environ:
        made = create_environ(path, base_url="https://localhost/", method=method)
        made["wsgi.file_wrapper"] = FileWrapper
        if self.cookies:
            made["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {**made, **self.environ, **environ}

    def send(self, environ: Environ, *, chunks: int | None = None) -> Browser:
        """Send the request.

        :param chunks: after how many chunks of the body the client goes away; left out: it stays.
        """
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.body, self._sent = b"", False
        self.returned = self.app(environ, self.start_response)
        try:
            for chunk in itertools.islice(self.returned, chunks):
                assert self.status is not None, "the body came before the status"
                self.write(chunk)
            if chunks is None:
                assert self.status is not None, "the body ended before the status came"
        finally:
            getattr(self.returned, "close", lambda: None)()
            self.log.append("closed")
        return self

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        if exc_info is not None and self._sent:
            raise exc_info[1]
        assert exc_info is not None or self.status is None, "start_response was called twice"
        assert type(headers) is list
        self.status, self.headers = status, list(headers)
        self.log.append(status)
        for header in self.all("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return self.write

    def write(self, data: bytes) -> None:
        if data:
            self._sent = True
            self.body += data
            self.log.append(data)

    def all(self, name: str) -> list[str]:
        """Return the values of all headers of this name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def visiting(site: Site, app: Any, **environ: Any) -> Browser:
    return Browser(SessionMiddleware(app, site.manager), **environ)


def answering(use: Callable[[Session], object], body: Any = (b"done",)) -> Any:
    """Return an app that does this to its session, and answers."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        use(get_session(environ))
        start_response(OK, [TEXT])
        return list(body)

    return app


def streaming(*steps: Callable[[Session], object] | bytes) -> Any:
    """Return an app whose body is a generator that sends the bytes and does the rest to its session, in this order."""

    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        session = get_session(environ)
        start_response(OK, [TEXT])
        for step in steps:
            if isinstance(step, bytes):
                yield step
            else:
                step(session)

    return app


def put(**data: Any) -> Callable[[Session], None]:
    return lambda session: session.update(data)


def logged_in(site: Site, app: Any, **data: Any) -> Browser:
    """Return a browser that has a session already, and comes to this app."""
    browser = visiting(site, answering(put(**(data or {"n": 1}))))
    browser.get()
    browser.app = SessionMiddleware(app, site.manager)
    browser.log.clear()
    site.store.calls.clear()
    return browser


def data_of(site: Site, browser: Browser) -> dict[str, Any]:
    return site.browser(browser.cookies.get("sid", "")).data


def fail(*_: Any) -> None:
    raise Failure


def fail_at(site: Site, *verbs: str) -> None:
    """Make the store fail at the next call of each verb."""

    def down() -> None:
        raise StoreError("the store cannot be reached")

    site.store.before.update(dict.fromkeys(verbs, down))


class Body:
    """A body that counts how often it is closed."""

    def __init__(self, *chunks: bytes | Callable[[], object]) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        if callable(chunk):
            chunk()
            return b""
        return chunk

    def close(self) -> None:
        self.closed += 1


def list_body(environ, start_response):
    start_response(OK, [TEXT, ("Content-Length", "4")])
    return [b"do", b"ne"]


def tuple_body(environ, start_response):
    start_response(OK, [TEXT])
    return (b"done",)


def empty_body(environ, start_response):
    start_response("303 See Other", [TEXT, ("Location", "https://localhost/")])
    return []


def generator(environ, start_response):
    start_response(OK, [TEXT])
    return (chunk for chunk in (b"do", b"ne"))


def late_generator(environ, start_response):
    start_response(OK, [TEXT])
    yield b"do"
    yield b"ne"


def empty_generator(environ, start_response):
    start_response(OK, [TEXT])
    return
    yield


def empty_chunks(environ, start_response):
    start_response(OK, [TEXT])
    return iter([b"", b"", b"done", b""])


def only_empty_chunks(environ, start_response):
    start_response(OK, [TEXT])
    return iter([b"", b""])


def written(environ, start_response):
    write = start_response(OK, [TEXT])
    write(b"")
    write(b"do")
    write(b"ne")
    return []


def written_and_more(environ, start_response):
    start_response(OK, [TEXT])(b"do")
    return [b"ne"]


def written_and_a_generator(environ, start_response):
    start_response(OK, [TEXT])(b"do")
    return iter([b"", b"ne"])


def no_content(environ, start_response):
    start_response("204 No Content", [("Content-Length", "0")])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"1"')])
    return iter(())


def started_again(environ, start_response):
    start_response(OK, [TEXT, ("X-First", "1")])
    try:
        fail()
    except Failure:
        start_response("500 Internal Server Error", [TEXT], sys.exc_info())
    return [b"sorry"]


def started_again_in_a_generator(environ, start_response):
    yield from started_again(environ, start_response)


def file_body(environ, start_response):
    start_response(OK, [TEXT])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"done"), 2)


def posted(environ, start_response):
    text = environ["wsgi.input"].read(4)
    start_response(OK, [TEXT])
    return [text]


APPS = [list_body, tuple_body, empty_body, generator, late_generator, empty_generator, empty_chunks]

APPS += [only_empty_chunks, written, written_and_more, written_and_a_generator, no_content, not_modified]

APPS += [started_again, started_again_in_a_generator, file_body, posted]

LINTS = [validator, LintMiddleware]


def reading(session: Session) -> None:
    session.get("n")


def ending(session: Session) -> None:
    session.destroy()


USES = [lambda session: None, reading, put(n=2), ending]

USED = ["untouched", "read", "changed", "destroyed"]


def using(use: Callable[[Session], object], app: Any) -> Any:
    def used(environ: Environ, start_response: Any) -> Any:
        use(get_session(environ))
        return app(environ, start_response)

    return used


def writing(environ, start_response):
    get_session(environ)["n"] = 2
    start_response(OK, [TEXT])(b"done")
    return []
