"""How fast `wsgisession copy` is, and how much memory it needs: ``python -m benchmarks.copying``.

Copies the sessions of one SQLite file to each server, and from each server back to a new file. An argument is another
number of sessions. MongoDB is left out, because the stand-in for it takes milliseconds for each write.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from benchmarks.loading import load_sqlite, rows
from tests import servers

_COPY = """
import resource, sys, time
from wsgisession.cli import main
sys.argv = ["wsgisession", "copy", *sys.argv[1:], "--json"]
began = time.monotonic()
try:
    main()
finally:
    print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(source: str, target: str) -> None:
    command = [sys.executable, "-c", _COPY, source, target]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=servers.ROOT).stdout
    totals, figures = answer.splitlines()
    seconds, kilobytes = map(float, figures.split())
    names = f"{source.partition(':')[0]} to {target.partition(':')[0]}"
    copied = sum(json.loads(totals).values())
    print(
        f"{names:22} {totals}: {seconds:6.1f} s, {copied / seconds:7,.0f} sessions/s, peak {kilobytes / 1024:.0f} MB",
        flush=True,
    )


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else 100_000
    for kind in (servers.Redis, servers.PostgreSQL):
        server = kind().start()
        try:
            with tempfile.TemporaryDirectory() as folder:
                source = f"sqlite:///{folder}/source.db"
                load_sqlite(source, rows(count, per_user=3, ttl=86_400.0, now=time.time()))
                measure(source, server.url)
                measure(source, server.url)  # again: everything is there
                measure(server.url, f"sqlite:///{folder}/target.db")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
