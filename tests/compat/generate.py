"""Write tests/compat/records again: what the old version stores, on every store and in every format.

    .venv/bin/python -m tests.compat.generate

The files are committed. They are only written again when sessions are added to contents.py: what they hold must stay
what the old version wrote.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from tests import servers
from tests.compat.layouts import dumped
from tests.compat.old_version import old_python

HERE = Path(__file__).parent
RECORDS = HERE / "records"

STORES = ["memory", "sqlite", "redis", "postgresql", "mongodb"]
TASKS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "native": ("native", {}, STORES),
    "encrypted": ("native", {"encrypted": True}, STORES),
    "express": ("express", {}, ["memory", "redis", "postgresql", "mongodb"]),
    "express-dated": ("express", {"absolute_timeout": 30 * 86_400.0}, ["redis", "postgresql", "mongodb"]),
    "express-objects": ("express", {}, ["mongodb"]),
    "django-engine": ("django engine", {}, STORES),
    "django-wrapped": ("django wrapped", {}, STORES),
}
"""What is written, by the name of its files: what writer.py is told, and on which stores."""


def main() -> None:
    RECORDS.mkdir(exist_ok=True)
    python = old_python()
    with ExitStack() as stack:
        made = {"redis": servers.Redis(), "postgresql": servers.PostgreSQL(), "mongodb": servers.MongoDB()}
        for server in made.values():
            stack.callback(server.stop)
            server.start()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, (kind, options, stores) in TASKS.items():
            for store in stores:
                url = url_of(store, name, folder, made)
                if name == "express-objects":
                    url += "&stringify=false"
                written = run(python, {"kind": kind, "url": url, "options": options})
                layout = dumped(url)
                if store != "postgresql":
                    written.pop("ddl")
                if store != "memory":
                    written.pop("records")
                text = json.dumps({**written, **layout}, indent=1, ensure_ascii=True, sort_keys=True)
                (RECORDS / f"{store}-{name}.json").write_text(text + "\n")
                print(f"{store}-{name}.json: {len(written['cookies'])} sessions, {len(text)} bytes")


def url_of(store: str, name: str, folder: Path, made: dict[str, Any]) -> str:
    """Return the URL of an empty store."""
    if store == "memory":
        return "memory://"
    if store == "sqlite":
        return f"sqlite:///{folder / name}.db"
    url: str = made[store].url
    if store == "redis":
        return f"{url}?prefix=compat-{name}:"
    if store == "postgresql":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS compat_schema CASCADE; CREATE SCHEMA compat_schema")
        return f"{url}?schema=compat_schema&table=compat_table"
    return f"{url.replace('/?', '/compat?')}&collection={name}"


def run(python: str, task: dict[str, Any]) -> dict[str, Any]:
    """Let the old version write."""
    command = [python, "-E", str(HERE / "writer.py")]  # not the PYTHONPATH of this version
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the old version failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def files(*names: str) -> Iterator[tuple[str, str]]:
    """Return the store and the name of each file of records."""
    for name in names:
        for store in TASKS[name][2]:
            yield store, name


if __name__ == "__main__":
    main()
