"""The promises about all sessions of a user: the order of logins, pages, and steps."""

from __future__ import annotations

from ..stores.base import Record, Store
from .workbench import NOW, TTL, create, end_user, in_parallel, peek, record, sessions_of

_GIVEN = 1_234  # an order as an earlier login of any store may have it


class UserPromises:
    """The tests of a user's sessions."""

    # The order of logins

    def test_a_users_sessions_come_in_the_order_of_their_logins(self, store: Store) -> None:
        """`find_user` returns the latest login first, whatever the clocks of the workers say."""
        for number, now in enumerate((NOW + 50, NOW + 10, NOW + 30)):
            create(store, f"s{number}", record(user_id="u"), now=now)
        found = sessions_of(store, "u", now=NOW + 50)
        assert [handle for handle, _ in found] == ["s2", "s1", "s0"]
        orders = [each.order for _, each in found]
        assert orders == sorted(set(orders), reverse=True)
        assert min(orders) > 0

    def test_what_create_says_of_the_order_is_what_is_stored(self, store: Store) -> None:
        """`create`, `load`, and `find_user` return the same order, and a touch or a restart keeps it."""
        stored = create(store, "s", record(user_id="u"))
        assert peek(store, "s") == stored
        assert sessions_of(store, "u") == [("s", stored)]
        store.touch("s", ttl=TTL, now=NOW + 1)
        restarted = store.load("s", now=NOW + 2, touch_after=0)
        assert restarted is not None and restarted.order == stored.order

    def test_parallel_logins_have_different_orders(self, store: Store) -> None:
        """Of sixteen parallel logins of one user, no two have the same order."""
        stored = in_parallel(lambda number: create(store, f"s{number}", record(user_id="u")))
        assert len({each.order for each in stored}) == len(stored)

    def test_a_given_order_is_kept(self, store: Store) -> None:
        """A session that gets a new ID, or is written again, keeps its place among the user's logins."""
        old = create(store, "old", record(user_id="u"))
        create(store, "later", record(user_id="u"))
        moved = create(store, "moved", record(user_id="u", order=old.order))
        store.delete("old", now=NOW)
        assert moved.order == old.order
        assert [handle for handle, _ in sessions_of(store, "u")] == ["later", "moved"]
        again = store.replace("moved", record(b'{"b":2}', user_id="u", version=moved.version, order=old.order), now=NOW)
        assert again is not None and again.order == old.order
        assert [handle for handle, _ in sessions_of(store, "u")] == ["later", "moved"]

    def test_a_replace_without_an_order_is_a_login(self, store: Store) -> None:
        """`replace` with the order 0 makes the session the user's latest, also where it was another user's."""
        first, nobodys = create(store, "first", record(user_id="u")), create(store, "nobody's")
        assert nobodys.order == 0
        create(store, "second", record(user_id="u"))
        for handle, version in (("nobody's", nobodys.version), ("first", first.version)):
            stored = store.replace(handle, record(b'{"b":2}', user_id="u", version=version), now=NOW)
            assert stored is not None and stored.order > 0
            assert sessions_of(store, "u")[0] == (handle, stored)
        assert len(sessions_of(store, "u")) == 3

    def test_nobodys_record_has_no_order(self, store: Store) -> None:
        """A record without a user has the order 0, also where it had a user before."""
        stored = create(store, "s", record(user_id="u"))
        left = store.replace("s", record(b'{"b":2}', version=stored.version, order=stored.order), now=NOW)
        assert left is not None and left.order == 0
        assert create(store, "of nobody", record(order=_GIVEN)).order == 0
        assert sessions_of(store, "u") == []

    # Pages

    def test_pages_contain_every_session_once(self, store: Store) -> None:
        """Walking over pages of any size finds each session once, in order, also where several have the same order."""
        for number in range(10):
            create(store, f"s{number}", record(user_id="u"))
            create(store, f"same{number}", record(user_id="u", order=_GIVEN))
        create(store, "of another", record(user_id="v"))
        expected = sessions_of(store, "u")
        assert len(expected) == 20
        for limit in (1, 7, 20):
            assert [pair for page in _pages(store, limit) for pair in page] == expected

    def test_a_walk_continues_while_sessions_come_and_go(self, store: Store) -> None:
        """What is there from the first page to the last is found, also when the session before a page is deleted."""
        for number in range(12):
            create(store, f"s{number:02}", record(user_id="u"))
        seen: list[str] = []
        after = None
        while True:
            page = store.find_user("u", now=NOW, after=after, limit=3)
            seen += [handle for handle, _ in page.records]
            if page.after is None:
                break
            after = page.after
            store.delete(seen[-1], now=NOW)
            create(store, f"new{len(seen)}", record(user_id="u"))
        assert seen == [f"s{number:02}" for number in reversed(range(12))]

    def test_a_page_says_where_the_next_one_begins_only_where_there_is_one(self, store: Store) -> None:
        """The latest login alone is one page; the page that reaches the end has no next one."""
        latest = [create(store, handle, record(user_id="u")) for handle in ("one", "two")][-1]
        page = store.find_user("u", now=NOW, limit=1)
        assert page.records == [("two", latest)]
        assert page.after is not None
        assert store.find_user("unknown", now=NOW) == ([], None)

    # Steps

    def test_delete_user_works_in_steps(self, store: Store) -> None:
        """A step deletes at most ``limit`` sessions and says that more remain, until the index is empty."""
        for number in range(7):
            create(store, f"s{number}", record(user_id="u"))
        handles: list[str] = []
        for _ in range(10):
            step = store.delete_user("u", now=NOW, keep="s3", limit=2)
            assert len(step.handles) <= 2
            handles += step.handles
            if not step.more:
                break
        assert sorted(handles) == ["s0", "s1", "s2", "s4", "s5", "s6"]
        assert [handle for handle, _ in sessions_of(store, "u")] == ["s3"]
        assert store.delete_user("u", now=NOW, keep="s3", limit=2) == ([], False)

    def test_a_step_finds_what_came_in_the_meantime(self, store: Store) -> None:
        """A session that gets a new ID between two steps is ended by a later one."""
        for number in range(3):
            create(store, f"s{number}", record(user_id="u"))
        step = store.delete_user("u", now=NOW, limit=1)
        assert step.more is True
        old, moved = sessions_of(store, "u")[0]
        create(store, "moved", record(user_id="u", order=moved.order))
        store.delete(old, now=NOW)
        assert "moved" in end_user(store, "u")
        assert sessions_of(store, "u") == []

    def test_all_but_the_latest_logins_can_be_ended(self, store: Store) -> None:
        """With ``after`` of a page, `delete_user` ends what follows that page, and never a later login."""
        for number in range(8):
            create(store, f"s{number}", record(user_id="u"))
        page = store.find_user("u", now=NOW, limit=3)
        create(store, "later", record(user_id="u"))
        handles: list[str] = []
        while True:
            step = store.delete_user("u", now=NOW, after=page.after, limit=2)
            handles += step.handles
            if not step.more:
                break
        assert sorted(handles) == ["s0", "s1", "s2", "s3", "s4"]
        assert [handle for handle, _ in sessions_of(store, "u")] == ["later", "s7", "s6", "s5"]

    def test_expired_sessions_do_not_get_in_the_way(self, store: Store) -> None:
        """A page or a step may consist of expired sessions alone; those behind them are found and deleted."""
        live = create(store, "live", record(user_id="u"))
        for number in range(5):
            create(store, f"expired{number}", record(user_id="u", ttl=5))
        later = NOW + 10
        assert [pair for page in _pages(store, 2, now=later) for pair in page] == [("live", live)]
        steps = [store.delete_user("u", now=later, limit=2)]
        while steps[-1].more:
            assert len(steps) < 10
            steps.append(store.delete_user("u", now=later, limit=2))
        assert [handle for step in steps for handle in step.handles] == ["live"]


def _pages(store: Store, limit: int, *, now: float = NOW) -> list[list[tuple[str, Record]]]:
    pages = []
    page = store.find_user("u", now=now, limit=limit)
    while True:
        assert len(page.records) <= limit
        pages.append(page.records)
        if page.after is None:
            return pages
        page = store.find_user("u", now=now, after=page.after, limit=limit)
