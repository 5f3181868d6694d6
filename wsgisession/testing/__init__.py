"""For tests: of apps, a logged-in client and a clock; of stores, every promise of the store contract as a test.

.. code-block:: python

    from wsgisession.testing import logged_in

    def test_the_account_is_shown():
        assert "Ada" in logged_in(app, user_id="ada", role="admin").get("/account").text

For pytest, ``pytest_plugins = ["wsgisession.testing.pytest"]`` in your ``conftest.py`` adds the fixtures
``session_clock``, ``session_manager``, and ``logged_in_client``.

`StoreContract` is for those who write stores, any of them; `SharedStoreContract` for one with a server or a file. They
need pytest.

.. code-block:: python

    from wsgisession.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            store = MyStore(...)
            yield store
            store.close()
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .clients import logged_in
from .clock import FakeClock

if TYPE_CHECKING:
    from .contract import SharedStoreContract, StoreContract

__all__ = ["FakeClock", "SharedStoreContract", "StoreContract", "logged_in"]


if _pytest := sys.modules.get("pytest"):  # only what is imported afterwards has its assertions explained
    _pytest.register_assert_rewrite(
        *(f"{__name__}.{module}" for module in ("contract", "records", "users", "workbench"))
    )


def __getattr__(name: str) -> Any:
    if name not in ("SharedStoreContract", "StoreContract"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import contract  # which needs pytest, as the tests of an app may not

    return getattr(contract, name)
