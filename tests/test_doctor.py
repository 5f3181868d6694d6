"""`wsgisession doctor` reports the usual mistakes, made on real servers, and nothing on a healthy store."""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from typing import Any

import psycopg
import pymongo
import pytest
from click.testing import CliRunner

from tests import servers
from tests.conftest import with_options
from wsgisession.cli.commands import main
from wsgisession.cli.doctor import Step, examine
from wsgisession.cli.index import Counts, sessions_not_indexed
from wsgisession.stores import Record, Store, open_store
from wsgisession.stores.findings import Finding
from wsgisession.stores.mongodb.diagnosis import of_server
from wsgisession.stores.sqlite.diagnosis import filesystem_of
from wsgisession.testing.workbench import in_fork


def steps_of(url: str, *, clock: Callable[[], float] = time.time) -> list[Step]:
    store = open_store(url)
    try:
        return list(examine(store, clock=clock))
    finally:
        store.close()


def findings_of(url: str, **options: Any) -> list[Finding]:
    return [finding for step in steps_of(url, **options) for finding in step.findings if step.name != "latency"]


def found_in(url: str, **options: Any) -> str:
    return "\n".join(f"{finding.level}: {finding}" for finding in findings_of(url, **options))


def prepared(url: str) -> str:
    store = open_store(url)
    store.prepare()
    store.close()
    return url


def test_a_healthy_store_has_no_findings_except_that_memory_is_not_shared(store_url):
    found = found_in(prepared(store_url))
    assert found == "" or found.startswith("warning: memory:// keeps sessions in one process")


@pytest.fixture
def store(store_url) -> Iterator[Store]:
    opened = open_store(prepared(store_url))
    yield opened
    opened.close()


def test_the_examination_leaves_nothing_behind(store):
    for step in examine(store):
        assert not step.is_last
    assert list(store.scan(now=0)) == []


def test_each_step_is_timed_and_the_first_that_fails_is_the_last(store: Store, monkeypatch):
    monkeypatch.setattr(store, "replace", lambda handle, record, *, now: record)
    steps = list(examine(store))
    assert [step.name for step in steps] == ["connect", "create", "read", "replace", "race"]
    assert str(steps[-1].findings[0]) == "16 of 16 writers of one version won, not one: report this as a bug"
    assert all(step.seconds > 0 for step in steps)
    assert list(store.scan(now=0)) == []


def test_a_store_that_loses_what_it_stored_is_reported(store: Store, monkeypatch):
    monkeypatch.setattr(store, "load", lambda handle, *, now, touch_after: None)
    steps = list(examine(store))
    assert steps[-1].name == "read"
    assert "what was written is not there: look for an eviction policy" in str(steps[-1].findings[0])


def test_a_user_with_many_sessions_is_looked_up_page_by_page(monkeypatch):
    store = open_store("memory://")
    for number in range(2500):
        store.create(f"s{number}", Record(b"{}", 60.0, "bot"), now=time.time())
    assert sessions_not_indexed(store, seconds=60) == Counts(seen=2500, missing=0, is_complete=True)


def test_the_search_for_sessions_without_index_ends_when_its_time_is_up():
    store = open_store("memory://")
    for number in range(2500):
        store.create(f"s{number}", Record(b"{}", 60.0, "bot"), now=time.time())
    ticks = itertools.count()
    counts = sessions_not_indexed(store, seconds=1.5, timer=lambda: next(ticks))
    assert counts == Counts(seen=2000, missing=0, is_complete=False)


def test_a_server_that_is_down_is_the_only_finding():
    (step,) = steps_of("redis://127.0.0.1:1/0")
    assert step.name == "connect"
    assert step.is_last
    assert step.findings[0].cure.startswith("see that it runs")


def test_a_slow_connection_to_the_store_is_reported(redis_url, tcp_proxy):
    proxy = tcp_proxy(redis_url)
    proxy.latency = 0.03
    latency = steps_of(proxy.url)[-1]
    assert latency.name == "latency"
    assert latency.seconds > 0.03
    assert re.match(r"a read takes \d+ ms", latency.findings[0].fact)


