"""What an attacker tries with copied cookies: each attack returns whether it saw or changed anything, or got a cookie.

The attacker has everything that a browser sends: both cookies, the device's identifier, and a signed answer. He does
not have the key. The copied pair is older than its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.device import keys
from tests.device.client import Browser, Client, Response
from tests.device.keys import ECKey, RSAKey
from tests.device.site import BOUND_SECONDS, Site

URL = "https://app.example.com"


class Attacker:
    """A program with the cookies of a browser whose session is bound, and with what it has overheard."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.owner: Browser = site.bound_browser()
        self.device = self.owner.session.id
        self.old_challenge = self.owner.session.challenge or ""
        self.overheard = keys.refresh(self.owner.session.key, self.old_challenge)
        self.client: Client = self.owner.copied()
        self.owner.refresh(self.owner.session)
        site.clock.advance(BOUND_SECONDS + 1)
        self.key = ECKey()

    def ask(self, path: str, method: str = "GET", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.exchange(method, URL + path, named)

    def refresh(self, token: str | None = None, **headers: str) -> Response:
        more = {} if token is None else {"Secure_Session_Response": token}
        return self.ask("/.session-device/refresh", "POST", Sec_Secure_Session_Id=self.device, **more, **headers)

    def challenge(self) -> str:
        return (self.refresh().get("Secure-Session-Challenge") or '""').partition(";")[0].strip('"')

    def gets_in(self, *answers: Response) -> bool:
        """Whether an answer gave him a cookie that opens something, or he now sees the owner's data."""
        pairs = [text.partition(";")[0].partition("=") for one in answers for text in one.all("Set-Cookie")]
        given = [name for name, _, value in pairs if value and name in ("sid", "sid_device")]
        return bool(given) or b"the data" in self.ask("/").body


Attack = Callable[[Attacker], bool]


def _page(path: str, method: str = "GET", **headers: str) -> Attack:
    return lambda attacker: attacker.gets_in(attacker.ask(path, method, **headers))


def _token(make: Callable[[Attacker, str], str]) -> Attack:
    return lambda attacker: attacker.gets_in(attacker.refresh(make(attacker, attacker.challenge())))


def _registers(make: Callable[[Attacker], str]) -> Attack:
    return lambda attacker: attacker.gets_in(
        attacker.ask("/.session-device", "POST", Secure_Session_Response=make(attacker))
    )


def _forged_cookie(attacker: Attacker) -> bool:
    expired = attacker.client.jar["sid_device"].value.split(".")
    expired[1] = str(int(attacker.site.clock()))
    attacker.client.jar["sid_device"].value = ".".join(expired)
    return attacker.gets_in(attacker.ask("/"))


def _own_cookie(attacker: Attacker) -> bool:
    own = attacker.site.browser()
    own.get("/login?user=mallory")
    attacker.client.jar["sid_device"].value = own.jar["sid_device"].value
    return b"the data" in attacker.ask("/").body and b'"ada"' in attacker.ask("/").body


def _no_cookie(attacker: Attacker) -> bool:
    del attacker.client.jar["sid_device"]
    return attacker.gets_in(attacker.ask("/"), attacker.ask("/write"))


def _logs_the_owner_out(attacker: Attacker) -> bool:
    attacker.ask("/logout?clear=1")
    attacker.refresh("x")
    return attacker.owner.get("/").json["user"] != "ada"


def _keeps_it_alive(attacker: Attacker) -> bool:
    before = attacker.site.record().record.expires_at
    for path in ("/", "/write", "/regenerate"):
        attacker.ask(path)
        attacker.refresh()
    return bool(attacker.site.record().record.expires_at != before)


def _header(**changes: Any) -> Attack:
    return _token(lambda attacker, challenge: keys.refresh(attacker.key, challenge, header=changes))


SKIPPED = 'quota_exceeded;session_identifier="{}"'

ATTACKS: dict[str, Attack] = {
    "both cookies": _page("/"),
    "both cookies, as a page of the site": _page("/", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="navigate"),
    "both cookies, as a typed address": _page("/", Sec_Fetch_Site="none", Sec_Fetch_Mode="navigate"),
    "both cookies, as a link from elsewhere": _page("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate"),
    "both cookies, with a form": _page("/write", "POST"),
    "the long cookie alone": _no_cookie,
    "a skipped refresh": lambda attacker: attacker.gets_in(
        attacker.ask("/", Secure_Session_Skipped=SKIPPED.format(attacker.device))
    ),
    "a second cookie with a new date": _forged_cookie,
    "the second cookie of his own session": _own_cookie,
    "an answer that was overheard": lambda attacker: attacker.gets_in(attacker.refresh(attacker.overheard)),
    "his own key": _token(lambda attacker, challenge: keys.refresh(attacker.key, challenge)),
    "his own key, announced": _token(lambda attacker, challenge: keys.registration(attacker.key, challenge)),
    "his own RSA key": _token(lambda attacker, challenge: keys.refresh(RSAKey(), challenge)),
    "no signature": _token(
        lambda attacker, challenge: keys.signed(
            attacker.key, {"alg": "none", "typ": "dbsc+jwt"}, {"jti": challenge}, signature=b""
        )
    ),
    "a signature of zeros": _token(
        lambda attacker, challenge: keys.signed(
            attacker.key, {"alg": "ES256", "typ": "dbsc+jwt"}, {"jti": challenge}, signature=bytes(64)
        )
    ),
    "alg HS256": _header(alg="HS256"),
    "alg RS256": _header(alg="RS256"),
    "alg none": _header(alg="none"),
    "another typ": _header(typ="JWT"),
    "a key in a refresh": _header(jwk=ECKey().jwk),
    "an overheard signature under a new challenge": _token(
        lambda attacker, challenge: ".".join(
            [*keys.refresh(attacker.key, challenge).split(".")[:2], attacker.overheard.rpartition(".")[2]]
        )
    ),
    "a second registration with an old challenge": _registers(
        lambda attacker: keys.registration(attacker.key, attacker.old_challenge)
    ),
    "a second registration with a fresh challenge": _registers(
        lambda attacker: keys.registration(attacker.key, attacker.challenge())
    ),
    "a registration without a challenge": _registers(lambda attacker: keys.registration(attacker.key, "")),
    "a new ID": _page("/regenerate"),
    "an empty session": _page("/clear"),
    "logging the owner out": _logs_the_owner_out,
    "keeping the session alive": _keeps_it_alive,
}
