"""During a deployment, workers of the old version and of today's serve the same sessions from one store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests.compat.old_process import OldVersion
from tests.compat.peer import World, shown
from wsgisession import open_store

REQUESTS = 60


class Deployment:
    """A worker of each version on one store, and a visitor who does not know which one answers."""

    def __init__(self, old: OldVersion, url: str, **options: Any) -> None:
        self.old = old
        store = open_store(url)
        store.prepare()
        store.close()
        old.ask({"open": url, "options": options})
        self.new = World(options, url, is_real=True)
        self.new.elsewhere = self.old_visit
        self.cookie: str | None = None
        self.ahead, self.between = 0.0, options.get("renewal_timeout", 0.0)

    def old_visit(self, cookie: str | None, steps: list[Any]) -> dict[str, Any]:
        told: dict[str, Any] = self.old.ask({"play": ["visit", cookie, steps, self.ahead]})
        return told

    def new_visit(self, cookie: str | None, steps: list[Any]) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(json.dumps(self.new.do_visit(cookie, steps, self.ahead)))
        return told

    def visit(self, version: str, *steps: list[Any]) -> list[Any]:
        """Visit a worker of this version, and return what its app did."""
        self.ahead += self.between
        told = (self.old_visit if version == "old" else self.new_visit)(self.cookie, list(steps))
        assert told["raised"] is None
        self.cookie = told["cookie"]
        results: list[Any] = told["results"]
        assert [one for one in results if str(one).startswith("raised")] == []
        return results

    def data(self) -> str:
        """Return what both versions find, which must be the same."""
        (old,), (new,) = self.visit("old", ["all"]), self.visit("new", ["all"])
        assert old == new
        return str(new)


@pytest.fixture(params=["sqlite", "redis", "postgresql", "mongodb"])
def url(request) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(
    params=[{}, {"renewal_timeout": 600.0}, {"cookie": {"max_age": 3600}}], ids=["plain", "renewed", "lasting"]
)
def deployment(request, old_version, url) -> Iterator[Deployment]:
    deployment = Deployment(old_version, url, **request.param)
    yield deployment
    deployment.new.manager.close()


def test_a_visitor_goes_from_one_version_to_the_other_at_every_request(deployment):
    """Counted, appended, and logged in by whichever worker answers, with nothing lost."""
    chance, expected = Random(7), {"n": 0, "list": [], "cart": {}}
    deployment.visit("old", ["set", "list", 4], ["set", "cart", 7])
    for number in range(REQUESTS):
        version = chance.choice(["old", "new"])
        act = chance.choice(["count", "append", "put", "login", "regenerate"])
        if act == "count":
            deployment.visit(version, ["count", "n"])
            expected["n"] += 1
        elif act == "append":
            deployment.visit(version, ["append", "list", 1])
            expected["list"].append(2)
        elif act == "put":
            deployment.visit(version, ["put", "cart", f"k{number}", 2])
            expected["cart"][f"k{number}"] = "text"
        elif act == "login":
            deployment.visit(version, ["login", 7, {}])
            expected["user_id"] = 7
        else:
            deployment.visit(version, ["regenerate", True])
    expected = {key: value for key, value in expected.items() if key != "n" or value}
    assert deployment.data() == shown(expected)


def test_requests_that_both_versions_answer_at_once_lose_nothing(deployment):
    deployment.visit("old", ["set", "list", 4], ["set", "cart", 7])
    for _ in range(5):
        at_once = [["append", "list", 0], ["put", "cart", "a", 0], ["count", "m"]]
        deployment.visit(
            "new", ["all"], ["elsewhere", at_once], ["append", "list", 1], ["put", "cart", "x", 1], ["count", "n"]
        )
    assert deployment.data() == shown({"list": [1, 2] * 5, "cart": {"a": 1, "x": 2}, "m": 5, "n": 5})


@pytest.mark.parametrize(("first", "second"), [("old", "new"), ("new", "old")])
def test_a_logout_at_one_version_is_a_logout_at_the_other(deployment, first, second):
    deployment.visit(first, ["login", 7, {}])
    stolen = deployment.cookie
    assert deployment.visit(second, ["get", "user_id"]) == ["7"]
    stolen = deployment.cookie or stolen
    deployment.visit(second, ["logout", False])
    deployment.cookie = stolen
    assert deployment.visit(first, ["all"]) == ["{}"]


@pytest.mark.parametrize(("first", "second"), [("old", "new"), ("new", "old")])
def test_a_user_s_sessions_at_one_version_are_revoked_by_the_other(deployment, first, second):
    deployment.visit(first, ["login", 7, {}])
    assert deployment.visit(second, ["revoke_user", 7]) == [1]
    assert deployment.visit(first, ["all"]) == ["{}"]
