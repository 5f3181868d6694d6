"""A user's sessions in MongoDB in the layout of connect-mongo: pages, the order of logins, and what Express wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pymongo
import pytest
from pymongo.collection import Collection

from wsgisession.stores import Reader, Record, Store, in_layout_of_express, open_store
from wsgisession.stores.mongodb import express

NOW = 4_000_000_000.0
KEYS = ("user_id", "_user_id")
Express = Callable[..., None]


def glance(data: bytes) -> tuple[float, str | None]:
    session = json.loads(data)
    user = next((session[key] for key in KEYS if session.get(key) is not None), None)
    return session["cookie"]["originalMaxAge"] / 1000, None if user is None else str(user)


def text(**data: Any) -> bytes:
    return json.dumps({"cookie": {"originalMaxAge": 60_000, "path": "/"}, **data}, separators=(",", ":")).encode()


def record(*, version: Any = None, order: int = 0, **data: Any) -> Record:
    return Record(text(**data), *glance(text(**data)), version, order=order)


@pytest.fixture(params=["texts", "objects"])
def url(request, mongodb_url) -> str:
    return mongodb_url + ("&stringify=false" if request.param == "objects" else "")


@pytest.fixture
def store(url) -> Iterator[Store]:
    with closing(in_layout_of_express(open_store(url), Reader(glance, KEYS))) as opened:
        opened.prepare()
        yield opened


@pytest.fixture
def documents(url) -> Iterator[Collection]:
    parts = urlsplit(url)
    with pymongo.MongoClient(url.partition("?")[0] + "?directConnection=true") as client:
        yield client[parts.path[1:]].get_collection(dict(parse_qsl(parts.query))["collection"])


@pytest.fixture
def by_express(url, documents) -> Express:
    """Writes a session as connect-mongo does."""

    def write(handle: str, *, expires: float = NOW + 60, **data: Any) -> None:
        session = json.loads(text(**data)) if "stringify=false" in url else text(**data).decode()
        changes = {"session": session, "expires": datetime.fromtimestamp(expires, timezone.utc)}
        documents.update_one({"_id": handle}, {"$set": changes}, upsert=True)

    return write


def pages(store: Store, user_id: str, limit: int) -> list[list[str]]:
    page = store.find_user(user_id, now=NOW, limit=limit)
    found = [[handle for handle, _ in page.records]]
    while page.after is not None:
        page = store.find_user(user_id, now=NOW, after=page.after, limit=limit)
        assert len(page.records) <= limit
        found.append([handle for handle, _ in page.records])
    return found


def test_a_users_sessions_come_in_the_order_of_their_logins_and_then_those_of_express(store, by_express):
    by_express("of express", user_id=7)
    for handle in ("b", "c", "a"):
        store.create(handle, record(user_id=7), now=NOW)
    by_express("z of express", _user_id="7")
    by_express("of another", user_id=70)
    by_express("expired", user_id=7, expires=NOW - 1)
    for limit in (1, 2, 3, 4, 10):
        found = [handle for page in pages(store, "7", limit) for handle in page]
        assert found[:3] == ["a", "c", "b"]
        assert sorted(found[3:]) == ["of express", "z of express"]


def test_a_session_that_is_written_again_keeps_its_place(store):
    first, _ = (store.create(handle, record(user_id=7), now=NOW) for handle in ("first", "second"))
    again = store.replace("first", record(user_id=7, n=1, version=first.version, order=first.order), now=NOW)
    assert again.order == first.order
    assert pages(store, "7", 10) == [["second", "first"]]
    login = store.replace("first", record(user_id=7, n=2, version=again.version), now=NOW)
    assert login.order > first.order
    assert pages(store, "7", 10) == [["first", "second"]]


def test_a_logout_leaves_no_user_and_no_place_in_the_document(store, documents):
    stored = store.create("a", record(user_id=7), now=NOW)
    assert store.replace("a", record(version=stored.version), now=NOW).order == 0
    assert not {"user_id", "order"} & documents.find_one().keys()
    assert pages(store, "7", 10) == [[]]


def test_a_change_of_the_user_by_express_is_followed(store, by_express):
    store.create("a", record(user_id=7), now=NOW)
    by_express("a", user_id=8)
    assert pages(store, "7", 10) == [[]]
    assert pages(store, "8", 10) == [["a"]]


def test_a_restart_puts_a_session_of_express_into_the_index_of_users(store, by_express, documents, url):
    by_express("a", user_id=7)
    assert store.load("a", now=NOW + 30, touch_after=0.05).expires_at == NOW + 90
    assert documents.find_one().get("user_id") == (None if "stringify=false" in url else "7")


def test_texts_are_searched_in_steps(store, by_express, monkeypatch):
    monkeypatch.setattr(express, "_WINDOW", 4)
    for number in range(10):
        by_express(f"s{number}", user_id=number % 2)
    assert sorted(handle for page in pages(store, "1", 100) for handle in page) == ["s1", "s3", "s5", "s7", "s9"]
    ended = []
    for _ in range(10):
        step = store.delete_user("1", now=NOW, limit=2)
        assert len(step.handles) <= 2
        ended += step.handles
        if not step.more:
            break
    assert sorted(ended) == ["s1", "s3", "s5", "s7", "s9"]
    assert pages(store, "1", 100)[0] == []
    assert len(list(store.scan(now=NOW))) == 5


def test_only_what_follows_a_page_is_ended(store, by_express):
    by_express("of express", user_id=7)
    for number in range(6):
        store.create(f"s{number}", record(user_id=7), now=NOW)
    page = store.find_user("7", now=NOW, limit=2)
    step, ended = store.delete_user("7", now=NOW, after=page.after, limit=3), []
    while ended := [*ended, *step.handles]:
        if not step.more:
            break
        step = store.delete_user("7", now=NOW, after=page.after, limit=3)
    assert sorted(ended) == ["of express", "s0", "s1", "s2", "s3"]
    assert pages(store, "7", 10) == [["s5", "s4"]]


def test_a_session_that_another_request_changed_is_ended_by_the_next_step(store, by_express, monkeypatch):
    store.create("a", record(user_id=7), now=NOW)
    store.create("b", record(user_id=7), now=NOW)
    find_user = store.find_user

    def find_and_change(*arguments: Any, **options: Any) -> Any:
        page = find_user(*arguments, **options)
        by_express("a", user_id=7, n=1)
        monkeypatch.undo()
        return page

    monkeypatch.setattr(store, "find_user", find_and_change)
    first, second = (store.delete_user("7", now=NOW) for _ in range(2))
    assert (first.handles, first.more) == (["b"], True)
    assert (second.handles, second.more) == (["a"], False)


def test_a_text_with_a_dollar_sign_stays_as_it_is(store):
    stored = store.create("$_id", record(user_id="$session", a={"$b": "$c"}), now=NOW)
    assert stored.order > 0
    assert json.loads(store.load("$_id", now=NOW, touch_after=None).data) == json.loads(stored.data)
    assert pages(store, "$session", 10) == [["$_id"]]
