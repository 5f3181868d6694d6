"""The `wsgisession` command. Everything except `wsgisession secret` needs click."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .secret import printed_secret

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name.

    :raises SystemExit: with the exit code, or with a message if click is not installed.
    """
    try:
        from .commands import main as command
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        raise SystemExit(_without_click(sys.argv[1:])) from None
    command()


def _without_click(arguments: Sequence[str]) -> str | None:
    if arguments[:1] == ["secret"] and set(arguments[1:]) <= {"--json"}:
        sys.stdout.write(f"{printed_secret(as_json='--json' in arguments)}\n")
        return None
    return "Every command except `wsgisession secret [--json]` needs the package click: pip install 'click>=8.1.3'"
