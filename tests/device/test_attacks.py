"""No attack with copied cookies succeeds, on any store, and the owner goes on undisturbed."""

from __future__ import annotations

import pytest

from tests.device.attacks import ATTACKS, Attacker
from tests.device.site import Site


@pytest.fixture
def attacker(store_url):
    site = Site(store_url)
    site.manager.store.prepare()
    yield Attacker(site)
    site.manager.close()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_attack_fails_and_the_owner_continues(attacker, attack):
    assert attack(attacker) is False
    assert attacker.owner.get("/").json["user"] == "ada"
    assert attacker.owner.ended == []


def test_an_attacker_who_has_the_key_would_succeed(attacker):
    """So that the attacks above fail for want of the key, and not because they are wrong."""
    attacker.key = attacker.owner.session.key
    assert ATTACKS["his own key"](attacker) is True