@pytest.mark.parametrize("kind", ["redis", "postgresql", "mongodb"])
@pytest.mark.parametrize(("ahead", "told"), [(-100, "100 s ahead of"), (40, "40 s behind"), (2, None)])
def test_clocks_that_differ_are_reported(request, kind, ahead, told):
    url = prepared(request.getfixturevalue(f"{kind}_url"))
    found = found_in(url, clock=lambda: time.time() + ahead)
    assert (f"problem: the server's clock is {told} the one here" in found) if told else (found == "")


# Redis


def test_an_eviction_policy_is_reported_with_its_cost_and_is_a_problem_with_a_memory_limit(start_server):
    server = start_server(servers.Redis, "--maxmemory-policy", "allkeys-lru")
    assert "warning: the server's maxmemory-policy allkeys-lru would end live sessions if" in found_in(server.url)
    server.call("CONFIG", "SET", "maxmemory", "100mb")
    found = found_in(server.url)
    assert "problem: the server's maxmemory-policy allkeys-lru ends live sessions when memory is full" in found
    assert "so that revoke_user misses sessions: set it to noeviction, with which a full server refuses logins" in found
    server.call("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    assert "warning: the server's maxmemory-policy volatile-ttl ends the sessions that would expire first" in found_in(
        server.url
    )
    server.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert found_in(server.url) == ""


def test_a_server_that_allows_no_scripts_is_reported(start_server):
    server = start_server(servers.Redis)
    server.call("ACL", "SETUSER", "app", "on", ">hidden", "~*", "+@all", "-@scripting")
    found = found_in(server.url.replace("//", "//app:hidden@"))
    assert "does not let the store's user run scripts, which it needs: allow EVAL and EVALSHA" in found
    assert "(NOPERM" in found


def test_sessions_whose_index_the_server_has_evicted_are_counted(start_server):
    server = start_server(servers.Redis)
    with closing(open_store(server.url)) as store:
        for number in range(5):
            store.create(f"s{number}", Record(b"{}", 60.0, f"u{number % 2}"), now=time.time())
    server.call("DEL", "sess-user:u0")
    assert "problem: 3 sessions are in no user's index, so revoke_user and the session limit miss them" in found_in(
        server.url
    )


def test_a_server_that_is_nearly_full_or_evicts_is_reported(start_server):
    server = start_server(servers.Redis, "--maxmemory-policy", "volatile-ttl")
    for number in range(500):
        server.call("SET", f"k{number}", "x" * 2000, "EX", 100)
    used = int(server.call("INFO", "memory")["used_memory"])
    server.call("CONFIG", "SET", "maxmemory", int(used * 1.05))
    assert re.search(r"problem: the server uses \d+ % of its maxmemory", found_in(server.url))
    server.call("CONFIG", "SET", "maxmemory", int(used * 0.9))
    found_in(server.url)
    assert re.search(r"problem: the server has dropped \d+ keys .*, because its memory was full", found_in(server.url))


def test_a_full_server_is_reported(start_server):
    server = start_server(servers.Redis)
    server.call("CONFIG", "SET", "maxmemory", 1000)
    assert "is out of memory: raise its maxmemory" in found_in(server.url)


@pytest.mark.parametrize("writable", ["no", "yes"])
def test_a_replica_is_reported_even_if_it_accepts_writes(redis_server, start_server, writable):
    if redis_server.url != f"redis://127.0.0.1:{getattr(redis_server, 'port', 0)}/0":
        pytest.skip("the replica needs a master of the tests' own")
    replica = start_server(
        servers.Redis, "--replicaof", f"127.0.0.1 {redis_server.port}", "--replica-read-only",
        "no" if writable == "yes" else "yes",
    )  # fmt: skip
    found = found_in(replica.url)
    assert "problem: the server is a replica: name the master" in found
    assert ("is a read-only replica" in found) == (writable == "no")


