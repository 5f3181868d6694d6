"""Wrong passwords are limited, per account and per address, without another service: a table in the accounts' database.

A guess counts before the password is checked, so that guesses sent in parallel do not slip through together. The right
password takes its own guess back, and clears the account's.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

TABLE = """
CREATE TABLE IF NOT EXISTS guesses (
    number INTEGER PRIMARY KEY,
    account TEXT NOT NULL COLLATE NOCASE,
    address TEXT NOT NULL,
    at REAL NOT NULL
)
"""

PER_ACCOUNT, PER_ADDRESS = 5, 20
WINDOW = 300.0  # seconds


class Guesses:
    """The wrong passwords of the last five minutes.

    :param file: the database; created if it does not exist.
    :param clock: returns seconds since the epoch.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = file, clock
        with self._open() as db:
            db.execute(TABLE)

    def begin(self, account: str, address: str) -> int | None:
        """Count a guess and return its number; None if the account or the address has too many already."""
        now = self._clock()
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM guesses WHERE at < ?", (now - WINDOW,))
            of_account, of_address = db.execute(
                "SELECT count(*) FILTER (WHERE account = ?), count(*) FILTER (WHERE address = ?) FROM guesses",
                (account, address),
            ).fetchone()
            if of_account >= PER_ACCOUNT or of_address >= PER_ADDRESS:
                return None
            added = db.execute("INSERT INTO guesses (account, address, at) VALUES (?, ?, ?)", (account, address, now))
        return added.lastrowid

    def succeeded(self, account: str, number: int) -> None:
        """Forget the guess that was right, and the account's wrong ones."""
        with self._open() as db:
            db.execute("DELETE FROM guesses WHERE number = ? OR account = ?", (number, account))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=5)) as db, db:
            yield db
