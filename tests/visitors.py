"""Visitors over HTTP: an app that does what each request asks of it, and a browser as strict as RFC 6265bis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from werkzeug.test import Client, TestResponse

from tests.visits import SECRET
from wsgisession import Session, SessionMiddleware, get_session

_REQUEST = "tests.request"


class Cookie(NamedTuple):
    """A Set-Cookie header taken apart."""

    name: str
    value: str
    attributes: dict[str, str]

    @classmethod
    def of(cls, header: str) -> Cookie:
        pair, *rest = header.split("; ")
        name, _, value = pair.partition("=")
        return cls(name, value, {key.lower(): text for key, _, text in (one.partition("=") for one in rest)})


class Jar(dict[Any, Cookie]):
    """What a browser keeps of the cookies of one host over https (RFC 6265bis section 5.7)."""

    def take(self, header: str) -> None:
        cookie = Cookie.of(header)
        found, name = cookie.attributes, cookie.name.lower()
        assert "secure" in found or not name.startswith(("__secure-", "__host-")), "refused for its prefix"
        assert ("domain" not in found and found["path"] == "/") or not name.startswith("__host-"), "refused: __Host-"
        assert "secure" in found or (found["samesite"] != "None" and "partitioned" not in found), "refused: not secure"
        key = (cookie.name, found.get("domain"), found.get("path"), "partitioned" in found)
        if found.get("max-age") == "0":
            self.pop(key, None)
        else:
            self[key] = cookie

    @property
    def header(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.values())


def obedient(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Do to the session what the request says, and answer with its headers."""
    order, headers = environ[_REQUEST]
    if order is not None:
        order(get_session(environ))
    start_response("200 OK", [("Content-Type", "text/plain"), *headers])
    return [b"done"]


class Site:
    """The app behind a `SessionMiddleware` that has nothing but a secret and a store, unless the test says more."""

    def __init__(self, store: Any = "memory://", **options: Any) -> None:
        self.middleware = SessionMiddleware(obedient, **{"secret": SECRET, "store": store, **options})
        self.manager = self.middleware.manager
        self.store = self.manager.store

    def browser(self) -> Browser:
        return Browser(self)

    def logged_in(self, user_id: Any = "ada", **data: Any) -> Browser:
        browser = self.browser()
        browser.visit(lambda session: session.login(user_id, **data))
        return browser


class Browser:
    """Sends its cookies over https, and keeps what comes back.

    :ivar response: the last one.
    :ivar had: the values of all cookies it was ever sent.
    """

    def __init__(self, site: Site) -> None:
        self.site, self.jar, self.had = site, Jar(), set[str]()
        self._client = Client(site.middleware, use_cookies=False)
        self.response: TestResponse

    def visit(
        self,
        order: Callable[[Session], Any] | None = None,
        *,
        cookies: str | None = None,
        answer: Iterable[tuple[str, str]] = (),
        **request: Any,
    ) -> Any:
        """Have the app do something with the session, and return what came of it.

        :param order: called with the session, in the app; None for an app that never touches it.
        :param cookies: the Cookie header to send instead of the jar's, unchanged.
        :param answer: the app's own response headers.
        """
        results: list[Any] = []
        header = self.jar.header if cookies is None else cookies
        call = None if order is None else (lambda session: results.append(order(session)))
        environ = {_REQUEST: (call, answer), **({"HTTP_COOKIE": header} if header else {})}
        known: dict[str, Any] = {"base_url": "https://example.com", "environ_overrides": environ, "buffered": True}
        self.response = self._client.open(**{**known, **request})
        for sent in self.response.headers.getlist("Set-Cookie"):
            self.jar.take(sent)
            self.had |= {value for value in [Cookie.of(sent).value] if value}
        return results[0] if results else None

    def put(self, **data: Any) -> None:
        self.visit(lambda session: session.update(data))

    def twin(self) -> Browser:
        """A client with the same cookies: another tab, or a thief."""
        twin = Browser(self.site)
        twin.jar.update(self.jar)
        return twin

    @property
    def sent(self) -> Cookie | None:
        """What the last response set, if it did: at most one cookie."""
        headers = self.response.headers.getlist("Set-Cookie")
        assert len(headers) <= 1
        return Cookie.of(headers[0]) if headers else None

    @property
    def cookie(self) -> str:
        """The value of the only cookie it has."""
        (cookie,) = self.jar.values()
        return cookie.value

    @property
    def session_id(self) -> str:
        return self.cookie.partition(".")[0]

    @property
    def handle(self) -> str:
        handle: str = self.twin().visit(lambda session: session.handle)
        return handle

    @property
    def data(self) -> dict[str, Any]:
        """What a request of this browser finds."""
        found: dict[str, Any] = self.twin().visit(dict)
        return found


def handles(site: Site) -> set[str]:
    """Return the handles of all live records."""
    return {handle for handle, _ in site.store.scan(now=site.manager._services.clock())}
