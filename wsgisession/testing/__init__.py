"""For those who write stores: every promise of the store contract as a test. Needs pytest.

`StoreContract` is for any store, `SharedStoreContract` for one that has a server or a file.

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

from .contract import SharedStoreContract, StoreContract  # noqa: E402 - only what is imported later has its assertions explained

__all__ = ["SharedStoreContract", "StoreContract"]
