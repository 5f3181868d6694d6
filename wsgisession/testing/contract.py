"""The promises of `wsgisession.stores.base.Store`, one test each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from ..errors import StoreError
from ..stores.base import Store
from .records import RecordPromises
from .users import UserPromises
from .workbench import NOW, TTL, create, end_user, in_fork, in_parallel, numbered, peek, record, sessions_of

HANDLES = [
    "plain",
    "PLAIN",
    " plain ",
    "{plain}",
    "pl?in",
    "*",
    "[a-z]",
    "{}",
    "%",
    "%s%(x)s%00",
    "\\",
    "$ne",
    "a.b",
    "a:b",
]
HANDLES += ["../../x", "/etc/passwd", "a'b\"c`d", "'; DROP TABLE session; --", "0", "!~", "x" * 256]
USERS = ["a", "A", "a ", " a", "*", "?", "[a]", "ünï", "u\u0308ni\u0308", "a:b", "a/b", "{a}", "%", "'", "$a", "7"]
USERS += ["\U0001f600", "0123456789" * 100, "0123456789" * 100 + "x"]

CALLS: dict[str, Callable[[Store], object]] = {
    "load": lambda store: store.load("s", now=NOW, touch_after=0),
    "create": lambda store: store.create("s", record(), now=NOW),
    "replace": lambda store: store.replace("s", record(version=1), now=NOW),
    "touch": lambda store: store.touch("s", ttl=TTL, now=NOW),
    "delete": lambda store: store.delete("s", now=NOW),
    "find_user": lambda store: sessions_of(store, "u"),
    "delete_user": lambda store: end_user(store, "u"),
    "scan": lambda store: list(store.scan(now=NOW)),
    "diagnose": lambda store: store.diagnose(now=NOW),
}


class StoreContract(RecordPromises, UserPromises):
    """Every promise of the store contract, as a test each. Subclass it, and override the fixture ``store``."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Give an empty store, and close it afterwards."""
        raise NotImplementedError("override the fixture `store`: yield an empty store, and close it afterwards")

    # Handles and users

    def test_handles_are_opaque(self, store: Store) -> None:
        """Any printable ASCII of up to 256 characters is a handle, and no two of them are the same."""
        for number, handle in enumerate(HANDLES):
            create(store, handle, record(numbered(number), user_id="u"))
        expected = {handle: numbered(number) for number, handle in enumerate(HANDLES)}
        assert {handle: getattr(peek(store, handle), "data", None) for handle in HANDLES} == expected
        assert {handle: found.data for handle, found in store.scan(now=NOW)} == expected
        assert {handle: found.data for handle, found in sessions_of(store, "u")} == expected
        for handle in HANDLES:
            assert store.touch(handle, ttl=TTL, now=NOW) is True
            assert store.delete(handle, now=NOW) is True
            assert store.delete(handle, now=NOW) is False
        assert list(store.scan(now=NOW)) == []

    def test_finds_exactly_the_live_sessions_of_a_user(self, store: Store) -> None:
        """`find_user` returns what `load` returns, for each live record that has this user now, and for no other."""
        one, two = (create(store, handle, record(user_id="u")) for handle in ("one", "two"))
        create(store, "of another", record(user_id="v"))
        create(store, "of nobody")
        create(store, "expired", record(user_id="u", ttl=5))
        create(store, "deleted", record(user_id="u"))
        store.delete("deleted", now=NOW)
        assert dict(sessions_of(store, "u", now=NOW + 10)) == {"one": one, "two": two}
        assert sessions_of(store, "unknown", now=NOW + 10) == []

    def test_a_session_follows_its_user(self, store: Store) -> None:
        """After a `replace` with another user, or nobody, the index knows the record under that one alone."""
        version = create(store, "s").version
        for user in ("u", "v", "v", None, "u"):
            stored = store.replace("s", record(user_id=user, version=version), now=NOW)
            assert stored is not None and stored.user_id == user
            # Content may be the version: the same text again is the same state.
            stored = store.replace("s", record(b'{"b":2}', user_id=user, version=stored.version), now=NOW)
            assert stored is not None
            version = stored.version
            found = {name: [handle for handle, _ in sessions_of(store, name)] for name in ("u", "v")}
            assert found == {name: ["s"] if name == user else [] for name in ("u", "v")}

    def test_users_are_exact_texts(self, store: Store) -> None:
        """Users that differ in case, white space, normal form or length are different users; no user is a pattern."""
        for number, user in enumerate(USERS):
            create(store, f"s{number}", record(user_id=user))
        for number, user in enumerate(USERS):
            found = [(handle, their.user_id) for handle, their in sessions_of(store, user)]
            assert found == [(f"s{number}", user)]
        assert end_user(store, "*") == [f"s{USERS.index('*')}"]
        assert len(list(store.scan(now=NOW))) == len(USERS) - 1

    def test_a_session_stays_found_however_long_it_is_read(self, store: Store) -> None:
        """No live record is ever missing from `find_user`, also many timeouts after its last write."""
        create(store, "s", record(user_id="u"))
        for round_ in range(1, 30):
            now = NOW + round_ * 0.9 * TTL
            assert store.load("s", now=now, touch_after=0.05) is not None
            assert [handle for handle, _ in sessions_of(store, "u", now=now)] == ["s"]

    def test_finding_does_not_restart(self, store: Store) -> None:
        """Neither `find_user` nor `scan` extends a record."""
        stored = create(store, "s", record(user_id="u"))
        assert sessions_of(store, "u", now=NOW + 90) == [("s", stored)]
        assert list(store.scan(now=NOW + 90)) == [("s", stored)]
        assert peek(store, "s", now=NOW + 90) == stored
        assert peek(store, "s", now=NOW + TTL + 1) is None

    def test_delete_user_ends_all_but_the_one_to_keep(self, store: Store) -> None:
        """`delete_user` returns the handles that it ended, and touches neither ``keep`` nor anybody else's."""
        for handle in ("one", "two", "keep"):
            create(store, handle, record(user_id="u"))
        create(store, "expired", record(user_id="u", ttl=5))
        create(store, "of another", record(user_id="v"))
        assert sorted(end_user(store, "u", now=NOW + 10, keep="keep")) == ["one", "two"]
        assert {handle for handle, _ in store.scan(now=NOW + 10)} == {"keep", "of another"}
        assert end_user(store, "u", now=NOW + 10, keep="of another") == ["keep"]
        assert end_user(store, "u", now=NOW + 10) == []
        assert peek(store, "of another", now=NOW + 10) is not None

    def test_many_sessions_of_one_user(self, store: Store) -> None:
        """A user may have hundreds of sessions, and loses all of them at once."""
        handles = {f"s{number}" for number in range(300)}
        for handle in handles:
            create(store, handle, record(user_id="u"))
        assert {handle for handle, _ in sessions_of(store, "u")} == handles
        assert set(end_user(store, "u")) == handles
        assert sessions_of(store, "u") == []

    # All records

    def test_scan_yields_every_live_record(self, store: Store) -> None:
        """`scan` yields each live record once, as `load` returns it."""
        expected = {f"s{number}": create(store, f"s{number}", record(numbered(number))) for number in range(250)}
        create(store, "expired", record(ttl=5))
        scanned = list(store.scan(now=NOW + 10))
        assert len(scanned) == len(expected)
        assert dict(scanned) == expected

    def test_a_scan_continues_while_records_come_and_go(self, store: Store) -> None:
        """A record that exists during a whole `scan` is in it, whatever happens to other records."""
        for number in range(250):
            create(store, f"s{number}")
        seen = set()
        for number, (handle, _) in enumerate(store.scan(now=NOW)):
            seen.add(handle)
            if number < 100:
                store.delete(f"s{number}", now=NOW)
                create(store, f"new{number}")
        assert seen >= {f"s{number}" for number in range(100, 250)}

    def test_purge_removes_the_expired_alone(self, store: Store) -> None:
        """`purge` counts what it removed, or 0 if the server expires records itself; live records stay."""
        for number in range(5):
            create(store, f"old{number}", record(user_id="u", ttl=5))
        live = create(store, "live", record(user_id="u"))
        assert store.purge(now=NOW) == 0
        assert store.purge(now=NOW + 10) in (5, 0)
        assert store.purge(now=NOW + 10) == 0
        assert list(store.scan(now=NOW + 10)) == [("live", live)]

    def test_purge_stops_at_its_limit(self, store: Store) -> None:
        """`purge` removes at most ``limit`` records; the next one continues."""
        for number in range(5):
            create(store, f"old{number}", record(ttl=5))
        removed = [store.purge(now=NOW + 10, limit=limit) for limit in (0, 2, 2, 2)]
        assert removed in ([0, 2, 2, 1], [0, 0, 0, 0])

    def test_purge_leaves_what_was_extended(self, store: Store) -> None:
        """A record that was touched, read or written since is not removed at its old expiry."""
        version = create(store, "replaced", record(ttl=5)).version
        create(store, "touched", record(ttl=5))
        create(store, "read", record(ttl=5))
        store.replace("replaced", record(b'{"b":2}', ttl=50, version=version), now=NOW + 4)
        store.touch("touched", ttl=50, now=NOW + 4)
        store.load("read", now=NOW + 4, touch_after=0)
        assert store.purge(now=NOW + 6) == 0
        assert {handle for handle, _ in store.scan(now=NOW + 6)} == {"replaced", "touched", "read"}
        assert store.purge(now=NOW + 100) in (3, 0)

    # Life of a store

    def test_a_diagnosis_changes_nothing(self, store: Store) -> None:
        """`diagnose` returns findings, each with a fact and a fix, and leaves every record as it was."""
        stored = create(store, "s", record(user_id="u"))
        for finding in store.diagnose(now=NOW):
            assert finding.level in ("problem", "warning")
            assert finding.fact
            assert finding.cure
        assert list(store.scan(now=NOW)) == [("s", stored)]

    def test_prepare_may_be_repeated_and_raced(self, store: Store) -> None:
        """`prepare` in sixteen threads at once, and again over what is there, does no harm."""
        in_parallel(lambda _: store.prepare())
        stored = create(store, "s")
        store.prepare()
        assert peek(store, "s") == stored

    def test_works_on_after_close(self, store: Store) -> None:
        """`close` may come at any time and twice; the next verb opens the store again, with its records."""
        store.close()
        stored = create(store, "s")
        store.close()
        store.close()
        assert peek(store, "s") == stored

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_works_on_after_fork(self, store: Store) -> None:
        """A store that has been used before `fork` works in the child and in the parent, whose records it sees."""
        stored = create(store, "s", record(user_id="u"))

        def child() -> None:
            assert peek(store, "s") == stored
            create(store, "of the child", record(user_id="u"))
            assert len(sessions_of(store, "u")) == 2

        in_fork(child)
        assert peek(store, "s") == stored
        assert (peek(store, "of the child") is not None) == store.shared
        assert store.delete("s", now=NOW) is True


