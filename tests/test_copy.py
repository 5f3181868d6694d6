"""`wsgisession copy`: every live session of one store in another, as it was, also after an interruption."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from click.testing import CliRunner, Result
from werkzeug.test import Client

from tests.test_cli import fill
from wsgisession import SessionManager, SessionMiddleware, Store, StoreError, get_session, open_store
from wsgisession.cli.commands import main
from wsgisession.cli.copying import Copied, copy_sessions
from wsgisession.stores import Record
from wsgisession.stores.memory import MemoryStore

NOW = 4_000_000_000.0
KINDS = ["sqlite", "redis", "postgresql", "mongodb"]
PAIRS = [(one, other) for one in KINDS for other in KINDS if one != other]


def run(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(main, ["copy", *arguments], **options)


@pytest.fixture
def stores(request) -> Iterator[tuple[Store, Store]]:
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(closing(open_store(request.getfixturevalue(f"{kind}_url")))) for kind in request.param
        )


def record(number: int = 0, *, ttl: float = 100.0, user_id: str | None = None) -> Record:
    return Record(b'{"n":%d}' % number, ttl, user_id)


def contents(store: Store, *, now: float = NOW) -> dict[str, tuple[bytes, float, str | None, float, int]]:
    found = store.scan(now=now)
    return {handle: (one.data, one.ttl, one.user_id, round(one.expires_at, 2), one.order) for handle, one in found}


def copied(source: Store, target: Store, *, now: float = NOW, writers: int = 2) -> Copied:
    return list(copy_sessions(source, target, writers=writers, clock=lambda: now))[-1]


@pytest.mark.parametrize("stores", PAIRS, indirect=True, ids="-".join)
def test_a_session_keeps_its_data_user_remaining_time_and_place_among_the_logins(stores):
    source, target = stores
    for number in range(5):
        source.create(f"s{number}", record(number, ttl=100 + number, user_id=f"u{number % 2}"), now=NOW - 10 * number)
    source.create("nobody's", record(), now=NOW)
    source.create("expired", record(), now=NOW - 1000)
    assert copied(source, target) == Copied(copied=6)
    assert contents(target) == contents(source)
    assert [handle for handle, _ in target.find_user("u0", now=NOW).records] == ["s4", "s2", "s0"]


@pytest.mark.parametrize("stores", PAIRS, indirect=True, ids="-".join)
def test_a_login_after_the_copy_is_the_latest(stores):
    source, target = stores
    source.create("before", record(user_id="u"), now=NOW)
    copied(source, target)
    target.create("after", record(user_id="u"), now=NOW)
    assert [handle for handle, _ in target.find_user("u", now=NOW).records] == ["after", "before"]


def test_what_the_target_has_already_stays_as_it_is():
    source, target = MemoryStore(), MemoryStore()
    source.create("same", record(1), now=NOW)
    source.create("other", record(2), now=NOW)
    target.create("same", record(3), now=NOW)
    assert copied(source, target) == Copied(copied=1, present=1)
    assert target.load("same", now=NOW, touch_after=None).data == b'{"n":3}'


def test_a_session_whose_login_has_no_number_comes_before_later_logins():
    """Records of an older version, and of Express, have none."""

    class Old(MemoryStore):
        def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
            yield "used last", Record(b"{}", 100.0, "u", expires_at=NOW + 90)
            yield "used first", Record(b"{}", 100.0, "u", expires_at=NOW + 80)

    target = MemoryStore()
    copied(Old(), target)
    found = target.find_user("u", now=NOW).records
    assert [(handle, one.order) for handle, one in found] == [
        ("used last", round((NOW - 10) * 1e6)), ("used first", round((NOW - 20) * 1e6)),
    ]  # fmt: skip


def test_an_expired_record_in_the_target_does_not_prevent_a_copy():
    source, target = MemoryStore(), MemoryStore()
    source.create("s", record(1, ttl=1000), now=NOW - 500)
    target.create("s", record(2, ttl=100), now=NOW - 450)
    assert copied(source, target) == Copied(copied=1)
    assert contents(target) == contents(source)


def test_a_session_that_expires_during_the_copy_is_left_out():
    source, target = MemoryStore(), MemoryStore()
    source.create("s", record(ttl=5), now=NOW)
    times = iter([NOW, NOW + 6])
    assert list(copy_sessions(source, target, clock=lambda: next(times)))[-1] == Copied(expired=1)
    assert contents(target) == {}


def test_an_interrupted_copy_can_be_repeated(monkeypatch):
    source, target = MemoryStore(), MemoryStore()
    for number in range(1000):
        source.create(f"s{number}", record(number), now=NOW)
    for totals in copy_sessions(source, target, clock=lambda: NOW):
        if totals.copied >= 200:
            break
    first = len(contents(target))
    assert 200 <= first < 1000
    assert copied(source, target) == Copied(copied=1000 - first, present=first)
    assert len(contents(target)) == 1000


def test_few_sessions_are_in_memory_at_once():
    class Watched(MemoryStore):
        taken = 0

        def scan(self, *, now: float) -> Iterator[tuple[str, Record]]:
            for self.taken in range(1, 10_000):
                yield f"s{self.taken}", Record(b"x" * 100_000, 100.0, expires_at=NOW + 100)

    source, target = Watched(), MemoryStore(max_sessions=1)
    for totals in copy_sessions(source, target, clock=lambda: NOW):
        assert (source.taken - totals.seen) * 100_000 < 12 << 20
        if totals.seen > 500:
            break


def test_the_failure_of_the_target_ends_the_copy():
    class Broken(MemoryStore):
        def create(self, handle: str, record: Record, *, now: float) -> Record | None:
            raise StoreError("the target is full")

    source = MemoryStore()
    source.create("s", record(), now=NOW)
    with pytest.raises(StoreError, match="the target is full"):
        copied(source, Broken())


# The command


def test_the_command_prints_what_it_copied(sqlite_url, redis_url):
    handles = fill(sqlite_url, "ada", "bob")
    result = run(sqlite_url, redis_url)
    assert (result.exit_code, result.output.split()) == (0, ["copied", "2", "present", "0", "expired", "0"])
    assert json.loads(run(sqlite_url, redis_url, "--json").output) == {"copied": 0, "present": 2, "expired": 0}
    with closing(open_store(redis_url)) as store:
        assert {handle for handle, _ in store.scan(now=time.time())} == set(handles)


def test_encrypted_sessions_are_copied_without_their_key_and_opened_with_it(sqlite_url, redis_url):
    key = secrets.token_urlsafe(32)
    (handle,) = fill(sqlite_url, "ada", encryption_key=key)
    assert run(sqlite_url, redis_url).exit_code == 0
    with closing(SessionManager(secret=secrets.token_bytes(32), store=redis_url, encryption_key=key)) as manager:
        assert [info.handle for info in manager.sessions_for("ada")] == [handle]


def test_a_user_stays_logged_in_after_the_move(sqlite_url, postgresql_url):
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = get_session(environ)
        if environ["PATH_INFO"] == "/login":
            session.login("ada", cart=["tea"])
        start_response("200 OK", [])
        return [f"{session.user_id}: {session.get('cart')}".encode()]

    secret = secrets.token_bytes(32)
    with closing(SessionManager(secret=secret, store=sqlite_url)) as old:
        answer = Client(SessionMiddleware(app, old)).get("/login")
    assert run(sqlite_url, postgresql_url).exit_code == 0
    with closing(SessionManager(secret=secret, store=postgresql_url)) as new:
        moved = Client(SessionMiddleware(app, new), use_cookies=False)
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert moved.get("/", headers={"Cookie": cookie}).text == "ada: ['tea']"


def test_the_target_is_created_if_it_does_not_exist(redis_url, tmp_path):
    fill(redis_url, "ada")
    assert run(redis_url, f"sqlite:///{tmp_path}/new.db").exit_code == 0
    assert (tmp_path / "new.db").exists()


def test_a_source_that_does_not_exist_is_not_created(redis_url, tmp_path):
    result = run(f"sqlite:///{tmp_path}/typo.db", redis_url)
    assert result.exit_code == 2
    assert "typo.db does not exist" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_environment_may_have_both_urls(sqlite_url, redis_url):
    fill(sqlite_url, "ada")
    environment = {"WSGISESSION_STORE": sqlite_url, "WSGISESSION_TARGET": redis_url}
    assert json.loads(run("--json", env=environment).output)["copied"] == 1
    assert json.loads(run(redis_url, "--json", env=environment).output)["present"] == 1
    nothing = dict.fromkeys(("WSGISESSION_STORE", "SESSION_STORE", "WSGISESSION_TARGET"))
    told = run(redis_url, env=nothing)
    assert (told.exit_code, "give the URLs of both stores" in told.stderr) == (2, True)


def test_a_store_is_not_copied_to_itself(sqlite_url):
    assert "are the same store" in run(sqlite_url, sqlite_url).stderr


@pytest.mark.parametrize("end", ["source", "target"])
def test_a_store_in_memory_of_the_command_is_of_no_use(sqlite_url, end):
    run(sqlite_url, "--help")
    fill(sqlite_url, "ada")
    urls = ["memory://", sqlite_url] if end == "source" else [sqlite_url, "memory://"]
    result = run(*urls)
    assert result.exit_code == 2
    assert "is not shared with other processes" in result.stderr


def test_a_failure_says_how_much_was_copied_and_how_to_copy_the_rest(sqlite_url, redis_url, monkeypatch):
    fill(sqlite_url, "ada")

    def fail(*_: object, **__: object) -> Iterator[Copied]:
        yield Copied(copied=1234)
        raise StoreError("the target is full")

    monkeypatch.setattr("wsgisession.cli.commands.copy_sessions", fail)
    result = run(sqlite_url, redis_url)
    assert result.exit_code == 1
    assert "1,234 sessions were copied; run the same command again to copy the rest" in result.stderr
    assert "the target is full" in result.stderr
