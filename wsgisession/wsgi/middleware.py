"""`SessionMiddleware`: environ in, headers out. It translates; the core decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from .._core.reply import READ, Headers, with_reply
from .._core.rules import PLAIN
from ..errors import StoreError
from ..manager import SessionManager
from ..session import Session
from .environ import KEY, RETRY_AFTER, UNAVAILABLE, path_of, session_named

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from ..device.endpoints import Answer
    from ..device.gate import Gate
    from ..settings import Options

_SENDS_HEADERS_AT_ONCE = frozenset({"Granian"})
"""Servers that take the headers when the call returns, and not, as PEP 3333 asks, with the first byte of the body."""


class SessionMiddleware:
    """Gives every request of a WSGI app a session, under ``environ["wsgisession.session"]``.

    The session is written before the headers are sent, and the headers are sent with the first byte of the body, so a
    client never sees success for a session that was not stored.

    :param manager: a `SessionManager`; if omitted, one is made of the options.
    :raises ConfigurationError: for an invalid option.
    :raises TypeError: for an option that does not exist, suggesting the intended one.
    """

    def __init__(self, app: WSGIApplication, manager: SessionManager | None = None, **options: Unpack[Options]) -> None:
        if manager is not None and options:
            raise TypeError("give SessionMiddleware a manager or options, not both")
        if not isinstance(manager, SessionManager | None):
            raise TypeError("the second argument of SessionMiddleware is a SessionManager; name a store with store=...")
        self.app = app
        self.manager = SessionManager(**options) if manager is None else manager
        services = self.manager._services
        self._is_lazy = services.is_lazy
        self._cookie, self._is_everywhere = services.cookie, services.cookie.path == "/"
        self._is_shared = self.manager.store.shared
        self._gate = None if services.devices is None else _gate_of(self.manager)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Run the app with a session in its environ."""
        manager, enclosing = self.manager, environ.get(KEY)
        if enclosing is not None and self._is_around(environ):
            return self.app(environ, start_response)
        if not self._is_everywhere and not self._cookie.covers(path_of(environ)):
            return self.app(environ, start_response)
        if not self._is_shared and environ["wsgi.multiprocess"]:
            manager.check_server(multiprocess=True)
        if self._gate is not None and (answer := self._gate.at_endpoint(environ)) is not None:
            return _answered(answer, environ, start_response)
        session: Session = manager.open(environ.get("HTTP_COOKIE", ""), environ)
        visit = session._visit
        if enclosing is not None:
            visit.enclosing, enclosing._visit.is_enclosing = enclosing, True
        environ[KEY] = session
        response = _Response(manager, session, environ, start_response)
        try:
            if self._gate is not None and (answer := self._gate.help_visit(environ, visit)) is not None:
                return _answered(answer, environ, start_response)
            body = self.app(environ, response.start)
        except BaseException as error:
            return response.failed(error)
        held = response.held
        if held and self._is_lazy and type(body) is list and environ.get(KEY) is session:
            # The common case: the session did not change, and no longer can. The response is sent unchanged.
            if visit.values is None:
                visit.sealed = True
                start_response(*held)
                return body
            if visit.rules is PLAIN and visit.is_only_read:
                visit.sealed = True
                start_response(held[0], with_reply(held[1], READ) if visit.accessed else held[1])
                return body
        return response.with_body(body)

    def _is_around(self, environ: WSGIEnvironment) -> bool:
        """Whether a middleware of the same cookie has put a session there, and its response has not begun yet."""
        session = session_named(environ, self.manager.name)
        return session is not None and not session._visit.sealed

    def __repr__(self) -> str:
        return f"<SessionMiddleware {self.manager.name!r}>"


def _gate_of(manager: SessionManager) -> Gate:
    from ..device.gate import Gate  # only apps that bind sessions to devices need it

    return Gate(manager._services)


