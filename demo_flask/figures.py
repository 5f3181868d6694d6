"""The metrics, for the operator of this machine only: ``/metrics`` answers loopback addresses and nobody else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP")


class OnlyFromThisMachine:
    """Pass on requests from a loopback address; answer 404 to others.

    Behind a proxy on this machine every request comes from a loopback address. So a request that names another client
    is refused as well.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_loopback(environ.get("REMOTE_ADDR", "")) and not any(name in environ for name in FORWARDED):
            return self._app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Not Found\n"]


def is_loopback(address: str) -> bool:
    with suppress(ValueError):
        return ip_address(address).is_loopback
    return False


def folder_of_this_run(instance: Path) -> Path:
    """Return an empty folder for the figures of this process and its workers, and remove those of runs that ended.

    Each run has its own, so that two demonstrations that run at once do not add up each other's figures.
    """
    for old in instance.glob("figures-*"):
        if not is_running(int(old.name.partition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    folder = instance / f"figures-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
