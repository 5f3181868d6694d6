"""PgBouncer for the tests, where the machine has it: Debian's, or the one that WSGISESSION_TEST_PGBOUNCER names."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess

import psycopg

from tests import programs, servers
from tests.servers import HOST

_PREPARED = "max_prepared_statements"


def command() -> str:
    """Return the path of the program; without it, skip the test."""
    return os.environ.get("WSGISESSION_TEST_PGBOUNCER") or programs.needed("pgbouncer")


def version() -> tuple[int, ...]:
    shown = subprocess.run([command(), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", shown)[:2]))


class PgBouncer(servers.Server):
    """A pooler before a PostgreSQL server.

    :param settings: of pgbouncer.ini, as ``name=value``. Versions before 1.21 keep no account of prepared statements,
        and know no setting for it.
    """

    stop_signal = kill_signal = signal.SIGQUIT

    def __init__(self, server: servers.PostgreSQL, *settings: str) -> None:
        self.program = command()
        super().__init__()
        if version() < (1, 21):
            settings = tuple(setting for setting in settings if not setting.startswith(_PREPARED))
        self.url = f"postgresql://postgres@{HOST}:{self.port}/postgres"
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = nobody.pw_uid, nobody.pw_gid
            os.chown(self.folder, *self.user)
        users = self.folder / "users"
        users.write_text('"postgres" ""\n')
        lines = [
            "[databases]",
            f"* = host={HOST} port={server.port}",
            "[pgbouncer]",
            f"listen_addr = {HOST}",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = trust",
            f"auth_file = {users}",
            "server_login_retry = 0",
            *settings,
        ]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self.program, str(self.folder / "pgbouncer.ini")]

    def answers(self) -> bool:
        psycopg.connect(self.url, connect_timeout=2).close()
        return True