def _answered(answer: Answer, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send a whole response instead of the app's."""
    start_response(answer.status, answer.headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


class _Response:
    """One response on its way: its headers are held until the first byte of the body."""

    held: tuple[str, Headers] | None = None
    headers_sent = _has_failed = False
    _server_write: Callable[[bytes], object] | None = None

    def __init__(
        self, manager: SessionManager, session: Session, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._manager, self._session, self._environ = manager, session, environ
        self._send_to_server = start_response

    def with_body(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return the body: as it is where the app has nothing more to say, else watched."""
        is_whole = type(body) is list or self._is_whole(body)
        if not is_whole or (self.held is None and not self.headers_sent):
            watched = _Body(self, body)
            return watched.begun() if self._environ.get("SERVER_SOFTWARE") in _SENDS_HEADERS_AT_ONCE else watched
        try:
            if self.headers_sent:
                self._manager.finish(self._session)  # what the app changed since its first write()
            else:
                self.send_headers()
        except BaseException as error:
            _close(body)
            return self.failed(error)
        return body

    def send_headers(self) -> None:
        """Write the session, and let the headers go with what they must carry for it."""
        if self.headers_sent or self.held is None:
            return
        status, headers = self.held
        session = self._session
        reply = self._manager.commit(session, self._environ, dropped=self._is_dropped())
        session._visit.sealed = True
        self._begin(status, with_reply(headers, reply))

    def failed(self, error: BaseException) -> Iterable[bytes]:
        """Return the response 503 for a store that failed, where that was asked for; else raise the error."""
        if self.headers_sent:
            raise error
        self._manager.abandon(self._session)
        self._session._visit.sealed = self._has_failed = True
        if not isinstance(error, StoreError) or self._manager._services.on_store_error == "raise":
            raise error
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Retry-After", RETRY_AFTER),
            ("Cache-Control", "no-store"),
        ]
        self._begin("503 Service Unavailable", headers)
        return [] if self._environ["REQUEST_METHOD"] == "HEAD" else [UNAVAILABLE.encode()]

    def ended(self) -> None:
        """Write what the app changed while the body was sent."""
        if self._has_failed:
            return
        if not self.headers_sent:
            self._manager.abandon(self._session)
            self._session._visit.sealed = True
        self._manager.finish(self._session)

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        """Be the app's ``start_response``: hold the headers."""
        if self.headers_sent:
            return self._send_to_server(status, headers, exc_info)  # it raises, as PEP 3333 asks
        if self.held is not None and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        self.held = (status, headers)  # without exc_info: the server has not heard of the headers that these replace
        return self._write

    def _begin(self, status: str, headers: Headers) -> None:
        self.held = None
        self._server_write = self._send_to_server(status, headers)
        self.headers_sent = True

    def _write(self, data: bytes) -> None:
        if data:
            self.send_headers()
            if self._server_write is None:  # which some bridges to ASGI leave out, against PEP 3333
                raise RuntimeError("this server has no write(): return the body from the app instead")
            self._server_write(data)

    def _is_whole(self, body: Iterable[bytes]) -> bool:
        if isinstance(body, (list, tuple)):
            return True
        wrapper = self._environ.get("wsgi.file_wrapper")
        return isinstance(wrapper, type) and isinstance(body, wrapper)

    def _is_dropped(self) -> bool:
        """Whether the app set its session to None: that of the innermost middleware."""
        return self._environ.get(KEY) is None and not self._session._visit.is_enclosing


class _Body:
    """The app's body, watched: the headers leave with its first byte, and what changes later is saved at its end."""

    __slots__ = ("_app_body", "_chunks", "_closed", "_response")

    def __init__(self, response: _Response, body: Iterable[bytes]) -> None:
        self._response, self._app_body = response, body
        self._chunks: Iterator[bytes] | None = None
        self._closed = False

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        if self._chunks is not None and self._response.headers_sent:
            return next(self._chunks)
        try:
            return self._first()
        except StopIteration:
            raise
        except BaseException as error:
            self._chunks = iter(self._response.failed(error))
            return next(self._chunks)

    def _first(self) -> bytes:
        """Return the first chunk, with the headers sent before it: also if it is empty (PEP 3333)."""
        if self._chunks is None:
            self._chunks = iter(self._app_body)
        chunk = next(self._chunks, None)
        self._response.send_headers()
        if chunk is None:
            raise StopIteration
        return chunk

    def begun(self) -> _Body:
        """Get the first chunk now, and with it let the headers go."""
        try:
            first = next(self, b"")
        except BaseException:
            self.close()
            raise
        self._chunks = chain((first,), self._chunks or ())
        return self

    def close(self) -> None:
        """Close the app's body, once, and write what it has changed."""
        if self._closed:
            return
        self._closed = True
        try:
            _close(self._app_body)
        finally:
            self._response.ended()


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
