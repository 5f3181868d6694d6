"""What a list of devices says of each session: where it was last written from, as far as the app's server knows."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from tests.visitors import Site
from tests.visits import NOW, Clock
from wsgisession import Session, SessionInfo
from wsgisession._core.info import capped

FORGED = {"X-Forwarded-For": "203.0.113.66", "X-Real-IP": "203.0.113.66", "Forwarded": "for=203.0.113.66"}


def log_in(session: Session) -> None:
    session.login("ada")


@pytest.fixture
def site() -> Site:
    return Site(track_client=True)


def device(site: Site, order: Any = log_in, *, proxies: int = 0, **environ: str) -> SessionInfo:
    """Log in by a request with this in its environ, and return what the list says."""
    browser = site.browser()
    if proxies:
        browser._client = Client(ProxyFix(site.middleware, x_for=proxies), use_cookies=False)
    base = {"REMOTE_ADDR": "192.0.2.1", **environ}
    browser.visit(order, environ_base=base, headers=FORGED)
    (info,) = site.manager.sessions_for("ada")
    return info


def test_the_address_is_that_of_the_connection_whatever_the_client_says_of_it(site):
    """SECURITY 58."""
    assert device(site).ip_address == "192.0.2.1"


def test_behind_a_proxy_that_the_app_declares_it_is_the_one_that_the_proxy_saw(site):
    """SECURITY 58."""
    assert device(site, proxies=1).ip_address == "203.0.113.66"


def test_what_the_client_put_before_the_proxy_s_word_does_not_count(site, monkeypatch):
    """SECURITY 58."""
    monkeypatch.setitem(FORGED, "X-Forwarded-For", "203.0.113.66, 198.51.100.7")
    assert device(site, proxies=1).ip_address == "198.51.100.7"


@pytest.mark.parametrize("order", [log_in, lambda session: (session.login("ada"), session.save())])
def test_the_device_is_kept_also_where_the_app_saved_before_the_response(site, order):
    assert device(site, order).ip_address == "192.0.2.1"


def test_an_address_that_nobody_knows_is_none(site):
    info = device(site, REMOTE_ADDR="", HTTP_USER_AGENT="Agent")  # as behind a unix socket
    assert (info.ip_address, info.user_agent) == (None, "Agent")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("Agent\r\nSet-Cookie: sid=1", "AgentSet-Cookie: sid=1"),
        ("a\x00b\x1b[31mc\x7f\x85\u2028\u202e", "ab[31mc"),
        ("x" * 100_000, "x" * 256),
        ("\n" * 100_000, ""),
    ],
    ids=["plain", "line break", "control", "long", "breaks alone"],
)
def test_what_a_client_says_of_itself_is_cut_and_has_no_control_characters(said, kept):
    """SECURITY 58."""
    assert capped((said, said)) == (kept[:64], kept)


def test_a_user_agent_that_would_break_a_log_s_line_comes_from_the_list_harmless(site):
    """SECURITY 58."""
    info = device(site, HTTP_USER_AGENT="Agent\r\nforged: line\x1b" + "x" * 100_000)
    assert info.user_agent is not None
    assert info.user_agent.startswith("Agentforged: line")
    assert info.user_agent.isprintable()
    assert len(info.user_agent) <= 256


def test_the_device_is_that_of_the_last_write_and_a_job_leaves_it_alone(site):
    browser = site.logged_in("ada")
    browser.visit(log_in, environ_base={"REMOTE_ADDR": "192.0.2.7"})
    with site.manager.edit(browser.handle) as session:
        session["job"] = "done"
    (info,) = site.manager.sessions_for("ada")
    assert (info.ip_address, info.data["job"]) == ("192.0.2.7", "done")


def test_nothing_is_kept_of_the_client_unless_the_app_asks_for_it():
    info = device(Site(), HTTP_USER_AGENT="Agent")
    assert (info.ip_address, info.user_agent) == (None, None)


def test_a_session_was_last_seen_when_it_was_last_read():
    clock = Clock()
    site = Site(track_client=True, clock=clock)
    browser = site.logged_in("ada")
    clock += 5000  # more than the twentieth part of a day that may pass before a read restarts the idle timeout
    browser.visit(dict)
    clock += 60
    (info,) = site.manager.sessions_for("ada")
    assert (info.created_at.timestamp(), info.last_seen_at.timestamp()) == (NOW, NOW + 5000)
