"""The test suites of Flask, Flask-Login and Flask-WTF, with our sessions in every app: part of ``make upstream``.

They are in the source archives only, so they are fetched, and are no part of ``make test``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent

EXPECTED = {
    "flask": {
        "test_session_using_samesite_attribute": "SameSite is always said: Lax, where Flask's default says nothing",
        "test_session_refresh_vary": "a request that leaves the session alone does not read it, nor refresh its cookie",
        "test_bad_environ_raises_bad_request": "fails on Flask alone too, since werkzeug 3.1",
    },
    "flask-login": {},
    "flask-wtf": {},
}
"""What does not pass, and why."""


def fetch(package: str, folder: str) -> Path:
    """Get the source of the package as it is installed."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--no-binary={package}"]
    subprocess.run([*pip, f"--dest={folder}", f"{package}=={version(package)}"], check=True)
    (archive,) = Path(folder).glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return Path(str(archive).removesuffix(".tar.gz"))


def failed_in(source: Path) -> tuple[set[str], str]:
    """Run a suite; return the names of the tests that failed, and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "sessions_everywhere", "tests"]
    with tempfile.TemporaryDirectory() as folder:  # with what they need of ours, and not with our package "tests"
        for needed in (ROOT / "wsgisession", ROOT / "tests" / "sessions_everywhere.py"):
            (Path(folder) / needed.name).symlink_to(needed)
        environment = {**os.environ, "PYTHONPATH": folder}
        run = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    names = re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", run.stdout, re.MULTILINE)
    return set(names), run.stdout.strip().splitlines()[-1]


def main() -> str:
    """Run all; return what went wrong."""
    wrong = []
    for package, expected in EXPECTED.items():
        with tempfile.TemporaryDirectory() as folder:
            failed, summary = failed_in(fetch(package, folder))
            print(f"{package} {version(package)}: {summary}", flush=True)
            wrong += [f"{package} {name}" for name in failed ^ expected.keys()]
    return ", ".join(sorted(wrong))


if __name__ == "__main__":
    sys.exit(main())
