"""The stores in the layouts of Express's stores: the same promises, on records that Express may write at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import psycopg
import pytest
from bson import DatetimeMS

from wsgisession import ConfigurationError, SessionManager
from wsgisession.stores import Reader, Record, Store, in_layout_of_express, open_store
from wsgisession.stores.mongodb.express import json_of, session_of

DAY = 86_400.0
KEYS = ("user_id", "_user_id", "_auth_user_id")


def glance(data: bytes) -> tuple[float, str | None]:
    session = json.loads(data)
    user = next((session[key] for key in KEYS if session.get(key) is not None), None)
    return (session["cookie"]["originalMaxAge"] or 1000 * DAY) / 1000, None if user is None else str(user)


def text(**data) -> bytes:
    cookie = {"originalMaxAge": 60_000, "expires": "2033-03-03T03:03:03.333Z", "httpOnly": True, "path": "/"}
    return json.dumps({"cookie": cookie, **data}, separators=(",", ":"), ensure_ascii=False).encode()


def record(**data) -> Record:
    return Record(text(**data), *glance(text(**data)))


ON_CLOCK = ["postgresql", "mongodb", "mongodb objects"]
"""The stores whose records expire by the caller's clock; in Redis the server's counts."""


@pytest.fixture(params=["redis", *ON_CLOCK])
def store(request) -> Iterator[Store]:
    yield from opened(request)


@pytest.fixture(params=ON_CLOCK)
def by_the_clock(request) -> Iterator[Store]:
    yield from opened(request)


def opened(request) -> Iterator[Store]:
    kind, _, objects = request.param.partition(" ")
    url = request.getfixturevalue(f"{kind}_url") + ("&stringify=false" if objects else "")
    native = open_store(url)
    store = in_layout_of_express(native, Reader(glance, KEYS))
    store.prepare()
    yield store
    store.close()


@pytest.fixture
def now() -> float:
    return time.time()  # for in Redis the server's clock counts


def same(one: bytes, other: bytes) -> bool:
    return json.loads(one) == json.loads(other)


def test_a_record_is_read_as_it_was_created(store, now):
    created = store.create("one", record(n=1, user_id=7), now=now)
    read = store.load("one", now=now, touch_after=None)
    assert same(read.data, text(n=1, user_id=7))
    assert (read.ttl, read.user_id) == (60.0, "7")
    assert read.expires_at == pytest.approx(created.expires_at, abs=1.1)
    assert read.expires_at == pytest.approx(now + 60, abs=1.1)


def test_what_is_not_there_is_none(store, now):
    assert store.load("one", now=now, touch_after=0.0) is None
    assert store.replace("one", Record(text(), 60.0, None, store_version(store, now)), now=now) is None
    assert store.touch("one", ttl=60.0, now=now) is False
    assert store.delete("one", now=now) is False
    assert store.find_user("7", now=now).records == []


@pytest.mark.parametrize("odd", ["\0", "a\0b", "Ünïcode ✓", "a:b*?[]", "x" * 4096])
def test_an_odd_handle_is_only_not_there(store, now, odd):
    store.create("a", record(), now=now)
    assert store.load(odd, now=now, touch_after=0.0) is None
    assert store.delete(odd, now=now) is False
    assert store.load("a", now=now, touch_after=None)


@pytest.mark.parametrize("text", ["\ud800", "a\udcff", "x" * 4097, ""])
def test_text_that_is_not_a_handle_is_not_asked_for(redis_url, text):
    manager = SessionManager(secret="for the tests, and long enough", format="express", store=redis_url)
    assert manager.load(text) is None
    assert manager.info(text) is None
    assert manager.revoke(text) is False
    manager.close()


def store_version(store, now):
    """Return the version of a record that has ended."""
    store.create("ended", record(), now=now)
    version = store.load("ended", now=now, touch_after=None).version
    assert store.delete("ended", now=now)
    return version


def test_a_handle_that_is_taken_stays_as_it_is(store, now):
    store.create("one", record(n=1), now=now)
    assert store.create("one", record(n=2), now=now) is None
    assert same(store.load("one", now=now, touch_after=None).data, text(n=1))


def test_only_the_record_that_was_read_is_replaced(store, now):
    store.create("one", record(n=1), now=now)
    mine, theirs = (store.load("one", now=now, touch_after=None) for _ in range(2))
    assert store.replace("one", Record(text(n=2), 60.0, None, theirs.version), now=now)
    assert store.replace("one", Record(text(n=3), 60.0, None, mine.version), now=now) is None
    assert same(store.load("one", now=now, touch_after=None).data, text(n=2))


def test_what_was_replaced_can_be_replaced_again(store, now):
    created = store.create("one", record(n=1), now=now)
    second = store.replace("one", Record(text(n=2), 60.0, None, created.version), now=now)
    assert store.replace("one", Record(text(n=3), 60.0, None, second.version), now=now)
    assert same(store.load("one", now=now, touch_after=None).data, text(n=3))


def test_a_touch_leaves_the_version_alone(store, now):
    created = store.create("one", record(n=1), now=now)
    assert store.touch("one", ttl=600.0, now=now)
    assert store.load("one", now=now, touch_after=None).expires_at == pytest.approx(now + 600, abs=1.1)
    assert store.replace("one", Record(text(n=2), 60.0, None, created.version), now=now)


def test_a_read_restarts_a_record_by_its_own_ttl_where_that_is_due(store, now):
    store.create("one", record(), now=now)
    store.touch("one", ttl=20.0, now=now)
    assert store.load("one", now=now, touch_after=0.9).expires_at == pytest.approx(now + 20, abs=1.1)
    assert store.load("one", now=now, touch_after=0.5).expires_at == pytest.approx(now + 60, abs=1.1)
    assert store.load("one", now=now, touch_after=None).expires_at == pytest.approx(now + 60, abs=1.1)


def test_only_the_version_that_was_read_is_deleted(store, now):
    created = store.create("one", record(n=1), now=now)
    store.replace("one", Record(text(n=2), 60.0, None, created.version), now=now)
    assert store.delete("one", now=now, version=created.version) is False
    assert store.delete("one", now=now) is True
    assert store.load("one", now=now, touch_after=None) is None


@pytest.mark.parametrize("user", ["ann", "7", "Ünïcode ✓", 'a"quote\\', "(.*)", "x" * 1000])
def test_the_sessions_of_a_user_are_found_and_ended(store, now, user):
    store.create("one", record(user_id=user, n=1), now=now)
    store.create("two", record(_user_id=user, other={"user_id": "nobody"}), now=now)
    store.create("three", record(user_id="somebody else", nested={"user_id": user}), now=now)
    assert sorted(handle for handle, _ in store.find_user(user, now=now).records) == ["one", "two"]
    assert store.delete_user(user, now=now, keep="two").handles == ["one"]
    assert [handle for handle, _ in store.find_user(user, now=now).records] == ["two"]
    assert store.load("three", now=now, touch_after=None)


def test_a_users_session_that_changes_while_all_are_ended_is_ended_too(store, now, monkeypatch):
    made = {handle: store.create(handle, record(user_id=7), now=now) for handle in ("one", "two")}
    reads = "_read" if hasattr(store, "_read") else "find_user"
    read = getattr(store, reads)

    def read_and_let_others_write(*args, **options):
        found = read(*args, **options)
        monkeypatch.undo()
        assert store.replace("one", Record(text(user_id=7, n=1), 60.0, "7", made["one"].version), now=now)
        assert store.replace("two", Record(text(user_id=8), 60.0, "8", made["two"].version), now=now)
        return found

    monkeypatch.setattr(store, reads, read_and_let_others_write)
    steps = [store.delete_user("7", now=now)]
    assert steps == [([], True)]
    while steps[-1].more:
        steps.append(store.delete_user("7", now=now))
    assert [handle for step in steps for handle in step.handles] == ["one"]
    assert [handle for handle, _ in store.scan(now=now)] == ["two"]


def test_a_user_with_a_number_is_the_one_with_its_text(store, now):
    store.create("one", record(user_id=7), now=now)
    store.create("two", record(user_id="7"), now=now)
    assert sorted(handle for handle, _ in store.find_user("7", now=now).records) == ["one", "two"]


def test_all_live_records_are_scanned(store, now):
    for number in range(120):
        store.create(f"n{number:03}", record(n=number), now=now)
    assert sorted(handle for handle, _ in store.scan(now=now)) == [f"n{number:03}" for number in range(120)]


def test_sqlite_has_no_layout_of_express(sqlite_url):
    with pytest.raises(ConfigurationError, match="redis://, postgresql://, or mongodb://"):
        in_layout_of_express(open_store(sqlite_url), Reader(glance, KEYS))


# What only some can show.


def test_expired_is_absent_whether_or_not_anything_has_swept(by_the_clock, now):
    store = by_the_clock
    created = store.create("one", record(user_id=7), now=now)
    late = now + 62
    assert store.load("one", now=late, touch_after=0.0) is None
    assert store.replace("one", Record(text(), 60.0, None, created.version), now=late) is None
    assert store.touch("one", ttl=60.0, now=late) is False
    assert store.delete("one", now=late) is False
    assert store.find_user("7", now=late).records == []
    assert list(store.scan(now=late)) == []
    assert store.create("one", record(n=2), now=late)
    assert same(store.load("one", now=late, touch_after=None).data, text(n=2))


def test_expired_records_are_purged(by_the_clock, now):
    store = by_the_clock
    for number in range(5):
        store.create(f"n{number}", record(), now=now)
    store.create("live", record(), now=now)
    store.touch("live", ttl=600.0, now=now)
    assert store.purge(now=now + 100, limit=2) == 2
    assert store.purge(now=now + 100) == 3
    assert [handle for handle, _ in store.scan(now=now + 100)] == ["live"]


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
        (8_640_000_000_000_000, "+275760-09-13T00:00:00.000Z"),
        (-8_640_000_000_000_000, "-271821-04-20T00:00:00.000Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        (-62_198_755_200_000, "-000001-01-01T00:00:00.000Z"),
        (8_640_000_000_000_001, None),
    ],
)
def test_any_date_of_javascripts_is_read_and_kept(milliseconds, said):
    session = {"cookie": {}, "at": DatetimeMS(milliseconds)}
    read = json.loads(json_of(session))
    assert read["at"] == said
    assert session_of(json.dumps({**read, "n": 1}).encode(), session)["at"] == DatetimeMS(milliseconds)


@pytest.mark.parametrize(
    "said", ["2026-13-01T00:00:00.000Z", "0000-01-01T00:00:00.000Z", "٢٠٢٦-01-01T00:00:00.000Z", "x"]
)
def test_a_text_where_a_date_was_is_one_or_stays_a_text(said):
    session = {"cookie": {"expires": DatetimeMS(0)}, "at": DatetimeMS(0)}
    written = session_of(json.dumps({"cookie": {"expires": said}, "at": said}).encode(), session)
    assert written == {"cookie": {"expires": said}, "at": said}


@pytest.fixture
def redis_twice(redis_url) -> Iterator[tuple[Store, Store]]:
    """Two processes' stores on one Redis."""
    stores = [in_layout_of_express(open_store(redis_url), Reader(glance, KEYS)) for _ in range(2)]
    yield stores[0], stores[1]
    for store in stores:
        store.close()


