"""The command ``wsgisession``: arguments and printing, for people or, with ``--json``, for programs.

Exit codes: 0 done, 1 not found, refused by the store or a problem found, 2 a wrong argument. Needs click (extra `cli`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from typing import Any

try:
    import click
except ModuleNotFoundError:
    raise SystemExit("the command line needs the package 'click': pip install 'wsgisession[cli]'") from None

from .doctor import examine
from .errors import ConfigurationError, SessionError
from .events import SessionEvent, logger
from .listing import SessionInfo
from .manager import SessionManager

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_url = click.argument("url")
_key = click.option(
    "--encryption-key-file",
    "key_file",
    type=click.File("r"),
    help="Where the sessions' encryption key stands; else the environment's WSGISESSION_ENCRYPTION_KEY.",
)
_KEY_VARIABLE = "WSGISESSION_ENCRYPTION_KEY"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wsgisession")
def main() -> None:
    """Look after the sessions in a store, such as redis://localhost:6379/0 or sqlite:///sessions.db."""
    # Its lines name records by handle, and in a table that Express shares those are session IDs.
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    click.get_current_context().call_on_close(lambda: logger.setLevel(level))


@main.command()
@_as_json
def secret(as_json: bool) -> None:
    """Make a new secret, for SESSION_SECRET or as an encryption key."""
    made = secrets.token_urlsafe(32)
    click.echo(json.dumps({"secret": made}) if as_json else made)


@main.command()
@_url
@click.option("--print-sql", is_flag=True, help="Print the SQL instead of running it.")
def init(url: str, print_sql: bool) -> None:
    """Create what the store needs on its server: table, indexes. Safe to repeat."""
    with _opened(url) as manager:
        if not print_sql:
            manager.store.prepare()
        elif manager.store.ddl is None:
            raise click.UsageError("this store has no SQL to print: leave out --print-sql")
        else:
            click.echo(manager.store.ddl, nl=False)


@main.command("list")
@_url
@click.option("--user", metavar="ID", help="Only this user's.")
@_key
@_as_json
def list_sessions(url: str, user: str | None, key_file: Any, as_json: bool) -> None:
    """List the live sessions: all of them, or one user's."""
    with _opened(url, key_file) as manager:
        for info in manager.all_sessions() if user is None else manager.sessions_for(user):
            shown = _shown(info)
            click.echo(json.dumps(shown) if as_json else "  ".join(_plain(shown[name]) for name in shown))


@main.command()
@_url
@click.argument("handle")
@_key
@_as_json
def show(url: str, handle: str, key_file: Any, as_json: bool) -> None:
    """Show one session with its data."""
    with _opened(url, key_file) as manager:
        info = manager.info(handle)
        if info is None:
            raise click.ClickException("there is no live session with this handle")
        shown = {**_shown(info), "data": dict(info.data)}
        _print(shown, as_json)


@main.command()
@_url
@click.argument("handle", required=False)
@click.option("--user", metavar="ID", help="End all sessions of this user.")
@click.option("--yes", is_flag=True, help="Do not ask before ending all sessions of a user.")
@_key
@_as_json
def revoke(url: str, handle: str | None, user: str | None, yes: bool, key_file: Any, as_json: bool) -> None:
    """End one session, or all sessions of a user, at once."""
    if (handle is None) == (user is None):
        raise click.UsageError("give a HANDLE, or --user ID")
    with _opened(url, key_file) as manager:
        if handle is not None:
            ended = int(manager.revoke(handle))
        else:
            if not yes:
                click.confirm("End all sessions of this user?", abort=True, err=True)
            ended = manager.revoke_user(user)
        _print({"revoked": ended}, as_json)
    if not ended:
        raise click.exceptions.Exit(1)


@main.command()
@_url
@click.option("--limit", type=click.IntRange(min=1), help="Remove at most so many.")
@_as_json
def purge(url: str, limit: int | None, as_json: bool) -> None:
    """Remove expired sessions, in batches, beside a running app."""
    with _opened(url) as manager:
        _print({"purged": manager.purge_expired(limit)}, as_json)


@main.command()
@_url
@_as_json
def stats(url: str, as_json: bool) -> None:
    """Count the live records: all, those of a user, and their bytes."""
    records = with_user = size = largest = 0
    with _opened(url) as manager:
        for record in manager.all_records():
            records += 1
            with_user += record.user_id is not None
            size += len(record.data)
            largest = max(largest, len(record.data))
        _print({"records": records, "with_user": with_user, "bytes": size, "largest": largest}, as_json)


@main.command()
@_url
@_as_json
def doctor(url: str, as_json: bool) -> None:
    """Try the store: connect, create, read, replace, race sixteen writers, delete; time each, and say what is wrong."""
    problems = 0
    with _opened(url) as manager:
        for finding in examine(manager.store):
            problems += finding.problem is not None
            milliseconds = round(finding.seconds * 1000, 2)
            if as_json:
                click.echo(json.dumps({"step": finding.step, "ms": milliseconds, "problem": finding.problem}))
            else:
                click.echo(f"{finding.step:8} {milliseconds:9.2f} ms  {finding.problem or 'ok'}")
    if problems:
        raise click.exceptions.Exit(1)


@contextlib.contextmanager
def _opened(url: str, key_file: Any = None) -> Iterator[SessionManager]:
    unreadable = 0

    def count(event: SessionEvent) -> None:
        nonlocal unreadable
        unreadable += event.reason == "undecodable"

    # Only the app knows its absolute timeout: here none may hide a session that is live for the app.
    try:
        manager = SessionManager(
            secret=secrets.token_bytes(32),
            store=url,
            encryption_key=_keys(key_file),
            absolute_timeout=None,
            on_event=count,
        )
        with contextlib.closing(manager):
            yield manager
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except SessionError as error:
        raise click.ClickException(str(error)) from None
    finally:
        if unreadable:
            click.echo(
                f"records left out as unreadable: {unreadable}; give their encryption key, if they have one", err=True
            )


def _keys(key_file: Any) -> list[str] | None:
    text = os.environ.get(_KEY_VARIABLE) if key_file is None else key_file.read()
    return text.split() if text else None


def _shown(info: SessionInfo) -> dict[str, Any]:
    return {
        "handle": info.handle,
        "user_id": None if info.user_id is None else str(info.user_id),
        "created_at": info.created_at.isoformat(timespec="seconds"),
        "last_seen_at": info.last_seen_at.isoformat(timespec="seconds"),
        "expires_at": info.expires_at.isoformat(timespec="seconds"),
        "ip_address": info.ip_address,
        "user_agent": info.user_agent,
    }


def _print(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values, default=str))
        return
    for name, value in values.items():
        click.echo(f"{name:13} {_plain(value)}")


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    # What a client wrote must not steer the terminal: JSON escapes whatever could.
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, default=str)
