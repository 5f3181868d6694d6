"""Run one suite on one kind of sessions, and say which of its tests failed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.upstream.environments import KEPT, our_path, python_for, source_of
from tests.upstream.suites import HERE, INSIDE, STOCK, Suite

LONGEST = 1800
"""Seconds after which a suite is taken to hang."""


@dataclass(frozen=True)
class Result:
    """What a run said.

    :ivar ran: how many tests there were, skipped ones included.
    :ivar skipped: how many of them were skipped.
    :ivar failed: the IDs of those that failed.
    """

    ran: int
    skipped: int
    failed: frozenset[str]

    @property
    def passed(self) -> int:
        return self.ran - self.skipped - len(self.failed)


def run(suite: Suite, store: str, url: str, *, database: str = "") -> Result:
    """Run a suite.

    :param store: a kind of store, or `STOCK`.
    :param url: the store.
    :param database: a PostgreSQL server for the app's own data, in place of SQLite; "" for none.
    """
    with tempfile.TemporaryDirectory(prefix="wsgisession-upstream-") as scratch:
        written = Path(scratch, "result")
        cwd = INSIDE if suite.package is None else source_of(suite.package) / suite.folder
        environment = {
            **os.environ, **suite.environment, "UPSTREAM_STORE": url, "UPSTREAM_DATABASE": database,
            "UPSTREAM_RESULT": str(written), "PYTHONPATH": f"{our_path()}:{INSIDE}:{cwd}", "TMPDIR": scratch,
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        if suite.settings[0]:
            environment["DJANGO_SETTINGS_MODULE"] = suite.settings[store != STOCK]
        command = [str(python_for(suite)), *_arguments(suite, store, cwd, written)]
        try:
            done = subprocess.run(
                command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=LONGEST, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{suite.title} on {store} did not end within {LONGEST} s") from None
        _keep_log(suite, store, done.stdout)
        if not written.exists():
            raise SystemExit(f"{suite.title} on {store} did not run:\n{done.stdout[-4000:]}")
        return (_of_junit if suite.is_pytest else _of_json)(written)


def _keep_log(suite: Suite, store: str, output: str) -> None:
    folder = KEPT / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{suite.file_name}-{store}.txt").write_text(output)


def _arguments(suite: Suite, store: str, cwd: Path, written: Path) -> list[str]:
    arguments = [each.format(inside=INSIDE) for each in suite.arguments]
    if suite.is_pytest:
        arguments += ["-q", "--tb=short", "-p", "no:cacheprovider", f"--rootdir={cwd}", f"--junitxml={written}"]
    if suite.settings[0] and suite.is_pytest:
        arguments.append(f"--ds={suite.settings[store != STOCK]}")
    return arguments if store == STOCK else [*arguments, *suite.ours]


def stock_result(suite: Suite, *, fresh: bool) -> Result:
    """Return what the framework's own sessions do: nothing of ours changes that, so it is run once.

    :param fresh: run it again anyway.
    """
    requirements = (HERE / "requirements" / f"{suite.requirements}.txt").read_text()
    kept = KEPT / "stock" / hashlib.sha256(f"{suite!r}{requirements}{sys.version}".encode()).hexdigest()
    if fresh or not kept.exists():
        result = run(suite, STOCK, "")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(result) | {"failed": sorted(result.failed)}))
    return _of_json(kept)


def _of_junit(written: Path) -> Result:
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(written).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome = {child.tag for child in case} & {"failure", "error", "skipped"}
        if outcome - {"skipped"}:  # also if only its fixtures failed
            outcomes[name] = "failed"
        else:
            outcomes.setdefault(name, "skipped" if outcome else "passed")
    found = list(outcomes.values())
    return Result(len(found), found.count("skipped"), frozenset(n for n, each in outcomes.items() if each == "failed"))


def _of_json(written: Path) -> Result:
    found = json.loads(written.read_text())
    return Result(found["ran"], found["skipped"], frozenset(found["failed"]))
