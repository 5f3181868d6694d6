"""Records of Express that this library replaced, as the real stores read them."""

from __future__ import annotations

import json

import pytest

from tests.express.peer import Express, where
from tests.test_express_records import groups, has_ended, on_store, stored

__all__ = ["on_store"]

KINDS = {"redis": "redis", "postgres": "postgresql", "mongo": "mongodb"}


def is_garbled(known):
    """Whether the driver of Node.js gives bytes for an object, as it does under the key "constructor"."""
    return known["store_options"].get("stringify") is False and '"type":"Buffer"' in known["reads_back"]


@pytest.mark.parametrize(("store", "options", "records"), groups())
def test_the_real_store_reads_what_was_changed_and_written_back(node, on_store, store, options, records):
    with on_store(store, options, records) as (place, manager, clock):
        express = Express(node, where(KINDS[store], place.url)[0])
        read = 0
        for known in stored(records):
            if has_ended(known) or is_garbled(known):
                continue
            clock.now = known["now_ms"] / 1000
            place.put(known["record"])
            with manager.edit(known["id"]) as session:
                session["added"] = {"é": [1, None]}
            found = express.record(known["id"])
            assert found.pop("cookie")["path"] == json.loads(place.expected(known["record"]))["cookie"]["path"]
            expected = json.loads(known["reads_back"]) | {"added": {"é": [1, None]}}
            assert found == expected, known["case"]
            read += 1
        express.close()
        assert read >= 25
