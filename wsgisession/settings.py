"""Every option of `SessionManager` once: its type, its default, and its check."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ._core.binding import DevicePolicy
from ._core.codec import Codec, NativeCodec
from ._core.cookies import CookieOptions, cookie_finder
from ._core.events import Events, Listener
from ._core.ids import CURE, IDSigner, parse_secrets
from ._core.records import Records
from ._core.secure import SecureRule
from ._core.services import Services
from ._core.timeouts import THIRTY_DAYS, Default, Duration, Timeouts
from ._core.users import is_user, user_text
from .errors import ConfigurationError, SerializationError
from .express.codec import ExpressCodec
from .express.cookie import ExpressSigner
from .stores import Reader, Store, in_layout_of_express, open_store

if TYPE_CHECKING:
    from .device import DeviceBinding

Secret = str | bytes | Sequence[str | bytes]

USER_KEYS = ("user_id", "_user_id", "_auth_user_id")


class Options(TypedDict, total=False):
    """The options of `SessionManager`, which describes them. Durations are seconds or a timedelta."""

    secret: Secret | None
    store: str | Store
    name: str
    format: Literal["native", "express"]
    resave: bool
    save_uninitialized: bool
    rolling: bool
    unset: Literal["keep", "destroy"]
    cookie: CookieOptions | Mapping[str, Any] | None
    idle_timeout: Duration | None
    absolute_timeout: Duration | None
    touch_after: Duration | None
    renewal_timeout: Duration | None
    renewal_grace: Duration
    user_key: str | Sequence[str]
    user_loader: Callable[[Any], Any] | None
    max_sessions_per_user: int | None
    track_client: bool
    on_conflict: Literal["merge", "overwrite", "refuse"]
    on_gone: Literal["discard", "raise"]
    on_store_error: Literal["raise", "unavailable"]
    max_size: int
    encryption_key: str | bytes | Sequence[str | bytes] | None
    genid: Callable[[Any], str] | None
    on_event: Listener | Sequence[Listener] | None
    clock: Callable[[], float]
    random: Callable[[int], bytes]
    device_binding: bool | DeviceBinding | Mapping[str, Any] | None


def _now() -> float:
    """Return the time; looked up at each call, so that tools that freeze ``time.time`` affect it."""
    return time.time()


DEFAULTS: dict[str, Any] = {
    "secret": None,
    "store": "memory://",
    "name": "sid",
    "format": "native",
    "resave": False,
    "save_uninitialized": False,
    "rolling": False,
    "unset": "keep",
    "cookie": None,
    "idle_timeout": None,
    "absolute_timeout": THIRTY_DAYS,
    "touch_after": None,
    "renewal_timeout": None,
    "renewal_grace": 30.0,
    "user_key": USER_KEYS,
    "user_loader": None,
    "max_sessions_per_user": None,
    "track_client": False,
    "on_conflict": "merge",
    "on_gone": "discard",
    "on_store_error": "raise",
    "max_size": 1 << 20,
    "encryption_key": None,
    "genid": None,
    "on_event": None,
    "clock": _now,
    "random": os.urandom,
    "device_binding": None,
}

_CHOICES = {
    "format": ("native", "express"),
    "unset": ("keep", "destroy"),
    "on_conflict": ("merge", "overwrite", "refuse"),
    "on_gone": ("discard", "raise"),
    "on_store_error": ("raise", "unavailable"),
}
_FLAGS = ("resave", "save_uninitialized", "rolling", "track_client")
_CALLABLES = ("user_loader", "genid", "clock", "random")
_NATIVE_ONLY = ("renewal_timeout", "encryption_key", "device_binding")


def signature() -> Signature:
    """Return the signature of `SessionManager`, for ``help`` and other tools."""
    parameters = (Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in DEFAULTS.items())
    return Signature(list(parameters))


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, each checked on its own.

    :raises ConfigurationError: for a value that cannot be right.
    :raises TypeError: for an unknown name, suggesting the intended one.
    """
    for name in given:
        if name not in DEFAULTS:
            raise TypeError(unknown_option(name, "SessionManager", DEFAULTS))
    options = {**DEFAULTS, **given}
    for name, known in _CHOICES.items():
        if options[name] not in known:
            raise ConfigurationError(choice(name, options[name], known))
    for name in _FLAGS:
        if not isinstance(options[name], bool):
            raise ConfigurationError(f"{name} must be True or False, not {options[name]!r}")
    for name in _CALLABLES:
        if options[name] is not None and not callable(options[name]):
            raise ConfigurationError(f"{name} must be callable, not {type(options[name]).__name__}")
    for name in _NATIVE_ONLY:
        if options["format"] == "express" and options[name]:
            raise ConfigurationError(f'{name} belongs to the native format: leave out {name}, or format="express"')
    _check_number("max_size", options["max_size"], "a number of bytes")
    if options["max_sessions_per_user"] is not None:
        _check_number(
            "max_sessions_per_user", options["max_sessions_per_user"], "a whole number of at least 1, or None"
        )
    return options


