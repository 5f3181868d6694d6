"""The same requests to the real express-session and to this library: after each, the same answer, data and lifetime.

Only the deliberate differences may be seen, each where it belongs:

1. `regenerate` keeps the data by default: here it is asked not to;
2. an untouched session costs nothing: its lifetime is not restarted;
3. a change of the cookie's settings alone is stored and sent;
4. a destroyed session is expired in the browser;
5. what is stored is sent: Express stores sessions whose cookie it cannot, or does not, send;
6. Max-Age is sent in addition to Expires;
7. a cookie that does not verify, or has no record, is left alone by saveUninitialized.

A longer run: WSGISESSION_TEST_EXPRESS_STEPS=2000.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import redis

from tests.express.peer import Answer, Browser, Express, Ours, parsed, where

STEPS = int(os.environ.get("WSGISESSION_TEST_EXPRESS_STEPS", "30"))
OPTIONS = list(itertools.product([False, True], [False, True], [False, True], ["keep", "destroy"]))
LIFETIMES = [None, 60_000]
SHORT = 30  # seconds: what is left before each request, to see who restarts it
FORGED = "s%3Anothing-of-ours.c2lnbmF0dXJl"
DELIBERATE = {"untouched": 2, "cookie alone": 3, "expired": 4, "stored and sent": 5, "left alone": 7}


class Side:
    """One of the two apps, with a browser and what its store holds."""

    def __init__(self, app: Any, client: Any, prefix: str) -> None:
        self.app, self.client, self.prefix = app, client, prefix
        self.browser = Browser()
        self.id: str | None = None

    def shorten(self) -> None:
        for key in self.keys():
            self.client.expire(key, SHORT)

    def keys(self) -> list[bytes]:
        return list(self.client.scan_iter(f"{self.prefix}*", count=1000))

    def clear(self) -> None:
        for key in self.keys():
            self.client.delete(key)

    def record(self, session_id: str | None) -> tuple[Any, int] | None:
        """Return the record of the ID, and the seconds it has left."""
        key = f"{self.prefix}{session_id}"
        value = None if session_id is None else self.client.get(key)
        return None if value is None else (json.loads(value), self.client.ttl(key))


class Pair:
    """Both apps, and the differences that were seen."""

    def __init__(self, theirs: Side, ours: Side, *, unset: str, uninitialized: bool) -> None:
        self.theirs, self.ours, self.unset, self.uninitialized = theirs, ours, unset, uninitialized
        self.seen: Counter[str] = Counter()

    def visit(self, steps: list[Any]) -> list[str]:
        """Send the same request to both, and return what differs without being deliberate."""
        known = self.theirs.record(self.theirs.id) is not None and self.theirs.browser.cookie not in (None, FORGED)
        came_unknown = self.ours.browser.cookie is not None and not known
        self.theirs.shorten()
        self.ours.shorten()
        answers = [side.app.visit(side.browser, *steps) for side in (self.theirs, self.ours)]
        if not steps:
            answers[1] = self._untouched(*answers)
        moved = [answer.id != side.id for answer, side in zip(answers, (self.theirs, self.ours), strict=True)]
        self.theirs.id, self.ours.id = (answer.id for answer in answers)
        found = [
            *_unlike("status", *(answer.status for answer in answers)),
            *_unlike("data", *(answer.data for answer in answers)),
            *(_unlike("a new ID", *moved) if steps else ()),
            *self._cookies(answers, [step[0] for step in steps], known=known),
            *self._records(steps),
        ]
        for side in (self.theirs, self.ours):
            if not steps and side.record(side.id) is None:
                side.id = None  # of a session that nobody will hear of
        if self.uninitialized and came_unknown and answers[0].set_cookie and not answers[1].set_cookie:
            found = ["left alone"]
        if "stored and sent" in found or "left alone" in found:  # from here on their ways part: begin anew
            for side in (self.theirs, self.ours):
                side.clear()
                side.browser.cookie = side.id = None
        return [difference for difference in found if not self._is_deliberate(difference)]

    def _untouched(self, theirs: Answer, ours: Answer) -> Answer:
        """Return our answer to a request whose app did not look at the session, with what it would have seen."""
        signer, cookie = self.ours.app.manager._services.signer, self.ours.browser.cookie
        session_id = None if cookie in (None, FORGED) else signer.unsign(cookie)
        return Answer(ours.status, ours.set_cookie, session_id, theirs.data)

    def _is_deliberate(self, difference: str) -> bool:
        if difference not in DELIBERATE:
            return False
        self.seen[difference] += 1
        return True

    def _cookies(self, answers: list[Answer], verbs: list[str], *, known: bool) -> Iterator[str]:
        theirs, ours = (answer.set_cookie for answer in answers)
        if theirs is None and ours is not None:
            yield self._cookie_of_ours_alone(parsed(ours)[1], verbs, known=known)
        elif (theirs is None) != (ours is None):
            yield f"the cookie: {theirs} and {ours}"
        elif theirs is not None and ours is not None:
            yield from _unlike_attributes(_attributes(theirs), _attributes(ours))

    def _cookie_of_ours_alone(self, attributes: dict[str, str], verbs: list[str], *, known: bool) -> str:
        ends = "destroy" in verbs or ("drop" in verbs and self.unset == "destroy")
        if attributes.get("max-age") == "0" and (ends or self.theirs.browser.cookie == FORGED):
            return "expired"
        if attributes.get("max-age") != "0" and "maxAge" in verbs:
            return "cookie alone"
        if attributes.get("max-age") != "0" and "save" in verbs and not known:
            return "stored and sent"
        return f"a cookie of ours alone, {attributes}"

    def _records(self, steps: list[Any]) -> Iterator[str]:
        yield from _unlike("records", len(self.theirs.keys()), len(self.ours.keys()))
        theirs, ours = self.theirs.record(self.theirs.id), self.ours.record(self.ours.id)
        if theirs is None or ours is None:
            yield from _unlike("the record", theirs, ours)
            return
        yield from _unlike("the record", *(_comparable(record) for record, _ in (theirs, ours)))
        if abs(theirs[1] - ours[1]) > 2:
            untouched = not steps and ours[1] <= SHORT
            yield "untouched" if untouched else f"seconds left: {theirs[1]} and {ours[1]}"


def _unlike(what: str, theirs: Any, ours: Any) -> Iterator[str]:
    if theirs != ours:
        yield f"{what}: {theirs} and {ours}"


def _attributes(set_cookie: str) -> dict[str, Any]:
    _, attributes = parsed(set_cookie)
    attributes.pop("max-age", None)
    if "expires" in attributes:
        attributes["expires"] = parsedate_to_datetime(attributes["expires"]).timestamp()
    return attributes


def _unlike_attributes(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    if abs(theirs.get("expires", 0) - ours.get("expires", 0)) <= 2:  # the clock went on in between
        ours = {**ours, **({"expires": theirs["expires"]} if "expires" in theirs else {})}
    yield from _unlike("attributes", theirs, ours)


def _comparable(record: Any) -> Any:
    """Return a record without the milliseconds that Express loses as it goes."""
    cookie = dict(record["cookie"])
    assert (cookie.pop("expires") is None) == (cookie["originalMaxAge"] is None)
    if cookie["originalMaxAge"] is not None:
        cookie["originalMaxAge"] = round(cookie["originalMaxAge"] / 10_000)
    return {**record, "cookie": cookie}


VERBS: list[Any] = [
    lambda chance: ["get"],
    lambda chance: ["set", chance.choice("abc"), chance.randrange(3)],
    lambda chance: ["set", chance.choice("abc"), {"deep": [chance.randrange(3), None, "é"]}],
    lambda chance: ["nested", "nest", chance.choice("xy"), chance.randrange(3)],
    lambda chance: ["push", "list", chance.randrange(3)],
    lambda chance: ["remove", chance.choice("abc")],
    lambda chance: ["touch"],
    lambda chance: ["save"],
    lambda chance: ["regenerate"],
]


def request(chance: random.Random, *, stored: bool) -> list[Any]:
    """Return the steps of a random request."""
    draw = chance.random()
    if draw < 0.1:
        return []
    steps = [chance.choice(VERBS)(chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
    if draw < 0.2:
        steps += [["maxAge", chance.choice([60_000, 120_000, None])], ["set", "fresh", chance.random()]]
    elif draw < 0.27:
        steps += [["destroy"]]
    elif draw < 0.34:
        steps += [["drop"]]
    elif draw < 0.4 and stored and not any(step[0] == "regenerate" for step in steps):
        steps += [["reload"]]
    return steps


@pytest.fixture
def pair_of(node, redis_url) -> Iterator[Any]:
    made: list[Any] = []
    theirs, _ = where("redis", redis_url)
    client = redis.Redis.from_url(theirs["url"])

    def make(resave: bool, uninitialized: bool, rolling: bool, unset: str, lifetime: int | None) -> Pair:
        prefix = f"{theirs['prefix']}{len(made)}:"
        cookie: dict[str, Any] = {"sameSite": "lax", "maxAge": lifetime}
        express = Express(
            node,
            {**theirs, "prefix": f"{prefix}theirs:"},
            resave=resave,
            saveUninitialized=uninitialized,
            rolling=rolling,
            unset=unset,
            cookie=cookie,
        )
        ours = Ours(
            redis_url.partition("?")[0] + f"?prefix={prefix}ours:",
            resave=resave,
            save_uninitialized=uninitialized,
            rolling=rolling,
            unset=unset,
            cookie={"max_age": None if lifetime is None else lifetime / 1000},
            touch_after=0,
        )
        made.extend((express, ours))
        return Pair(
            Side(express, client, f"{prefix}theirs:"),
            Side(ours, client, f"{prefix}ours:"),
            unset=unset,
            uninitialized=uninitialized,
        )

    yield make
    for app in made:
        app.close()
    for key in client.scan_iter(f"{theirs['prefix']}*"):
        client.delete(key)
    client.close()


@pytest.mark.parametrize("lifetime", LIFETIMES)
@pytest.mark.parametrize(("resave", "uninitialized", "rolling", "unset"), OPTIONS)
def test_random_requests_are_answered_as_by_express(pair_of, resave, uninitialized, rolling, unset, lifetime):
    pair = pair_of(resave, uninitialized, rolling, unset, lifetime)
    chance = random.Random(f"{resave} {uninitialized} {rolling} {unset} {lifetime} {STEPS}")
    story: list[Any] = []
    for _ in range(STEPS):
        disturbance = chance.random()
        if disturbance < 0.03:
            story.append("forged")
            pair.theirs.browser.cookie = pair.ours.browser.cookie = FORGED
        elif disturbance < 0.06:
            story.append("ended")
            for side in (pair.theirs, pair.ours):
                side.clear()
        stored = pair.theirs.record(pair.theirs.id) is not None and pair.theirs.browser.cookie not in (None, FORGED)
        steps = request(chance, stored=stored)
        story.append(steps)
        assert pair.visit(steps) == [], story[-6:]
    print(f"{STEPS} steps, deliberate differences {dict(pair.seen)}")


@pytest.mark.parametrize("lifetime", LIFETIMES)
def test_a_change_of_the_cookie_alone_is_stored_and_sent_by_us_alone(pair_of, lifetime):
    pair = pair_of(False, False, False, "keep", lifetime)
    assert pair.visit([["set", "a", 1]]) == []
    theirs, ours = (side.app.visit(side.browser, ["maxAge", 120_000]) for side in (pair.theirs, pair.ours))
    assert theirs.set_cookie is None
    assert parsed(ours.set_cookie)[1]["max-age"] == "120"
    kept = [side.record(side.id)[0]["cookie"]["originalMaxAge"] for side in (pair.theirs, pair.ours)]
    assert kept == [lifetime, 120_000]


def test_regenerate_keeps_the_data_by_us_alone(pair_of):
    pair = pair_of(False, False, False, "keep", None)
    assert pair.visit([["set", "a", 1]]) == []
    theirs = pair.theirs.app.visit(pair.theirs.browser, ["regenerate"])
    ours = pair.ours.app.visit(pair.ours.browser, ["rotate"])
    assert (theirs.data, ours.data) == ({}, {"a": 1})
    assert ours.id != pair.ours.id
    assert pair.ours.record(pair.ours.id) is None
