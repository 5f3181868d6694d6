"""Whose session it is, and under which ID: a session is never inherited from another user, nor an ID planted."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest

from tests.visits import Site
from wsgisession import HeadersSentError, SerializationError

USER_KEYS = ["user_id", "_user_id", "_auth_user_id"]
every_key = pytest.mark.parametrize("key", USER_KEYS)


@pytest.fixture
def site() -> Site:
    return Site()


def ids_of(browser: Any) -> tuple[str, str]:
    return browser.cookie, browser.twin().open().handle


# A change of the user by writing the key.


@every_key
def test_an_anonymous_visitor_who_becomes_somebody_gets_a_new_id_and_keeps_the_cart(site, key):
    browser = site.browser()
    browser.put(cart=["tea"])
    planted = browser.twin()
    browser.put(**{key: 7})
    assert planted.data == {}
    assert browser.data == {"cart": ["tea"], key: 7}
    assert [info.user_id for info in site.manager.sessions_for(7)] == [7]


def test_a_planted_cookie_is_never_logged_in(site):
    attacker = site.browser()
    attacker.put(lang="en")
    victim = attacker.twin()
    with victim.request() as session:
        session["user_id"] = "root"
        session.save()
        assert attacker.data.get("user_id") is None
    assert attacker.data == {}
    assert victim.data["user_id"] == "root"


@every_key
def test_another_users_data_is_not_inherited_when_the_key_is_written(site, key):
    browser = site.browser()
    browser.put(**{key: "root"}, roles=["admin"], cart={"tea": 1})
    with browser.request() as session:
        session[key] = "eve"
        session["lang"] = "en"
    assert browser.data == {key: "eve", "lang": "en"}


def test_of_a_list_or_dict_that_was_assigned_only_what_this_request_added_stays(site):
    browser = site.browser()
    browser.put(user_id="root", roles=["admin"], prefs={"theme": "dark"})
    with browser.request() as session:
        session["roles"] = [*session["roles"], "guest"]
        session["prefs"] = {**session["prefs"], "lang": "en"}
        session["user_id"] = "eve"
    assert browser.data == {"user_id": "eve", "roles": ["guest"], "prefs": {"lang": "en"}}


def test_logging_out_by_removing_the_key_keeps_the_data_and_a_later_login_as_somebody_else_drops_them(site):
    browser = site.browser()
    browser.put(_user_id="root", roles=["admin"])
    with browser.request() as session:
        session.pop("_user_id")
    assert browser.data == {"roles": ["admin"]}
    with browser.twin().request() as session:
        session["n"] = 1  # whatever happens in between
    browser.put(_user_id="eve")
    assert browser.data == {"_user_id": "eve"}


def test_the_same_user_who_logs_in_again_keeps_the_data(site):
    browser = site.browser()
    browser.put(_user_id="root", roles=["admin"])
    with browser.request() as session:
        session.pop("_user_id")
    browser.put(_user_id="root")
    assert browser.data == {"_user_id": "root", "roles": ["admin"]}


@pytest.mark.parametrize("now", ["save", "transaction"])
def test_saving_before_the_response_inherits_nothing_either(site, now):
    browser = site.browser()
    browser.put(user_id="root", roles=["admin"])
    old = browser.twin()
    with browser.request() as session:
        if now == "save":
            session["user_id"] = "eve"
            session.save()
        else:
            session.transaction(lambda session: session.update(user_id="eve"))
        assert "roles" not in session
    assert browser.data == {"user_id": "eve"}
    assert old.data == {}


def test_what_the_other_user_writes_at_that_moment_does_not_come_along(site):
    browser = site.browser()
    browser.put(user_id="root", roles=["admin"])
    late = browser.twin()
    session = browser.open()
    session["user_id"] = "eve"
    late.put(secret="of root")
    browser.end(session)
    assert browser.data == {"user_id": "eve"}


def test_a_renamed_user_is_another_user_and_a_user_of_another_type_is_not(site):
    browser = site.browser()
    browser.put(user_id=7, cart=["tea"])
    cookie = browser.cookie
    browser.put(user_id="7")
    assert browser.cookie == cookie
    assert browser.data == {"user_id": "7", "cart": ["tea"]}
    browser.put(user_id="seven")
    assert browser.data == {"user_id": "seven"}


def test_an_app_that_tries_its_own_key_first_may_keep_an_unrelated_one(site):
    site = Site(user_key=["_user_id", "user_id"])
    browser = site.browser()
    browser.put(_user_id="ada", user_id=12, cart=["tea"])
    browser.put(user_id=13)
    assert browser.data == {"_user_id": "ada", "user_id": 13, "cart": ["tea"]}


def test_a_change_of_the_user_is_a_login_that_restarts_the_timeouts_and_the_age_of_the_id():
    site = Site(renewal_timeout=100, absolute_timeout=1000, idle_timeout=900)
    browser = site.browser()
    browser.put(cart=["tea"])
    site.clock += 90
    browser.put(user_id=7)
    began = browser.open().authenticated_at
    site.clock += 50
    with browser.request() as session:
        assert session.authenticated_at == began
    assert site.told("renewed") == []


def test_a_change_of_the_user_counts_for_the_session_limit():
    site = Site(max_sessions_per_user=1)
    first, second = site.browser(), site.browser()
    first.put(user_id=7)
    second.put(user_id=7)
    assert first.data == {}
    assert second.data == {"user_id": 7}


@pytest.mark.parametrize("nobody", ["", False, None, [], {}], ids=repr)
def test_nobody_is_not_a_user(site, nobody):
    browser = site.browser()
    browser.put(user_id=nobody, n=1)
    cookie = browser.cookie
    browser.put(n=2)
    assert browser.cookie == cookie
    assert browser.open().user_id is None
    assert site.manager.sessions_for("") == site.manager.sessions_for("False") == []


def test_the_user_zero_is_a_user(site):
    browser = site.browser()
    browser.put(user_id=0)
    assert browser.open().user_id == 0
    assert len(site.manager.sessions_for(0)) == 1


@pytest.mark.parametrize("value", [True, [1], {"id": 3}, (1,), {1}], ids=repr)
def test_a_bool_or_a_container_under_a_user_key_is_an_error_at_commit(site, value):
    browser = site.browser()
    browser.put(n=1)
    session = browser.open()
    session["user_id"] = value
    with pytest.raises(SerializationError, match=r"session\['user_id'\].*cannot name a user"):
        browser.end(session)
    assert browser.data == {"n": 1}


def test_an_old_container_under_a_user_key_does_not_stop_other_changes(site):
    site = Site(user_key="account")
    browser = site.browser()
    browser.put(user_id={"id": 3})
    site = Site(store=site.store)
    browser.manager = site.manager
    browser.put(n=1)
    assert browser.data["n"] == 1


# Logging in.


@pytest.mark.parametrize("user", [7, 0, "ada", UUID(int=1)], ids=repr)
def test_login_as_another_user_starts_empty(site, user):
    browser = site.browser()
    browser.put(user_id="root", roles=["admin"])
    with browser.request() as session:
        session.login(user, lang="en")
    assert browser.data == {"user_id": user, "lang": "en"}


def test_login_removes_the_other_user_keys(site):
    browser = site.browser()
    browser.put(_user_id="ada", cart=["tea"])
    with browser.request() as session:
        session.login("ada")
    assert browser.data == {"user_id": "ada", "cart": ["tea"]}


def test_a_login_restarts_the_age_of_the_id():
    site = Site(renewal_timeout=100)
    browser = site.browser()
    browser.put(n=1)
    site.clock += 90
    with browser.request() as session:
        session.login(7)
    site.clock += 90
    with browser.request() as session:
        assert session["n"] == 1
    assert site.told("renewed") == []
    site.clock += 10
    with browser.request() as session:
        assert session["n"] == 1
    assert len(site.told("renewed")) == 1


def test_regenerate_restarts_the_age_of_the_id():
    """Otherwise the next read would renew the ID a second time."""
    site = Site(renewal_timeout=100)
    browser = site.browser()
    browser.put(n=1)
    site.clock += 99
    with browser.request() as session:
        session.regenerate()
    site.clock += 99
    with browser.request() as session:
        assert session["n"] == 1
    assert site.told("renewed") == []


# Failures on the way leave nothing behind.


@pytest.mark.parametrize(
    "steps",
    [
        lambda session: (session.update(n=1), session.save(), session.regenerate()),
        lambda session: (session.login(7), session.save(), session.regenerate()),
        lambda session: (session.login(7), session.save(), session.regenerate(), session.save()),
        lambda session: (session.update(user_id=7), session.save(), session.login(8), session.save()),
        lambda session: (session.login(7), session.save(), session.regenerate(keep_data=False), session.save()),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_an_app_that_fails_leaves_no_record_of_an_id_that_nobody_got(site, steps, is_new):
    browser = site.browser()
    if not is_new:
        browser.put(old=1)
    before = set(site.store.handles)
    session = browser.open()
    steps(session)
    site.manager.abandon(session)
    assert site.store.handles == before
    assert site.manager.sessions_for(7) == site.manager.sessions_for(8) == []


def test_intermediate_records_are_deleted_when_the_response_is_sent(site):
    browser = site.browser()
    browser.put(old=1)
    with browser.request() as session:
        session.regenerate()
        session.save()
        session.regenerate()
        session.save()
        session["n"] = 1
    assert len(site.store.handles) == 1
    assert browser.data == {"old": 1, "n": 1}


# Outside a request.


def test_a_user_key_written_outside_a_request_is_stored_and_the_next_response_carries_the_new_id(site):
    browser = site.browser()
    browser.put(cart=["tea"])
    old = browser.twin()
    with site.manager.edit(browser.handle) as session:
        session["_user_id"] = "ada"
    assert browser.data == {"cart": ["tea"], "_user_id": "ada"}
    cookie = browser.cookie
    with browser.request() as session:
        assert session.user_id == "ada"
    assert browser.cookie != cookie
    assert browser.data == {"cart": ["tea"], "_user_id": "ada"}
    assert old.data == {}
    cookie = browser.cookie
    with browser.request() as session:
        assert session.user_id == "ada"
    assert browser.cookie == cookie


def test_another_user_written_outside_a_request_inherits_nothing(site):
    browser = site.browser()
    browser.put(user_id="root", roles=["admin"])
    with site.manager.edit(browser.handle) as session:
        session["user_id"] = "eve"
    assert browser.data == {"user_id": "eve"}
    with browser.request() as session:
        assert session.user_id == "eve"
    assert browser.data == {"user_id": "eve"}


def test_a_change_of_the_user_after_the_headers_were_sent_is_not_written(site, caplog):
    browser = site.browser()
    browser.put(n=1)
    session = browser.open()
    assert session["n"] == 1
    site.manager.commit(session, {"wsgi.url_scheme": "https", "HTTP_HOST": "example.com"})
    session["user_id"] = "eve"
    with pytest.raises(HeadersSentError, match="user changed after the headers"):
        session.save()
    with caplog.at_level(logging.ERROR, "wsgisession"):
        site.manager.finish(session)
    assert "user changed after the headers" in caplog.text
    assert browser.data == {"n": 1}


# A renewed ID.


def test_the_old_id_is_accepted_until_the_new_one_was_presented_and_a_grace_period_after_that():
    site = Site(renewal_timeout=600, renewal_grace=30, idle_timeout=86_400)
    browser = site.browser()
    browser.put(n=1)
    lost = browser.twin()  # the response with the new cookie is lost
    site.clock += 600
    with browser.request() as session:
        assert session["n"] == 1
    for _ in range(5):
        site.clock += 7200
        assert lost.twin().data == {"n": 1}
    with lost.twin().request() as session:
        assert session["n"] == 1
    browser.put(n=2)  # presents the new ID
    site.clock += 30
    assert lost.twin().data == {"n": 2}
    site.clock += 1
    assert lost.twin().data == {}
    assert site.told("rejected")[-1].reason == "stale"
    assert browser.data == {"n": 2}


def test_an_id_that_was_not_presented_is_not_renewed_again():
    site = Site(renewal_timeout=600, idle_timeout=86_400)
    browser = site.browser()
    browser.put(n=1)
    lost = browser.twin()
    for _ in range(4):
        site.clock += 3600
        with lost.twin().request() as session:
            assert session["n"] == 1
    assert len(site.told("renewed")) == 1


def test_a_revocation_ends_both_ids_of_a_renewed_session():
    site = Site(renewal_timeout=600, idle_timeout=86_400)
    browser = site.browser()
    browser.put(user_id=7)
    old = browser.twin()
    site.clock += 600
    with browser.request() as session:
        assert session.user_id == 7
    assert old.twin().data == {"user_id": 7}
    site.manager.revoke_user(7)
    assert old.data == browser.data == {}


def test_a_renewal_costs_one_extra_write_for_the_request_that_presents_the_new_id():
    site = Site(renewal_timeout=600, idle_timeout=86_400)
    browser = site.browser()
    browser.put(n=1)
    site.clock += 600
    with browser.request() as session:
        assert session["n"] == 1
    site.store.calls.clear()
    for _ in range(3):
        with browser.request() as session:
            assert session["n"] == 1
    assert site.store.calls == {"load": 3, "replace": 1}
