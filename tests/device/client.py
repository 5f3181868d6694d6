"""A browser in Python that binds sessions as Chromium does: keys, refreshes, skipped refreshes, and its status table.

It visits WSGI apps in this process. Its clock is the test's, so that cookies expire without waiting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.device import keys

Site = Literal["none", "same-origin", "same-site", "cross-site"]

MOST_REDIRECTS = 10
MOST_ROUNDS = 5
QUOTA, QUOTA_SECONDS = 6, 540


class Response(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.headers if field.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Sent(NamedTuple):
    """A request as it was sent, and the status that came back."""

    method: str
    path: str
    status: int
    headers: dict[str, str]


@dataclass
class Cookie:
    value: str
    attributes: frozenset[str]
    same_site: str
    path: str
    expires: float | None


@dataclass
class Session:
    """A bound session as the browser knows it."""

    id: str
    key: keys.Key
    instructions: dict[str, Any]
    refresh_url: str
    challenge: str | None = None

    @property
    def cookie(self) -> str:
        name: str = self.instructions["credentials"][0]["name"]
        return name

    @property
    def attributes(self) -> frozenset[str]:
        return attributes_of(self.instructions["credentials"][0]["attributes"])


def attributes_of(text: str) -> frozenset[str]:
    """The attributes that a browser compares, without those that it ignores."""
    parts = [part.strip() for part in text.split(";")]
    return frozenset(part for part in parts if part and not part.lower().startswith(("expires=", "max-age=")))


class Client:
    """Keeps cookies and follows redirects. It knows nothing of keys: an old browser, or a thief."""

    def __init__(self, app: Any, clock: Callable[[], float], url: str = "https://app.example.com/") -> None:
        self.app, self.clock, self.url = app, clock, url
        self.jar: dict[str, Cookie] = {}
        self.sent: list[Sent] = []

    def get(self, path: str, **options: Any) -> Response:
        return self.visit("GET", path, **options)

    def post(self, path: str, **options: Any) -> Response:
        return self.visit("POST", path, **options)

    def visit(
        self,
        method: str,
        path: str,
        *,
        site: Site = "same-origin",
        mode: str = "navigate",
        headers: Iterable[tuple[str, str]] = (),
        follow: bool = True,
    ) -> Response:
        """Send a request as a page would, wait for what must be waited for, and follow where it leads."""
        url = urljoin(self.url, path)
        for _ in range(MOST_REDIRECTS):
            response = self.request(method, url, site=site, mode=mode, headers=headers)
            location = response.get("Location")
            if follow and location is not None and 300 <= response.status < 400:
                method = method if response.status in (307, 308) else "GET"
                url = urljoin(url, location)
            elif follow and re.search(rb'http-equiv="refresh" content="0"', response.body):
                site = "same-origin"
            else:
                return response
        raise AssertionError(f"the browser gives up: {url} redirects for ever")

    def request(
        self, method: str, url: str, *, site: Site, mode: str, headers: Iterable[tuple[str, str]] = ()
    ) -> Response:
        """Send one request, and keep the cookies that come back."""
        own = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, **dict(headers)}
        return self.exchange(method, url, own, site=site, top_level=mode == "navigate" and method in ("GET", "HEAD"))

    def exchange(
        self, method: str, url: str, headers: dict[str, str], *, site: Site = "same-origin", top_level: bool = True
    ) -> Response:
        cookies = self.cookies_for(url, site=site, top_level=top_level)
        if cookies and "Cookie" not in headers:
            headers = {**headers, "Cookie": "; ".join(f"{name}={one.value}" for name, one in cookies.items())}
        parts = urlsplit(url)
        environ = EnvironBuilder(
            query_string=parts.query,
            base_url=f"{parts.scheme}://{parts.netloc}",
            method=method,
            headers={name: value for name, value in headers.items() if value},
        ).get_environ()
        environ["PATH_INFO"] = unquote(parts.path, "latin-1") or "/"
        chunks, status, got = run_wsgi_app(self.app, environ, buffered=True)
        response = Response(int(status.split()[0]), list(got), b"".join(chunks))
        self.sent.append(Sent(method, parts.path, response.status, headers))
        for text in response.all("Set-Cookie"):
            self.keep(text)
        return response

    def cookies_for(self, url: str, *, site: Site, top_level: bool) -> dict[str, Cookie]:
        """The cookies that a request carries (RFC 6265bis section 5.8.3)."""
        path, now = urlsplit(url).path, self.clock()
        self.jar = {name: one for name, one in self.jar.items() if one.expires is None or one.expires > now}
        crosses = site == "cross-site"
        return {
            name: one
            for name, one in self.jar.items()
            if f"{path}/".startswith(one.path.rstrip("/") + "/")
            and (not crosses or one.same_site == "None" or (one.same_site == "Lax" and top_level))
        }

    def keep(self, text: str) -> None:
        first, _, rest = text.strip().partition(";")
        name, _, value = first.partition("=")
        morsel = SimpleCookie(text.strip())[name]
        age = int(morsel["max-age"]) if morsel["max-age"] else None
        expires = None if age is None else self.clock() + age
        if age is not None and age <= 0:
            self.jar.pop(name, None)
            return
        same_site = morsel["samesite"] or "Lax"
        self.jar[name] = Cookie(value, attributes_of(rest), same_site, morsel["path"] or "/", expires)

    def copied(self) -> Client:
        """A thief on another machine with all cookies, who keeps what browsers drop, and knows no key."""
        thief = Client(self.app, self.clock, self.url)
        thief.jar = {name: Cookie(one.value, one.attributes, "None", one.path, None) for name, one in self.jar.items()}
        return thief


@dataclass
class Habits:
    """What browsers may do differently.

    :param quoted: whether header values are quoted, as the draft says, or bare, as Chromium sends them.
    :param new_key: makes a key pair.
    :param has_quota: whether it signs only 6 times in 9 minutes.
    :param proactive: refresh if the cookie has at most this many seconds left.
    """

    quoted: bool = False
    new_key: Callable[[], keys.Key] = keys.ECKey
    has_quota: bool = False
    proactive: float = 0.0


@dataclass
class Browser(Client):
    """A browser that supports device-bound sessions."""

    app: Any
    clock: Callable[[], float]
    url: str = "https://app.example.com/"
    habits: Habits = field(default_factory=Habits)

    def __post_init__(self) -> None:
        super().__init__(self.app, self.clock, self.url)
        self.sessions: dict[str, Session] = {}
        self.ended: list[str] = []
        self.refused: list[str] = []
        self._signed_at: list[float] = []

    @property
    def session(self) -> Session:
        """The only one it has."""
        (session,) = self.sessions.values()
        return session

    def request(
        self, method: str, url: str, *, site: Site, mode: str, headers: Iterable[tuple[str, str]] = ()
    ) -> Response:
        skipped = []
        for session in list(self.sessions.values()):
            if site in ("none", "same-origin") and self._lacks(session, url):
                why = self.refresh(session)
                if why:
                    skipped.append(f'{why};session_identifier="{session.id}"')
        more = {"Secure-Session-Skipped": ", ".join(skipped)} if skipped else {}
        response = super().request(method, url, site=site, mode=mode, headers={**dict(headers), **more}.items())
        self._read_challenge(response)
        for offer in response.all("Secure-Session-Registration"):
            self._register(offer, url, site=site)
        return response

    def _lacks(self, session: Session, url: str) -> bool:
        scope = session.instructions["scope"]
        excluded = [rule["path"] for rule in scope.get("scope_specification", ())]
        path = urlsplit(url).path
        if url == session.refresh_url or any(path == one or path.startswith(one + "/") for one in excluded):
            return False
        found = self.cookies_for(url, site="same-origin", top_level=True).get(session.cookie)
        if found is None or found.attributes != session.attributes:
            return True
        return found.expires is not None and found.expires - self.clock() < self.habits.proactive

    # Registration.

    def _register(self, offer: str, url: str, *, site: Site) -> None:
        found = re.fullmatch(r'\(([A-Za-z0-9 ]+)\);path="([^"]+)";challenge="([^"]+)"', offer)
        assert found is not None, offer
        key = self.habits.new_key()
        if key.algorithm not in found[1].split() or not self._may_sign():
            return
        token = keys.registration(key, found[3])
        endpoint = urljoin(url, found[2])
        response = self.exchange(
            "POST", endpoint, self._fetched({"Secure-Session-Response": token}), site=site, top_level=False
        )
        if 200 <= response.status < 300:
            self._follow(response, endpoint, key)
            self._read_challenge(response)

    # Refresh.

    def refresh(self, session: Session) -> str:
        """Prove the key of the session; return why that was skipped, or nothing."""
        challenge = session.challenge
        for _ in range(MOST_ROUNDS):
            headers = {"Sec-Secure-Session-Id": session.id}
            if challenge is not None:
                if not self._may_sign():
                    return "quota_exceeded"
                headers["Secure-Session-Response"] = keys.refresh(session.key, challenge)
            try:
                response = self.exchange("POST", session.refresh_url, self._fetched(headers), top_level=False)
            except OSError:
                return "unreachable"
            self._read_challenge(response)
            if response.status == 403 and session.challenge not in (None, challenge):
                challenge = session.challenge
                continue
            return self._after(response, session)
        self._end(session)
        return ""

    def _after(self, response: Response, session: Session) -> str:
        if response.status >= 500:
            return "server_error"
        if response.status >= 300:
            self._end(session)
        elif response.body:
            self._follow(response, session.refresh_url, session.key, known=session)
        return ""

    def _follow(self, response: Response, url: str, key: keys.Key, known: Session | None = None) -> None:
        instructions = response.json
        identifier = instructions["session_identifier"]
        if known is not None and identifier != known.id:
            instructions["continue"] = False
        if not instructions.get("continue", True):
            if known is not None:
                self._end(known)
            return
        assert isinstance(instructions["scope"]["include_site"], bool)
        challenge = None if known is None else known.challenge
        refresh_url = urljoin(url, instructions["refresh_url"])
        self.sessions[identifier] = Session(identifier, key, instructions, refresh_url, challenge)

    def _end(self, session: Session) -> None:
        self.sessions.pop(session.id, None)
        self.ended.append(session.id)

    # Both.

    def _fetched(self, headers: dict[str, str]) -> dict[str, str]:
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.url))
        values = {name: f'"{value}"' if self.habits.quoted else value for name, value in headers.items()}
        return {"Origin": origin, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", **values}

    def _read_challenge(self, response: Response) -> None:
        for text in response.all("Secure-Session-Challenge"):
            found = re.fullmatch(r'"([^"]+)";id="([^"]+)"', text)
            assert found is not None, text
            if found[2] in self.sessions:
                self.sessions[found[2]].challenge = found[1]

    def _may_sign(self) -> bool:
        now = self.clock()
        self._signed_at = [at for at in self._signed_at if now - at < QUOTA_SECONDS]
        if self.habits.has_quota and len(self._signed_at) >= QUOTA:
            return False
        self._signed_at.append(now)
        return True
