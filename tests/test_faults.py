"""What a failing store means to a visitor: never a logout, never a success for what was not stored, and no restart.

The faults of the drivers themselves are in `tests/stores`. Here each goes through the middleware, and what comes out
is the table of ``docs/faults.md``.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests import servers
from tests.conftest import with_options
from tests.visitors import Browser, Site
from wsgisession import Session, StoreError
from wsgisession.stores import open_store

NETWORK = ("redis", "postgresql", "mongodb")
TABLE = Path(__file__).parent.parent / "docs" / "faults.md"

Order = Callable[[Session], Any]

BROKE = "the connection broke, or the server was restarted, between two requests"
FULL = "the server is out of memory, or the disk is full"
READ_ONLY = "the server is a read-only replica"
LOCKED = "another program holds the lock of the file"

_REFUSED = dict.fromkeys(NETWORK, "503 / 503")

ROWS: dict[str, dict[str, str]] = {
    "connections are refused": _REFUSED,
    "the connection is reset in the middle of a reply, and no other opens": _REFUSED,
    "a reply never comes": _REFUSED,
    "the server hangs": _REFUSED,
    "a reply comes a byte at a time": _REFUSED,
    BROKE: dict.fromkeys(NETWORK, "served / served"),
    FULL: {"redis": "served / 503", "sqlite": "served / 503"},
    READ_ONLY: {"redis": "served / 503", "postgresql": "served / 503"},
    LOCKED: {"sqlite": "served / 503"},
}
"""What comes of a request that reads its session / of one that changes it, with ``on_store_error="unavailable"``."""


def read(session: Session) -> dict[str, Any]:
    return dict(session)


def write(session: Session) -> None:
    session["n"] = 2


def grow(session: Session) -> None:
    session["large"] = "x" * 50_000


def count(session: Session) -> None:
    session["n"] += 1


CHANGES: dict[str, Order] = {
    "write": write,
    "save": lambda session: (session.update(n=2), session.save()),
    "transaction": lambda session: session.transaction(count),
    "regenerate": lambda session: session.regenerate(),
    "login": lambda session: session.login("ada"),
    "logout": lambda session: session.logout(),
}

UNCHANGED = [{"n": 1}]
POSSIBLE = dict.fromkeys(CHANGES, UNCHANGED) | {
    "write": [{"n": 1}, {"n": 2}],
    "save": [{"n": 1}, {"n": 2}],
    "transaction": [{"n": 1}, {"n": 2}],
    "logout": [{"n": 1}, {}],
}
"""What the next visit may find where the answer was lost."""


# The faults: how each begins. `healed` ends them all.


def refused(proxy: servers.TcpProxy) -> None:
    proxy.refuse()
    proxy.reset()


def reset_in_a_reply(proxy: servers.TcpProxy) -> None:
    proxy.cut_after = 1
    proxy.refuse()


def no_reply(proxy: servers.TcpProxy) -> None:
    proxy.lose_replies = True


def hanging(proxy: servers.TcpProxy) -> None:
    proxy.stall = True


def dribbling(proxy: servers.TcpProxy) -> None:
    proxy.dribble = 0.25


FAULTS = {
    "connections are refused": refused,
    "the connection is reset in the middle of a reply, and no other opens": reset_in_a_reply,
    "a reply never comes": no_reply,
    "the server hangs": hanging,
    "a reply comes a byte at a time": dribbling,
}


def healed(proxy: servers.TcpProxy) -> None:
    proxy.stall = proxy.lose_replies = False
    proxy.dribble, proxy.cut_after = 0.0, None
    if proxy._listener is None or proxy._listener.fileno() == -1:
        proxy.accept()


@pytest.fixture(params=NETWORK)
def proxy(request: pytest.FixtureRequest, tcp_proxy: Any) -> servers.TcpProxy:
    proxy: servers.TcpProxy = tcp_proxy(request.getfixturevalue(f"{request.param}_url"))
    return proxy


class FaultySite(Site):
    """Answers 503 where its store fails.

    :ivar kind: the scheme of the store's URL.
    :ivar slack: seconds beyond the store's timeout. pymongo looks for a server in steps of half a second: it overshoots
        by one, and needs one to find the server again.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.kind = urlsplit(url).scheme
        self.timeout, self.slack = (0.7, 0.8) if self.kind == "mongodb" else (0.3, 0.5)
        store = open_store(with_options(url, timeout=str(self.timeout)))
        super().__init__(store, **{"on_store_error": "unavailable", **options})


