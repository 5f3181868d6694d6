"""What is bad for an SQLite file where it lies."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from ..findings import Finding

_NETWORKS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs"}
_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'session'"
_MOUNTS = Path("/proc/self/mounts")  # Linux


def of_place(path: str) -> Iterator[Finding]:
    """Look at the folder, without making the file."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        cure = "let this user write to it, because SQLite keeps two more files next to it"
        yield Finding("problem", f"this user may not write to the folder {folder}", cure)
    mounts = ""
    with suppress(OSError):
        mounts = _MOUNTS.read_text(errors="replace")
    kind = filesystem_of(folder, mounts)
    if kind in _NETWORKS:
        fact = f"the file is on a network file system ({kind}), where SQLite's locks do not hold"
        yield Finding("problem", fact, "move it to a local disk, or take a store with a server")


def has_table(path: str, *, timeout: float) -> bool:
    """Tell whether the file is there, with the table of sessions in it. Creates neither.

    :param timeout: seconds to wait for the lock of a writer.
    :raises sqlite3.Error: if the file cannot be read.
    """
    if not os.path.exists(path):
        return False
    with closing(sqlite3.connect(path, timeout=timeout)) as connection:
        return connection.execute(_TABLE).fetchone() is not None


def of_journal(mode: str) -> Iterator[Finding]:
    """Judge the journal that SQLite could be brought to."""
    if mode != "wal":
        fact = f"the file's journal is {mode} and not wal, so that readers and writers wait for each other"
        yield Finding("warning", fact, "move it to a local disk whose file system can share memory")


def filesystem_of(folder: str, mounts: str) -> str:
    """Return the type of the file system that a folder is on; empty if that is unknown.

    :param mounts: the text of ``/proc/self/mounts``.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two on one place, the later one hides the earlier
            best, kind = point, found
    return kind
