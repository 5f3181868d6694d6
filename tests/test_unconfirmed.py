"""What becomes of a session that was ended, but not on as many replicas as the store's ``wait`` asks for."""

from __future__ import annotations

import pytest

from tests.visits import Site, WatchedStore
from wsgisession import StoreError
from wsgisession.stores.base import Deleted, Unconfirmed


class Unsure(WatchedStore):
    """Ends sessions, and says that no replica has confirmed it."""

    is_unsure = False

    def delete(self, handle, **options):
        was_there = super().delete(handle, **options)
        if was_there and self.is_unsure:
            raise Unconfirmed("0 of 1 replicas have confirmed it", [handle])
        return was_there

    def delete_user(self, user_id, **options):
        step: Deleted = super().delete_user(user_id, **{**options, "limit": 1})
        if step.handles and self.is_unsure:
            raise Unconfirmed("0 of 1 replicas have confirmed it", step.handles, more=step.more)
        return step


@pytest.fixture
def site():
    return Site(store=Unsure())


def logged_in(site):
    browser = site.browser()
    with browser.request() as session:
        session.login(7)
    return browser


def test_an_unconfirmed_logout_says_so_and_ends_the_session_and_the_cookie(site):
    browser = logged_in(site)
    old = browser.twin()
    session = browser.open()
    site.manager.store.is_unsure = True
    with pytest.raises(StoreError, match="0 of 1 replicas"):
        session.logout()
    assert "Max-Age=0" in browser.end(session).set_cookie
    assert old.data == {}


def test_an_unconfirmed_end_of_the_old_id_is_not_a_login(site):
    """A failover may bring the old one back."""
    browser = site.browser()
    browser.put(cart=["tea"])
    session = browser.open()
    session.login(7)
    site.manager.store.is_unsure = True
    with pytest.raises(StoreError, match="0 of 1 replicas"):
        browser.end(session)
    site.manager.store.is_unsure = False
    assert site.manager.sessions_for(7) == []
    assert browser.data == {}


def test_an_unconfirmed_revocation_ends_all_sessions_and_says_how_many(site):
    browsers = [logged_in(site) for _ in range(3)]
    site.manager.store.is_unsure = True
    with pytest.raises(StoreError, match=r"3 sessions of the user were ended, but .* 0 of 1 replicas"):
        site.manager.revoke_user(7)
    assert [browser.data for browser in browsers] == [{}, {}, {}]
