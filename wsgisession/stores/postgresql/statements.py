"""The SQL of `PostgreSQLStore`, for one table."""

# ruff: noqa: S608 - the only text put into SQL is the quoted name of the table

from __future__ import annotations

import hashlib

FIRST = 2.0**62
"""A position before all logins: where a walk through a user's sessions begins."""

_MOST_IN_A_PAGE = 4_000_000  # bytes of one page; a session may have a megabyte, and a page a thousand sessions
DIGEST = "sha256(convert_to(sess::text, 'UTF8'))"
_SERVER_CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

# jsonb keeps values and not text, so that what is stored is known only afterwards. NULL: it is the text that was sent.
STORED = "CASE WHEN pg_typeof(sess) = 'jsonb'::regtype THEN sess::text END"
IS_TEXT = """CASE WHEN pg_typeof(sess) = 'jsonb'::regtype
    THEN sess::text = $2::text::jsonb::text ELSE sess::text = $2 END"""

# One message, so one transaction: the second one waits, and finds that everything exists. Others wait for its locks
# as long as it waits for theirs, so it gives up soon.
_PREPARING = (
    "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{patience}ms';"
    " SELECT pg_advisory_xact_lock(7309453046518837614);"
)


class Statements:
    """The SQL for one table.

    Values are bound by their position: text is sent as text, so that the table's own types decide what it is, and every
    number as a float8.

    :param ordered: whether the table has the column ``login_order``. If it cannot be added, the order of a user's
        sessions is that of their last restart, as the workers' clocks say.
    """

    columns: tuple[str, ...] = ("sid", "sess", "expire", "expires_at", "ttl", "user_id", "login_order")
    indexed: tuple[str, ...] = ("sid", "expire", "user_id")
    is_live = "expires_at > $1::float8"
    is_expired = "expire <= to_timestamp($1::float8) AND expires_at <= $1"

    def __init__(self, table: str, schema: str | None, *, ordered: bool = True) -> None:
        name = self.table = qualified(table, schema)
        order = "login_order" if ordered else "((expires_at - ttl) * 1000000)::bigint"
        row = f"sess::text, expires_at, ({order})::float8, ttl, user_id"
        page = f"SELECT sess, expires_at, ({order})::float8 AS position, ttl, user_id, sid::text FROM {name} AS t"
        columns = "expires_at, position, ttl, user_id, sid"
        self.read = f"SELECT {row} FROM {name} WHERE sid = $1 AND expires_at > $2::float8".encode()
        self.restart = f"""
            UPDATE {name} SET expires_at = $2 + $3::float8, expire = to_timestamp($2 + $3)
            WHERE sid = $1 AND expires_at > $2::float8
            RETURNING expires_at
        """.encode()
        self.touch = f"""
            UPDATE {name} SET expire = to_timestamp($3::float8), expires_at = $3, ttl = $4::float8
            WHERE sid = $1 AND expires_at > $2::float8
        """.encode()
        self.delete = f"""
            DELETE FROM {name}
            WHERE sid = $1 AND expires_at > $2::float8 AND ($3::bytea IS NULL OR {DIGEST} = $3)
        """.encode()
        given, latest = ("$6::float8::bigint", _latest(name)) if ordered else ("", "")
        self.create, self.create_login = _create(name, order, given), _create(name, order, latest)
        self.replace, self.replace_login = _replace(name, order, given), _replace(name, order, latest)
        self.wrote = f"""
            SELECT {STORED}, ({order})::float8 FROM {name}
            WHERE sid = $1 AND expires_at = $3::float8 AND ttl = $4::float8 AND user_id IS NOT DISTINCT FROM $5::text
                AND $6::float8 >= 0 AND {IS_TEXT}
        """.encode()
        self.find_user = bounded(
            f"{page} WHERE user_id = $1 AND ({order}, sid) < ($3::float8::bigint, $4)"
            f" ORDER BY {order} DESC, t.sid DESC LIMIT $5::float8::int",
            columns,
            order="position DESC, sid DESC",
        ).encode()
        self.delete_user = f"""
            WITH page AS (
                SELECT sid FROM {name}
                WHERE user_id = $1 AND sid IS DISTINCT FROM $3::text AND ({order}, sid) < ($4::float8::bigint, $5)
                ORDER BY {order} DESC, sid DESC LIMIT $6::float8::int
            ), gone AS (
                DELETE FROM {name} WHERE sid = ANY (ARRAY (SELECT sid FROM page)) AND user_id = $1
                RETURNING sid, expires_at > $2::float8 AS was_live
            )
            SELECT (SELECT count(*) FROM page)::float8, gone.sid::text FROM (SELECT) AS once LEFT JOIN gone ON was_live
        """.encode()
        self.scan = bounded(
            f"{page} WHERE sid > $1 AND expires_at IS NOT NULL ORDER BY t.sid LIMIT $3::float8::int",
            columns,
            order="sid",
        ).encode()
        self.purge = f"""
            DELETE FROM {name} WHERE ctid = ANY (ARRAY (
                SELECT ctid FROM {name} WHERE {self.is_expired}
                ORDER BY expire LIMIT $2::float8::int FOR UPDATE SKIP LOCKED
            ))
        """.encode()
        self.ddl = f"""\
CREATE TABLE IF NOT EXISTS {name} (
    sid varchar NOT NULL PRIMARY KEY,
    sess json NOT NULL,
    expire timestamp(6) NOT NULL
);
ALTER TABLE {name}
    ADD COLUMN IF NOT EXISTS expires_at double precision,
    ADD COLUMN IF NOT EXISTS ttl double precision,
    ADD COLUMN IF NOT EXISTS user_id text,
    ADD COLUMN IF NOT EXISTS login_order bigint DEFAULT 1;
ALTER TABLE {name} ALTER COLUMN login_order SET DEFAULT {_SERVER_CLOCK};
CREATE INDEX IF NOT EXISTS {index_name(table, "expire")} ON {name} (expire);
CREATE INDEX IF NOT EXISTS {index_name(table, "logins")} ON {name} (user_id, login_order, sid)
    WHERE user_id IS NOT NULL;
"""

    def prepare(self, *, patience: float) -> bytes:
        """Return the script that creates the table and its indexes, or adds what they lack.

        :param patience: seconds for which it waits for a lock on the table, and others behind it.
        """
        return f"{_PREPARING.format(patience=max(1, round(patience * 1000)))}\n{self.ddl}".encode()