@contextmanager
def site_behind(url: str, **options: Any) -> Iterator[FaultySite]:
    """A site whose store is used and connected."""
    site = FaultySite(url, **options)
    with closing(site.store):
        site.browser().put(warm=True)
        yield site


def visitor(site: Site) -> Browser:
    browser = site.browser()
    browser.put(n=1)
    return browser


def is_refused(browser: Browser, order: Order, *, calls: int = 1) -> None:
    """Have the app do it, and see it refused as no logout, in the time of so many calls.

    A record that may have been stored under an ID that nobody was told is taken back: that is a second one.
    """
    site: Any = browser.site
    had = browser.jar.header
    started = time.monotonic()
    browser.visit(order)
    assert time.monotonic() - started < calls * site.timeout + site.slack
    assert browser.response.status_code == 503
    assert int(browser.response.headers["Retry-After"]) > 0
    assert browser.sent is None
    assert browser.jar.header == had


def is_as_the_table_says(browser: Browser, row: str, *, change: Order = write) -> None:
    """Read, and change, what the visitor has, in the middle of the row's fault."""
    site: Any = browser.site
    for order, outcome in zip((read, change), ROWS[row][site.kind].split(" / "), strict=True):
        if outcome == "503":
            is_refused(browser, order)
        else:
            browser.visit(order)
            assert browser.response.status_code == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_security_53_a_store_that_cannot_be_read_is_not_a_logout(proxy, fault):
    """SECURITY 53: the answer comes in time, and what was there is there when the store is back, without a restart."""
    with site_behind(proxy.url) as site:
        browser = visitor(site)
        FAULTS[fault](proxy)
        is_as_the_table_says(browser, fault)
        browser.visit(None)
        assert browser.response.status_code == 200
        healed(proxy)
        assert browser.visit(read) == {"n": 1}
        browser.put(n=3)
        assert browser.data == {"n": 3}


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        (fault, change)
        for fault in FAULTS
        for change in CHANGES
        if change == "write" or FAULTS[fault] in (refused, no_reply)
    ],
)
def test_security_53_what_the_store_may_not_have_taken_is_not_a_success(proxy, fault, change):
    """SECURITY 53: it fails after the session was read, which stays as it was, or has the change; nothing else."""
    with site_behind(proxy.url) as site:
        browser = visitor(site)

        def overtaken(session: Session) -> None:
            assert session["n"] == 1
            FAULTS[fault](proxy)
            CHANGES[change](session)

        is_refused(browser, overtaken, calls=2)
        healed(proxy)
        assert browser.visit(read) in ([{"n": 1}] if fault == "connections are refused" else POSSIBLE[change])
        browser.put(n=3)
        assert browser.data["n"] == 3


@pytest.mark.parametrize("policy", ["raise", "unavailable"])
def test_a_visitor_whose_session_could_not_be_stored_gets_no_cookie(proxy, policy):
    """SECURITY 53."""
    with site_behind(proxy.url, on_store_error=policy) as site:
        browser = site.browser()
        refused(proxy)
        if policy == "raise":
            with pytest.raises(StoreError):
                browser.visit(write)
        else:
            is_refused(browser, write, calls=2)
        healed(proxy)
        browser.put(n=1)
        assert browser.data == {"n": 1}


def test_a_change_whose_answer_was_lost_is_made_once(proxy):
    """Where the command may be repeated it is, and counts once; where not, that is told and never a success."""
    with site_behind(proxy.url) as site:
        browser = visitor(site)

        def count_with_an_answer_lost(session: Session) -> None:
            assert session["n"] == 1
            proxy.cut_after = 1
            session.transaction(count)

        browser.visit(count_with_an_answer_lost)
        assert browser.response.status_code in (200, 503)
        told = browser.response.status_code
        proxy.cut_after = None
        assert browser.data["n"] in ([2] if told == 200 else [1, 2])


@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_a_connection_that_broke_between_two_requests_is_replaced_silently(proxy, fault):
    """A restart of the server, a firewall, a killed backend: the next visitor sees none of it."""
    with site_behind(proxy.url) as site:
        browser = visitor(site)
        getattr(proxy, fault)()
        is_as_the_table_says(browser, BROKE)
        getattr(proxy, fault)()
        browser.put(n=3)
        assert browser.response.status_code == 200
        assert browser.data == {"n": 3}


def test_a_crowd_before_a_store_that_hangs_is_refused_in_time(proxy):
    """More visitors than connections: none waits longer than for one call, and afterwards all are served."""
    with site_behind(proxy.url) as site:
        browsers = [visitor(site) for _ in range(24)]
        proxy.stall = True
        with ThreadPoolExecutor(len(browsers)) as pool:
            list(pool.map(lambda browser: is_refused(browser, read), browsers))
        healed(proxy)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda browser: browser.visit(read), browsers)) == [{"n": 1}] * len(browsers)


