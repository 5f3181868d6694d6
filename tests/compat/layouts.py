"""What a store keeps on its server, read and put back without the store: rows, keys, and documents as JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import unquote

import psycopg
import pymongo
import redis
from bson import json_util
from psycopg import sql

from wsgisession.stores import Record, Store
from wsgisession.stores.base import StoreURL

Layout = dict[str, Any]


class Kind(NamedTuple):
    """How to read and put back what one kind of store keeps."""

    dump: Callable[[StoreURL], Layout]
    restore: Callable[[StoreURL, Layout], None]


def dumped(url: str) -> Layout:
    """Return all that the store of this URL keeps. What ``memory://`` keeps only its own process can tell."""
    parts = StoreURL(url)
    return {} if parts.scheme == "memory" else KINDS[parts.scheme].dump(parts)


def restore(url: str, layout: Layout) -> None:
    """Put back what was dumped, where this URL says."""
    parts = StoreURL(url)
    KINDS[parts.scheme].restore(parts, layout)


def restore_records(store: Store, records: list[dict[str, Any]], *, now: float) -> None:
    """Give a store the records that the old version's store gave back."""
    for one in records:
        record = Record(one["data"].encode(), one["ttl"], one["user_id"])
        assert store.create(one["handle"], record, now=now) is not None


# SQLite: the file's own SQL.


def _sqlite_path(url: StoreURL) -> str:
    return unquote(url.location[1:])


def _dump_sqlite(url: StoreURL) -> Layout:
    with closing(sqlite3.connect(_sqlite_path(url))) as connection:
        return {"sql": list(connection.iterdump())}


def _restore_sqlite(url: StoreURL, layout: Layout) -> None:
    with closing(sqlite3.connect(_sqlite_path(url))) as connection:
        connection.executescript("\n".join(layout["sql"]))


# Redis: strings and sorted sets. The names of both begin with the prefix without its colon.


def _prefix(url: StoreURL) -> str:
    return url.option("prefix", "sess:", str).removesuffix(":")


def _dump_redis(url: StoreURL) -> Layout:
    prefix, strings, sets = _prefix(url), {}, {}
    with redis.Redis.from_url(url.driver_url(), decode_responses=True) as client:
        for key in sorted(client.scan_iter(f"{prefix}[-:]*", count=1000)):
            name = key.removeprefix(prefix)
            if client.type(key) == "string":
                strings[name] = [client.get(key), _rounded(client.pttl(key))]
            else:
                sets[name] = [client.zrange(key, 0, -1, withscores=True), _rounded(client.pttl(key))]
    return {"strings": strings, "sets": sets}


def _rounded(milliseconds: int) -> int:
    return -(-milliseconds // 60_000) * 60_000


def _restore_redis(url: StoreURL, layout: Layout) -> None:
    prefix = _prefix(url)
    with redis.Redis.from_url(url.driver_url()) as client:
        for name, (value, left) in layout["strings"].items():
            client.set(prefix + name, value, px=left)
        for name, (members, left) in layout["sets"].items():
            client.zadd(prefix + name, dict(members))
            client.pexpire(prefix + name, left)


# PostgreSQL: the rows, and the statements that made the table. Times are seconds, whatever zone the server is in.


def _table(url: StoreURL) -> tuple[str, str]:
    return url.option("schema", "", str), url.option("table", "", str)


def _dump_postgresql(url: StoreURL) -> Layout:
    name = sql.Identifier(*_table(url))
    query = sql.SQL("SELECT sid, sess::text, extract(epoch FROM expire::timestamptz)::float, {} FROM {} ORDER BY sid")
    with psycopg.connect(url.driver_url()) as connection:
        columns = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(name)).description or ()
        more = [column.name for column in columns if column.name not in ("sid", "sess", "expire")]
        rest = sql.SQL(", ").join(map(sql.Identifier, more)) if more else sql.SQL("NULL")
        rows = connection.execute(query.format(rest, name)).fetchall()
    return {"more": more, "rows": [row[: 3 + len(more)] for row in rows]}


def _restore_postgresql(url: StoreURL, layout: Layout) -> None:
    schema, table = _table(url)
    own = {"compat_schema": schema, "compat_table": table}
    statements = layout["ddl"]
    for old, new in own.items():
        statements = statements.replace(old, new)
    names = sql.SQL(", ").join(map(sql.Identifier, ["sid", "sess", "expire", *layout["more"]]))
    values = sql.SQL(", ").join(
        [sql.SQL("%s, %s, to_timestamp(%s)::timestamp"), *[sql.Placeholder()] * len(layout["more"])]
    )
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(schema, table), names, values)
    with psycopg.connect(url.driver_url()) as connection:
        connection.execute(statements)
        for row in layout["rows"]:
            connection.execute(insert, row)


# MongoDB: the documents in extended JSON, which keeps their types. Indexes are the store's to make.


def _dump_mongodb(url: StoreURL) -> Layout:
    name = _collection(url)
    with pymongo.MongoClient(url.driver_url()) as client:
        found = list(client.get_default_database()[name].find(sort={"_id": 1}))
    return {"documents": [json_util.dumps(one, json_options=json_util.CANONICAL_JSON_OPTIONS) for one in found]}


def _restore_mongodb(url: StoreURL, layout: Layout) -> None:
    name = _collection(url)
    documents = [json_util.loads(one, json_options=json_util.CANONICAL_JSON_OPTIONS) for one in layout["documents"]]
    with pymongo.MongoClient(url.driver_url()) as client:
        client.get_default_database()[name].insert_many(documents)


def _collection(url: StoreURL) -> str:
    url.option("stringify", "", str)
    return url.option("collection", "", str)


KINDS = {
    "sqlite": Kind(_dump_sqlite, _restore_sqlite),
    "redis": Kind(_dump_redis, _restore_redis),
    "postgresql": Kind(_dump_postgresql, _restore_postgresql),
    "mongodb": Kind(_dump_mongodb, _restore_mongodb),
}
