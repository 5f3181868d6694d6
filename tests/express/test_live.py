"""One login for Node.js and Python: the real express-session and this library on one store, both writing to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pymongo
import pytest
import redis

from tests.express.peer import Browser, Express, Node, Ours, parsed, together, where
from wsgisession import SessionGone
from wsgisession._core.codec import NativeCodec
from wsgisession._core.content import Content
from wsgisession.stores import Record, open_store

STORES = ["redis", "postgresql", "mongodb", "mongodb objects"]
SECRETS = ["the newer secret of the two", "for the tests, and long enough"]


class Both:
    """Makes apps of both kinds on one store."""

    def __init__(self, node: Node, kind: str, url: str) -> None:
        self.node, self.kind, self.url = node, kind, url
        self.made: list[Any] = []

    def express(self, **options: Any) -> Express:
        store, _ = where(self.kind, self.url)
        self.made.append(app := Express(self.node, store, **options))
        return app

    def ours(self, **options: Any) -> Ours:
        self.made.append(app := Ours(self.url, **options))
        return app


@pytest.fixture(params=STORES)
def both(request, node) -> Iterator[Both]:
    kind, _, objects = request.param.partition(" ")
    url = request.getfixturevalue(f"{kind}_url") + ("&stringify=false" if objects else "")
    made = Both(node, kind, url)
    if kind == "postgresql":
        made.ours().manager.store.prepare()
    yield made
    for app in made.made:
        app.close()


def test_who_logged_in_at_express_is_logged_in_here(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    express.visit(browser, ["regenerate"], ["set", "user_id", "ann"], ["set", "cart", ["a"]])
    answer = ours.visit(browser, ["push", "cart", "b"])
    assert answer.data == {"user_id": "ann", "cart": ["a", "b"]}
    assert express.visit(browser, ["get"]).data == {"user_id": "ann", "cart": ["a", "b"]}


def test_who_logged_in_here_is_logged_in_at_express(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    first = ours.visit(browser, ["login", "ann"])
    answer = express.visit(browser, ["nested", "cart", "a", 1])
    assert (answer.id, answer.data) == (first.id, {"user_id": "ann", "cart": {"a": 1}})
    assert ours.visit(browser, ["get"]).data == {"user_id": "ann", "cart": {"a": 1}}


def test_a_login_here_takes_over_a_session_of_express(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    old = express.visit(browser, ["set", "cart", ["a"]])
    stale = Browser(browser.cookie)
    new = ours.visit(browser, ["login", 7])
    assert new.id != old.id
    assert express.visit(browser, ["get"]).data == {"cart": ["a"], "user_id": 7}
    assert express.visit(stale, ["get"]).data == {}
    assert express.record(old.id) is None


def test_what_express_regenerated_is_found_under_its_new_id_only(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    ours.visit(browser, ["set", "n", 1])
    stale = Browser(browser.cookie)
    express.visit(browser, ["regenerate"], ["set", "n", 2])
    assert ours.visit(browser, ["get"]).data == {"n": 2}
    assert ours.visit(stale, ["get"]).data == {}


def test_what_express_destroyed_is_gone_here(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    ours.visit(browser, ["set", "n", 1])
    express.visit(browser, ["destroy"])
    assert ours.visit(browser, ["get"]).data == {}


def test_what_was_destroyed_here_is_gone_at_express(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    express.visit(browser, ["set", "n", 1])
    stale = Browser(browser.cookie)
    ours.visit(browser, ["destroy"])
    assert browser.cookie is None
    assert express.visit(stale, ["get"]).data == {}


def test_a_session_that_express_destroyed_in_the_meantime_is_not_brought_back(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    session_id = express.visit(browser, ["set", "n", 1]).id
    twin = Browser(browser.cookie)
    answer = ours.visit(browser, ["set", "n", 2], between=lambda: express.visit(twin, ["destroy"]))
    assert answer.set_cookie is None
    assert express.record(session_id) is None


def test_a_write_of_express_in_the_middle_of_a_request_is_merged(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    express.visit(browser, ["set", "cart", ["a"]], ["set", "n", 1])
    twin = Browser(browser.cookie)
    ours.visit(
        browser,
        ["push", "cart", "mine"],
        ["set", "m", 1],
        between=lambda: express.visit(twin, ["push", "cart", "theirs"], ["remove", "n"]),
    )
    assert express.visit(browser, ["get"]).data == {"cart": ["a", "theirs", "mine"], "m": 1}


def test_both_write_at_once_and_nothing_that_express_stored_is_lost_to_us(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    session_id = express.visit(browser, ["set", "seed", 1]).id

    def here():
        for number in range(12):
            ours.visit(Browser(browser.cookie), ["set", f"p{number}", number])

    # Express writes blindly, so that only what it is alone in writing can be counted: one request at a time.
    def there():
        for number in range(12):
            express.visit(Browser(browser.cookie), ["set", f"e{number}", number])

    together(here, there)
    found = express.record(session_id)
    assert [f"e{number}" for number in range(12) if found.get(f"e{number}") != number] == []


def test_fifty_transactions_here_make_fifty_next_to_a_reader_of_express(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    session_id = express.visit(browser, ["set", "n", 0]).id

    def add():
        for _ in range(5):
            session = ours.manager.load(session_id)
            session.transaction(lambda session: session.__setitem__("n", session["n"] + 1))

    together(*[add] * 4, lambda: [express.visit(Browser(browser.cookie), ["get"]) for _ in range(5)])
    assert express.visit(browser, ["get"]).data == {"n": 20}


@pytest.mark.parametrize("rolling", [False, True])
def test_a_lifetime_that_was_changed_at_one_counts_at_the_other(both, rolling):
    express, ours, browser = both.express(rolling=rolling), both.ours(rolling=rolling), Browser()
    session_id = express.visit(browser, ["set", "n", 1], ["maxAge", 60_000]).id
    assert ours.manager.load(session_id).cookie.max_age == pytest.approx(60, abs=0.1)
    answer = ours.visit(browser, ["set", "n", 2])
    assert parsed(answer.set_cookie)[1]["max-age"] == "60"
    ours.visit(browser, ["maxAge", 7_200_000])
    found = express.record(session_id)
    assert found["cookie"]["originalMaxAge"] == 7_200_000
    assert found["cookie"]["httpOnly"] is True
    answer = express.visit(browser, ["set", "n", 3])
    assert "expires" in parsed(answer.set_cookie)[1]
    assert ours.manager.info(session_id).expires_at.timestamp() == pytest.approx(time.time() + 7200, abs=5)


def test_a_visit_at_either_keeps_the_session_alive(both):
    express, ours = both.express(cookie={"maxAge": 60_000}), both.ours(cookie={"max_age": 60}, touch_after=0)
    browser = Browser()
    session_id = express.visit(browser, ["set", "n", 1]).id
    store = ours.manager.store
    for visit in (lambda: ours.visit(browser, ["get"]), lambda: express.visit(browser, ["get"])):
        assert store.touch(session_id, ttl=20.0, now=time.time())
        visit()
        assert store.load(session_id, now=time.time(), touch_after=None).expires_at > time.time() + 50


def test_secrets_are_rotated_at_one_after_the_other(both):
    old, new = both.express(secret=SECRETS[1]), both.ours(secret=SECRETS)
    browser = Browser()
    old.visit(browser, ["set", "n", 1])
    assert new.visit(browser, ["get"]).data == {"n": 1}
    fresh = Browser()
    new.visit(fresh, ["set", "n", 2])
    assert old.visit(Browser(fresh.cookie), ["get"]).data == {}
    assert both.express(secret=SECRETS).visit(fresh, ["get"]).data == {"n": 2}


def test_a_user_of_express_is_found_and_ended_here(both):
    express, ours = both.express(), both.ours()
    first, second, other = Browser(), Browser(), Browser()
    for browser in (first, second):
        express.visit(browser, ["set", "user_id", "ann"])
        if both.kind == "redis":
            ours.visit(browser, ["set", "seen", 1])  # where a user is listed once Python has written the session
    express.visit(other, ["set", "user_id", "bob"])
    assert {info.user_id for info in ours.manager.sessions_for("ann")} == {"ann"}
    assert ours.manager.revoke_user("ann") == 2
    for browser in (first, second):
        assert express.visit(browser, ["get"]).data == {}
    assert express.visit(other, ["get"]).data == {"user_id": "bob"}


def test_one_session_of_express_is_ended_by_its_handle(both):
    express, ours, browser = both.express(), both.ours(), Browser()
    session_id = express.visit(browser, ["set", "user_id", "ann"]).id
    assert ours.manager.revoke(session_id, user_id="bob") is False
    assert ours.manager.revoke(session_id, user_id="ann") is True
    assert express.visit(browser, ["get"]).data == {}
    with pytest.raises(SessionGone), ours.manager.edit(session_id):
        pass


def test_an_absolute_timeout_goes_through_express(both):
    clock = Clock()
    express, ours, browser = both.express(), both.ours(absolute_timeout=3600, idle_timeout=600, clock=clock), Browser()
    session_id = express.visit(browser, ["set", "n", 1]).id
    assert ours.visit(browser, ["get"]).data == {"n": 1}  # it is dated where it is first seen
    express.visit(browser, ["set", "n", 2])
    assert ours.visit(browser, ["get"]).data == {"n": 2}
    assert express.record(session_id)["_created"] == pytest.approx(1000 * time.time(), abs=10_000)
    clock.ahead = 3700
    assert ours.visit(browser, ["get"]).data == {}


class Clock:
    ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


def test_a_secure_cookie_stays_secure_at_express(both):
    express, ours, browser = both.express(rolling=True), both.ours(), Browser()
    made = ours.visit(browser, ["set", "n", 1], scheme="https")
    assert "secure" in parsed(made.set_cookie)[1]
    assert "secure" in parsed(express.visit(browser, ["get"], scheme="https").set_cookie)[1]
    assert express.visit(browser, ["get"], scheme="http").set_cookie is None


def test_every_setting_of_the_cookie_is_what_express_sends_again(both):
    cookie = {"max_age": 3600, "path": "/", "domain": "example.com", "http_only": False, "same_site": "None"}
    ours = both.ours(cookie={**cookie, "partitioned": True})
    express, browser = both.express(rolling=True), Browser()
    made = parsed(ours.visit(browser, ["set", "n", 1], scheme="https").set_cookie)[1]
    again = parsed(express.visit(browser, ["get"], scheme="https").set_cookie)[1]
    assert made.pop("max-age") == "3600"
    assert made.pop("expires")
    assert again.pop("expires")
    assert again == made


def test_no_repr_and_no_log_shows_the_id(both, caplog):
    ours, browser = both.ours(), Browser()
    with caplog.at_level(1):
        session_id = ours.visit(browser, ["login", "ann"]).id
    session = ours.manager.load(session_id)
    (info,) = ours.manager.sessions_for("ann")
    assert info.handle == session_id
    assert session_id not in f"{session!r} {info!r} {ours.manager!r}"
    assert session_id not in "".join(record.getMessage() for record in caplog.records if record.name == "wsgisession")


def test_a_record_of_the_native_format_is_not_a_session_here(both):
    ours, native = both.ours(), open_store(both.url)
    packed = NativeCodec(max_size=1000).pack(Content({}, time.time()), handle="one")
    assert native.create("one", Record(packed, 60.0, "ann"), now=time.time())
    native.close()
    assert ours.manager.load("one") is None


def test_a_cookie_with_a_priority_keeps_it(both):
    express, ours, browser = both.express(cookie={"priority": "high", "maxAge": 60_000}), both.ours(), Browser()
    express.visit(browser, ["set", "n", 1])
    assert parsed(ours.visit(browser, ["set", "n", 2]).set_cookie)[1]["priority"] == "High"
    assert parsed(express.visit(browser, ["set", "n", 3]).set_cookie)[1]["priority"] == "High"


def test_a_key_of_redis_that_never_expires_stays_so(node, redis_url):
    store, _ = where("redis", redis_url, disableTTL=True)
    express, ours, browser = Express(node, store), Ours(redis_url, touch_after=0), Browser()
    session_id = express.visit(browser, ["set", "n", 1]).id
    ours.visit(browser, ["get"])
    ours.visit(browser, ["set", "n", 2])
    with redis.Redis.from_url(store["url"]) as client:
        assert client.ttl(f"{store['prefix']}{session_id}") == -1
    assert express.visit(browser, ["get"]).data == {"n": 2}
    for app in (express, ours):
        app.close()


def test_a_date_in_an_object_of_mongodb_stays_one_when_it_is_moved(node, mongodb_url):
    store, url = where("mongodb", f"{mongodb_url}&stringify=false")
    express, ours, browser = Express(node, store), Ours(url), Browser()
    session_id = express.visit(browser, ["setDate", "at", 1_000]).id
    assert ours.visit(browser, ["get"]).data == {"at": "1970-01-01T00:00:01.000Z"}
    ours.visit(browser, ["set", "at", "1970-01-01T00:00:02.500Z"], ["set", "text", "1970-01-01T00:00:02.500Z"])
    with pymongo.MongoClient(store["url"]) as client:
        session = client.get_default_database()[store["collectionName"]].find_one({"_id": session_id})["session"]
    assert session["at"] == datetime(1970, 1, 1, 0, 0, 2, 500_000)
    assert session["text"] == "1970-01-01T00:00:02.500Z"
    assert isinstance(session["cookie"]["expires"], datetime | None)
    for app in (express, ours):
        app.close()


def test_connect_mongos_own_stamp_is_kept_up(node, mongodb_url):
    store, url = where("mongodb", mongodb_url, touchAfter=3600)
    express, ours, browser = Express(node, store), Ours(url, touch_after=0), Browser()
    session_id = express.visit(browser, ["set", "n", 1]).id
    with pymongo.MongoClient(store["url"]) as client:
        sessions = client.get_default_database()[store["collectionName"]]
        for steps in (["get"], ["set", "n", 2]):
            sessions.update_one({"_id": session_id}, {"$set": {"lastModified": datetime(2020, 1, 1)}})
            ours.visit(browser, steps)
            assert sessions.find_one({"_id": session_id})["lastModified"].year > 2020
    assert express.visit(browser, ["get"]).data["n"] == 2
    for app in (express, ours):
        app.close()