def of_user(store, now):
    return [handle for handle, _ in store.find_user("7", now=now).records]


def test_a_session_that_express_brought_back_is_found_again_when_it_is_restarted(redis_twice, now):
    one, other = redis_twice
    data = text(user_id=7).replace(b"60000", b"3600000")
    one.create("one", Record(data, 3600.0, "7"), now=now)
    assert other.delete_user("7", now=now).handles == ["one"]
    with one._call() as deadline:
        one._client().execute(("SET", one._prefix + b"one", data, "EX", 3600), deadline)
    assert one.load("one", now=now + 61, touch_after=None)
    assert of_user(other, now) == []
    assert one.load("one", now=now + 61, touch_after=0)
    assert of_user(other, now) == ["one"]


def test_who_looks_for_a_user_while_a_session_is_written_does_not_hide_it(redis_twice, now, monkeypatch):
    one, other = redis_twice
    client = one._client()
    evaluate = client.evaluate

    def evaluate_late(script, key, *rest, **options):
        assert of_user(other, now) == []
        return evaluate(script, key, *rest, **options)

    monkeypatch.setattr(client, "evaluate", evaluate_late)
    assert one.create("one", record(user_id=7), now=now)
    assert of_user(other, now) == ["one"]


def test_a_longer_lifetime_keeps_the_session_in_its_users_set(redis_twice, now):
    one, other = redis_twice
    version = one.create("one", record(user_id=7), now=now).version
    assert one.replace("one", Record(text(user_id=7, n=1), 3600.0, "7", version), now=now + 1)
    other.create("two", record(user_id=7), now=now + 200)  # which takes out of the set what it held long enough
    assert sorted(of_user(other, now)) == ["one", "two"]


