"""Fixtures of the tests that run the old version."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.old_process import OldVersion


@pytest.fixture(scope="session")
def old_version() -> Iterator[OldVersion]:
    process = OldVersion()
    yield process
    process.close()
