"""Records of Express's stores: what the real ones wrote is read, changed and written back (tests/vectors)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psycopg
import pymongo
import pytest
import redis
from bson import json_util

from wsgisession import SessionManager

KNOWN = json.loads((Path(__file__).parent / "vectors" / "express_records.json").read_text())
RECORDS = KNOWN["records"]
MODE = json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL, tz_aware=True)


def groups():
    found = {}
    for record in RECORDS:
        found.setdefault((record["store"], json.dumps(record["store_options"])), []).append(record)
    return [
        pytest.param(store, json.loads(options), group, id=f"{store} {options}")
        for (store, options), group in found.items()
    ]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class OnRedis:
    def __init__(self, url, options):
        self.prefix = options.get("prefix", "sess:")
        parts = urlsplit(url)
        self.client = redis.Redis.from_url(parts._replace(query="").geturl())
        self.url = f"{parts._replace(query='').geturl()}?{urlencode({'prefix': self.prefix})}"

    def put(self, record):
        key = record["key"]
        assert key.startswith(self.prefix)
        self.client.set(key, record["value"], ex=record["ttl_s"])

    def session(self, record):
        return self.client.get(record["key"]).decode()

    def expected(self, record):
        return record["value"]

    def expiry(self, record, now):
        return now + round(self.client.pttl(record["key"]) / 1000)

    def known_expiry(self, record, now):
        return now + record["ttl_s"]

    def clear(self):
        for key in [*self.client.scan_iter(f"{self.prefix}*"), *self.client.scan_iter("*user:*")]:
            self.client.delete(key)
        self.client.close()


class OnPostgreSQL:
    def __init__(self, url, options, zone):
        parts = urlsplit(url)
        query = dict(part.split("=") for part in parts.query.split("&"))
        self.table = options.get("tableName", "session")
        self.schema = query["schema"]
        self.connection = psycopg.connect(
            parts._replace(query="").geturl(), autocommit=True, options=f"-c TimeZone={zone}"
        )
        query |= {"table": self.table, "options": f"-c TimeZone={zone}"}
        self.url = f"{parts._replace(query='').geturl()}?{urlencode(query)}"
        self.name = f'{self.schema}."{self.table}"'

    def put(self, record):
        self.connection.execute(
            f"INSERT INTO {self.name} (sid, sess, expire) VALUES (%s, %s, %s::timestamp)",
            (record["sid"], record["sess"], record["expire"]),
        )

    def row(self, record):
        row = "sess::text, expire::text, extract(epoch FROM expire::timestamptz)::int"
        return self.connection.execute(f"SELECT {row} FROM {self.name} WHERE sid = %s", (record["sid"],)).fetchone()

    def session(self, record):
        return self.row(record)[0]

    def expected(self, record):
        return record["sess"]

    def expiry(self, record, now):
        _, text, epoch = self.row(record)
        return epoch, text

    def known_expiry(self, record, now):
        return record["expire_epoch"], record["expire"]

    def clear(self):
        self.connection.execute(f"DROP TABLE {self.name}")
        self.connection.close()


class OnMongoDB:
    def __init__(self, url, options):
        parts = urlsplit(url)
        query = dict(part.split("=") for part in parts.query.split("&"))
        del query["collection"]
        self.client = pymongo.MongoClient(f"{parts._replace(query='').geturl()}?{urlencode(query)}", tz_aware=True)
        self.name = options.get("collectionName", "sessions") + "_vectors"
        self.sessions = self.client[parts.path[1:]][self.name]
        stringify = "false" if options.get("stringify") is False else "true"
        query |= {"collection": self.name, "stringify": stringify}
        self.url = f"{parts._replace(query='').geturl()}?{urlencode(query)}"

    def put(self, record):
        self.sessions.insert_one(json_util.loads(json.dumps(record["doc"]), json_options=MODE))

    def doc(self, record):
        return self.sessions.find_one({"_id": record["doc"]["_id"]})

    def session(self, record):
        session = self.doc(record)["session"]
        return session if isinstance(session, str) else canonical(session)

    def expected(self, record):
        session = record["doc"]["session"]
        return (
            session if isinstance(session, str) else canonical(json_util.loads(json.dumps(session), json_options=MODE))
        )

    def expiry(self, record, now):
        return round(self.doc(record)["expires"].timestamp() * 1000)

    def known_expiry(self, record, now):
        return int(record.get("doc", record)["expires"]["$date"]["$numberLong"])

    def clear(self):
        self.sessions.drop()
        self.client.close()


def canonical(session):
    return json_util.dumps(session, json_options=MODE)


@pytest.fixture
def on_store(request) -> Iterator:
    @contextmanager
    def on(store, options, records):
        url = request.getfixturevalue({"postgres": "postgresql", "mongo": "mongodb"}.get(store, store) + "_url")
        if store == "postgres":
            zone = next(record["record"]["session_timezone"] for record in records if record["record"])
            place = OnPostgreSQL(url, options, zone)
        else:
            place = {"redis": OnRedis, "mongo": OnMongoDB}[store](url, options)
        manager = SessionManager(
            secret=KNOWN["secret"],
            format="express",
            name="connect.sid",
            store=place.url,
            idle_timeout=options.get("ttl"),
            touch_after=0,
            clock=(clock := Clock()),
        )
        try:
            if store == "postgres":
                manager.store.prepare()
            yield place, manager, clock
        finally:
            manager.close()
            place.clear()

    return on


def stored(records):
    return [record for record in records if record["record"] is not None]


@pytest.mark.parametrize(("store", "options", "records"), groups())
def test_every_record_is_read_and_written_back_as_the_real_store_would(on_store, store, options, records):
    with on_store(store, options, records) as (place, manager, clock):
        for known in stored(records):
            clock.now = known["now_ms"] / 1000
            place.put(known["record"])
            session = manager.load(known["id"])
            if has_ended(known):
                assert session is None
                continue
            assert session is not None, known
            assert dict(session) == json.loads(known["reads_back"], object_hook=as_dumped(known)), known["case"]
            with manager.edit(known["id"]) as session:
                session["added"] = [1, {"é": None}]
            check_written(place, known)


def as_dumped(known):
    """Return what undoes Buffers in the data: the dump of a raw document has them as objects, and so have we."""

    def undone(value):
        is_buffer = value.keys() == {"type", "data"} and value["type"] == "Buffer"
        return {str(at): byte for at, byte in enumerate(value["data"])} if is_buffer else value

    return undone if known["store_options"].get("stringify") is False else None


def has_ended(known):
    """Whether the record ended as it began. The real connect-mongo was asked by a clock in the record's past."""
    if "doc" in known["record"]:
        return int(known["record"]["doc"]["expires"]["$date"]["$numberLong"]) <= known["now_ms"]
    return known["reads_back"] is None


def check_written(place, known):
    was, now = json.loads(place.expected(known["record"])), json.loads(place.session(known["record"]))
    assert now.pop("added") in ([1, {"é": None}], [{"$numberInt": "1"}, {"é": None}])
    assert now == was, known["case"]
    assert list(now["cookie"]) == list(was["cookie"]), known["case"]
    at = known["now_ms"] / 1000
    assert place.expiry(known["record"], at) == place.known_expiry(known["record"], at), known["case"]


@pytest.mark.parametrize(("store", "options", "records"), groups())
def test_a_read_restarts_a_record_as_the_real_store_does(on_store, store, options, records):
    with on_store(store, options, records) as (place, manager, clock):
        for known in stored(records):
            touched = known.get("after_touch")
            if touched is None or options.get("touchAfter"):
                continue
            place.put(known["record"])
            clock.now = touched["now_ms"] / 1000
            before = place.session(known["record"])
            session = manager.open(known["set_cookie"].partition(";")[0], None)
            if not session.is_new:
                assert place.session(known["record"]) == before
                at = clock.now
                assert place.expiry(known["record"], at) == place.known_expiry(touched, at), known["case"]
