"""The SQL of `SQLiteStore`."""

# ruff: noqa: S608 - there is no text in it but ours

# The data comes last: what is before it is read and written without it.
TABLE = (
    "CREATE TABLE IF NOT EXISTS session (handle TEXT NOT NULL PRIMARY KEY, user_id TEXT, version INTEGER NOT NULL,"
    " ttl REAL NOT NULL, expires_at REAL NOT NULL, login_order INTEGER NOT NULL DEFAULT 1, data BLOB NOT NULL)"
)
COLUMNS = "PRAGMA table_info(session)"
ADD_ORDER = "ALTER TABLE session ADD COLUMN login_order INTEGER NOT NULL DEFAULT 1"
INDEXES = (
    "CREATE INDEX IF NOT EXISTS session_logins ON session (user_id, login_order, handle) WHERE user_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS session_expires_at ON session (expires_at)",
)

_ROW = "data, ttl, user_id, version, expires_at, CASE WHEN user_id IS NULL THEN 0 ELSE login_order END"
_OF_USER = "user_id = ? AND (login_order, handle) < (?, ?)"
_LATEST_FIRST = "ORDER BY login_order DESC, handle DESC LIMIT ?"

LOAD = f"SELECT {_ROW} FROM session WHERE handle = ? AND expires_at > ?"
RESTART = "UPDATE session SET expires_at = ? + ttl WHERE handle = ? AND expires_at > ?"
NEXT_ORDER = "SELECT coalesce(max(login_order), 0) + 1 FROM session WHERE user_id = ?"
CREATE = (
    "INSERT INTO session (data, ttl, user_id, version, expires_at, login_order, handle) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (handle) DO UPDATE SET data = excluded.data, ttl = excluded.ttl, user_id = excluded.user_id,"
    " version = excluded.version, expires_at = excluded.expires_at, login_order = excluded.login_order"
    " WHERE session.expires_at <= ?"
)
REPLACE = (
    "UPDATE session SET data = ?, ttl = ?, user_id = ?, version = ?, expires_at = ?, login_order = ?"
    " WHERE handle = ? AND expires_at > ? AND version = ?"
)
TOUCH = "UPDATE session SET ttl = ?, expires_at = ? WHERE handle = ? AND expires_at > ?"
DELETE = "DELETE FROM session WHERE handle = ? AND expires_at > ? AND (? IS NULL OR version = ?)"
FIND_USER = f"SELECT login_order, handle, {_ROW} FROM session WHERE {_OF_USER} {_LATEST_FIRST}"
STEP_OF_USER = f"SELECT handle, expires_at > ? FROM session WHERE {_OF_USER} AND handle IS NOT ? {_LATEST_FIRST}"
DELETE_USER = (
    f"DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE {_OF_USER} AND handle IS NOT ?"
    f" {_LATEST_FIRST})"
)
SCAN = f"SELECT handle, {_ROW} FROM session WHERE handle > ? ORDER BY handle LIMIT ?"
COUNT = "SELECT count(*) FROM session WHERE expires_at > ?"
COUNT_EXPIRED = "SELECT count(*) FROM session WHERE expires_at <= ?"
PURGE = "DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE expires_at <= ? LIMIT ?)"