def choice(name: str, value: object, known: Iterable[str]) -> str:
    """Return the sentence for a value that is not one of the known, with the intended one if it can be guessed."""
    alike = get_close_matches(str(value).lower(), known, n=1, cutoff=0.6)
    hint = f"; did you mean {alike[0]!r}?" if alike else ""
    return f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}{hint}"


def unknown_option(name: str, where: str, known: Iterable[str]) -> str:
    """Return the sentence for an option that does not exist, with the intended one if it can be guessed."""
    names = sorted(known)
    alike = get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"; did you mean {alike[0]!r}?" if alike else f"; it takes {', '.join(names)}"
    return f"{where} has no option {name!r}{hint}"


def services_from(given: Mapping[str, Any], *, text_keys: bool = False) -> Services:
    """Return what the sessions of a manager work with.

    :param text_keys: whether dict keys are stored as JSON text in the native format too.
    :raises ConfigurationError: for an invalid option, with the fix.
    :raises TypeError: for an unknown option.
    """
    options = with_defaults(given)
    cookie = cookie_options(options["cookie"])
    cookie.check_name(options["name"])
    is_express, clock = options["format"] == "express", options["clock"]
    keys = user_keys(options["user_key"])
    signer = _signer(options)
    native = opened_store(options["store"])
    timeouts = _timeouts(options, cookie, express_ttl=native.express_ttl)
    events = Events(listeners_of(options["on_event"]), clock=clock, shown=signer.shown)
    if is_express:
        codec, store = _of_express(options, native, timeouts=timeouts, cookie=cookie, keys=keys)
    else:
        store = native
        codec = _native_codec(options["encryption_key"], max_size=options["max_size"], text_keys=text_keys)
    records = Records(
        store,
        codec,
        timeouts=timeouts,
        events=events,
        clock=clock,
        user_keys=keys,
        on_conflict=options["on_conflict"],
    )
    return Services(
        name=options["name"],
        records=records,
        codec=codec,
        signer=signer,
        timeouts=timeouts,
        events=events,
        clock=clock,
        random=options["random"],
        genid=options["genid"],
        find=cookie_finder(options["name"]),
        cookie=cookie,
        secure=SecureRule(options["name"]),
        user_keys=keys,
        user_loader=options["user_loader"],
        max_sessions=options["max_sessions_per_user"],
        resave=options["resave"],
        save_uninitialized=options["save_uninitialized"],
        rolling=options["rolling"],
        unset=options["unset"],
        on_gone=options["on_gone"],
        on_store_error=options["on_store_error"],
        track_client=options["track_client"],
        is_express=is_express,
        devices=_devices(options, cookie, timeouts=timeouts),
    )


def _devices(options: Mapping[str, Any], cookie: CookieOptions, *, timeouts: Timeouts) -> DevicePolicy | None:
    if options["device_binding"] in (None, False):
        return None
    try:
        from .device.devices import devices_from  # only apps that bind sessions need the package
    except ModuleNotFoundError as error:
        raise ConfigurationError("device_binding needs cryptography: pip install 'wsgisession[device]'") from error
    grace = math.inf if timeouts.renewal is None else timeouts.grace
    return devices_from(options, parse_secrets(_secret(options)), cookie=cookie, renewal_grace=grace)


def _check_number(name: str, value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} must be {what}, not {value!r}")


def _secret(options: Mapping[str, Any]) -> Any:
    secret = os.environ.get("SESSION_SECRET") if options["secret"] is None else options["secret"]
    if secret is None:
        raise ConfigurationError(
            f"there is no secret: pass secret=..., or set SESSION_SECRET in the environment; {CURE}"
        )
    return secret


