"""A virtual environment and the source of each suite, kept in ``.upstream/`` for the next run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.upstream.suites import HERE, Suite

ROOT = HERE.parent.parent
KEPT = ROOT / ".upstream"

_PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def python_for(suite: Suite) -> Path:
    """Return an interpreter that has exactly what the suite's requirements name, and finds our package."""
    requirements = HERE / "requirements" / f"{suite.requirements}.txt"
    folder = KEPT / "environments" / suite.requirements
    stamp = folder / "installed"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(folder / "bin" / "python"), *_PIP, "install", "--no-deps", "-r", str(requirements))
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def source_of(package: str) -> Path:
    """Return the unpacked source archive of a release, such as ``Flask==3.1.3``."""
    folder = KEPT / "sources" / package
    if not folder.exists():
        unpacking = folder.with_suffix(".new")
        shutil.rmtree(unpacking, ignore_errors=True)
        unpacking.mkdir(parents=True)
        name = package.partition("==")[0]
        _run(sys.executable, *_PIP, "download", "--no-deps", f"--no-binary={name}", f"--dest={unpacking}", package)
        (archive,) = unpacking.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(unpacking, filter="data")
        archive.unlink()
        unpacking.rename(folder)
    (source,) = folder.iterdir()
    return source


def our_path() -> Path:
    """Return a folder in which our package is, and nothing else: ``tests`` must be the suite's own."""
    folder = KEPT / "path"
    folder.mkdir(parents=True, exist_ok=True)
    (KEPT / "pytest.ini").write_text("[pytest]\n")  # for suites without one: ours, further up, is not for them
    link = folder / "wsgisession"
    if not link.is_symlink() or os.readlink(link) != str(ROOT / "wsgisession"):
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / "wsgisession")
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
