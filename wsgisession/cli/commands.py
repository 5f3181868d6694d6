"""The command ``wsgisession``: arguments and printing, for people or, with ``--json``, for programs.

Exit codes: 0 done, 1 not found, refused by the store or a problem found, 2 a wrong argument. Needs click (extra `cli`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

try:
    import click
except ModuleNotFoundError:
    raise SystemExit("the command line needs the package 'click': pip install 'wsgisession[cli]'") from None

from .._core.events import SessionEvent, logger
from .._core.info import SessionInfo
from ..errors import ConfigurationError, SessionError
from ..manager import SessionManager
from .doctor import Step, examine
from .tables import plain, span, table

_KEY_VARIABLE = "WSGISESSION_ENCRYPTION_KEY"
_URL_VARIABLES = "WSGISESSION_STORE", "SESSION_STORE"
_PURGED_AT_ONCE = 5000
_REPORTS = 0.1  # seconds between two lines of progress


class _OnStore(click.Command):
    """A command whose first argument is the store's URL, which the environment may hold instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        given = ctx.params
        if "handle" in given and given["handle"] is None and "://" not in (given["url"] or "://"):
            given["handle"], given["url"] = given["url"], None
        if given["url"] is None:
            given["url"] = next(filter(None, map(os.environ.get, _URL_VARIABLES)), None)
        if given["url"] is None and not ctx.resilient_parsing:
            raise click.UsageError("name the store, as in redis://localhost:6379/0, or set WSGISESSION_STORE")
        return rest


def _examples(*lines: str) -> str:
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_url = click.argument("url", required=False)
_key = click.option(
    "--encryption-key-file",
    "key_file",
    type=click.File("r"),
    help=f"The file with the sessions' encryption key, else the environment's {_KEY_VARIABLE}.",
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples(
        "export WSGISESSION_STORE=redis://localhost:6379/0",
        "wsgisession doctor",
        "wsgisession list --user 7",
        "wsgisession revoke --user 7",
    )
    + "\n\nExit codes: 0 done, 1 not found, refused by the store, or a problem found, 2 a wrong argument.",
)
@click.version_option(package_name="wsgisession")
def main() -> None:
    """Look after the sessions in a store, such as redis://localhost:6379/0 or sqlite:///sessions.db.

    Where the URL is left out, the environment's WSGISESSION_STORE counts, then SESSION_STORE.
    """
    # Its lines name records by handle, and in a table that Express shares those are session IDs.
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    click.get_current_context().call_on_close(lambda: logger.setLevel(level))


@main.command(epilog=_examples('export SESSION_SECRET="$(wsgisession secret)"'))
@_as_json
def secret(as_json: bool) -> None:
    """Make a new secret, for SESSION_SECRET or as an encryption key."""
    made = secrets.token_urlsafe(32)
    click.echo(json.dumps({"secret": made}) if as_json else made)


@main.command(
    cls=_OnStore,
    epilog=_examples(
        "wsgisession init postgresql://owner@db/shop",
        "wsgisession init postgresql://owner@db/shop --print-sql | less",
    ),
)
@_url
@click.option("--print-sql", is_flag=True, help="Print the SQL instead of running it; nothing is connected to.")
def init(url: str, print_sql: bool) -> None:
    """Create what the store needs on its server.

    A table and its indexes, or the indexes. Safe to repeat, and to run beside the app.
    """
    with _opened(url, may_be_new=True) as manager:
        if not print_sql:
            manager.store.prepare()
        elif manager.store.ddl is None:
            raise click.UsageError("this store has no SQL to print: leave out --print-sql")
        else:
            click.echo(manager.store.ddl, nl=False)


@main.command(
    "list",
    cls=_OnStore,
    epilog=_examples(
        "wsgisession list redis://localhost:6379/0",
        "wsgisession list sqlite:///sessions.db --user 7",
        "wsgisession list --json | jq -r 'select(.ip_address == \"192.0.2.7\") | .handle'",
    ),
)
@_url
@click.option("--user", metavar="ID", help="Only this user's.")
@_key
@_as_json
def list_sessions(url: str, user: str | None, key_file: Any, as_json: bool) -> None:
    """List the live sessions: all, or one user's.

    The table says how long ago each began (AGE) and was last used (IDLE), and how soon it ends unless used (LEFT).
    With --json, times are those of ISO 8601.
    """
    with _opened(url, key_file) as manager:
        infos = manager.all_sessions() if user is None else manager.sessions_for(user)
        lines: Iterable[str]
        if as_json:
            lines = (json.dumps(_shown(info)) for info in infos)
        else:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            headings = ("HANDLE", "USER", "AGE", "IDLE", "LEFT", "ADDRESS", "AGENT")
            lines = table(headings, map(_row, infos), width=width)
        for line in lines:
            click.echo(line)


@main.command(cls=_OnStore, epilog=_examples("wsgisession show sqlite:///sessions.db HANDLE"))
@_url
@click.argument("handle", required=False)
@_key
@_as_json
def show(url: str, handle: str | None, key_file: Any, as_json: bool) -> None:
    """Show one session with its data."""
    if handle is None:
        raise click.UsageError("give a HANDLE, of those that `wsgisession list` names")
    with _opened(url, key_file) as manager:
        info = manager.info(handle)
        if info is None:
            raise click.ClickException("there is no live session with this handle")
        _print({**_shown(info), "data": dict(info.data)}, as_json)