def _signer(options: Mapping[str, Any]) -> IDSigner:
    kind = ExpressSigner if options["format"] == "express" else IDSigner
    return kind(parse_secrets(_secret(options)), own_ids=options["genid"] is not None)


def opened_store(store: object) -> Store:
    """Return the store, opened if it is a URL."""
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, Store):
        raise ConfigurationError(
            f'store must be a URL such as "redis://localhost:6379/0", or a Store, not {type(store).__name__}'
        )
    return store


def cookie_options(cookie: object) -> CookieOptions:
    """Return the cookie's options from themselves or a dict with the same names."""
    if isinstance(cookie, CookieOptions):
        return cookie
    if cookie is not None and not isinstance(cookie, Mapping):
        raise ConfigurationError(f"cookie must be a CookieOptions or a dict, not {type(cookie).__name__}")
    given = dict(cookie or {})
    for name in given:
        if name not in CookieOptions.__dataclass_fields__:
            raise ConfigurationError(unknown_option(name, "cookie", CookieOptions.__dataclass_fields__))
    return CookieOptions(**given)


def listeners_of(on_event: object) -> tuple[Listener, ...]:
    """Return the callables that receive events."""
    if on_event is None:
        return ()
    listeners = tuple(on_event) if isinstance(on_event, (list, tuple)) else (on_event,)
    if not listeners or not all(map(callable, listeners)):
        raise ConfigurationError(f"on_event must be callable, or a list of callables, not {on_event!r:.60}")
    return listeners


def user_keys(user_key: str | Sequence[str]) -> tuple[str, ...]:
    """Return the keys under which the session may hold its user."""
    keys = tuple(user_key) if isinstance(user_key, (list, tuple)) else (user_key,)
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise ConfigurationError(f"user_key must be a key of the session, or several, not {user_key!r}")
    return keys


def _timeouts(options: Mapping[str, Any], cookie: CookieOptions, *, express_ttl: float) -> Timeouts:
    """Return the timeouts. At Express the cookie's lifetime is the idle timeout, and no absolute one is the default."""
    idle, absolute, more = options["idle_timeout"], options["absolute_timeout"], {}
    if options["format"] == "express":
        more["unlimited"] = express_ttl if idle is None else idle
        idle, absolute = None, None if isinstance(absolute, Default) else absolute
    return Timeouts.from_options(
        idle_timeout=idle,
        absolute_timeout=absolute,
        touch_after=options["touch_after"],
        renewal_timeout=options["renewal_timeout"],
        renewal_grace=options["renewal_grace"],
        max_age=cookie.seconds,
        **more,
    )


def _of_express(
    options: Mapping[str, Any], store: Store, *, timeouts: Timeouts, cookie: CookieOptions, keys: tuple[str, ...]
) -> tuple[Codec, Store]:
    """Return what packs Express's records, and the store with the layout for them.

    Express's records say when a session began only if it is to end some day, or if a user's sessions are limited.
    """
    dates = timeouts.absolute is not None or options["max_sessions_per_user"] is not None
    codec = ExpressCodec(max_size=options["max_size"], options=cookie, dates=dates, clock=options["clock"])

    def glance(packed: bytes) -> tuple[float, str | None]:
        max_age, data = codec.glance(packed, keys)
        user = next((data[key] for key in keys if is_user(data.get(key))), None)
        return timeouts.ttl(max_age), _indexed_text(user)

    return codec, store.rebuilt(lambda inner: in_layout_of_express(inner, Reader(glance, keys)))


def _native_codec(encryption_key: Any, *, max_size: int, text_keys: bool) -> Codec:
    if encryption_key is None:
        return NativeCodec(max_size=max_size, text_keys=text_keys)
    try:
        from ._core.encryption import EncryptedCodec, parse_keys  # only apps that encrypt need the package
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "encryption_key needs the package 'cryptography': pip install 'cryptography>=42'"
        ) from error
    return EncryptedCodec(parse_keys(encryption_key), max_size=max_size, text_keys=text_keys)


def _indexed_text(user_id: object) -> str | None:
    try:
        return None if user_id is None else user_text(user_id)
    except SerializationError:
        return None  # too long, or with a NUL: nobody can be looked up by that