# What servers refuse.


def test_a_postgresql_backend_killed_between_two_requests_is_replaced_silently(postgresql_url, postgresql_server):
    with site_behind(with_options(postgresql_url, application_name="to_be_killed")) as site:
        browser = visitor(site)
        with psycopg.connect(postgresql_server.url, autocommit=True) as other:
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'to_be_killed'"
            assert other.execute(kill).fetchall()
        browser.put(n=2)
        assert browser.response.status_code == 200
        assert browser.data == {"n": 2}


def test_a_redis_restarted_between_two_requests_serves_the_next(start_server):
    server = start_server(servers.Redis)
    with site_behind(server.url) as site:
        browser = visitor(site)
        server.kill()
        is_refused(browser, read)
        server.start()
        assert browser.visit(read) == {}  # it kept nothing on disk
        browser.put(n=2)
        assert browser.data == {"n": 2}


def test_a_redis_out_of_memory_reads_on_and_refuses_what_is_written(start_server):
    server = start_server(servers.Redis)
    with site_behind(server.url) as site:
        browser = visitor(site)
        server.call("CONFIG", "SET", "maxmemory", 1)
        is_as_the_table_says(browser, FULL)
        is_refused(site.browser(), write)
        assert browser.visit(read) == {"n": 1}
        leaving = browser.twin()
        leaving.visit(lambda session: session.logout())
        assert leaving.response.status_code == 200
        server.call("CONFIG", "SET", "maxmemory", 0)
        assert browser.visit(read) == {}


def test_a_redis_that_became_a_replica_is_read_and_written_again_once_it_is_the_master(start_server):
    server = start_server(servers.Redis)
    with site_behind(server.url) as site:
        browser = visitor(site)
        server.call("REPLICAOF", "127.0.0.1", 1)
        is_as_the_table_says(browser, READ_ONLY)
        server.call("REPLICAOF", "NO", "ONE")
        assert browser.visit(read) == {"n": 1}


def test_a_read_only_postgresql_is_read_and_no_logout(postgresql_url):
    read_only = with_options(postgresql_url, options="-c default_transaction_read_only=on")
    site = FaultySite(read_only)
    with site_behind(postgresql_url) as writable, closing(site.store):
        browser, reader = visitor(writable), site.browser()
        reader.jar.update(browser.jar)
        is_as_the_table_says(reader, READ_ONLY)
        assert browser.data == {"n": 1}


# SQLite.


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Limit the pages of every database file that is open, or opened later."""
    opened: list[sqlite3.Connection] = []
    most, connect = 1 << 30, sqlite3.connect

    def limit(pages: int) -> None:
        nonlocal most
        most = pages
        for connection in opened:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
                connection.execute(f"PRAGMA max_page_count = {most}").fetchall()

    def limited(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        opened.append(connection)
        connection.execute(f"PRAGMA max_page_count = {most}").fetchall()
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    return limit


def test_a_full_disk_under_sqlite_is_not_a_logout(sqlite_url, disk):
    with site_behind(sqlite_url) as site:
        browser = visitor(site)
        disk(1)  # no page more than there are
        is_as_the_table_says(browser, FULL, change=grow)
        is_refused(site.browser(), grow)
        assert browser.visit(read) == {"n": 1}
        disk(1 << 30)
        browser.put(large="x" * 50_000)
        assert browser.data == {"n": 1, "large": "x" * 50_000}


def test_a_locked_sqlite_file_is_read_on_and_refuses_what_is_written_in_time(sqlite_url):
    with site_behind(sqlite_url) as site:
        browser = visitor(site)
        with closing(sqlite3.connect(urlsplit(sqlite_url).path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            is_as_the_table_says(browser, LOCKED)
            for change in (CHANGES["login"], CHANGES["logout"]):
                is_refused(browser, change, calls=2)
            other.execute("ROLLBACK")
        browser.put(n=3)
        assert browser.data == {"n": 3}


# The table.


def table() -> str:
    """Return what the docs show."""
    names = {"redis": "Redis, Valkey", "postgresql": "PostgreSQL", "mongodb": "MongoDB", "sqlite": "SQLite"}
    lines = [["what happens", *names.values()], ["---"] * 5]
    lines += [[row, *(cells.get(kind, "-") for kind in names)] for row, cells in ROWS.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_docs_show_the_table_that_the_tests_hold():
    assert table() in TABLE.read_text()