@main.command(
    cls=_OnStore,
    epilog=_examples(
        "wsgisession revoke redis://localhost:6379/0 HANDLE",
        "wsgisession revoke redis://localhost:6379/0 --user 7",
    ),
)
@_url
@click.argument("handle", required=False)
@click.option("--user", metavar="ID", help="End all sessions of this user.")
@click.option("--yes", is_flag=True, help="Do not ask before ending several.")
@_key
@_as_json
def revoke(url: str, handle: str | None, user: str | None, yes: bool, key_file: Any, as_json: bool) -> None:
    """End one session, or all of a user.

    At once, and for every process. Before it ends several it asks.
    """
    if (handle is None) == (user is None):
        raise click.UsageError("give a HANDLE, or --user ID")
    with _opened(url, key_file) as manager:
        if handle is not None:
            ended = int(manager.revoke(handle))
        else:
            count = 0 if yes else len(manager.sessions_for(user))
            if count > 1:
                click.confirm(f"End all {count} sessions of user {plain(user)}?", abort=True, err=True)
            ended = manager.revoke_user(user)
        _print({"revoked": ended}, as_json)
    if not ended:
        raise click.exceptions.Exit(1)


@main.command(cls=_OnStore, epilog=_examples("*/15 * * * *  wsgisession purge postgresql://shop@db/shop --json"))
@_url
@click.option("--limit", type=click.IntRange(min=1), help="Remove at most so many.")
@_as_json
def purge(url: str, limit: int | None, as_json: bool) -> None:
    """Remove expired sessions from the store.

    In batches, beside a running app, and for cron; several at once share the work.

    Redis, Valkey and MongoDB expire by themselves: there it removes nothing, or little.
    """
    with _opened(url) as manager, _progress("purged") as report:
        purged = 0
        for batch in _batches(manager, limit):
            purged += batch
            report(purged)
        _print({"purged": purged}, as_json)


@main.command(cls=_OnStore, epilog=_examples("wsgisession stats redis://localhost:6379/0"))
@_url
@_as_json
def stats(url: str, as_json: bool) -> None:
    """Count the live records and their bytes."""
    records = with_user = size = largest = 0
    with _opened(url) as manager, _progress("counted") as report:
        for record in manager.all_records():
            records += 1
            with_user += record.user_id is not None
            size += len(record.data)
            largest = max(largest, len(record.data))
            report(records)
        _print({"records": records, "with_user": with_user, "bytes": size, "largest": largest}, as_json)


@main.command(cls=_OnStore, epilog=_examples("wsgisession doctor redis://localhost:6379/0"))
@_url
@_as_json
def doctor(url: str, as_json: bool) -> None:
    """Try the store, and say what is wrong.

    It connects and asks the server about itself, creates a record, reads it, replaces it, lets sixteen writers race of
    whom one may win, deletes it, and times each step. Problems make the exit code 1, warnings do not.
    """
    problems = 0
    with _opened(url, may_be_new=True) as manager:
        for step in examine(manager.store):
            problems += sum(finding.level == "problem" for finding in step.findings)
            _print_step(step, as_json)
    if problems:
        raise click.exceptions.Exit(1)


@contextlib.contextmanager
def _opened(url: str, key_file: Any = None, *, may_be_new: bool = False) -> Iterator[SessionManager]:
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
        if not (may_be_new or manager.store.exists):
            raise ConfigurationError("there is no such file: correct the path in the URL, or make it: wsgisession init")
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


def _batches(manager: SessionManager, limit: int | None) -> Iterator[int]:
    left = sys.maxsize if limit is None else limit
    while left:
        size = min(_PURGED_AT_ONCE, left)
        purged = manager.purge_expired(size)
        yield purged
        left = left - purged if purged == size else 0


@contextlib.contextmanager
def _progress(word: str) -> Iterator[Any]:
    """Give a function that is told how far it is, and tells a person who watches."""
    is_watched, told = sys.stderr.isatty(), 0.0

    def report(count: int) -> None:
        nonlocal told
        if is_watched and time.monotonic() - told > _REPORTS:
            told = time.monotonic()
            click.echo(f"\r{count:,} {word}", err=True, nl=False)

    try:
        yield report
    finally:
        if told:
            click.echo("\r\x1b[K", err=True, nl=False)


def _row(info: SessionInfo) -> list[str]:
    now = datetime.now(timezone.utc)
    user = None if info.user_id is None else str(info.user_id)
    times = now - info.created_at, now - info.last_seen_at, info.expires_at - now
    spans = (span(time.total_seconds()) for time in times)
    return [
        plain(info.handle),
        plain(user),
        *spans,
        plain(info.ip_address),
        plain(info.user_agent),
    ]


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
        click.echo(f"{name:13} {plain(value)}")


def _print_step(step: Step, as_json: bool) -> None:
    milliseconds = round(step.seconds * 1000, 2)
    if as_json:
        findings = [vars(finding) for finding in step.findings]
        click.echo(json.dumps({"step": step.name, "ms": milliseconds, "findings": findings}))
        return
    click.echo(f"{step.name:8} {milliseconds:9.2f} ms  {'' if step.findings else 'ok'}".rstrip())
    for finding in step.findings:
        click.echo(f"  {finding.level}: {finding}")
