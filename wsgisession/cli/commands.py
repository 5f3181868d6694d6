"""The commands: arguments and output, for people or, with ``--json``, for programs. Needs click."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import chain, islice
from typing import Any

import click

from .._core.events import logger
from .._core.info import SessionInfo
from ..errors import ConfigurationError
from ..manager import SessionManager
from . import arguments
from .arguments import Commands, OnStore, OnTwoStores, examples, opened
from .copying import Copied, copy_sessions
from .doctor import Step, examine, examine_devices
from .progress import progress
from .secret import printed_secret
from .tables import plain, readable_json, span, table

_PURGED_AT_ONCE = 5000
_MOST_NAMED = 5  # handles that a message lists
_WRITERS = {"sqlite": 1}  # has one writer at a time
_WRITERS_OF_SERVER = 4
_NO_SESSION = "no live session has the handle {0!r}, and none has a handle that begins with it"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "export WSGISESSION_STORE=redis://localhost:6379/0",
        "wsgisession doctor",
        "wsgisession list --user 7",
        "wsgisession revoke --user 7",
    )
    + "\n\nExit codes: 0 success; 1 not found, refused by the store, or a problem found; 2 wrong usage.",
)
@click.version_option(package_name="wsgisession")
def main() -> None:
    """Work with the sessions in a store, such as redis://localhost:6379/0 or sqlite:///sessions.db.

    If you leave out the URL, WSGISESSION_STORE in the environment is used, or else SESSION_STORE.
    """
    # The library's log lines contain handles, and in a table shared with Express those are session IDs.
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    click.get_current_context().call_on_close(lambda: logger.setLevel(level))


@main.command(epilog=examples('export SESSION_SECRET="$(wsgisession secret)"'))
@arguments.as_json
def secret(as_json: bool) -> None:
    """Print a new secret, for SESSION_SECRET or as an encryption key."""
    click.echo(printed_secret(as_json=as_json))


@main.command(
    cls=OnStore,
    epilog=examples(
        "wsgisession init postgresql://owner@db/shop",
        "wsgisession init postgresql://owner@db/shop --print-sql | less",
    ),
)
@arguments.url
@click.option("--print-sql", is_flag=True, help="Print the SQL instead of running it. Connects to nothing.")
@arguments.as_json
def init(url: str, print_sql: bool, as_json: bool) -> None:
    """Create the table and indexes that the store needs.

    It prints what it created. You can repeat it, and run it while the app is running.
    """
    with opened(url, may_be_new=True) as manager:
        if print_sql:
            _print_sql(manager.store.ddl, as_json)
            return
        missing = manager.store.missing()
        manager.store.prepare()
        still = manager.store.missing() if missing else []
    created = [part for part in missing if part not in still]
    if as_json:
        click.echo(json.dumps({"created": created}))
    else:
        click.echo("\n".join(f"created {part}" for part in created) or "nothing to create: the store is ready")


def _print_sql(sql: str | None, as_json: bool) -> None:
    if sql is None:
        raise click.UsageError("--print-sql: this store is not set up with SQL; leave the option out")
    click.echo(json.dumps({"sql": sql}) if as_json else sql.rstrip("\n"))


@main.command(
    "list",
    cls=OnStore,
    epilog=examples(
        "wsgisession list redis://localhost:6379/0",
        "wsgisession list sqlite:///sessions.db --user 7",
        "wsgisession list --json | jq -r 'select(.ip_address == \"192.0.2.7\") | .handle'",
    ),
)
@arguments.url
@click.option("--user", metavar="ID", help="List only the sessions of this user.")
@arguments.key
@arguments.as_json
def list_sessions(url: str, user: str | None, key_file: Any, as_json: bool) -> None:
    """List the live sessions: all of them, or one user's.

    AGE is the time since a session began, IDLE the time since it was last used, and LEFT the time until it ends unless
    it is used. With --json, times are in ISO 8601.
    """
    with opened(url, key_file) as manager:
        infos = iter(manager.all_sessions() if user is None else manager.sessions_for(user))
        first = list(islice(infos, 1))
        if not (first or as_json):
            click.echo("there are no sessions" if user is None else f"user {plain(user)} has no sessions", err=True)
        for line in _lines(chain(first, infos), as_json):
            click.echo(line)


def _lines(infos: Iterable[SessionInfo], as_json: bool) -> Iterable[str]:
    if as_json:
        return (json.dumps(_shown(info)) for info in infos)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return table(("HANDLE", "USER", "AGE", "IDLE", "LEFT", "ADDRESS", "AGENT"), map(_row, infos), width=width)


@main.command(cls=OnStore, epilog=examples("wsgisession show sqlite:///sessions.db 1nzOG"))
@arguments.url
@click.argument("handle", required=False)
@arguments.key
@arguments.as_json
def show(url: str, handle: str | None, key_file: Any, as_json: bool) -> None:
    """Show one session with its data.

    HANDLE is a handle from `wsgisession list`, or its first letters.
    """
    if handle is None:
        raise click.UsageError("give the HANDLE of a session, or its first letters; `wsgisession list` prints handles")
    with opened(url, key_file) as manager:
        info = manager.info(handle) or _begins_with(handle, manager)
        if as_json:
            click.echo(json.dumps({**_shown(info), "data": dict(info.data)}, default=str))
            return
        for name, value in _shown(info).items():
            if value is not None:
                click.echo(f"{name:13} {plain(value)}")
        click.echo(readable_json(dict(info.data)))


def _begins_with(letters: str, manager: SessionManager) -> SessionInfo:
    handles = (handle for handle, _ in manager.store.scan(now=time.time()))
    found = list(islice((handle for handle in handles if handle.startswith(letters)), _MOST_NAMED + 1))
    if len(found) > 1:
        named = ", ".join([*found[:_MOST_NAMED], *(["..."] if found[_MOST_NAMED:] else [])])
        raise click.UsageError(f"several handles begin with {letters!r}: {named}; give more letters")
    info = manager.info(found[0]) if found else None
    if info is None:
        raise click.ClickException(_NO_SESSION.format(letters))
    return info


@main.command(
    cls=OnStore,
    epilog=examples(
        "wsgisession revoke redis://localhost:6379/0 HANDLE",
        "wsgisession revoke redis://localhost:6379/0 --user 7",
    ),
)
@arguments.url
@click.argument("handle", required=False)
@click.option("--user", metavar="ID", help="End all sessions of this user.")
@click.option("--yes", is_flag=True, help="Do not ask before ending several sessions.")
@arguments.key
@arguments.as_json
def revoke(url: str, handle: str | None, user: str | None, yes: bool, key_file: Any, as_json: bool) -> None:
    """End one session, or all sessions of a user.

    It takes effect immediately, in every process. Before it ends several sessions, it asks.
    """
    if handle is not None and user is not None:
        raise click.UsageError("give a HANDLE or --user ID, not both")
    if handle is None and user is None:
        raise click.UsageError("give the HANDLE of a session, or --user ID to end all sessions of a user")
    with opened(url, key_file) as manager:
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


@main.command(cls=OnStore, epilog=examples("*/15 * * * *  wsgisession purge postgresql://shop@db/shop --json"))
@arguments.url
@click.option("--limit", type=click.IntRange(min=1), help="Remove at most this many.")
@arguments.as_json
def purge(url: str, limit: int | None, as_json: bool) -> None:
    """Remove expired sessions from the store.

    It works in batches and can run while the app is running, for example from cron. If several run at once, they share
    the work. Redis, Valkey, and MongoDB remove expired sessions themselves, so there is little or nothing to do there.
    """
    purged = 0
    with opened(url) as manager, progress("purged", _count(manager, expired=True, limit=limit)) as report:
        for batch in _batches(manager, limit):
            purged += batch
            report(purged)
    _print({"purged": purged}, as_json)


@main.command(cls=OnStore, epilog=examples("wsgisession stats redis://localhost:6379/0"))
@arguments.url
@arguments.as_json
def stats(url: str, as_json: bool) -> None:
    """Count the live records and their bytes."""
    records = with_user = size = largest = 0
    with opened(url) as manager, progress("counted", _count(manager)) as report:
        for record in manager.all_records():
            records += 1
            with_user += record.user_id is not None
            size += len(record.data)
            largest = max(largest, len(record.data))
            report(records)
    _print({"records": records, "with_user": with_user, "bytes": size, "largest": largest}, as_json)


@main.command(
    cls=OnTwoStores, epilog=examples("wsgisession copy sqlite:////var/lib/shop/sessions.db redis://localhost:6379/0")
)
@click.argument("source", required=False)
@click.argument("target", required=False)
@arguments.as_json
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy every live session that TARGET lacks from SOURCE to TARGET.

    Handles, users, and remaining times stay the same, so nobody is logged out. Stop the app first, and start it with
    the new store afterwards. Nothing in TARGET is overwritten: if the copy is interrupted, run it again. Encrypted
    sessions are copied as they are, without the key.

    If you give one URL, it is TARGET's, and SOURCE is WSGISESSION_STORE. If you give none, TARGET is
    WSGISESSION_TARGET.
    """
    if source == target:
        raise click.UsageError("SOURCE and TARGET are the same store; give two different URLs")
    total = Copied()
    with opened(source) as old, opened(target, may_be_new=True) as new:
        _check_shared(old, new)
        if not new.store.exists:
            new.store.prepare()
        writers = _WRITERS.get(target.partition(":")[0], _WRITERS_OF_SERVER)
        try:
            with progress("copied", _count(old)) as report:
                for total in copy_sessions(old.store, new.store, writers=writers):
                    report(total.seen)
        except BaseException:
            click.echo(f"{total.copied:,} sessions were copied; run the same command again to copy the rest", err=True)
            raise
    _print(vars(total), as_json)


