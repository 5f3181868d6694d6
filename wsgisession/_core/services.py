"""`Services`: what every session of a manager works with, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .binding import DevicePolicy
from .codec import Codec
from .cookies import CookieFinder, CookieOptions
from .events import Events
from .ids import IDSigner
from .records import Records
from .secure import SecureRule
from .timeouts import Timeouts


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators and settings that visits share. See `SessionManager` for the options.

    :param find: returns the values of our cookie in a Cookie header.
    :param secure: decides whether the cookie of a request is sent with Secure.
    :param devices: decides about sessions that are bound to a device, with ``device_binding``; otherwise None.
    """

    name: str
    records: Records
    codec: Codec
    signer: IDSigner
    timeouts: Timeouts
    events: Events
    clock: Callable[[], float]
    random: Callable[[int], bytes]
    genid: Callable[[Any], str] | None
    find: CookieFinder
    cookie: CookieOptions
    secure: SecureRule
    user_keys: tuple[str, ...]
    user_loader: Callable[[Any], Any] | None
    max_sessions: int | None
    resave: bool
    save_uninitialized: bool
    rolling: bool
    unset: str
    on_gone: str
    on_store_error: str
    track_client: bool
    is_express: bool
    devices: DevicePolicy | None = None

    @property
    def is_lazy(self) -> bool:
        """Whether a session that the app never touches needs no look."""
        return not (self.resave or self.save_uninitialized or self.rolling)
