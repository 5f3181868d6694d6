"""Stores by URL: `open_store` finds the module of a scheme. The only dynamic import of the package."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points

from ..errors import ConfigurationError
from .base import Deleted, Page, Reader, Record, Store, StoreURL, Unconfirmed, WriteRefused

__all__ = [
    "Deleted",
    "Page",
    "Reader",
    "Record",
    "Store",
    "StoreURL",
    "Unconfirmed",
    "WriteRefused",
    "in_layout_of_express",
    "open_store",
]

_REDIS = ("redis", "RedisStore", "redis")
_POSTGRESQL = ("postgresql", "PostgreSQLStore", "postgres")
_MONGODB = ("mongodb", "MongoDBStore", "mongodb")
_BUILT_IN = {
    "memory": ("memory", "MemoryStore", None),
    "sqlite": ("sqlite", "SQLiteStore", None),
    **{
        scheme: _REDIS
        for brand in ("redis", "valkey")
        for scheme in (brand, f"{brand}s", f"{brand}+sentinel", f"{brand}+cluster")
    },
    "rediss": _REDIS,
    "unix": _REDIS,
    **dict.fromkeys(("postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"), _POSTGRESQL),
    "mongodb": _MONGODB,
    "mongodb+srv": _MONGODB,
}
_DRIVERS = {"redis": "redis[hiredis]>=5.2,<9", "postgres": "psycopg[binary]>=3.2.2", "mongodb": "pymongo>=4.9"}
"""The requirement of each extra, as in setup.cfg: installing it works however this library was installed."""

_FOR_EXPRESS = {
    (f"{__name__}.memory", "MemoryStore"): (None, ""),
    (f"{__name__}.redis.store", "RedisStore"): ("redis.express", "ExpressRedisStore"),
    (f"{__name__}.postgresql.store", "PostgreSQLStore"): ("postgresql.express", "ExpressPostgreSQLStore"),
    (f"{__name__}.mongodb.store", "MongoDBStore"): ("mongodb.express", "ExpressMongoDBStore"),
}


def open_store(url: str) -> Store:
    """Open the store that a URL describes. Nothing connects before the first use.

    :raises ConfigurationError: for an unknown scheme or parameter, or if the store's driver is not installed.
    """
    parsed = StoreURL(url)
    if parsed.scheme in _BUILT_IN:
        module, name, extra = _BUILT_IN[parsed.scheme]
        store_class = _import(module, name, extra)
    else:
        store_class = _third_party(parsed.scheme)
    return store_class.from_url(parsed)


def in_layout_of_express(store: Store, reader: Reader) -> Store:
    """Return a store on the same connections that keeps records as the stores of express-session do.

    ``memory://`` is not shared, and stays as it is, for tests.

    :raises ConfigurationError: for a store whose records no express-session store can read.
    """
    for kind in type(store).__mro__:
        if (kind.__module__, kind.__name__) in _FOR_EXPRESS:
            module, name = _FOR_EXPRESS[kind.__module__, kind.__name__]
            if module is None:
                return store
            sibling: Store = getattr(import_module(f"{__name__}.{module}"), name)(store, reader)
            return sibling
    raise ConfigurationError(
        'format="express" needs a store that Express supports too: redis://, postgresql://, or mongodb://'
    )


def _import(module: str, name: str, extra: str | None) -> type[Store]:
    try:
        found: type[Store] = getattr(import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("wsgisession"):
            raise
        raise ConfigurationError(
            f"the {module} store needs the package {error.name!r}: pip install '{_DRIVERS[extra or '']}'"
        ) from error
    return found


def _third_party(scheme: str) -> type[Store]:
    for entry_point in entry_points(group="wsgisession.stores", name=scheme):
        found: type[Store] = entry_point.load()
        return found
    if alike := get_close_matches(scheme, _BUILT_IN, n=1):
        raise ConfigurationError(f"no store is known for {scheme}://; did you mean {alike[0]}://?")
    known = ", ".join(sorted(f"{name}://" for name in _BUILT_IN))
    raise ConfigurationError(f"no store is known for {scheme}://; use one of {known}")