def test_sessions_in_another_database_are_reported(start_server):
    server = start_server(servers.Redis)
    elsewhere = open_store(server.url.replace("/0", "/3"))
    elsewhere.create("h", Record(b"{}", 60.0), now=time.time())
    assert "warning: there are no sessions in this database of the server, but some in its database 3" in found_in(
        server.url
    )
    assert found_in(server.url.replace("/0", "/3")) == ""
    assert found_in(with_options(server.url, prefix="of another app:")) == ""
    elsewhere.close()


def test_a_user_that_may_not_ask_for_the_servers_state_is_only_a_warning(start_server):
    server = start_server(servers.Redis)
    server.call("ACL", "SETUSER", "app", "on", ">hidden", "~*", "+@all", "-info")
    found = found_in(server.url.replace("//", "//app:hidden@"))
    assert re.fullmatch(
        r"warning: redis://\S+ forbids a command or a key to the store's user: .* \(NOPERM .*'info'.*\)", found
    )


def test_each_master_of_a_cluster_is_examined(redis_cluster):
    assert found_in(redis_cluster.url) == ""
    node = redis_cluster.nodes[1]
    node.call("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    assert found_in(redis_cluster.url).count("maxmemory-policy allkeys-random") == 1
    node.call("CONFIG", "SET", "maxmemory-policy", "noeviction")


# PostgreSQL


def table_of(url: str) -> str:
    schema, table = re.findall(r"schema=(\w+)&table=(\w+)", url)[0]
    return f"{schema}.{table}"


def run(url: str, statement: str) -> None:
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(("column", "index"), [("expire", "expire"), ("user_id", "logins")])
def test_a_missing_index_is_reported(postgresql_url, column, index):
    table = table_of(prepared(postgresql_url))
    schema, name = table.split(".")
    run(postgresql_url, f'DROP INDEX {schema}."IDX_{name}_{index}"')
    assert f"has no index on {column}, so that" in found_in(postgresql_url)


def test_a_table_without_its_primary_key_is_reported(postgresql_url):
    table = table_of(prepared(postgresql_url))
    run(postgresql_url, f"ALTER TABLE {table} DROP CONSTRAINT {table.split('.')[1]}_pkey")
    assert "has no unique index on sid, so that no session can be stored" in found_in(postgresql_url)


def test_a_table_of_connect_pg_simple_alone_is_a_warning(postgresql_url):
    table = table_of(postgresql_url)
    run(postgresql_url, f"CREATE TABLE {table} (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamp(6))")
    run(postgresql_url, f"CREATE INDEX ON {table} (expire)")
    assert "lacks columns of this store: run `wsgisession init URL`" in found_in(postgresql_url)


def test_rows_of_another_time_zone_are_reported(postgresql_url):
    abroad = open_store(with_options(prepared(postgresql_url), options="-c TimeZone=Asia/Tokyo"))
    abroad.create("h", Record(b"{}", 60.0), now=time.time())
    abroad.close()
    assert "with another time zone, and purge comes early or late to them: give all" in found_in(postgresql_url)
    run(postgresql_url, f"DELETE FROM {table_of(postgresql_url)}")
    assert found_in(postgresql_url) == ""


def test_a_standby_is_reported(start_server):
    server = start_server(servers.PostgreSQL)
    prepared(server.url)
    server.kill()
    (server.data / "standby.signal").touch()
    run_by = server.start()
    found = found_in(run_by.url)
    assert "problem: the server is a replica: name the primary" in found
    assert "is read-only: name the primary" in found


# MongoDB


def sessions_of(url: str) -> tuple[pymongo.MongoClient[Any], Any]:
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(url.partition("?")[0])
    return client, client.get_default_database()[url.rpartition("=")[2]]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mongodb"])
def test_a_missing_file_table_or_collection_is_a_problem_and_is_not_created(request, kind):
    url = request.getfixturevalue(f"{kind}_url")
    assert re.fullmatch(
        r"problem: the (file|table|collection) \S+ does not exist: correct the store's URL, or run .*", found_in(url)
    )
    with closing(open_store(url)) as store:
        assert not store.exists


def test_the_examination_creates_no_index_that_is_missing(mongodb_url):
    client, sessions = sessions_of(mongodb_url)
    sessions.insert_one({"_id": "of another program"})
    assert "no index on user_id" in found_in(mongodb_url)
    assert list(sessions.index_information()) == ["_id_"]
    client.close()


def test_a_database_file_of_another_program_stays_as_it_is(tmp_path):
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "theirs.db").read_bytes()
    assert "problem: the table session in" in found_in(f"sqlite:///{tmp_path}/theirs.db")
    assert (tmp_path / "theirs.db").read_bytes() == before