@pytest.fixture
def postgresql(postgresql_url) -> Iterator[Store]:
    store = in_layout_of_express(open_store(postgresql_url), Reader(glance, KEYS))
    yield store
    store.close()


@pytest.mark.parametrize("odd", ["\\u0000", "\\ud800", "\\uDC00x"])
def test_an_index_of_users_accepts_a_text_that_postgresql_cannot_undo(postgresql, now, odd):
    data = b'{"cookie":{"originalMaxAge":60000,"path":"/"},"user_id":"ann","odd":"%b"}' % odd.encode()
    postgresql.prepare()
    assert postgresql.create("one", Record(data, 60.0, "ann"), now=now)
    assert [handle for handle, _ in postgresql.find_user("ann", now=now).records] == ["one"]


def test_the_table_is_made_where_it_is_missing(postgresql, now):
    assert postgresql.load("one", now=now, touch_after=None) is None
    assert postgresql.create("one", record(), now=now)


def test_users_are_found_by_an_index(postgresql, postgresql_url, now):
    postgresql.prepare()
    for number in range(40):
        postgresql.create(f"n{number}", record(user_id=number % 20), now=now)
    statement = postgresql._sql.find_user.decode()
    for parameter, value in {"$1": "'7'", "$2": now, "$3": "'infinity'", "$4": "''", "$5": "10"}.items():
        statement = statement.replace(parameter, str(value))
    with psycopg.connect(postgresql_url.partition("?")[0]) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {statement}"))
    assert plan.count("_sessions") == 2  # of this user, and of those whose JSON the server cannot look into
    assert "Seq Scan" not in plan


def test_the_table_has_nothing_that_express_would_not_put_there(postgresql, now):
    postgresql.create("one", record(user_id=1), now=now)
    assert "expires_at" not in postgresql.ddl
    assert "ALTER TABLE" not in postgresql.ddl
