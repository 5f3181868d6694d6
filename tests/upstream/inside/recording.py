"""A test runner for Django that writes what happened to a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import TestResult

from django.test.runner import DiscoverRunner


def record(result: TestResult) -> None:
    """Write how many tests ran, how many were skipped, and which failed."""
    failed = {_name(test) for test, _ in (*result.failures, *result.errors)}
    failed |= {_name(test) for test in result.unexpectedSuccesses}
    found = {"ran": result.testsRun, "skipped": len(result.skipped), "failed": sorted(failed)}
    Path(os.environ["UPSTREAM_RESULT"]).write_text(json.dumps(found))


def _name(test: Any) -> str:
    return str(getattr(test, "test_case", test).id())  # of a subtest, the test


class RecordingRunner(DiscoverRunner):
    """Django's own runner."""

    def run_suite(self, suite: Any, **options: Any) -> Any:
        """Run, and record."""
        result = super().run_suite(suite, **options)
        record(result)
        return result