@pytest.mark.parametrize(
    ("index", "told"), [("expires_1", "no TTL index on expires"), ("user_id_1_order_-1__id_-1", "no index on user_id")]
)
def test_a_missing_index_of_mongodb_is_reported(mongodb_url, index, told):
    client, sessions = sessions_of(prepared(mongodb_url))
    sessions.insert_one({"_id": "of another program"})
    sessions.drop_index(index)
    store = open_store(mongodb_url)
    assert [told in finding.fact for finding in store.diagnose(now=time.time())] == [True]
    store.close()
    client.close()


def test_an_index_on_expires_that_is_not_a_ttl_index_is_reported(mongodb_url):
    client, sessions = sessions_of(mongodb_url)
    sessions.create_index("expires")
    sessions.create_index("user_id")
    assert "has no TTL index on expires, so expired sessions are not removed" in found_in(mongodb_url)
    client.close()


def test_a_secondary_is_reported():
    # The stand-in for MongoDB has no replica set: this is what a secondary answers.
    hello = {"isWritablePrimary": False, "secondary": True, "localTime": datetime.fromtimestamp(1000, timezone.utc)}
    (finding,) = of_server(hello, now=1000.0)
    assert finding.fact == "the server is not the primary"


# SQLite


def test_a_folder_without_write_permission_is_reported(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    store = open_store(f"sqlite:///{folder}/sessions.db")

    def look() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        (finding,) = store.diagnose(now=0)
        assert finding.level == "problem"
        assert finding.fact == f"this user may not write to the folder {folder}"

    in_fork(look)
    assert list(folder.iterdir()) == []


def test_a_journal_that_cannot_be_wal_is_reported(sqlite_url, monkeypatch):
    connect = sqlite3.connect  # of a file system without shared memory: SQLite has one that locks by files alone
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: connect(f"file:{path}?vfs=unix-dotfile", uri=True, **options)
    )
    assert "warning: the file's journal is delete and not wal" in found_in(prepared(sqlite_url))


MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/export /srv/shared\\040files nfs4 rw,vers=4.2 0 0
tmpfs /srv/shared\\040files/cache tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv", "ext4"),
        ("/srv/shared files", "nfs4"),
        ("/srv/shared files/app", "nfs4"),
        ("/srv/shared files/cache", "tmpfs"),
        ("/srv/shared files too", "ext4"),
    ],
)
def test_the_nearest_mount_decides_the_file_system(folder, kind):
    assert filesystem_of(folder, MOUNTS) == kind


def test_a_network_file_system_is_reported(sqlite_url, monkeypatch, tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS.replace("/srv/shared\\040files ", f"{tmp_path} "))
    monkeypatch.setattr("wsgisession.stores.sqlite.diagnosis._MOUNTS", mounts)
    assert "is on a network file system (nfs4), where SQLite's locks do not hold" in found_in(sqlite_url)


# The command


def test_the_command_prints_facts_and_fixes_and_problems_make_the_exit_code_1(start_server):
    server = start_server(servers.Redis, "--maxmemory-policy", "allkeys-lru")
    warned = CliRunner().invoke(main, ["doctor", server.url])
    assert warned.exit_code == 0
    assert "\n  warning: the server's maxmemory-policy allkeys-lru" in warned.stdout
    assert re.search(r"^create +\d+\.\d\d ms  ok$", warned.stdout, re.MULTILINE)
    server.call("CONFIG", "SET", "maxmemory", "100mb")
    failed = CliRunner().invoke(main, ["doctor", server.url, "--json"])
    assert failed.exit_code == 1
    assert '"level": "problem", "fact": "the server\'s maxmemory-policy' in failed.stdout
