"""Fixtures for pytest. Ask for them in your ``conftest.py``: ``pytest_plugins = ["wsgisession.testing.pytest"]``.

Without that line they are not loaded, whether or not wsgisession is installed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..manager import SessionManager
from .clients import logged_in
from .clock import FakeClock


@pytest.fixture
def session_clock() -> FakeClock:
    """Return a clock that stands still until ``session_clock.advance(seconds)``."""
    return FakeClock()


@pytest.fixture
def session_manager(session_clock: FakeClock) -> Iterator[SessionManager]:
    """Return a manager on the clock ``session_clock``, with a secret and an in-memory store for this test alone."""
    manager = SessionManager(secret=secrets.token_bytes(32), store="memory://", clock=session_clock)
    yield manager
    manager.close()


@pytest.fixture
def logged_in_client(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that logs in a client of your fixture ``app``: ``logged_in_client(7, role="admin")``."""

    def client_of(user_id: Any, **options: Any) -> Any:
        return logged_in(request.getfixturevalue("app"), user_id, **options)

    return client_of


__all__ = ["logged_in_client", "session_clock", "session_manager"]
