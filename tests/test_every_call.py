"""Requests of one browser that interleave at every call of the store: nothing is lost, and nothing comes back."""

from __future__ import annotations

from contextlib import closing

from tests.staged import RENEWAL, RUNS, drive
from tests.test_interleavings import Blind
from tests.visits import Site
from wsgisession import open_store


def test_nothing_is_lost_and_nothing_comes_back_whatever_call_comes_between(store_url):
    """SECURITY 19, 21, 27, 38, 40, 41."""
    with closing(open_store(store_url)) as store:
        found, words = drive(store, RUNS[store_url.partition(":")[0]])
    assert words == []
    assert found["requests"] > found["races"]


def test_the_same_races_find_what_a_blind_write_does(store_url):
    with closing(Blind(open_store(store_url))) as store:
        found, _ = drive(store, RUNS[store_url.partition(":")[0]] // 3)
    assert found["lost"] > 0
    assert found["resurrected"] > 0


# What the races have found, each by itself.


def test_who_loses_the_race_for_a_renewal_takes_back_nothing_that_was_written_in_the_meantime():
    site = Site(renewal_timeout=RENEWAL)
    browser = site.browser()
    browser.put(a=1, gone=1)
    site.clock += RENEWAL + 1
    writer, winner, loser = browser.open(), browser.twin(), browser.twin()
    del writer["gone"]
    writer["b"] = 2
    won, lost = winner.open(), loser.open()
    assert (won["a"], lost["a"]) == (1, 1)
    writer.save()

    def renew_first() -> None:  # the loser has merged what the writer wrote, and puts its pointer
        site.store.before["replace"] = lambda: winner.end(won)

    site.store.after["load"] = renew_first
    loser.end(lost)
    assert winner.cookie == loser.cookie
    assert winner.data == {"a": 1, "b": 2}


def test_an_id_that_was_renewed_while_the_request_ran_is_not_renewed_again():
    site = Site(renewal_timeout=RENEWAL)
    browser = site.browser()
    browser.put(a=1)
    site.clock += RENEWAL + 1
    slow, other = browser.open(), browser.twin()
    slow["b"] = 2
    other.put(c=3)
    slow.save()
    browser.end(slow)
    assert browser.cookie == other.cookie
    assert len(site.told("renewed")) == 1


def test_a_late_answer_after_a_renewal_does_not_replace_the_cookie_of_a_login():
    site = Site(renewal_timeout=RENEWAL)
    browser = site.browser()
    browser.put(a=1)
    site.clock += RENEWAL + 1
    late = browser.twin()
    with browser.request() as session:
        assert session["a"] == 1
    slow = late.open()
    assert slow["a"] == 1
    with browser.request() as session:
        session.login("ada")
    assert late.end(slow).set_cookie is None


def test_a_revoke_that_meets_only_the_way_to_a_session_says_that_it_ended_none():
    site = Site(renewal_timeout=RENEWAL)
    browser = site.browser()
    browser.put(a=1)
    handle = browser.handle
    site.clock += RENEWAL + 1
    browser.put(b=2)
    with browser.request() as session:
        session.login("ada")
    assert not site.manager.revoke(handle)
    assert site.told("revoked") == []
    assert browser.data["user_id"] == "ada"


def test_of_a_session_that_has_ended_no_record_stays_that_was_made_on_the_way():
    site = Site()
    browser = site.browser()
    browser.put(a=1)
    session = browser.open()
    session.regenerate()
    session.save()
    session.regenerate()
    site.manager.revoke(browser.handle)
    assert browser.end(session).set_cookie is None
    assert site.store.handles == set()