def _create(name: str, order: str, value: str) -> bytes:
    column, changed = (", login_order", ", login_order = EXCLUDED.login_order") if value else ("", "")
    return f"""
        INSERT INTO {name} (sid, sess, expire, expires_at, ttl, user_id{column})
        VALUES ($1, $2, to_timestamp($3::float8), $3, $4::float8, $5{value and f", {value}"})
        ON CONFLICT (sid) DO UPDATE
        SET sess = EXCLUDED.sess, expire = EXCLUDED.expire, expires_at = EXCLUDED.expires_at,
            ttl = EXCLUDED.ttl, user_id = EXCLUDED.user_id{changed}
        WHERE {name}.expires_at <= $7::float8 AND $6::float8 IS NOT NULL
        RETURNING {STORED}, ({order})::float8
    """.encode()


def _replace(name: str, order: str, value: str) -> bytes:
    changed = value and f", login_order = {value}"
    return f"""
        UPDATE {name}
        SET sess = $2, expire = to_timestamp($3::float8), expires_at = $3, ttl = $4::float8, user_id = $5{changed}
        WHERE sid = $1 AND expires_at > $7::float8 AND $6::float8 IS NOT NULL AND {DIGEST} = $8::bytea
        RETURNING {STORED}, ({order})::float8
    """.encode()


def _latest(name: str) -> str:
    """Return the SQL for the order of a login.

    It comes after all others of its user, also if the server's clock was set back or another server took over. The
    logins of a user take turns, so that no two read the same microsecond.
    """
    return f"""(
        SELECT GREATEST({_SERVER_CLOCK}, (SELECT max(login_order) + 1 FROM {name} WHERE user_id = $5))
        FROM (SELECT pg_advisory_xact_lock(hashtextextended($5, 7309453046518837615)) OFFSET 0) AS in_turn
    )"""


def bounded(page: str, columns: str, *, order: str) -> str:
    """Return the rows of a page, up to this many bytes, and the number of rows of the page.

    Rows that have expired come without their text: they are passed over, and take part in the counting only.

    :param page: the SQL of the page, with the columns and ``sess``.
    """
    return f"""
        SELECT CASE WHEN expires_at > $2::float8 THEN sess::text END, {columns}, total
        FROM (
            SELECT *, count(*) OVER ()::float8 AS total,
                sum(pg_column_size(sess)) OVER (ORDER BY {order}) - pg_column_size(sess) AS bytes_before
            FROM ({page}) AS page
        ) AS counted
        WHERE bytes_before <= {_MOST_IN_A_PAGE}
        ORDER BY {order}
    """


def qualified(table: str, schema: str | None) -> str:
    """Return the quoted name of a table."""
    return quoted(table) if schema is None else f"{quoted(schema)}.{quoted(table)}"


def quoted(name: str) -> str:
    """Return the name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return the text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def index_name(table: str, purpose: str) -> str:
    """Return the quoted name of an index, within PostgreSQL's limit."""
    name = f"IDX_{table}_{purpose}"
    if len(name.encode()) > 63:  # PostgreSQL would cut it, and two indexes could then have one name
        name = f"IDX_{hashlib.sha256(table.encode()).hexdigest()[:32]}_{purpose}"
    return quoted(name)
