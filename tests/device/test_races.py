"""Bindings against everything else that writes a record, on every store: none is lost, and none counts twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import pytest

from tests.device import keys
from tests.device.keys import ECKey
from tests.device.site import Site
from tests.device.test_endpoints import REGISTER, ask, challenge_of, offered, refresh
from wsgisession import SessionConflict

TIMES = 8


@pytest.fixture
def site(store_url):
    site = Site(store_url)
    site.manager.store.prepare()
    yield site
    site.manager.close()


def at_once(*functions):
    """Run the functions in threads that start together, and return their results in order."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(run, function) for function in functions]]


def interrupting(site: Site, action):
    """Let the action happen once, between the next read of a record and what is written over it."""
    store = site.manager.store
    replace, pending = store.replace, [action]

    def replacing(*args, **options):
        if pending:
            pending.pop()()
        return replace(*args, **options)

    store.replace = replacing


def test_of_two_registrations_at_once_one_wins(site):
    for _ in range(TIMES):
        client, challenge = offered(site)
        tokens = [keys.registration(ECKey(), challenge) for _ in range(2)]
        answers = at_once(partial(ask, client, REGISTER, tokens[0]), partial(ask, client.copied(), REGISTER, tokens[1]))
        assert sorted(answer.status for answer in answers) == [200, 403]
        client.get("/logout")


def test_of_two_refreshes_with_one_challenge_one_counts(site):
    browser = site.bound_browser()
    for _ in range(TIMES):
        token = keys.refresh(browser.session.key, challenge_of(refresh(browser, browser.session.id)))
        twins = browser.copied(), browser.copied()
        answers = at_once(*[partial(refresh, twin, browser.session.id, token) for twin in twins])
        assert sorted(answer.status for answer in answers) == [200, 403]
    assert site.record().content.device["n"] == TIMES


def test_a_registration_and_writes_of_data_lose_nothing(site):
    for number in range(TIMES):
        client, challenge = offered(site)
        token = keys.registration(ECKey(), challenge)
        writers = [client.copied() for _ in range(3)]
        answers = at_once(
            partial(ask, client.copied(), REGISTER, token),
            *[partial(one.get, f"/write?key=k{key}&value={number}") for key, one in enumerate(writers)],
        )
        assert [answer.status for answer in answers] == [200] * 4
        found = site.record()
        data = site.manager.info(found.handle).data
        assert "id" in found.content.device
        assert [data[f"k{key}"] for key in range(3)] == [str(number)] * 3
        site.manager.revoke(found.handle)


def test_a_writer_that_read_before_the_registration_does_not_undo_it(site):
    client, challenge = offered(site)
    token = keys.registration(ECKey(), challenge)
    interrupting(site, lambda: ask(client.copied(), REGISTER, token))
    client.get("/write")
    found = site.record()
    assert "id" in found.content.device
    assert site.manager.info(found.handle).data["n"] == "1"


@pytest.mark.parametrize("on_conflict", ["overwrite", "refuse"])
def test_other_ways_to_settle_a_conflict_keep_the_binding_and_are_not_bothered_by_it(store_url, on_conflict):
    site = Site(store_url, on_conflict=on_conflict)
    site.manager.store.prepare()
    client, challenge = offered(site)
    token = keys.registration(ECKey(), challenge)
    interrupting(site, lambda: ask(client.copied(), REGISTER, token))
    client.get("/write")
    assert "id" in site.record().content.device
    assert site.manager.info(site.record().handle).data["n"] == "1"
    site.manager.close()


def test_a_real_conflict_is_still_refused(store_url):
    site = Site(store_url, on_conflict="refuse")
    site.manager.store.prepare()
    browser = site.bound_browser()
    interrupting(site, lambda: browser.get("/write?key=other"))
    with pytest.raises(SessionConflict):
        browser.get("/write")
    site.manager.close()


def test_a_stale_copy_cannot_count_back(site):
    browser = site.bound_browser()
    records = site.manager._services.records
    stale = site.record()
    for _ in range(3):
        assert browser.refresh(browser.session) == ""
    mine = msgspec.structs.replace(stale.content, texts={**stale.content.texts, "s:x": b"1"})
    stored = records.replace(stale, mine)
    assert stored.content.device["n"] == 3
    assert stored.content.device["proven_at"] >= stale.content.device["proven_at"]


def test_a_registration_during_a_new_id_is_carried_over(site):
    client, challenge = offered(site)
    token = keys.registration(ECKey(), challenge)
    late = client.copied()
    delete, pending = site.manager.store.delete, [1]

    def deleting(*args, **options):
        if pending:
            pending.pop()
            assert ask(late, REGISTER, token).status == 200
        return delete(*args, **options)

    site.manager.store.delete = deleting
    client.get("/regenerate")
    assert "id" in site.record().content.device


def test_a_registration_of_the_old_session_is_not_carried_over_into_a_new_login(site):
    client, challenge = offered(site)
    token = keys.registration(ECKey(), challenge)
    late = client.copied()
    delete, pending = site.manager.store.delete, [1]

    def deleting(*args, **options):
        if pending:
            pending.pop()
            ask(late, REGISTER, token)
        return delete(*args, **options)

    site.manager.store.delete = deleting
    client.get("/login")
    assert "id" not in site.record().content.device


@pytest.mark.parametrize("ending", ["/logout", "revoke"])
def test_a_refresh_and_an_end_at_once_leave_nothing(site, ending):
    for _ in range(TIMES):
        browser = site.bound_browser()
        token = keys.refresh(browser.session.key, challenge_of(refresh(browser, browser.session.id)))
        ends = partial(site.manager.revoke_user, "ada") if ending == "revoke" else partial(browser.copied().get, ending)
        answer, _ = at_once(partial(refresh, browser.copied(), browser.session.id, token), ends)
        assert answer.status == 200
        assert site.manager.sessions_for("ada") == []
        assert refresh(browser, browser.session.id).json["continue"] is False


def test_a_refresh_and_a_renewal_at_once_keep_the_session(store_url):
    site = Site(store_url, renewal_timeout=60)
    site.manager.store.prepare()
    browser = site.bound_browser()
    for _ in range(TIMES):
        site.clock.advance(70)
        token = keys.refresh(browser.session.key, challenge_of(refresh(browser, browser.session.id)))
        late = browser.copied()
        answer, page = at_once(partial(refresh, late, browser.session.id, token), partial(browser.get, "/"))
        assert (answer.status, page.json["user"]) == (200, "ada")
        assert browser.get("/").json["user"] == "ada"
    assert site.record().content.device["n"] == TIMES
    site.manager.close()


def test_fifty_requests_during_refreshes_all_see_the_session(site):
    browser = site.bound_browser()
    readers = [browser.copied() for _ in range(5)]

    def read(reader):
        return [reader.get(f"/write?key=r&value={number}").json["user"] for number in range(10)]

    def keep_refreshing():
        return [browser.refresh(browser.session) for _ in range(10)]

    results = at_once(keep_refreshing, *[partial(read, reader) for reader in readers])
    assert results[0] == [""] * 10
    assert results[1:] == [["ada"] * 10] * 5
    assert browser.ended == []
