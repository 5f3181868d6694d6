"""The version that today's must be compatible with, installed from its commit into an environment of its own.

Run as a program, it installs that version and prints the interpreter that has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

COMMIT = "ed3661b3ec258ed6eb3f7fcdb1183d56f2f632a6"
"""The last commit before the package was reorganized and a record could hold more than it could then."""

_FOLDER = ROOT / ".venv-old"
_FILES = ["wsgisession", "_wsgisession_pytest.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]


class OldVersionUnavailable(RuntimeError):
    """The old version cannot be installed; the message says what to do."""


def old_python() -> str:
    """Return the interpreter that has the old version and all its extras, installing them the first time.

    :raises OldVersionUnavailable: where its commit, or a package that it needs, cannot be had.
    """
    _FOLDER.mkdir(exist_ok=True)
    ready = _FOLDER / f"ready-{COMMIT[:12]}"
    with _locked(_FOLDER / "lock"):
        if not ready.exists():
            _install(_archive())
            ready.touch()
    return str(_FOLDER / "bin" / "python")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _archive() -> bytes:
    """Return the old version's files as git has them."""
    try:
        made = subprocess.run(["git", "archive", COMMIT, *_FILES], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        raise OldVersionUnavailable("git is not installed, and the old version comes from the repository") from None
    if made.returncode:
        raise OldVersionUnavailable(
            f"the old version is commit {COMMIT[:12]}, which this copy of the repository does not have: clone the "
            "whole repository, or run git fetch --unshallow (in GitHub Actions: actions/checkout with fetch-depth: 0). "
            f"git said: {made.stderr.decode().strip()}"
        )
    return made.stdout


def _install(archive: bytes) -> None:
    source = _FOLDER / "source"
    shutil.rmtree(source, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="data")
    _run(sys.executable, "-m", "venv", str(_FOLDER))
    pip = [str(_FOLDER / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    _run(*pip, f"{source}[all]")


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=_FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OldVersionUnavailable(f"the old version cannot be installed: {done.stderr.strip()[-1000:]}")


if __name__ == "__main__":
    print(old_python())
