"""The examples of the guides run, and their tables agree with the code."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args

import pytest
from prometheus_client import REGISTRY
from werkzeug.test import Client

from tests.docs.pages import blocks, names, rows, text_of
from tests.visitors import obedient
from tests.visits import Browser as Visitor
from tests.visits import Site
from wsgisession import SessionEvent, SessionMiddleware
from wsgisession._core.events import EventName, Reason
from wsgisession.logs import EventLog

SECRET = "a secret that is long enough"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", SECRET)


class TestUsers:
    @pytest.fixture
    def shown(self) -> Iterator[dict[str, Any]]:
        world: dict[str, Any] = {"__name__": "account", "session": Site().manager.open("", {})}
        for block in blocks("users.md"):
            exec(block, world)
        yield world
        world["sessions"].close()

    @pytest.fixture
    def ada(self, shown) -> Client:
        return self.log_in(shown, "ada", "203.0.113.1")

    def log_in(self, shown: dict[str, Any], name: str, address: str) -> Client:
        client = Client(shown["app"])
        client.post("/login", data={"name": name}, headers={"X-Forwarded-For": address, "User-Agent": f"{name}'s"})
        return client

    def devices(self, client: Client) -> list[str]:
        response = client.get("/devices")
        return response.text.splitlines() if response.status_code == 200 else []

    def test_a_user_sees_the_devices_and_ends_one(self, shown, ada):
        phone = self.log_in(shown, "ada", "203.0.113.2")
        listed = self.devices(ada)
        assert len(listed) == 2
        (other,) = [line for line in listed if "(this one)" not in line]
        assert other.split()[1:3] == ["203.0.113.2", "ada's"]
        ada.post("/devices/end", data={"handle": other.split()[0]})
        assert (len(self.devices(ada)), self.devices(phone)) == (1, [])

    def test_a_user_ends_all_the_others_and_nobody_else_s(self, shown, ada):
        others = [self.log_in(shown, name, "203.0.113.3") for name in ("ada", "ada", "bob")]
        ada.post("/devices/end-others")
        assert [len(self.devices(client)) for client in (ada, *others)] == [1, 0, 0, 1]
        handle = self.devices(others[-1])[0].split()[0]
        ada.post("/devices/end", data={"handle": handle})
        assert len(self.devices(others[-1])) == 1

    def test_the_sixth_login_ends_the_first_and_the_admin_s_path_is_closed(self, shown, ada):
        others = [self.log_in(shown, "ada", "203.0.113.4") for _ in range(5)]
        assert (self.devices(ada), len(self.devices(others[-1]))) == ([], 5)
        assert others[0].post("/admin/ban", data={"name": "ada"}).status_code == 403

    @pytest.mark.parametrize(
        ("does", "call"),
        [
            ("sessions_for(user_id)", lambda manager, handle: manager.sessions_for("ada")),
            ("revoke(handle)", lambda manager, handle: manager.revoke(handle)),
            ("revoke(handle, user_id=...)", lambda manager, handle: manager.revoke(handle, user_id="ada")),
            ("revoke_user(user_id)", lambda manager, handle: manager.revoke_user("ada")),
        ],
    )
    def test_a_call_asks_the_store_for_what_the_table_says(self, does, call):
        (asked,) = [row[2] for row in rows("users.md", "List and end devices") if row[0] == f"`{does}`"]
        site = Site()
        browser = Visitor(site.manager)
        with browser.request() as session:
            session.login("ada")
        handle = browser.handle
        site.store.calls.clear()
        call(site.manager, handle)
        assert list(site.store.calls) == names(asked)


class TestObserving:
    @pytest.fixture
    def shown(self, monkeypatch) -> Iterator[dict[str, Any]]:
        audit = logging.getLogger("wsgisession.events")
        for name, value in {"handlers": [], "propagate": True}.items():
            monkeypatch.setattr(audit, name, value)
        before, level = set(REGISTRY._collector_to_names), audit.level
        first, *rest = blocks("observing.md")
        names: dict[str, Any] = {}
        exec(first, names)
        names["app"] = SessionMiddleware(obedient, names["sessions"])
        for block in rest:
            exec(block, names)
        yield names
        audit.setLevel(level)
        audit.handlers[0].close()
        names["sessions"].close()
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)

    def test_the_figures_and_the_log_are_those_that_it_shows(self, shown, tmp_path):
        browser = Visitor(shown["sessions"])
        with browser.request() as session:
            session.login("ada")
        for cookie in (browser.cookie, browser.cookie, "forged"):
            dict(Visitor(shown["sessions"], cookie).open())
        (console,) = blocks("observing.md", "console")
        command, *answer = console.splitlines()
        url, pattern = re.findall(r"curl -s (\S+) \| grep (\S+)", command)[0]
        figures = Client(shown["app"]).get(url).text.splitlines()
        assert [line for line in figures if re.search(pattern, line)] == answer
        logged = (tmp_path / "sessions.log").read_text().splitlines()
        assert [line.split()[0] for line in logged] == ["event=created", "event=rejected"]

    def test_the_lines_of_the_log_are_those_that_it_writes(self, caplog):
        (text,) = blocks("observing.md", "text")
        lines = text.splitlines()
        caplog.set_level(logging.INFO, "wsgisession.events")
        for line in lines:
            facts = {key: value.strip('"') for key, value in re.findall(r'(\w+)=("[^"]*"|\S+)', line)}
            at = datetime.fromisoformat(facts["at"])
            EventLog()(SessionEvent(facts["event"], facts.get("handle"), at, facts.get("reason")))
        assert caplog.messages == lines

    def test_its_events_are_those_of_the_code(self):
        listed = {name for row in rows("observing.md", "Events") for name in names(row[0])}
        assert listed == {*get_args(EventName), *get_args(Reason)}

    def test_its_metrics_are_those_of_the_code(self, shown):
        listed = set(re.findall(r"^\| `(wsgisession_\w+)` \|", text_of("observing.md"), re.MULTILINE))
        families = re.findall(r"^# TYPE (wsgisession_\w+)", Client(shown["app"]).get("/metrics").text, re.MULTILINE)
        assert listed == {name for name in families if not name.endswith("_created")}
