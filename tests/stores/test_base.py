"""What every store is made with: URLs, restarts, one opening a process."""

from __future__ import annotations

import os
import sys
import threading
from importlib.metadata import EntryPoint

import pytest

from wsgisession import stores
from wsgisession.errors import ConfigurationError
from wsgisession.stores import Record, StoreURL, open_store
from wsgisession.stores.base import PerProcess, identifier, positive, restart_is_due, seconds
from wsgisession.stores.memory import MemoryStore
from wsgisession.testing.workbench import in_fork, in_parallel

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


# One opening a process


def test_opens_once_and_at_the_first_use():
    opened = []
    thing = PerProcess(lambda: opened.append("open") or object())
    assert opened == []
    assert thing() is thing()
    assert opened == ["open"]


def test_threads_that_come_together_open_once():
    opened = []
    another = threading.Event()

    def open_it():
        opened.append("open")
        another.wait(0.05)  # long enough for the others to come in, if they were let
        return object()

    thing = PerProcess(open_it)
    assert len(set(in_parallel(lambda _: thing(), count=8))) == 1
    assert opened == ["open"]


def test_a_failed_opening_is_tried_again():
    results = iter([OSError("not yet"), "open"])

    def open_it():
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    thing = PerProcess(open_it)
    with pytest.raises(OSError, match="not yet"):
        thing()
    assert thing() == "open"


def test_take_gives_what_was_opened_once():
    thing = PerProcess(object)
    assert thing.take() is None
    opened = thing()
    assert thing.take() is opened
    assert thing.take() is None
    assert thing() is not opened


def test_a_forked_process_opens_its_own():
    thing = PerProcess(os.getpid)
    assert thing() == os.getpid()

    def use():
        assert thing() == os.getpid()

    def take():
        assert thing.take() is None

    in_fork(use)
    in_fork(take)


def test_a_fork_while_another_thread_is_opening_leaves_no_lock_behind():
    opening, forked = threading.Event(), threading.Event()
    parent = os.getpid()

    def open_it():
        if os.getpid() == parent:
            opening.set()
            assert forked.wait(30)
        return os.getpid()

    thing = PerProcess(open_it)
    thread = threading.Thread(target=thing)
    thread.start()
    assert opening.wait(10)
    try:
        in_fork(lambda: thing(), seconds=10)
    finally:
        forked.set()
        thread.join()


# URLs


@pytest.mark.parametrize("text", ["", "redis", "redis:", "redis:/localhost", "://localhost", "/path/to.db"])
def test_what_is_no_url_is_refused(text):
    with pytest.raises(ConfigurationError, match="must be a URL such as"):
        StoreURL(text)


def test_a_url_comes_apart():
    url = StoreURL("RedIS://ali:open%2Fsesame@h1:1,h2:2/0?timeout=3&prefix=a%20b:#part")
    assert (url.scheme, url.location) == ("redis", "ali:open%2Fsesame@h1:1,h2:2/0")
    assert (url.username, url.password) == ("ali", "open/sesame")
    assert url.option("timeout", 2.0, seconds) == 3.0
    assert url.option("timeout", 2.0, seconds) == 2.0
    assert url.rest == {"prefix": "a b:"}
    assert url.driver_url("rediss") == "rediss://ali:open%2Fsesame@h1:1,h2:2/0?prefix=a+b%3A"


def test_a_url_without_credentials_has_none():
    url = StoreURL("sqlite:////var/lib/app.db")
    assert (url.username, url.password) == (None, None)
    assert url.location == "//var/lib/app.db"
    assert url.driver_url() == "sqlite:////var/lib/app.db"


def test_a_url_is_shown_without_its_password():
    url = StoreURL("redis://ali:open-sesame@localhost/0?password=open-sesame")
    assert url.shown == "redis://localhost/0"
    assert "open-sesame" not in repr(url)


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(ConfigurationError, match="names the parameter 'timeout' twice"):
        StoreURL("redis://localhost?timeout=1&timeout=2")


def test_a_parameter_that_cannot_be_decoded_is_refused():
    with pytest.raises(ConfigurationError, match="cannot be decoded"):
        StoreURL("redis://localhost?prefix=%FF")


def test_a_parameter_that_cannot_be_used_is_refused_by_name():
    url = StoreURL("redis://localhost?timeout=soon")
    with pytest.raises(ConfigurationError, match="redis store: timeout='soon' cannot be used"):
        url.option("timeout", 2.0, seconds)


def test_an_unknown_parameter_is_refused_with_what_is_known():
    with pytest.raises(ConfigurationError, match="unknown parameter 'timeoot'; it takes timeout"):
        StoreURL("memory://?timeoot=1").refuse_rest("timeout")


@pytest.mark.parametrize(
    ("convert", "bad"),
    [(seconds, text) for text in ("", "0", "-1", "nan", "inf", "1e7", "1s")]
    + [(positive, text) for text in ("", "0", "-1", "1.5", "many")]
    + [(identifier, text) for text in ("", "a\0", "a\n", "x" * 64, "é" * 32)],
)
def test_a_value_out_of_range_is_no_value(convert, bad):
    with pytest.raises(ValueError):
        convert(bad)


def test_values_are_converted():
    assert (seconds("0.25"), positive("7"), identifier('Odd "name"')) == (0.25, 7, 'Odd "name"')


# Opening by URL


def test_a_url_opens_its_store():
    assert isinstance(open_store("memory://"), MemoryStore)


def test_an_unknown_scheme_is_refused_with_what_is_known():
    with pytest.raises(ConfigurationError, match=r"no store is known for mysql://; use one of .*memory://"):
        open_store("mysql://localhost")


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("redis://localhost", "redis", "redis"),
        ("valkey+cluster://localhost", "redis", "redis"),
        ("postgresql://localhost/x", "psycopg", "postgres"),
        ("mongodb+srv://localhost/x", "pymongo", "mongodb"),
    ],
)
def test_a_driver_that_is_not_installed_is_named_with_its_extra(url, driver, extra, monkeypatch):
    for module in [
        name for name in sys.modules if name.split(".")[0] == driver or name.startswith("wsgisession.stores.")
    ]:
        if module != "wsgisession.stores.base":
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'wsgisession\[{extra}\]'"):
        open_store(url)


def test_a_third_party_adds_a_scheme_by_entry_point(monkeypatch):
    entry_point = EntryPoint("mine", "wsgisession.stores.memory:MemoryStore", "wsgisession.stores")
    monkeypatch.setattr(stores, "entry_points", lambda **which: [entry_point] if which["name"] == "mine" else [])
    assert isinstance(open_store("mine://?max_sessions=5"), MemoryStore)
