"""What several commands have in common: the store's URL, the encryption key, and `--json`."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
from collections.abc import Iterator
from typing import Any

import click

from .._core.events import SessionEvent
from ..errors import ConfigurationError, SessionError
from ..manager import SessionManager
from .doctor import absent

_KEY_VARIABLE = "WSGISESSION_ENCRYPTION_KEY"
_KEY_OPTION = "--encryption-key-file"
_URL_VARIABLES = "WSGISESSION_STORE", "SESSION_STORE"
_TARGET_VARIABLE = "WSGISESSION_TARGET"
_NAME_THE_STORE = "give the URL of the store, such as redis://localhost:6379/0, or set WSGISESSION_STORE"


class Commands(click.Group):
    """A group of commands that suggests the intended one for a misspelled one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.commands, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(self.commands)}"
            raise click.UsageError(f"there is no command {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)


class OnStore(click.Command):
    """A command whose first argument is a store's URL, which may be in the environment instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Fill in what the command line leaves to the environment."""
        rest = super().parse_args(ctx, args)
        given = ctx.params
        if "handle" in given and given["handle"] is None and "://" not in (given["url"] or "://"):
            given["handle"], given["url"] = given["url"], None
        given["url"] = given["url"] or _url_of_environment()
        if given["url"] is None and not ctx.resilient_parsing:
            raise click.UsageError(_NAME_THE_STORE, ctx)
        return rest


class OnTwoStores(click.Command):
    """A command with the URLs of two stores; a single one is the target's, and the environment has the other."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Fill in what the command line leaves to the environment."""
        rest = super().parse_args(ctx, args)
        given = ctx.params
        if given["target"] is None:
            given["target"] = given["source"] or os.environ.get(_TARGET_VARIABLE)
            given["source"] = _url_of_environment()
        if None in (given["source"], given["target"]) and not ctx.resilient_parsing:
            message = f"give the URLs of both stores, or set WSGISESSION_STORE and {_TARGET_VARIABLE}"
            raise click.UsageError(message, ctx)
        return rest


def _url_of_environment() -> str | None:
    return next(filter(None, map(os.environ.get, _URL_VARIABLES)), None)


def examples(*lines: str) -> str:
    """Return the end of a command's help."""
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
url = click.argument("url", required=False)
key = click.option(
    _KEY_OPTION,
    "key_file",
    type=click.File("r"),
    help=f"A file that contains the encryption key of the sessions. Without it, {_KEY_VARIABLE} is used, if set.",
)


@contextlib.contextmanager
def opened(url: str, key_file: Any = None, *, may_be_new: bool = False) -> Iterator[SessionManager]:
    """Open the store of a URL, and print errors the way click does.

    :param may_be_new: whether the store's file or table may be missing.
    """
    unreadable = 0

    def count(event: SessionEvent) -> None:
        nonlocal unreadable
        unreadable += event.reason == "undecodable"

    try:
        # Only the app knows its absolute timeout: without one, no session that is live for the app is hidden here.
        manager = SessionManager(
            secret=secrets.token_bytes(32),
            store=url,
            encryption_key=_keys(key_file),
            absolute_timeout=None,
            on_event=count,
        )
        with contextlib.closing(manager):
            if not (may_be_new or manager.store.exists):
                raise ConfigurationError(f"{absent(manager.store)}: correct the URL, or run `wsgisession init URL`")
            yield manager
    except ConfigurationError as error:
        where = _KEY_OPTION if key_file else _KEY_VARIABLE
        raise click.UsageError(str(error).replace("encryption_key", where)) from None
    except SessionError as error:
        raise click.ClickException(str(error)) from None
    finally:
        if unreadable:
            hint = f"if they are encrypted, give their key with {_KEY_OPTION} or {_KEY_VARIABLE}"
            click.echo(f"{unreadable:,} records cannot be read and were left out; {hint}", err=True)


def _keys(key_file: Any) -> list[str] | None:
    text = os.environ.get(_KEY_VARIABLE) if key_file is None else key_file.read()
    return text.split() if text else None
