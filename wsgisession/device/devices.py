"""`Devices`: what a manager knows about bound sessions. It judges requests and writes headers; it reads no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._core.address import quoted_path
from .._core.binding import Doubt, Environ, Field, Verdict
from .._core.cookies import LONGEST_HEADER, CookieOptions, expire_cookie, set_cookie
from . import protocol
from .options import LEEWAY, DeviceBinding, check_combination, device_binding, device_cookie
from .tokens import Challenge, DeviceSigner

Headers = tuple[tuple[str, str], ...]

REGISTRATION_SECONDS = 120
"""How long after a login a browser may register a key: a slow security chip needs seconds."""

_CHALLENGE_LEEWAY = 60
_MOST_VALUES = 8
_RETRY_SECONDS = 5


def devices_from(
    options: Mapping[str, Any], secrets: Iterable[bytes], *, cookie: CookieOptions, renewal_grace: float
) -> Devices | None:
    """Return what decides about the devices of a manager with these options.

    :raises ConfigurationError: for a value or a combination that cannot work.
    """
    binding = device_binding(options["device_binding"])
    if binding is None:
        return None
    check_combination(binding, cookie, format=options["format"], renewal_grace=renewal_grace)
    clock, random = options["clock"], options["random"]
    return Devices(binding, secrets, name=options["name"], cookie=cookie, clock=clock, random=random)


class Devices:
    """The device binding of one manager.

    :param secrets: the manager's.
    :param name: the session cookie's name; the second cookie is called ``name + "_device"``.
    """

    def __init__(
        self,
        options: DeviceBinding,
        secrets: Iterable[bytes],
        *,
        name: str,
        cookie: CookieOptions,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self.options, self.clock = options, clock
        self.signer = DeviceSigner(list(secrets))
        self.cookie_name = f"{name}_device"
        self._mark, self._retry_name = f"{self.cookie_name}=", f"{name}_retry"
        self._endpoints = (options.path, options.refresh_path)
        self._random = random
        self._path = cookie.path.rstrip("/")
        self._cookie = device_cookie(cookie, options)

    # Offers.

    def new_offer(self) -> Field | None:
        """Return the field of a session whose user logs in now: the offer to register, if one is made."""
        return {"offer": self._nonce()} if self.options.offer == "login" else None

    def headers_for_login(self, field: Field | None, environ: Environ, *, handle: str) -> Headers:
        """Return the header that offers registration in the response to a login, if it is offered.

        The challenge leads to the record by its handle: after a login by a link at another site, the browser registers
        without the session cookie.
        """
        if field is None or "offer" not in field or environ.get("wsgi.url_scheme") != "https":
            return ()
        challenge = self.signer.challenge("register", handle, nonce=field["offer"], now=self.clock())
        path = self._below_mount(environ, self.options.path)
        value = protocol.registration_header(self.options.algorithms, path=path, challenge=challenge)
        return ((protocol.REGISTRATION, value),)

    def headers_for_logout(self, environ: Environ) -> Headers:
        """Return the header that makes the browser drop the second cookie, if it has one."""
        return (self.expire_cookie(),) if self.has_cookie(environ.get("HTTP_COOKIE", "")) else ()

    def headers_to_prove_again(self, environ: Environ) -> Headers:
        """Return the headers that make the browser prove its key and return to the same page.

        They drop the second cookie. Empty if there is none, or if that was tried a moment ago and led nowhere: a cookie
        of this name that another site set, with another domain or path, cannot be dropped.
        """
        header = environ.get("HTTP_COOKIE", "")
        if not self.has_cookie(header) or self._values(header, self._retry_name):
            return ()
        retry = set_cookie(self._retry_name, "1", self._cookie, secure=True, lasts=_RETRY_SECONDS, now=self.clock())
        return self.expire_cookie(), ("Set-Cookie", retry)

    # Challenges.

    def new_challenge(self, field: Field) -> tuple[str, str]:
        """Return the header with what the session's key has to sign next."""
        device_id: str = field["id"]
        challenge = self.signer.challenge(
            "refresh", str(field["n"]), nonce=self._nonce(), now=self.clock(), subject=device_id
        )
        return protocol.CHALLENGE, protocol.challenge_header(challenge, session_identifier=device_id)

    def is_current(self, challenge: Challenge | None, field: Field) -> bool:
        """Tell whether a refresh challenge is neither used nor too old."""
        longest = self.options.seconds + _CHALLENGE_LEEWAY
        return challenge is not None and challenge.detail == str(field["n"]) and self._age_is(challenge, longest)

    def is_open(self, challenge: Challenge) -> bool:
        """Tell whether a registration challenge is young enough."""
        return self._age_is(challenge, REGISTRATION_SECONDS)

    def _age_is(self, challenge: Challenge, longest: float) -> bool:
        return self.clock() - challenge.issued_at <= longest

    # Bindings.

    def bound(self, field: Field, jwk: protocol.JWK, *, algorithm: str) -> Field:
        """Return the field of a session that a key was registered for."""
        now = self.clock()
        return {
            "id": self._nonce(),
            "alg": algorithm,
            "jwk": dict(jwk),
            "thumbprint": protocol.thumbprint(jwk),
            "bound_at": now,
            "proven_at": now,
            "n": 0,
        }

    def refreshed(self, field: Field) -> Field:
        """Return the field after its key was proved."""
        return {**field, "n": field["n"] + 1, "proven_at": max(self.clock(), field["proven_at"])}

    def instructions(self, field: Field, environ: Environ) -> bytes:
        """Return the JSON that describes the session to the browser."""
        options = self.options
        return protocol.instructions(
            field["id"],
            refresh_url=self._below_mount(environ, options.refresh_path),
            cookie=self.cookie_name,
            attributes=self._attributes(),
            include_site=options.include_site,
            origin=options.origin,
            exclude=[self._below_mount(environ, path) for path in options.exclude],
            initiators=options.initiators,
        )

    # The second cookie.

    def set_cookie(self, field: Field) -> tuple[str, str]:
        """Return the Set-Cookie header that says that the browser proved its key now."""
        now = self.clock()
        value = self.signer.cookie(field["id"], now=now)
        return "Set-Cookie", set_cookie(
            self.cookie_name, value, self._cookie, secure=True, lasts=self.options.seconds, now=now
        )

    def expire_cookie(self) -> tuple[str, str]:
        """Return the Set-Cookie header that makes the browser drop the second cookie."""
        return "Set-Cookie", expire_cookie(self.cookie_name, self._cookie, secure=True)

    def _attributes(self) -> str:
        """Return the cookie's attributes as Set-Cookie has them: the browser compares the two."""
        text = set_cookie("", "", self._cookie, secure=True, lasts=None, now=0.0)
        return text.removeprefix("=;").strip()

    # Requests.

    def may_start_over(self, environ: Environ) -> bool:
        """Tell whether an unproven visitor's browser had its chance to prove its key, so that a new session may begin.

        Then what it has is worthless to it, and a login form needs a session for its CSRF token. A request that another
        site caused must not replace the cookie of a browser that can still sign.
        """
        return environ.get("HTTP_SEC_FETCH_SITE") in ("same-origin", "none") and protocol.SKIPPED not in environ

    def judge(self, field: Field, cookie_header: str) -> Verdict:
        """Decide whether a request comes from the device that the session is bound to."""
        now = self.clock()
        doubt: Doubt = "no proof"
        for value in self._values(cookie_header):
            cookie = self.signer.read_cookie(value)
            if cookie is None or not self._is_fresh(cookie.issued_at, now):
                doubt = "old proof"
            elif cookie.device_id != field["id"]:
                doubt = "other device"
            else:
                return Verdict(None, float(cookie.issued_at))
        if now <= field["bound_at"] + self.options.grace:
            return Verdict(None, field["bound_at"])
        return Verdict(doubt)

    def has_cookie(self, cookie_header: str) -> bool:
        """Tell whether the request carries a second cookie, good or not."""
        return bool(self._values(cookie_header))

    def has_fresh_cookie(self, cookie_header: str) -> bool:
        """Tell whether the request carries one of our second cookies, of any device, that has not expired."""
        found = map(self.signer.read_cookie, self._values(cookie_header))
        return any(cookie is not None and self._is_fresh(cookie.issued_at, self.clock()) for cookie in found)

    def names_another(self, cookie_header: str, device_id: str) -> bool:
        """Tell whether the request carries the second cookie of another device, such as that of a newer login."""
        found = map(self.signer.read_cookie, self._values(cookie_header))
        return any(cookie is not None and cookie.device_id != device_id for cookie in found)

    def _values(self, cookie_header: str, name: str = "") -> Sequence[str]:
        """Return the values of the second cookie: one, unless others were planted."""
        mark = f"{name}=" if name else self._mark
        at = cookie_header.find(mark)
        if at < 0 or len(cookie_header) > LONGEST_HEADER:
            return ()
        values: list[str] = []
        while at >= 0 and len(values) < _MOST_VALUES:
            end = cookie_header.find(";", at)
            if at == 0 or cookie_header[at - 1] in "; \t":  # otherwise it is the end of another name
                values.append(cookie_header[at + len(mark) : end if end >= 0 else None].strip(' \t"'))
            at = cookie_header.find(mark, end) if end >= 0 else -1
        return values

    def _is_fresh(self, issued_at: int, now: float) -> bool:
        return now <= issued_at + self.options.seconds + LEEWAY

    def endpoint_of(self, environ: Environ) -> str | None:
        """Return ``"register"`` or ``"refresh"`` if the request is for that endpoint, or None."""
        path: str = environ.get("PATH_INFO", "")
        if not path.endswith(self._endpoints):
            return None
        full = environ.get("SCRIPT_NAME", "") + path
        if full == self._base(environ) + self.options.path:
            return "register"
        return "refresh" if full == self._base(environ) + self.options.refresh_path else None

    def is_excluded(self, environ: Environ) -> bool:
        """Tell whether the path of the request is one that the browser does not wait for."""
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        prefixes = (self._base(environ) + one.rstrip("/") for one in self.options.exclude)
        return any(path == one or path.startswith(f"{one}/") for one in prefixes)

    def _base(self, environ: Environ) -> str:
        """Return what the endpoints are below: the app's mount point, or the cookie's path if that is deeper."""
        mount: str = environ.get("SCRIPT_NAME", "").rstrip("/")
        return self._path if self._path.startswith(f"{mount}/") else mount

    def _below_mount(self, environ: Environ, path: str) -> str:
        return quoted_path(self._base(environ) + path)

    def _nonce(self) -> str:
        return self.signer.new_id(self._random(16))
