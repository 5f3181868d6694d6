"""The manager's options, checked at start: a mistake is a `ConfigurationError` with the cure in the sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._core.codec import Codec
from ._core.cookies import CookieOptions
from ._core.events import Listener
from ._core.ids import CURE, IDSigner
from ._core.records import user_text
from ._core.timeouts import Default, Duration, Timeouts
from .errors import ConfigurationError, SerializationError
from .express.codec import ExpressCodec
from .express.cookie import ExpressSigner
from .session import first_user
from .stores import Reader, Store, in_layout_of_express, open_store


def given_or_environment(secret: str | bytes | Sequence[str | bytes] | None) -> str | bytes | Sequence[str | bytes]:
    """Return the secret that was given, or the environment's ``SESSION_SECRET``."""
    found = os.environ.get("SESSION_SECRET") if secret is None else secret
    if found is None:
        raise ConfigurationError(f"no secret: pass secret=..., or set SESSION_SECRET in the environment; {CURE}")
    return found


def _check_size(max_size: object) -> None:
    if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size < 1:
        raise ConfigurationError(f"max_size must be a number of bytes, not {max_size!r}")


def _native_codec(encryption_key: str | bytes | Sequence[str | bytes] | None, *, max_size: int) -> Codec:
    """Return the codec of the native format, with encryption where there is a key."""
    if encryption_key is None:
        return Codec(max_size=max_size)
    try:
        from ._core.encryption import EncryptedCodec, parse_keys  # only who encrypts needs the package
    except ModuleNotFoundError as error:
        raise ConfigurationError("encryption_key needs cryptography: pip install 'wsgisession[encryption]'") from error
    return EncryptedCodec(parse_keys(encryption_key), max_size=max_size)


def opened_store(store: object) -> Store:
    """Return the store, opened where it is a URL."""
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, Store):
        raise ConfigurationError('store must be a URL such as "redis://localhost:6379/0", or a Store')
    return store


def cookie_options(cookie: CookieOptions | Mapping[str, Any] | None) -> CookieOptions:
    """Return the cookie's options from themselves or a dict of their names."""
    if isinstance(cookie, CookieOptions):
        return cookie
    try:
        return CookieOptions(**({} if cookie is None else cookie))
    except TypeError:
        known = ", ".join(CookieOptions.__dataclass_fields__)
        raise ConfigurationError(f"cookie must be a CookieOptions, or a dict with names among {known}") from None


def check_choice(name: str, value: object, *known: str) -> None:
    """Check that the value is one of the known."""
    if value not in known:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")


def check_limit(name: str, value: object) -> None:
    """Check that the value is a whole number of at least 1, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigurationError(f"{name} must be a whole number of at least 1, or None, not {value!r}")


def check_flags(**flags: object) -> None:
    """Check that the values are True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def check_callables(**given: object) -> None:
    """Check that the values can be called, where they are given."""
    for name, value in given.items():
        if value is not None and not callable(value):
            raise ConfigurationError(f"{name} must be callable, not {type(value).__name__}")


def listeners_of(on_event: object) -> tuple[Listener, ...]:
    """Return what is to be told of events: nobody, one callable or several."""
    if on_event is None:
        return ()
    listeners = tuple(on_event) if isinstance(on_event, (list, tuple)) else (on_event,)
    if not listeners or not all(map(callable, listeners)):
        raise ConfigurationError("on_event must be callable, or a list of callables")
    return listeners


def user_keys(user_key: str | Sequence[str]) -> tuple[str, ...]:
    """Return the keys that a user may stand under."""
    keys = tuple(user_key) if isinstance(user_key, (list, tuple)) else (user_key,)
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise ConfigurationError("user_key must be a key of the session, or several")
    return keys


def check_format(format: str, **given: object) -> None:
    """Check that the format is known, and that no option was given that only the native one has."""
    check_choice("format", format, "native", "express")
    for name, value in given.items():
        if format == "express" and value is not None:
            raise ConfigurationError(f'{name} belongs to the native format: leave it out, or format="express"')


def signer_for(format: str, secrets: Sequence[bytes], *, own_ids: bool) -> IDSigner:
    """Return what signs the IDs in cookies of this format."""
    kind = ExpressSigner if format == "express" else IDSigner
    return kind(secrets, own_ids=own_ids)


def timeouts_for(
    format: str, idle_timeout: Duration | None, absolute_timeout: Duration | None, *, ttl: float
) -> dict[str, Any]:
    """Return the timeouts as `Timeouts.from_options` takes them.

    At Express the cookie's lifetime is the idle timeout, and there is no absolute one: it counts where it was set.

    :param ttl: what Express's store gives a session whose cookie has no lifetime.
    """
    if format != "express":
        return {"idle_timeout": idle_timeout, "absolute_timeout": absolute_timeout}
    absolute = None if isinstance(absolute_timeout, Default) else absolute_timeout
    return {
        "idle_timeout": None,
        "absolute_timeout": absolute,
        "unlimited": ttl if idle_timeout is None else idle_timeout,
    }


def codec_and_store(
    format: str,
    store: Store,
    *,
    timeouts: Timeouts,
    most_sessions: int | None,
    cookie: CookieOptions,
    user_keys: tuple[str, ...],
    max_size: int,
    encryption_key: str | bytes | Sequence[str | bytes] | None,
    clock: Callable[[], float],
) -> tuple[Codec, Store]:
    """Return what packs records in this format, and the store with the layout for them.

    Express's records say when a session began only where it is to end some day, or when the user has too many.
    """
    _check_size(max_size)
    if format != "express":
        return _native_codec(encryption_key, max_size=max_size), store
    dates = timeouts.absolute is not None or most_sessions is not None
    codec = ExpressCodec(max_size=max_size, options=cookie, dates=dates, clock=clock)

    def glance(packed: bytes) -> tuple[float, str | None]:
        max_age, data = codec.glance(packed)
        return timeouts.ttl(max_age), _indexed_text(first_user(data, user_keys))

    return codec, store.rebuilt(lambda inner: in_layout_of_express(inner, Reader(glance, user_keys)))


def _indexed_text(user_id: object) -> str | None:
    try:
        return None if user_id is None else user_text(user_id)
    except SerializationError:
        return None  # too long, or NUL in it: nobody can be looked up by that
