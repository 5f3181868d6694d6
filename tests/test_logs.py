"""Events as log lines: one line each, readable for people and programs, and impossible to forge."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

import pytest

from tests.visitors import Site
from wsgisession import SessionEvent
from wsgisession.logs import EventLog

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def everything(caplog):
    caplog.set_level(logging.DEBUG, "wsgisession.events")


def lines(caplog):
    return [record for record in caplog.records if record.name == "wsgisession.events"]


def test_an_event_is_one_line_of_keys_and_values_and_has_the_same_attributes(caplog):
    EventLog()(SessionEvent("rejected", "1handle", AT, "bad signature", None))
    (line,) = lines(caplog)
    assert line.getMessage() == ('event=rejected handle=1handle at=2026-01-02T03:04:05+00:00 reason="bad signature"')
    assert (line.session_event, line.session_handle, line.session_at) == ("rejected", "1handle", AT.isoformat())
    assert (line.session_reason, line.session_detail) == ("bad signature", None)


@pytest.mark.parametrize("detail", ["two\nevent=forged", 'a "quoted" word', "", "a=b", "\x1b[31m", "ünï\u2028"])
def test_no_text_can_forge_a_log_line(caplog, detail):
    """SECURITY 57."""
    EventLog()(SessionEvent("store_error", None, AT, None, detail))
    (line,) = lines(caplog)
    message = line.getMessage()
    before, _, quoted = message.partition(" detail=")
    assert (before, json.loads(quoted)) == ("event=store_error at=2026-01-02T03:04:05+00:00", detail)
    assert message.isprintable()


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *((name, logging.DEBUG) for name in ("loaded", "saved", "merged", "touched")),
        *((name, logging.INFO) for name in ("created", "regenerated", "renewed", "destroyed", "revoked", "expired")),
        ("rejected", logging.WARNING),
        ("gone", logging.WARNING),
        ("store_error", logging.ERROR),
    ],
)
def test_the_level_depends_on_the_event(caplog, name, level):
    EventLog()(SessionEvent(name, "1handle", AT))
    assert [record.levelno for record in lines(caplog)] == [level]


def test_another_logger_can_be_given(caplog):
    EventLog(logging.getLogger("audit"))(SessionEvent("gone", "1handle", AT))
    assert [record.name for record in caplog.records] == ["audit"]


def test_where_the_handle_is_the_session_id_events_and_logs_contain_the_beginning_of_a_hash(caplog):
    """SECURITY 44, 56."""
    events = []
    session_id = "an-id-that-the-app-has-chosen"
    site = Site(on_event=[events.append, EventLog()], format="express", genid=lambda _: session_id)
    site.browser().put(n=1)
    (event,) = events
    (line,) = lines(caplog)
    assert line.session_handle == event.handle != session_id
    assert session_id not in f"{line.getMessage()} {vars(line)} {vars(event)} {event!r}"


def test_the_lines_of_a_login_do_not_contain_the_id(caplog):
    """SECURITY 56, 57."""
    site = Site(on_event=EventLog())
    browser = site.browser()
    browser.put(password="hunter2")
    browser.visit(lambda session: session.login("ada"))
    messages = [line.getMessage() for line in lines(caplog)]
    assert [message.split()[0] for message in messages] == [
        "event=created",
        "event=loaded",
        "event=regenerated",
    ]
    assert f"handle={browser.handle} " in messages[-1]
    assert not any(browser.session_id in message or "hunter2" in message for message in messages)
