"""For those who write stores: `StoreContract`, every promise of the store contract as a test. Needs pytest.

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

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("contract", "records", "workbench")))

from .contract import StoreContract  # noqa: E402 - only what is imported later has its assertions explained

__all__ = ["StoreContract"]
