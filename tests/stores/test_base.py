"""What every store is made with: URLs, restarts, one opening a process."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from wsgisession import stores
from wsgisession.errors import ConfigurationError
from wsgisession.stores import Record, open_store
from wsgisession.stores.base import restart_is_due
from wsgisession.stores.memory import MemoryStore

# Records


def test_a_record_shows_no_data_and_no_user():
    assert repr(Record(b'{"secret":1}', 100.0, "ali-baba", "token")) == "<Record of 12 bytes>"


# Restarts


@pytest.mark.parametrize(
    ("passed", "touch_after", "due"),
    [(0, 0, True), (1, 0, True), (4.9, 0.05, False), (5, 0.05, True), (99, 0.05, True), (0, 0.05, False)],
)
def test_a_restart_is_due_when_its_share_of_the_ttl_has_passed(passed, touch_after, due):
    last_restart, ttl = 1000.0, 100.0
    now = last_restart + passed
    assert restart_is_due(last_restart + ttl, ttl, now=now, touch_after=touch_after) is due


def test_no_restart_is_ever_due_without_touch_after():
    assert not restart_is_due(1100.0, 100.0, now=1099.0, touch_after=None)


# Opening by URL


def test_a_url_opens_its_store():
    assert isinstance(open_store("memory://"), MemoryStore)


def test_an_unknown_scheme_is_refused_with_what_is_known():
    with pytest.raises(ConfigurationError, match=r"no store is known for mysql://; use one of .*memory://"):
        open_store("mysql://localhost")


@pytest.mark.parametrize(("scheme", "meant"), [("rdis", "redis"), ("sqlte", "sqlite"), ("mongo", "mongodb")])
def test_a_misspelled_scheme_is_answered_with_the_intended_one(scheme, meant):
    with pytest.raises(ConfigurationError, match=rf"no store is known for {scheme}://; did you mean {meant}://"):
        open_store(f"{scheme}://localhost/x")


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("redis://localhost", "redis", "redis"),
        ("valkey+cluster://localhost", "redis", "redis"),
        ("postgresql://localhost/x", "psycopg", "postgres"),
        ("mongodb+srv://localhost/x", "pymongo", "mongodb"),
    ],
)
def test_a_driver_that_is_not_installed_is_named_with_the_requirement_of_its_extra(url, driver, extra, monkeypatch):
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    requirement = setup["options.extras_require"][extra].strip()
    for module in [
        name for name in sys.modules if name.split(".")[0] == driver or name.startswith("wsgisession.stores.")
    ]:
        if module != "wsgisession.stores.base":
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(ConfigurationError, match=re.escape(f"pip install '{requirement}'")):
        open_store(url)


def test_a_third_party_adds_a_scheme_by_entry_point(monkeypatch):
    entry_point = EntryPoint("mine", "wsgisession.stores.memory:MemoryStore", "wsgisession.stores")
    monkeypatch.setattr(stores, "entry_points", lambda **which: [entry_point] if which["name"] == "mine" else [])
    assert isinstance(open_store("mine://?max_sessions=5"), MemoryStore)
