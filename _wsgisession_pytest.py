"""Fixtures for pytest, which loads this module wherever wsgisession is installed.

So it stands outside the package, and imports that only in a test that asks for it: a test run without sessions is not
slower, and coverage sees the package's first lines, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wsgisession import SessionManager
    from wsgisession.testing import FakeClock


@pytest.fixture
def session_clock() -> FakeClock:
    """Give a clock that stands still until ``session_clock.advance(seconds)``."""
    from wsgisession.testing import FakeClock

    return FakeClock()


@pytest.fixture
def session_manager(session_clock: FakeClock) -> Iterator[SessionManager]:
    """Give a manager with a secret and a store in memory of this test's own, whose clock is ``session_clock``."""
    import secrets

    from wsgisession import SessionManager

    manager = SessionManager(secret=secrets.token_bytes(32), store="memory://", clock=session_clock)
    yield manager
    manager.close()


@pytest.fixture
def logged_in_client(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Give a function that makes a logged-in client of your fixture ``app``: ``logged_in_client(7, role="admin")``."""
    from wsgisession.testing import logged_in

    def client_of(user_id: Any, **options: Any) -> Any:
        return logged_in(request.getfixturevalue("app"), user_id, **options)

    return client_of
