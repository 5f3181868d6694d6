"""`SessionMiddleware`: environ in, headers out. It translates; the manager decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from .._core.reply import READ, Headers, with_reply
from ..errors import StoreError
from ..manager import SessionManager
from ..session import Session
from .environ import KEY, RETRY_AFTER, UNAVAILABLE, path_of, request_of, session_named

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_IMPATIENT = frozenset({"Granian"})
"""Servers that take the headers when the call returns, and not, as PEP 3333 asks, with the first byte of the body."""


class SessionMiddleware:
    """Gives every request of a WSGI app a session, under ``environ["wsgisession.session"]``.

    The write happens before the headers leave, and the headers leave with the first byte of the body: a client never
    sees success for a session that was not stored.

    :param manager: a `SessionManager`; left out, one is made of the options.
    :raises ConfigurationError: for an option that cannot be right.
    """

    def __init__(self, app: WSGIApplication, manager: SessionManager | None = None, **options: Any) -> None:
        if manager is not None and options:
            raise TypeError("give SessionMiddleware a manager or options, not both")
        if not isinstance(manager, SessionManager | None):
            raise TypeError("the second argument of SessionMiddleware is a SessionManager; name a store with store=...")
        self.app = app
        self.manager = SessionManager(**options) if manager is None else manager
        self._is_lazy = self.manager.is_lazy
        self._is_everywhere = self.manager.cookie.path == "/"
        self._is_shared = self.manager.store.shared

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Run the app with a session in its environ."""
        manager, enclosing = self.manager, environ.get(KEY)
        if enclosing is not None and self._stands_around(environ):
            return self.app(environ, start_response)
        if not self._is_everywhere and not manager.cookie.covers(path_of(environ)):
            return self.app(environ, start_response)
        if not self._is_shared and environ["wsgi.multiprocess"]:
            manager.check_server(multiprocess=True)
        session: Session = manager.open(environ.get("HTTP_COOKIE", ""), environ)
        if enclosing is not None:
            session.enclosing, enclosing.is_enclosing = enclosing, True
        environ[KEY] = session
        response = _Response(manager, session, environ, start_response)
        try:
            body = self.app(environ, response.start)
        except BaseException as error:
            return response.failed(error)
        held, state = response.held, session.state
        is_only_read = state is None or state.is_only_read
        if is_only_read and self._is_lazy and held and type(body) is list and environ.get(KEY) is session:
            # The fast path: nobody changed the session, and nobody can any more. The response leaves as it came.
            session.is_sealed = True
            start_response(held[0], with_reply(held[1], READ) if session.is_accessed else held[1])
            return body
        return response.with_body(body)

    def _stands_around(self, environ: WSGIEnvironment) -> bool:
        """Whether a middleware of the same cookie has put a session there, and its response has not begun yet."""
        session = session_named(environ, self.manager.name)
        return session is not None and not session.is_sealed

    def __repr__(self) -> str:
        return f"<SessionMiddleware {self.manager.name!r}>"


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
            return watched.begun() if self._environ.get("SERVER_SOFTWARE") in _IMPATIENT else watched
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
        environ, session = self._environ, self._session
        request = request_of(environ, with_client=self._manager.track_client)
        reply = self._manager.commit(session, dropped=self._is_dropped(), **request)
        session.is_sealed = True
        headers = with_reply(headers, reply)
        self._begin(status, headers)

    def failed(self, error: BaseException) -> Iterable[bytes]:
        """Return the response 503 for a store that failed, where that was asked for; else raise the error."""
        if self.headers_sent:
            raise error
        self._manager.abandon(self._session)
        self._session.is_sealed = self._has_failed = True
        if not isinstance(error, StoreError) or self._manager.on_store_error == "raise":
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
            self._session.is_sealed = True
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
        return self._environ.get(KEY) is None and not self._session.is_enclosing


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
        """Return the first chunk that is not empty, with the headers sent before it."""
        if self._chunks is None:
            self._chunks = iter(self._app_body)
        chunk = next((chunk for chunk in self._chunks if chunk), None)
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
        """Close the app's body, once, and write what it changed meanwhile."""
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
