"""Reports what Flask-Session left in an app that moved here, with the lines that replace it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask.sessions import SessionInterface

_STORES = {
    "redis": 'SESSION_STORE = "redis://localhost:6379/0"',
    "mongodb": 'SESSION_STORE = "mongodb://localhost:27017/flask_session"',
    "sqlalchemy": 'SESSION_STORE = "postgresql://..." or "sqlite:///sessions.db"',
    "filesystem": 'SESSION_STORE = "sqlite:///sessions.db"',
    "cachelib": 'SESSION_STORE = "sqlite:///sessions.db"',
    "memcached": 'SESSION_STORE = "redis://localhost:6379/0"',
    "dynamodb": 'SESSION_STORE = "redis://localhost:6379/0"',
    "null": 'SESSION_STORE = "memory://"',
}

_WITH_STORE = "its server is part of the URL: "
_REPLACEMENTS = {
    "SESSION_PERMANENT": "set session.permanent = True when you log a user in",
    "SESSION_USE_SIGNER": "remove it: the cookie is always signed",
    "SESSION_KEY_PREFIX": 'add the prefix to the URL: SESSION_STORE = "redis://localhost:6379/0?prefix=..."',
    "SESSION_ID_LENGTH": "remove it: an ID always has 256 random bits",
    "SESSION_SID_LENGTH": "remove it: an ID always has 256 random bits",
    "SESSION_SERIALIZATION_FORMAT": "remove it: records are always JSON",
    "SESSION_CLEANUP_N_REQUESTS": "run 'wsgisession purge URL' from cron",
    "SESSION_MONGODB": _WITH_STORE + 'SESSION_STORE = "mongodb://localhost:27017/flask_session"',
    "SESSION_MONGODB_DB": _WITH_STORE + 'SESSION_STORE = "mongodb://localhost:27017/{}"',
    "SESSION_MONGODB_COLLECT": _WITH_STORE + 'SESSION_STORE = "mongodb://localhost:27017/flask_session?collection={}"',
    "SESSION_SQLALCHEMY": _WITH_STORE + _STORES["sqlalchemy"],
    "SESSION_SQLALCHEMY_TABLE": 'add the table to the URL: SESSION_STORE = "postgresql://...?table={}"',
    "SESSION_SQLALCHEMY_SCHEMA": 'add the schema to the URL: SESSION_STORE = "postgresql://...?schema={}"',
    "SESSION_SQLALCHEMY_SEQUENCE": "remove it",
    "SESSION_SQLALCHEMY_BIND_KEY": _WITH_STORE + _STORES["sqlalchemy"],
    "SESSION_FILE_DIR": _STORES["filesystem"],
    "SESSION_FILE_THRESHOLD": "remove it: set SESSION_STORE to a URL, and run 'wsgisession purge URL' from cron",
    "SESSION_FILE_MODE": _STORES["filesystem"],
    "SESSION_CACHELIB": _STORES["cachelib"],
    "SESSION_MEMCACHED": "there is no store for Memcached: " + _STORES["redis"],
    "SESSION_DYNAMODB": "there is no store for DynamoDB: " + _STORES["redis"],
    "SESSION_DYNAMODB_TABLE": "there is no store for DynamoDB: " + _STORES["redis"],
}


def leftover_settings(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each setting of Flask-Session that is still there, with what replaces it."""
    for name, value in config.items():
        replacement = _replacement(name, value)
        if replacement is not None:
            yield f"{name} is a setting of Flask-Session and does nothing here; replace it: {replacement}"


def _replacement(name: str, value: Any) -> str | None:
    if name == "SESSION_TYPE":
        return _STORES.get(str(value).lower(), "SESSION_STORE, a URL")
    if name == "SESSION_REDIS":
        return f'SESSION_STORE = "{_redis_url(value)}"'
    replacement = _REPLACEMENTS.get(name)
    return None if replacement is None else replacement.format(value if isinstance(value, str) else "...")


def _redis_url(client: Any) -> str:
    """Return the URL of the server that a Redis client uses, without a password."""
    pool = getattr(client, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", None)
    if not isinstance(options, dict):
        return "redis://localhost:6379/0"
    where, database = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}", options.get("db", 0)
    if "path" in options:
        return f"unix://{options['path']}?db={database}"
    return f"redis://{where}/{database}"


def is_of_flask_session(interface: SessionInterface) -> bool:
    """Tell whether ``Session(app)`` of Flask-Session put the interface there."""
    return type(interface).__module__.partition(".")[0] == "flask_session"


def report_on(interface: SessionInterface) -> str:
    """Return a sentence about another interface that replaced ours."""
    if is_of_flask_session(interface):
        return BOTH
    return (
        f"app.session_interface is {type(interface).__module__}.{type(interface).__qualname__}, so the sessions of"
        " FlaskSessions(app) are not used; remove the lines that set it"
    )


BOTH = (
    "this app asks for the sessions of Flask-Session and of FlaskSessions; remove the lines"
    " 'from flask_session import Session' and 'Session(app)'"
)
