"""The promises about one record: what is stored, created, replaced, touched, deleted, and when it expires."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ..stores.base import Record, Store
from .workbench import LATER, MILLISECOND, NOW, TTL, create, end_user, in_parallel, numbered, peek, record, sessions_of

TEXTS = {
    "ascii": b'{"a":1}',
    "unicode": '{"name":"ünï ☃ \U0001f600"}'.encode(),
    "escapes": rb'{"nul":"\u0000","quote":"\"","surrogates":"\ud83d\ude00","slash":"\/"}',
    "whitespace": b' {\r\n\t"b" : 1 ,  "a":  [ ] }\n ',
    "repeated keys": b'{"a":1,"a":2}',
    "1 MiB": b'{"a":"' + b"x" * (1 << 20) + b'"}',
}
VERBS: dict[str, Callable[[Store, Record], object]] = {
    "load": lambda store, _: store.load("s", now=LATER, touch_after=0),
    "load without restart": lambda store, _: store.load("s", now=LATER, touch_after=None),
    "replace": lambda store, old: store.replace("s", record(version=old.version, user_id="u"), now=LATER),
    "touch": lambda store, _: store.touch("s", ttl=TTL, now=LATER),
    "delete": lambda store, _: store.delete("s", now=LATER),
    "delete a version": lambda store, old: store.delete("s", now=LATER, version=old.version),
    "find_user": lambda store, _: sessions_of(store, "u", now=LATER),
    "delete_user": lambda store, _: end_user(store, "u", now=LATER),
    "scan": lambda store, _: list(store.scan(now=LATER)),
}


class RecordPromises:
    """The tests of one record; `StoreContract` has them all."""

    # What is stored

    @pytest.mark.parametrize("data", TEXTS.values(), ids=TEXTS)
    def test_gives_the_data_back_byte_for_byte(self, store: Store, data: bytes) -> None:
        """What was created or replaced is loaded without a byte changed."""
        first = create(store, "s", record(data))
        loaded = peek(store, "s")
        assert loaded is not None and loaded.data == data
        assert store.replace("s", record(b"{}", version=first.version), now=NOW) is not None
        second = peek(store, "s")
        assert second is not None
        assert store.replace("s", record(data, version=second.version), now=NOW) is not None
        loaded = peek(store, "s")
        assert loaded is not None and loaded.data == data

    def test_keeps_ttl_user_version_and_expiry(self, store: Store) -> None:
        """What `create` returns is what `load` returns: the record as given, with its version and expiry."""
        stored = create(store, "s", record(user_id="ünï", ttl=12.5))
        assert (stored.data, stored.ttl, stored.user_id) == (b'{"a":1}', 12.5, "ünï")
        assert stored.version is not None
        assert stored.expires_at == pytest.approx(NOW + 12.5, abs=MILLISECOND)
        assert peek(store, "s") == stored

    @pytest.mark.parametrize("epoch", [1_000_000_000.0, time.time(), NOW], ids=["past", "present", "future"])
    def test_the_clock_is_the_callers(self, store: Store, epoch: float) -> None:
        """Whether a record is live is decided by ``now`` alone, whatever the server's own clock says."""
        stored = create(store, "s", record(user_id="u"), now=epoch)
        assert peek(store, "s", now=epoch + TTL - 1) == stored
        assert [handle for handle, _ in sessions_of(store, "u", now=epoch + TTL - 1)] == ["s"]
        assert peek(store, "s", now=epoch + TTL + 1) is None

    # create

    def test_create_refuses_a_live_handle(self, store: Store) -> None:
        """`create` over a live record returns None and changes nothing, not even the user index."""
        stored = create(store, "s", record(user_id="u"))
        assert store.create("s", record(b'{"b":2}', user_id="v", ttl=5), now=NOW + 50) is None
        assert peek(store, "s") == stored
        assert sessions_of(store, "v") == []

    def test_create_succeeds_over_an_expired_record(self, store: Store) -> None:
        """Expired is absent for `create` too, and nothing of the old record is left."""
        old = create(store, "s", record(user_id="u"))
        new = create(store, "s", record(b'{"b":2}', user_id="v"), now=LATER)
        assert peek(store, "s", now=LATER) == new
        assert sessions_of(store, "u", now=LATER) == []
        assert store.replace("s", record(version=old.version), now=LATER) is None

    def test_of_parallel_creators_one_wins(self, store: Store) -> None:
        """Of sixteen parallel `create` of one handle exactly one succeeds, and its record is the stored one."""
        results = in_parallel(lambda number: store.create("s", record(numbered(number)), now=NOW))
        winners = [result for result in results if result is not None]
        assert len(winners) == 1
        assert peek(store, "s") == winners[0]

    def test_of_parallel_creators_over_an_expired_record_one_wins(self, store: Store) -> None:
        """The same where the handle holds an expired record."""
        create(store, "s")
        results = in_parallel(lambda number: store.create("s", record(numbered(number)), now=LATER))
        winners = [result for result in results if result is not None]
        assert len(winners) == 1
        assert peek(store, "s", now=LATER) == winners[0]

    # replace

    def test_replace_gives_a_new_state(self, store: Store) -> None:
        """`replace` of the current version returns the record with a new version and expiry, as `load` does."""
        first = create(store, "s")
        second = store.replace("s", record(b'{"b":2}', ttl=50, version=first.version), now=NOW + 10)
        assert second is not None and (second.data, second.ttl) == (b'{"b":2}', 50)
        assert second.version != first.version
        assert second.expires_at == pytest.approx(NOW + 60, abs=MILLISECOND)
        assert peek(store, "s", now=NOW + 10) == second
        assert store.replace("s", record(b'{"c":3}', version=second.version), now=NOW + 10) is not None

    def test_replace_refuses_a_stale_version(self, store: Store) -> None:
        """`replace` of a version that has been replaced returns None and changes nothing."""
        first = create(store, "s", record(user_id="u"))
        second = store.replace("s", record(b'{"b":2}', user_id="u", version=first.version), now=NOW)
        assert store.replace("s", record(b'{"c":3}', user_id="v", version=first.version), now=NOW + 10) is None
        assert store.replace("s", record(b'{"c":3}', user_id="v", version=None), now=NOW + 10) is None
        assert peek(store, "s") == second
        assert sessions_of(store, "v") == []

    def test_replace_does_not_resurrect(self, store: Store) -> None:
        """`replace` of a deleted, expired or unknown record returns None and creates nothing."""
        deleted, expired = create(store, "deleted"), create(store, "expired")
        store.delete("deleted", now=NOW)
        assert store.replace("deleted", record(user_id="u", version=deleted.version), now=NOW) is None
        assert store.replace("unknown", record(user_id="u", version=deleted.version), now=NOW) is None
        assert store.replace("expired", record(user_id="u", version=expired.version), now=LATER) is None
        assert list(store.scan(now=LATER)) == []
        assert sessions_of(store, "u", now=LATER) == []

    def test_a_version_does_not_outlive_its_record(self, store: Store) -> None:
        """The version of a deleted record does not fit the next one under the same handle."""
        first = create(store, "s", record(numbered(1)))
        store.delete("s", now=NOW)
        second = create(store, "s", record(numbered(2)))
        assert store.replace("s", record(version=first.version), now=NOW) is None
        assert store.delete("s", now=NOW, version=first.version) is False
        assert peek(store, "s") == second

    def test_of_parallel_writers_of_one_version_one_wins(self, store: Store) -> None:
        """Of sixteen parallel `replace` of one version exactly one succeeds, and its record is the stored one."""
        version = create(store, "s").version
        results = in_parallel(lambda number: store.replace("s", record(numbered(number), version=version), now=NOW))
        winners = [result for result in results if result is not None]
        assert len(winners) == 1
        assert peek(store, "s") == winners[0]

    # touch

    def test_touch_restarts_with_the_ttl_given(self, store: Store) -> None:
        """`touch` gives the record this ttl from now on, shorter or longer, and leaves the rest as it is."""
        now = NOW + 10
        for handle, ttl in (("longer", 200.0), ("shorter", 20.0)):
            create(store, handle, record(user_id="u"))
            assert store.touch(handle, ttl=ttl, now=now) is True
            touched = peek(store, handle, now=now)
            assert touched is not None and (touched.data, touched.user_id, touched.ttl) == (b'{"a":1}', "u", ttl)
            assert touched.expires_at == pytest.approx(now + ttl, abs=MILLISECOND)
            assert peek(store, handle, now=now + ttl - 1) == touched
            assert peek(store, handle, now=now + ttl + 1) is None

    def test_touch_keeps_the_version(self, store: Store) -> None:
        """Neither `touch` nor a restart by `load` makes a writer's version stale."""
        stored = create(store, "s")
        store.touch("s", ttl=200, now=NOW + 1)
        loaded = store.load("s", now=NOW + 2, touch_after=0)
        assert loaded is not None and loaded.version == stored.version
        assert store.replace("s", record(b'{"b":2}', version=stored.version), now=NOW + 3) is not None

    def test_touch_does_not_resurrect(self, store: Store) -> None:
        """`touch` of a deleted, expired or unknown record returns False and creates nothing."""
        create(store, "deleted", record(user_id="u"))
        create(store, "expired", record(user_id="u"))
        store.delete("deleted", now=NOW)
        assert store.touch("deleted", ttl=TTL, now=NOW) is False
        assert store.touch("expired", ttl=TTL, now=LATER) is False
        assert store.touch("unknown", ttl=TTL, now=NOW) is False
        assert list(store.scan(now=LATER)) == []
        assert sessions_of(store, "u", now=LATER) == []

    # delete

    def test_delete_ends_a_record_once(self, store: Store) -> None:
        """`delete` returns True for whom it ended the record, and False for everybody after."""
        create(store, "s")
        create(store, "other")
        assert store.delete("s", now=NOW) is True
        assert store.delete("s", now=NOW) is False
        assert store.delete("unknown", now=NOW) is False
        assert peek(store, "s") is None
        assert peek(store, "other") is not None

    def test_of_parallel_deleters_one_deletes(self, store: Store) -> None:
        """Of sixteen parallel `delete` of one record exactly one returns True."""
        create(store, "s", record(user_id="u"))
        assert sum(in_parallel(lambda _: store.delete("s", now=NOW))) == 1
        assert sessions_of(store, "u") == []

    def test_delete_refuses_another_version(self, store: Store) -> None:
        """`delete` of a version ends the record only where it still has it."""
        first = create(store, "s")
        second = store.replace("s", record(b'{"b":2}', version=first.version), now=NOW)
        assert second is not None
        assert store.delete("s", now=NOW, version=first.version) is False
        assert peek(store, "s") == second
        assert store.delete("s", now=NOW, version=second.version) is True
        assert peek(store, "s") is None

    def test_delete_is_final_for_parallel_requests(self, store: Store) -> None:
        """Once `delete` has returned, no read, touch or write that was under way brings the record back."""
        version = create(store, "s", record(user_id="u")).version
        tasks: list[Callable[[], object]] = [
            lambda: store.load("s", now=NOW + 1, touch_after=0),
            lambda: store.touch("s", ttl=200, now=NOW + 1),
            lambda: store.replace("s", record(b'{"b":2}', user_id="u", version=version), now=NOW + 1),
            lambda: store.delete("s", now=NOW + 1),
        ]
        in_parallel(lambda number: tasks[number % 4]())
        assert peek(store, "s", now=NOW + 1) is None
        assert sessions_of(store, "u", now=NOW + 1) == []

    # Expiry

    @pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
    def test_expired_is_absent(self, store: Store, verb: Callable[[Store, Record], object]) -> None:
        """Every verb answers for an expired record, which nothing has swept, as for none, and leaves none behind."""
        stored = create(store, "s", record(user_id="u"))
        assert verb(store, stored) in (None, False, [])
        assert peek(store, "s", now=LATER) is None

    def test_a_read_restarts_with_the_records_own_ttl(self, store: Store) -> None:
        """With ``touch_after=0`` every `load` extends the expiry to now + ttl, and returns it."""
        create(store, "short", record(ttl=50))
        create(store, "long", record(ttl=500))
        for now in (NOW + 20, NOW + 60, NOW + 100):
            short, long = (store.load(handle, now=now, touch_after=0) for handle in ("short", "long"))
            assert short is not None and short.expires_at == pytest.approx(now + 50, abs=MILLISECOND)
            assert long is not None and long.expires_at == pytest.approx(now + 500, abs=MILLISECOND)
            assert (peek(store, "short", now=now), peek(store, "long", now=now)) == (short, long)
        assert peek(store, "short", now=NOW + 151) is None

    def test_a_read_restarts_after_a_touch_with_the_new_ttl(self, store: Store) -> None:
        """The ttl that `touch` gave is the record's own."""
        create(store, "s")
        store.touch("s", ttl=30, now=NOW)
        loaded = store.load("s", now=NOW + 10, touch_after=0)
        assert loaded is not None
        assert loaded.expires_at == pytest.approx(NOW + 40, abs=MILLISECOND)

    def test_restarts_are_throttled_but_never_missed(self, store: Store) -> None:
        """A read restarts once ``touch_after`` of the ttl has passed, and changes nothing before that."""
        stored = create(store, "s")
        early = store.load("s", now=NOW + 10, touch_after=0.5)
        assert early == stored
        assert peek(store, "s", now=NOW + 10) == stored
        late = store.load("s", now=NOW + 65, touch_after=0.5)
        assert late is not None and late.expires_at == pytest.approx(NOW + 165, abs=MILLISECOND)
        assert peek(store, "s", now=NOW + 65) == late

    def test_a_read_can_leave_the_expiry_alone(self, store: Store) -> None:
        """With ``touch_after=None`` no `load` extends anything."""
        stored = create(store, "s")
        for passed in (1, 50, 99):
            assert peek(store, "s", now=NOW + passed) == stored
        assert peek(store, "s", now=LATER) is None
