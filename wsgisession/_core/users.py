"""What names a user."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ..errors import SerializationError
from .forms import is_utf8

_LONGEST_USER = 1024


def is_user(value: Any) -> bool:
    """Tell whether a value names a user: None, "", False, and empty containers mean nobody, and 0 is a user."""
    return value is not None and value is not False and value != "" and value not in ([], {}, ())


def user_text(user_id: Any) -> str:
    """Return the user as text for the index, so that 7 and "7" are one user.

    :raises SerializationError: for text that not every store can hold.
    """
    text = user_id if type(user_id) is str else str(user_id)
    if len(text) > _LONGEST_USER or "\0" in text or not (text.isascii() or is_utf8(text)):
        raise SerializationError(
            f"a user ID must be at most {_LONGEST_USER} characters of text, without NUL and lone surrogates"
        )
    return text


def check_user(value: Any, *, key: str) -> None:
    """Check a value that the app wrote under a user key.

    :raises SerializationError: for a bool or a container.
    """
    if value is True or isinstance(value, (list, tuple, dict, set, frozenset)):
        raise SerializationError(
            f"session[{key!r}] is a {type(value).__name__}, which cannot name a user; store the user's ID (a str, an"
            " int, or a UUID), or choose other keys with user_key"
        )


def login_id(user_id: Any) -> Any:
    """Return the user ID given to `login`.

    :raises TypeError: for anything but a non-empty str, an int, or a UUID.
    """
    if user_id is None:
        raise TypeError("login() needs the user's ID; to end a login, call logout()")
    if isinstance(user_id, bool) or not isinstance(user_id, (str, int, UUID)) or user_id == "":
        raise TypeError(
            f"login() needs the user's ID, a non-empty str, an int, or a UUID, not {type(user_id).__name__};"
            " pass user.id rather than the user"
        )
    return user_id