class SharedStoreContract(StoreContract):
    """The promises of a store that has a server or a file. Override ``other_store`` and ``unreachable_store`` too."""

    password: str | None = None
    """A password in the URL of ``unreachable_store``, which must never be shown."""

    @pytest.fixture
    def other_store(self, store: Store) -> Iterator[Store]:
        """Give a second store object on the records of ``store``."""
        raise NotImplementedError("override the fixture `other_store`")

    @pytest.fixture
    def unreachable_store(self) -> Iterator[tuple[Store, float]]:
        """Give a store whose server does not answer, and its timeout in seconds."""
        raise NotImplementedError("override the fixture `unreachable_store`")

    # Two stores on the same records

    def test_two_stores_share_their_records(self, store: Store, other_store: Store) -> None:
        """What one store object does, another one on the same server sees at once."""
        first = create(store, "s", record(user_id="u"))
        assert peek(other_store, "s") == first
        second = other_store.replace("s", record(b'{"b":2}', user_id="v", version=first.version), now=NOW)
        assert second is not None
        assert store.replace("s", record(b'{"c":3}', version=first.version), now=NOW) is None
        assert sessions_of(store, "v") == [("s", second)]
        assert store.delete("s", now=NOW, version=second.version) is True
        assert peek(other_store, "s") is None

    def test_of_two_stores_writers_one_wins(self, store: Store, other_store: Store) -> None:
        """Of sixteen writers through two store objects exactly one succeeds."""
        version = create(store, "s").version
        both = (store, other_store)
        results = in_parallel(lambda n: both[n % 2].replace("s", record(numbered(n), version=version), now=NOW))
        winners = [result for result in results if result is not None]
        assert len(winners) == 1
        assert peek(other_store, "s") == winners[0]

    # Failure

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_an_unreachable_server_is_a_store_error_in_time(
        self, unreachable_store: tuple[Store, float], call: Callable[[Store], object]
    ) -> None:
        """A server that does not answer is a `StoreError` with the driver's as its cause, within the timeout."""
        store, timeout = unreachable_store
        started = time.monotonic()
        with pytest.raises(StoreError) as caught:
            call(store)
        assert time.monotonic() - started < timeout + 1
        assert caught.value.__cause__ is not None

    def test_shows_no_password(self, unreachable_store: tuple[Store, float]) -> None:
        """Neither the `repr` of a store nor the text of its errors shows a password, a handle or a payload."""
        store, _ = unreachable_store
        with pytest.raises(StoreError) as caught:
            store.create("the-handle", record(b'{"the":"payload"}', user_id="the-user"), now=NOW)
        for text in (repr(store), str(store), str(caught.value), repr(caught.value)):
            assert self.password is None or self.password not in text
            assert not any(secret in text for secret in ("the-handle", "payload", "the-user"))
