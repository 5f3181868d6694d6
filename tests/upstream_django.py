"""Django's own tests of a session backend, run on ours: ``make upstream``.

They are in Django's source archive only, so they are fetched, and are no part of ``make test``; tests/test_django.py
asks the same of every store without them.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import unittest
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import django
from django.test import TestCase, override_settings
from django.test.runner import DiscoverRunner

from tests import servers
from tests.django_project import SETTINGS, set_up
from wsgisession import SessionManager

SECRET = "for the tests of Django, and long enough"

NOT_WRAPPED = {
    "test_invalid_key": "request.session refuses to end another session",
    "test_invalid_key_async": "request.session refuses to end another session",
    "test_session_key_valid_string_saved": "the key is the environ's, and nothing that is set from outside",
}
"""The tests that the environ's session fails, and why."""


def fetch(folder: str) -> None:
    """Get the tests of the Django that is installed."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=django"]
    subprocess.run([*pip, f"--dest={folder}", f"Django=={django.__version__}"], check=True)
    (archive,) = Path(folder).glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    sys.path.append(str(archive).removesuffix(".tar.gz") + "/tests")


def store_urls(stack: ExitStack, folder: str) -> Iterator[str]:
    """Yield a store of each kind."""
    yield "memory://"
    yield f"sqlite:///{folder}/sessions.db"
    for kind in (servers.Redis, servers.PostgreSQL, servers.MongoDB):
        server = kind()
        stack.callback(server.stop)
        yield server.start().url


def result_of(mixin: type, backend: Callable[..., Any], *, known: dict[str, str]) -> str:
    """Run the tests on a backend; "" for as it should be."""
    case = type("Tests", (mixin, TestCase), {"backend": staticmethod(backend)})
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    failed = {test.id().rpartition(".")[2] for test, _ in result.failures + result.errors}
    print(f"{result.testsRun} run, {len(failed)} failed, {len(known)} expected to")
    return " ".join(failed ^ known.keys())


def main() -> str:
    """Run all; return what went wrong."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        fetch(folder)
        set_up(INSTALLED_APPS=[*SETTINGS["INSTALLED_APPS"], "sessions_tests"])
        from sessions_tests.tests import SessionTestsMixin

        from wsgisession.django import EnvironSession, SessionStore

        DiscoverRunner(verbosity=0).setup_databases()
        wrong = ""
        for url in store_urls(stack, folder):
            print(django.__version__, url.partition("://")[0], end=": ")
            with override_settings(WSGISESSION={"store": url}):
                wrong += result_of(SessionTestsMixin, SessionStore, known={})
            manager = SessionManager(secret=SECRET, store=url)

            def opened(key: str | None = None, manager: SessionManager = manager) -> EnvironSession:
                value = "" if key is None else manager.signer.sign(key)
                return EnvironSession(manager.open(f"sid={value}", None))

            print(django.__version__, url.partition("://")[0], "wrapped", end=": ")
            wrong += result_of(SessionTestsMixin, opened, known=NOT_WRAPPED)
            manager.close()
        return wrong


if __name__ == "__main__":
    sys.exit(main() or 0)
