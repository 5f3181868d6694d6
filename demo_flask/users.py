"""The accounts, in their own table. Passwords are stored as Argon2 hashes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

TABLE = """
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    password TEXT NOT NULL,
    roles TEXT NOT NULL
)
"""


class User(NamedTuple):
    id: int
    name: str
    roles: list[str]


class Users:
    """The accounts.

    :param file: the database; created if it does not exist.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's advice
        self._nobodys = self._hasher.hash("nobody's")
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.touch(mode=0o600)
        with self._open() as db:
            db.execute(TABLE)

    def add(self, name: str, password: str, roles: list[str]) -> User | None:
        """Create an account; None if the name is taken."""
        row = name, self._hasher.hash(password), " ".join(roles)
        try:
            with self._open() as db:
                added = db.execute("INSERT INTO users (name, password, roles) VALUES (?, ?, ?)", row)
        except sqlite3.IntegrityError:
            return None
        return User(added.lastrowid or 0, name, roles)

    def find(self, name: str, password: str) -> User | None:
        """Return the user with this name and password, or None. An unknown name takes as long as a wrong password."""
        with self._open() as db:
            row = db.execute("SELECT id, name, password, roles FROM users WHERE name = ?", (name,)).fetchone()
        number, name, hashed, roles = row or (0, "", self._nobodys, "")
        try:
            self._hasher.verify(hashed, password)
        except VerifyMismatchError:
            return None
        return User(number, name, roles.split()) if row else None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file)) as db, db:
            yield db
