"""What only the PostgreSQL store promises: its table, its time zones, its deadline, its connections."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests import servers
from wsgisession.errors import ConfigurationError, StoreError
from wsgisession.stores import Record, open_store
from wsgisession.stores.postgresql.store import PostgreSQLStore
from wsgisession.testing import SharedStoreContract

NOW = 1_800_000_000.25
CONNECT_PG_SIMPLE = """
    CREATE TABLE "{0}" ("sid" varchar NOT NULL COLLATE "default", "sess" json NOT NULL, "expire" timestamp(6) NOT NULL)
    WITH (OIDS=FALSE);
    ALTER TABLE "{0}" ADD CONSTRAINT "{0}_pkey" PRIMARY KEY ("sid") NOT DEFERRABLE INITIALLY IMMEDIATE;
    CREATE INDEX "IDX_{0}_expire" ON "{0}" ("expire");
"""


def record(data: bytes = b"{}", *, ttl: float = 100.0, user_id: str | None = None, version: object = None) -> Record:
    return Record(data, ttl, user_id, version)


def idle(store: PostgreSQLStore) -> list:
    """Return the idle connections of this process."""
    return [connection for connection, _ in store._server._pool()._idle]


class TestContract(SharedStoreContract):
    password = "hush-hush"

    @pytest.fixture
    def store(self, opened) -> PostgreSQLStore:
        return opened(timeout=10)

    @pytest.fixture
    def other_store(self, opened) -> PostgreSQLStore:
        return opened(timeout=10)

    @pytest.fixture
    def unreachable_store(self, opened) -> tuple[PostgreSQLStore, float]:
        return opened(f"postgresql://me:{self.password}@127.0.0.1:1/postgres", timeout=1), 1.0


# The table


def test_the_table_is_that_of_connect_pg_simple_with_four_nullable_columns(opened, sql, table):
    opened().prepare()
    columns = sql.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        [table],
    ).fetchall()
    assert columns == [
        ("sid", "character varying", True),
        ("sess", "json", True),
        ("expire", "timestamp(6) without time zone", True),
        ("expires_at", "double precision", False),
        ("ttl", "double precision", False),
        ("user_id", "text", False),
        ("login_order", "bigint", False),
    ]
    indexes = sql.execute("SELECT indexname FROM pg_indexes WHERE tablename = %s ORDER BY 1", [table]).fetchall()
    assert indexes == [(f"IDX_{table}_expire",), (f"IDX_{table}_logins",), (f"{table}_pkey",)]


def test_a_table_made_by_connect_pg_simple_is_completed_at_the_first_use(opened, sql, table):
    sql.execute(CONNECT_PG_SIMPLE.format(table))
    store = opened()
    assert store.create("a", record(b'{"n": 1}', user_id="7"), now=NOW)
    assert store.load("a", now=NOW, touch_after=0.05).data == b'{"n": 1}'
    indexes = sql.execute("SELECT count(*) FROM pg_indexes WHERE tablename = %s", [table]).fetchone()
    assert indexes == (3,)


def test_a_row_of_connect_pg_simple_is_absent_and_survives_every_verb(opened, sql, table):
    sql.execute(CONNECT_PG_SIMPLE.format(table))
    sql.execute(f"""INSERT INTO {table} VALUES ('node', '{{"a":1}}', '1999-01-01')""")
    store = opened()
    assert store.load("node", now=NOW, touch_after=0) is None
    assert store.create("node", record(), now=NOW) is None
    assert store.replace("node", record(version=b'{"a":1}'), now=NOW) is None
    assert not store.touch("node", ttl=1, now=NOW)
    assert not store.delete("node", now=NOW)
    assert list(store.scan(now=NOW)) == []
    assert store.purge(now=NOW) == 0
    assert sql.execute(f"SELECT sess::text FROM {table}").fetchall() == [('{"a":1}',)]


def test_data_comes_back_byte_for_byte_and_expire_is_the_wall_clock_of_expires_at(opened, sql, table):
    data = '{ "z" : "\\u0000\\ud800 é😀",\n"a":1.0}'.encode()
    store = opened()
    store.create("a", record(data), now=NOW)
    assert store.load("a", now=NOW, touch_after=None).data == data
    assert store.load("a", now=NOW + 50, touch_after=0.05).expires_at == NOW + 150
    same = f"SELECT expires_at, expire = to_timestamp(expires_at)::timestamp FROM {table}"
    assert sql.execute(same).fetchone() == (NOW + 150, True)


def test_a_writer_that_changes_only_the_text_is_detected(opened, sql, table):
    store = opened()
    created = store.create("a", record(b'{"n":1}'), now=NOW)
    sql.execute(f"""UPDATE {table} SET sess = '{{"n":2}}'""")
    assert store.replace("a", record(b'{"n":3}', version=created.version), now=NOW) is None
    assert not store.delete("a", now=NOW, version=created.version)
    seen = store.load("a", now=NOW, touch_after=None)
    assert seen.data == b'{"n":2}'
    assert store.replace("a", record(b'{"n":3}', version=seen.version), now=NOW)


def test_a_user_id_with_nul_is_refused_and_never_cut_to_another_users(opened):
    store = opened()
    with pytest.raises(StoreError):
        store.create("a", record(user_id="7\0x"), now=NOW)
    assert store.find_user("7", now=NOW).records == []


def test_many_at_a_first_use_create_the_table_once_and_all_succeed(opened, sql, table):
    stores = [opened() for _ in range(8)]
    start = threading.Barrier(8)

    def use(number: int) -> bool:
        start.wait()
        return stores[number].create(str(number), record(), now=NOW) is not None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert sql.execute(f"SELECT count(*) FROM {table}").fetchone() == (8,)


def test_processes_at_a_first_use_create_the_table_once_and_all_succeed(postgresql_url, sql, table):
    code = (
        "import sys; from wsgisession.stores import open_store, Record\n"
        "store = open_store(sys.argv[1]); sys.stdin.read(1)\n"
        "assert store.create(sys.argv[2], Record(b'{}', 100.0), now=1.0)"
    )
    url = f"{postgresql_url}&timeout=20"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url, str(number)], stdin=subprocess.PIPE) for number in range(8)
    ]
    for process in processes:
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 8
    assert sql.execute(f"SELECT count(*) FROM {table}").fetchone() == (8,)


def test_tables_of_one_schema_have_their_own_indexes_however_long_their_names(opened, sql):
    names = [secrets.token_hex(4) + "x" * 54 + end for end in "ab"]
    for name in names:
        opened(table=name).prepare()
        assert sql.execute("SELECT count(*) FROM pg_indexes WHERE tablename = %s", [name]).fetchone() == (3,)


@pytest.mark.parametrize("name", ['a.b"C', "Überall", "select", "semi;colon--", "it's %s $1"])
def test_an_odd_name_is_only_a_name(opened, sql, name):
    sql.execute('CREATE SCHEMA "odd.""schema"')
    store = opened(table=name, schema='odd."schema')
    created = store.create("a", record(user_id="7"), now=NOW)
    assert store.create("a", record(), now=NOW) is None
    assert store.replace("a", record(b'{"n":1}', version=created.version), now=NOW)
    assert store.create("a", record(), now=NOW + 100)
    assert store.purge(now=NOW + 200) == 1
    where = sql.execute("SELECT schemaname FROM pg_tables WHERE tablename = %s", [name]).fetchone()
    sql.execute('DROP SCHEMA "odd.""schema" CASCADE')
    assert where == ('odd."schema',)


def test_a_missing_schema_is_named_as_the_reason(opened):
    with pytest.raises(StoreError, match="no such schema"):
        opened(schema="nowhere").load("a", now=NOW, touch_after=None)


@pytest.fixture
def role(sql, place) -> Iterator[str]:
    """May log in, and no more."""
    name = f"role_{secrets.token_hex(4)}"
    sql.execute(f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA {place['schema']} TO {name}")
    yield name
    sql.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_role_that_may_not_create_learns_the_fix_and_works_once_it_was_applied(opened, sql, table, role):
    store = opened(user=role)
    for _ in range(2):
        with pytest.raises(StoreError, match="wsgisession init URL") as caught:
            store.create("a", record(), now=NOW)
        assert isinstance(caught.value.__cause__, psycopg.errors.InsufficientPrivilege)
    with pytest.raises(StoreError, match="wsgisession init URL"):
        store.prepare()
    sql.execute(store.ddl)
    sql.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
    assert store.create("a", record(), now=NOW)
    store.prepare()


# Time


@pytest.mark.parametrize(("writer", "reader"), [("Asia/Tokyo", "America/New_York"), ("America/New_York", "Asia/Tokyo")])
def test_no_time_zone_makes_a_record_expire_early_or_late(opened, writer, reader):
    wrote, reads = (opened(options=f"-c timezone={zone}") for zone in (writer, reader))
    wrote.create("a", record(), now=NOW)
    for store in (wrote, reads):
        assert store.purge(now=NOW + 99.9) == 0
        assert store.load("a", now=NOW + 99.9, touch_after=None)
        assert store.load("a", now=NOW + 100, touch_after=None) is None
    assert wrote.purge(now=NOW + 100) == 1


def test_a_server_in_new_york_and_a_client_in_tokyo_agree_and_survive_a_restart(start_server, opened, monkeypatch):
    server = start_server(servers.PostgreSQL, "timezone=America/New_York")
    local = opened(server.url, schema="public")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    abroad = opened(server.url, schema="public")
    assert abroad.create("a", record(), now=NOW)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")  # the test server would lose what it just committed
    server.kill()
    server.start()
    for store in (abroad, local):
        assert store.load("a", now=NOW + 99, touch_after=None)
        assert store.load("a", now=NOW + 100, touch_after=None) is None
    for store in (abroad, local):
        assert store.touch("a", ttl=100, now=NOW + 50)
        assert store.load("a", now=NOW + 149, touch_after=None)
        assert store.load("a", now=NOW + 150, touch_after=None) is None
        assert store.purge(now=NOW + 149) == 0


def test_a_record_restarted_while_purge_runs_stays_and_a_held_row_is_passed_over(opened, sql, connect, table):
    store = opened()
    for handle in ("held", "free"):
        store.create(handle, record(), now=NOW)
    with connect() as other:
        other.execute(f"UPDATE {table} SET expires_at = expires_at + 1000 WHERE sid = 'held'")
        assert store.purge(now=NOW + 100) == 1
    assert [handle for handle, _ in store.scan(now=NOW + 100)] == ["held"]


def test_purge_and_scan_go_through_more_rows_than_a_batch_or_page(opened, sql, table):
    store = opened()
    store.prepare()
    sql.execute(
        f"INSERT INTO {table} SELECT 'h' || n, '{{}}', to_timestamp({NOW} + n), {NOW} + n, 10, 'u' "
        "FROM generate_series(1, 2500) AS n"
    )
    assert len({handle for handle, _ in store.scan(now=NOW)}) == 2500
    assert store.purge(now=NOW + 2400, limit=7) == 7
    assert store.purge(now=NOW + 2400) == 2393
    assert len(list(store.scan(now=NOW))) == 100


# The cost


def test_each_verb_is_one_round_trip_and_a_restart_is_a_second_one(opened):
    store = opened(max_connections=1)
    created = store.create("a", record(user_id="7"), now=NOW)
    verbs = [
        lambda: store.load("a", now=NOW + 1, touch_after=0.05),
        lambda: store.load("a", now=NOW + 50, touch_after=None),
        lambda: store.create("a", record(), now=NOW),
        lambda: store.replace("a", record(version=created.version, user_id="7"), now=NOW),
        lambda: store.touch("a", ttl=100, now=NOW),
        lambda: store.find_user("7", now=NOW),
        lambda: store.purge(now=NOW),
        lambda: store.delete("a", now=NOW),
        lambda: store.delete_user("7", now=NOW),
    ]
    assert sent_by(store, verbs) == ["Bind", "Describe", "Execute", "Sync"] * len(verbs)
    restart = [lambda: store.load("a", now=NOW, touch_after=0)]
    assert sent_by(store, restart) == ["Bind", "Describe", "Execute", "Sync"] * 2


def sent_by(store, verbs) -> list[str]:
    """Return the kinds of messages that go to the server, once all statements are prepared."""
    for _ in range(2):
        for verb in verbs:
            verb()
        store.create("a", record(user_id="7"), now=NOW)
    (connection,) = idle(store)
    with tempfile.TemporaryFile() as trace:
        connection._pgconn.trace(trace.fileno())
        for verb in verbs:
            verb()
        connection._pgconn.untrace()
        trace.seek(0)
        lines = [line.split("\t") for line in trace.read().decode().splitlines()]
    return [line[3].split()[0] for line in lines if line[1] == "F"]


def test_a_read_that_restarts_nothing_is_executed_on_a_read_only_connection(opened):
    opened().create("a", record(), now=NOW)
    reader = opened(options="-c default_transaction_read_only=on")
    assert reader.load("a", now=NOW + 1, touch_after=0.05).expires_at == NOW + 100


def test_load_find_user_and_purge_read_by_an_index(opened, sql, table):
    store = opened()
    store.prepare()
    sql.execute(
        f"INSERT INTO {table} SELECT 'h' || n, '{{}}', to_timestamp({NOW} + n), {NOW} + n, 10, 'u' || n % 500 "
        "FROM generate_series(1, 5000) AS n"
    )
    sql.execute(f"ANALYZE {table}")
    sql.execute("SET plan_cache_mode = force_generic_plan")
    for name, values, index in [
        ("read", f"'h9', {NOW}", f"{table}_pkey"),
        ("restart", f"'h9', {NOW}, 10", f"{table}_pkey"),
        ("find_user", f"'u9', {NOW}, {2.0**62}, '', 50", f"IDX_{table}_logins"),
        ("delete_user", f"'u9', {NOW}, NULL, {2.0**62}, '', 50", f"IDX_{table}_logins"),
        ("scan", f"'h9', {NOW}, 50", f"{table}_pkey"),
        ("purge", f"{NOW}, 1000", f"IDX_{table}_expire"),
    ]:
        sql.execute(f"PREPARE {name}_{table} AS {getattr(store._sql, name).decode()}")
        plan = "\n".join(line for (line,) in sql.execute(f"EXPLAIN EXECUTE {name}_{table}({values})"))
        assert index in plan, plan
        assert "Seq Scan" not in plan, plan


# The URL


def test_a_parameter_that_nobody_knows_is_refused_and_one_of_libpqs_is_not():
    open_store("postgresql://localhost/db?application_name=shop&connect_timeout=3")
    with pytest.raises(ConfigurationError, match="'colour'"):
        open_store("postgresql://localhost/db?colour=blue")


@pytest.mark.parametrize("parameter", ["timeout=0", "max_connections=none", "table=", f"table={'x' * 64}"])
def test_an_own_parameter_with_a_wrong_value_is_refused(parameter):
    with pytest.raises(ConfigurationError, match=parameter.partition("=")[0]):
        open_store(f"postgresql://localhost/db?{parameter}")


def test_neither_repr_nor_a_refused_url_shows_the_password():
    assert repr(open_store("postgresql://me:hush@db.example:5433/app?password=hush")) == (
        "<PostgreSQLStore postgresql://db.example:5433/app table='session'>"
    )
    with pytest.raises(ConfigurationError) as caught:
        open_store("postgresql://me:hush%zz@db.example/app")
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
