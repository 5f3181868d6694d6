"""Fixtures of the tests against the real express-session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.express.peer import Node, RegistryUnavailable
from tests.leaks import IDTrap
from tests.programs import skip_without
from tests.servers import ServerUnavailable


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    try:
        server = Node()
    except RegistryUnavailable:
        skip_without("the npm registry")
    except ServerUnavailable:
        skip_without("Node.js")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def id_trap(trap_of_the_run: IDTrap) -> Iterator[IDTrap]:
    """Fail a test in which a session ID is revealed, except by pymongo: connect-mongo's documents contain the ID."""
    trap_of_the_run.take()
    yield trap_of_the_run
    assert [told for told in trap_of_the_run.take() if not told.startswith("pymongo.command")] == []
