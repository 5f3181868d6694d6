"""The two endpoints that a browser calls on its own: one registers a key, the other one proves it.

They are answered before the app. For the browser any 4xx of the refresh endpoint but "sign this" ends its session for
good, so the only answers there are: done, sign this, try later (5xx), and an explicit end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from .._core.binding import Environ, Field, is_bound
from .._core.content import Snapshot
from .._core.events import Events, logger
from .._core.records import Records
from ..errors import StoreError
from . import protocol
from .devices import Devices
from .protocol import InvalidProof

Headers = list[tuple[str, str]]

RETRY_AFTER = "5"

_MOST_ATTEMPTS = 30
"""How often a write is tried that loses against other writers; all together they wait less than a second."""

_LONGEST_PAUSE = 0.03


class Answer(NamedTuple):
    """A whole response.

    :param status: as WSGI has it, such as ``"200 OK"``.
    """

    status: str
    headers: Headers
    body: bytes = b""


class Sought(NamedTuple):
    """The session IDs of a request's cookies.

    :param ids: those that verified.
    :param is_unreadable: whether there are others that look like ours.
    """

    ids: Sequence[str]
    is_unreadable: bool = False


class Endpoints:
    """Answers registrations and refreshes.

    :param seek: returns the session IDs of a request.
    :param handle_of: returns the handle of an ID.
    """

    def __init__(
        self,
        devices: Devices,
        records: Records,
        *,
        events: Events,
        seek: Callable[[Environ], Sought],
        handle_of: Callable[[str], str],
    ) -> None:
        self._devices, self._records, self._events = devices, records, events
        self._seek, self._handle_of = seek, handle_of

    def answer(self, environ: Environ) -> Answer | None:
        """Return the response if the request is for one of the endpoints, or None."""
        endpoint = self._devices.endpoint_of(environ)
        if endpoint is None:
            return None
        if environ["REQUEST_METHOD"] != "POST":
            return _plain("405 Method Not Allowed", "Only a browser asks here, with POST.\n", [("Allow", "POST")])
        try:
            return self._register(environ) if endpoint == "register" else self._refresh(environ)
        except StoreError as error:
            logger.error("a device could not be checked: %s", error)
            return unavailable()

    # Registration.

    def _register(self, environ: Environ) -> Answer:
        if environ.get("HTTP_SEC_FETCH_MODE", "no-cors") != "no-cors":
            return self._refused("a script asked, and not the browser")
        token = protocol.read_string(environ.get(protocol.RESPONSE))
        try:
            proof = protocol.read_proof(token, self._devices.options.algorithms)
            jwk = protocol.verify_registration(proof)
        except InvalidProof as error:
            return self._refused(str(error))
        challenge = self._devices.signer.read_challenge(proof.challenge, "register")
        if challenge is None or not self._devices.is_open(challenge):
            return self._refused("the challenge is not ours, or too old")
        found = self._registering(environ, handle=challenge.detail)
        for _ in _attempts():
            field = None if found is None else found.content.device
            if found is None or field is None or field.get("offer") != challenge.nonce:
                return self._refused("there is no session that it was offered to")
            if is_bound(field):
                return self._refused("the session is bound already", found.handle)
            if found.record.user_id is None:
                return self._refused("nobody is logged in", found.handle)
            bound = self._devices.bound(field, jwk, algorithm=proof.algorithm)
            if self._stored(found, bound):
                self._events.emit("device_bound", found.handle, detail=bound["thumbprint"])
                return self._done(bound, environ)
            found = self._records.load(found.handle, restart=False)
        return unavailable()

    def _registering(self, environ: Environ, *, handle: str) -> Snapshot | None:
        """Return the session that registers: that of its cookie, or without one that of the challenge.

        A browser sends no SameSite=Lax cookie if the login was the answer to a link at another site.
        """
        ids = self._seek(environ).ids
        found = next(self._loaded(ids), None)
        return found if ids else self._records.load(handle, restart=False)

    # Refresh.

    def _refresh(self, environ: Environ) -> Answer:
        device_id = protocol.read_string(environ.get(protocol.SESSION_ID))
        if device_id is None:
            return _plain("400 Bad Request", "Only a browser asks here.\n")
        sought = self._seek(environ)
        found = next((one for one in self._loaded(sought.ids) if _has_device(one, device_id)), None)
        if found is None:
            # A secret that is still being rolled out: another worker may be able to read the cookie.
            return unavailable() if sought.is_unreadable and not sought.ids else self._ended(device_id, environ)
        token = protocol.read_string(environ.get(protocol.RESPONSE))
        if token is None:
            return self._challenged(found)
        return self._proved(found, token, environ)

    def _proved(self, found: Snapshot, token: str, environ: Environ) -> Answer:
        devices, field = self._devices, _field_of(found)
        try:
            proof = protocol.read_proof(token, (field["alg"],))
            protocol.verify_refresh(proof, field["jwk"], algorithm=field["alg"])
        except InvalidProof as error:
            self._events.emit("device_refused", found.handle, detail=str(error))
            return self._challenged(found)
        challenge = devices.signer.read_challenge(proof.challenge, "refresh", subject=field["id"])
        for _ in _attempts():
            if not devices.is_current(challenge, field):
                return self._challenged(found)
            refreshed = devices.refreshed(field)
            if self._stored(found, refreshed):
                self._events.emit("device_refreshed", found.handle)
                return self._done(refreshed, environ)
            theirs = self._records.load(found.handle, restart=False)
            if theirs is None or not _has_device(theirs, field["id"]):
                return self._ended(field["id"], environ)
            found, field = theirs, _field_of(theirs)
        return unavailable()

    # Answers.

    def _done(self, field: Field, environ: Environ) -> Answer:
        headers = [self._devices.set_cookie(field), self._devices.new_challenge(field)]
        return _json(self._devices.instructions(field, environ), headers)

    def _ended(self, device_id: str, environ: Environ) -> Answer:
        """End the browser's session, and drop its second cookie unless that belongs to a newer one."""
        is_newer = self._devices.names_another(environ.get("HTTP_COOKIE", ""), device_id)
        return _json(protocol.end_instructions(device_id), [] if is_newer else [self._devices.expire_cookie()])

    def _challenged(self, found: Snapshot) -> Answer:
        header = self._devices.new_challenge(_field_of(found))
        return _plain("403 Forbidden", "Sign the challenge and come again.\n", [header])

    def _refused(self, why: str, handle: str | None = None) -> Answer:
        self._events.emit("device_refused", handle, detail=why)
        return _plain("403 Forbidden", "This device cannot be registered.\n")

    # The store.

    def _loaded(self, ids: Iterable[str]) -> Iterator[Snapshot]:
        """Iterate over the live sessions of the IDs, also where an ID was renewed a moment ago."""
        handles = map(self._handle_of, ids)
        found = (self._records.load(handle, restart=False, presented=True) for handle in handles)
        return (one for one in found if one is not None)

    def _stored(self, found: Snapshot, field: Field) -> bool:
        """Write the field over exactly the version that was read. It is not activity: the idle timeout continues."""
        content = msgspec.structs.replace(found.content, device=field)
        return self._records.amend(found, content) is not None


def _attempts() -> Iterator[int]:
    """Iterate over the attempts of a write, with a random pause after each that lost against another writer."""
    for number in range(_MOST_ATTEMPTS):
        if number:
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - not for secrets
        yield number


def unavailable() -> Answer:
    """Return the response that makes a browser try again later, and keep its session."""
    return _plain("503 Service Unavailable", "Please try again in a few seconds.\n", [("Retry-After", RETRY_AFTER)])


def _has_device(found: Snapshot, device_id: str) -> bool:
    field = found.content.device
    return field is not None and field.get("id") == device_id


def _field_of(found: Snapshot) -> Field:
    field = found.content.device
    assert field is not None
    return field


def _plain(status: str, text: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    return _answer(status, "text/plain; charset=utf-8", text.encode(), headers)


def _json(body: bytes, headers: Iterable[tuple[str, str]]) -> Answer:
    return _answer("200 OK", "application/json", body, headers)


def _answer(status: str, kind: str, body: bytes, headers: Iterable[tuple[str, str]]) -> Answer:
    own = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    return Answer(status, [*own, *headers], body)
