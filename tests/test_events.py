"""Events: the application's callable receives them whole, the log by their level, and neither a secret."""

from __future__ import annotations

import logging
from datetime import datetime, timezone

import pytest

from wsgisession._core.events import MANY_BAD_SIGNATURES, Events, SessionEvent

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def events(*listeners):
    return Events(listeners, clock=AT.timestamp)


def test_the_callable_receives_the_whole_event():
    heard = []
    events(heard.append).emit("rejected", "1handle", reason="malformed", detail="a sentence")
    assert heard == [SessionEvent("rejected", "1handle", AT, "malformed", "a sentence")]


def test_an_event_has_no_handle_reason_or_detail_unless_it_is_given_one():
    heard = []
    events(heard.append).emit("created")
    assert heard == [SessionEvent("created", None, AT, None, None)]


def test_an_event_cannot_be_changed():
    with pytest.raises(AttributeError):
        SessionEvent("created", None, AT).name = "destroyed"


def test_a_callable_that_fails_is_logged_and_breaks_nothing(caplog):
    """SECURITY 57."""

    def fail(event):
        raise RuntimeError("the metrics server is down")

    events(fail).emit("saved", "1handle")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("wsgisession", logging.ERROR)
    assert "'saved'" in record.getMessage()
    assert "the metrics server is down" in caplog.text


def test_each_of_several_callables_receives_the_event_even_if_others_fail():
    """SECURITY 57."""
    heard = []

    def fail(event):
        raise RuntimeError("the metrics server is down")

    events(fail, heard.append, fail, heard.append).emit("saved", "1handle")
    assert [event.name for event in heard] == ["saved", "saved"]


def test_what_ends_the_process_is_not_held_back():
    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        events(interrupt).emit("saved")


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("created", logging.DEBUG),
        ("loaded", logging.DEBUG),
        ("saved", logging.DEBUG),
        ("merged", logging.DEBUG),
        ("touched", logging.DEBUG),
        ("regenerated", logging.DEBUG),
        ("renewed", logging.DEBUG),
        ("destroyed", logging.DEBUG),
        ("revoked", logging.DEBUG),
        ("expired", logging.DEBUG),
        ("rejected", logging.INFO),
        ("gone", logging.WARNING),
        ("store_error", logging.ERROR),
    ],
)
def test_the_log_level_depends_on_the_event(caplog, name, level):
    caplog.set_level(logging.DEBUG, "wsgisession")
    events().emit(name, "1handle", reason="a reason", detail="a sentence")
    assert caplog.record_tuples == [("wsgisession", level, f"session {name}: 1handle (a reason) (a sentence)")]


def test_a_log_line_about_no_session_has_nothing_instead_of_the_handle(caplog):
    caplog.set_level(logging.INFO, "wsgisession")
    events().emit("rejected", reason="malformed")
    assert caplog.messages == ["session rejected (malformed)"]
    assert repr(SessionEvent("rejected", None, AT, "malformed")) == "<SessionEvent rejected (malformed)>"


def test_an_event_below_the_level_of_the_log_is_not_logged(caplog):
    caplog.set_level(logging.WARNING, "wsgisession")
    events().emit("saved", "1handle")
    assert caplog.messages == []


def test_many_bad_signatures_are_one_warning_about_the_secrets_of_the_workers(caplog):
    events = Events((), clock=lambda: 0.0)
    caplog.set_level(logging.WARNING, "wsgisession")
    for _ in range(MANY_BAD_SIGNATURES - 1):
        events.emit("rejected", reason="bad signature")
    events.emit("rejected", reason="malformed")
    assert "same secret" not in caplog.text
    for _ in range(3 * MANY_BAD_SIGNATURES):
        events.emit("rejected", reason="bad signature")
    assert caplog.text.count("Do all workers have the same secret") == 1
