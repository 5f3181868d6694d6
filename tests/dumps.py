"""Everything that a store holds, as bytes: what someone who stole the server's disk would read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pymongo
import redis

from wsgisession.stores import Record, Store
from wsgisession.stores.base import StoreURL


def dump_of(store: Store, url: str) -> bytes:
    """Return the bytes of the store that this URL opened: keys, records, indexes."""
    parts = StoreURL(url)
    if parts.scheme == "memory":
        return b"\n".join(_texts(vars(store)))
    read = {"sqlite": _sqlite, "redis": _redis, "postgresql": _postgresql, "mongodb": _mongodb}[parts.scheme]
    return read(parts)


def _texts(value: Any) -> list[bytes]:
    """Return all texts inside containers, however deep."""
    if isinstance(value, (str, bytes)):
        return [value.encode() if isinstance(value, str) else value]
    if isinstance(value, Record):
        return _texts(msgspec.structs.astuple(value))
    if isinstance(value, dict):
        return _texts(list(value.items()))
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    return []


def _sqlite(url: StoreURL) -> bytes:
    """The file and its log."""
    file = Path(url.location[1:])
    return b"\n".join(path.read_bytes() for path in sorted(file.parent.glob(f"{file.name}*")))


def _redis(url: StoreURL) -> bytes:
    """Every key of the test's own, of whatever type."""
    prefix = url.option("prefix", "", str).removesuffix(":")
    found: list[bytes] = []
    with redis.Redis.from_url(url.driver_url()) as client:
        for key in client.scan_iter(f"{prefix}[-:]*", count=1000):
            read = {b"string": client.get, b"zset": lambda key: client.zrange(key, 0, -1)}[client.type(key)]
            found += [key, *_texts(read(key))]
    return b"\n".join(found)


def _postgresql(url: StoreURL) -> bytes:
    name = f'"{url.option("schema", "", str)}"."{url.option("table", "", str)}"'
    with psycopg.connect(url.driver_url()) as connection:
        rows = connection.execute(f"SELECT one::text FROM {name} AS one").fetchall()
    return b"\n".join(row.encode() for (row,) in rows)


def _mongodb(url: StoreURL) -> bytes:
    name = url.option("collection", "", str)
    with pymongo.MongoClient(url.driver_url()) as client:
        return b"\n".join(repr(document).encode() for document in client.get_default_database()[name].find())