def _count(manager: SessionManager, *, expired: bool = False, limit: int | None = None) -> int | None:
    """Return how many records a progress bar ends with, or None if the store cannot tell."""
    if not sys.stderr.isatty():
        return None
    count = manager.store.count(now=time.time(), expired=expired)
    return count if count is None or limit is None else min(count, limit)


def _check_shared(*managers: SessionManager) -> None:
    for manager in managers:
        if not manager.store.shared:
            raise ConfigurationError(f"{manager.store!r} is not shared with other processes: give the URL of another")


@main.command(
    cls=OnStore,
    epilog=examples(
        "wsgisession doctor redis://localhost:6379/0",
        "wsgisession doctor redis://localhost:6379/0 --devices https://example.com/.session-device",
    ),
)
@arguments.url
@click.option("--devices", metavar="URL", help="Also check what is in front of the endpoint for device-bound sessions.")
@arguments.as_json
def doctor(url: str, devices: str | None, as_json: bool) -> None:
    """Check whether the store works, and say what is wrong.

    It connects, asks the server about itself, creates a record, reads it, replaces it, has sixteen writers race
    (exactly one of which may win), deletes it, and looks for sessions that the user index lacks. It times each step. It
    creates no file, table, or index. Problems make the exit code 1, warnings do not.
    """
    problems = 0
    with opened(url, may_be_new=True) as manager:
        more = () if devices is None else (examine_devices(devices),)
        for step in chain(examine(manager.store), more):
            problems += sum(finding.level == "problem" for finding in step.findings)
            _print_step(step, as_json)
    if problems:
        raise click.exceptions.Exit(1)


def _batches(manager: SessionManager, limit: int | None) -> Iterator[int]:
    left = sys.maxsize if limit is None else limit
    while left:
        size = min(_PURGED_AT_ONCE, left)
        purged = manager.purge_expired(size)
        yield purged
        left = left - purged if purged == size else 0


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


def _print(values: dict[str, int], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values))
        return
    for name, value in values.items():
        click.echo(f"{name:13} {value:,}")


def _print_step(step: Step, as_json: bool) -> None:
    milliseconds = round(step.seconds * 1000, 2)
    if as_json:
        findings = [vars(finding) for finding in step.findings]
        click.echo(json.dumps({"step": step.name, "ms": milliseconds, "findings": findings}))
        return
    click.echo(f"{step.name:8} {milliseconds:9.2f} ms  {'' if step.findings else 'ok'}".rstrip())
    for finding in step.findings:
        click.echo(f"  {finding.level}: {finding}")
