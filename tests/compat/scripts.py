"""Random scripts of requests, for peer.py, and the smallest part of one that still shows what the whole one did."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from tests.compat.peer import EXPRESS_VALUES, VALUES

Script = dict[str, Any]
Step = list[Any]

BROWSERS = ["ada", "bob"]
KEYS = ["a", "b", "cart"]
NAMES = ["a", "x"]
_DICT, _LIST = 9, 6
USERS = [7, "7", "ada"]


class Writer:
    """Writes scripts.

    :param chance: where all decisions come from.
    """

    def __init__(self, chance: Random, *, express: bool = False) -> None:
        self.chance, self.express = chance, express
        # Most scripts know one user, and only a few write the user's key by hand: there the versions differ on purpose.
        self._users = USERS if chance.random() < 0.1 else [chance.choice(USERS)]
        self._writes_user, self._forges = chance.random() < 0.1, chance.random() < 0.2
        self._values = EXPRESS_VALUES if express else range(len(VALUES))

    def script(self, store: str = "memory") -> Script:
        """Return a script that begins with a visitor who has a session, as most requests do."""
        first = {"steps": [["set", "a", _DICT], ["set", "b", _LIST], self._step()]}
        actions = [["request", "ada", first], *(self._action() for _ in range(self.chance.randint(3, 12)))]
        options = self._options()
        if store == "memory":  # where the old version restarted a session at every read, whatever this option said
            options["touch_after"] = 0
        return {"options": options, "actions": actions, "store": store}

    def _options(self) -> dict[str, Any]:
        """Return options of the manager; each is left out more often than not."""
        known: dict[str, list[Any]] = {
            "resave": [True],
            "save_uninitialized": [True],
            "rolling": [True],
            "unset": ["destroy"],
            "cookie": [{"max_age": 3600}, {"max_age": 60, "same_site": "Strict"}],
            "on_conflict": ["overwrite", "refuse"],
            "on_gone": ["raise"],
            "absolute_timeout": [5000.0, None],
            "max_sessions_per_user": [1],
            "track_client": [True],
        }
        chosen = {name: self.chance.choice(some) for name, some in known.items() if self.chance.random() < 0.2}
        if not self.express and self.chance.random() < 0.3:
            chosen["renewal_timeout"] = 600.0
        return {**chosen, **({"format": "express", "name": "connect.sid"} if self.express else {})}

    def _action(self) -> Step:
        request = ["request", self._browser(), self._request(depth=0)]
        steps = [self._step() for _ in range(self.chance.randint(1, 3))]
        rare: list[Step] = [
            ["copy", *self.chance.sample(BROWSERS, 2)],
            ["again", self._browser(), self.chance.randrange(6)],
            ["again", self._browser(), self.chance.randrange(6)],
            ["advance", 700.0],
            ["forge" if self._forges else "purge", *([self._browser()] if self._forges else [])],
            ["revoke_user", self._user(), self.chance.choice([None, *BROWSERS])],
            ["revoke", self._browser(), self.chance.choice([None, self._user()])],
            ["edit", self._browser(), steps],
            ["sessions_for", self._user()],
            ["purge"],
            ["advance", self.chance.choice([1.0, 40.0, 700.0, 700.0, 4000.0, 100_000.0])],
        ]
        return request if self.chance.random() < 0.7 else self.chance.choice(rare)

    def _request(self, *, depth: int) -> dict[str, Any]:
        """Return what the app does in a request, and the requests that come and go while it runs."""
        few = [0, 0, 1, 2]
        request: dict[str, Any] = {"steps": self._steps(self.chance.choice([1, 2, 3, 5]), depth=depth)}
        if self.chance.random() < 0.1:
            request["late"] = self._steps(self.chance.choice(few), depth=depth)
        if self.chance.random() < 0.2:
            parts = range(self.chance.choice([0, 1, 2, 3]))
            request["stream"] = [self._steps(self.chance.choice(few), depth=depth) for _ in parts]
        if self.chance.random() < 0.1:
            request["base"] = self.chance.choice(["http://localhost", "http://example.com"])
        if self.chance.random() < 0.1:
            request["headers"] = [self.chance.choice([["Cache-Control", "public, max-age=60"], ["Vary", "Accept"]])]
        return request

    def _steps(self, number: int, *, depth: int) -> list[Step]:
        steps = [self._step() for _ in range(number)]
        if depth < 2 and self.chance.random() < 0.3:  # most often after a look at the session
            other = ["request", self._browser(), self._request(depth=depth + 1)]
            steps.insert(self.chance.randint(0, len(steps)), other)
            if self.chance.random() < 0.5:
                steps.insert(0, ["all"])
        if depth < 2 and self.chance.random() < 0.1:
            between = [[self._browser(), self._request(depth=2)]] if self.chance.random() < 0.7 else []
            steps.append(["transaction", self.chance.choice("nm"), between, self.chance.random() < 0.2])
        return steps

    def _step(self) -> Step:
        kinds = [self._change, self._change, self._read, self._life]
        return self.chance.choices(kinds, weights=[4, 4, 3, 3])[0]()

    def _change(self) -> Step:
        key, name, value = self._key(), self.chance.choice(NAMES), self._value()
        mapping, series = (self.chance.choices([fitting, key], weights=[3, 1])[0] for fitting in "ab")
        return self.chance.choice(
            [
                ["set", key, value],
                ["set", key, value],
                ["delete", key],
                ["pop", key],
                ["clear"],
                ["setdefault", key, value],
                ["put", mapping, name, value],
                ["deep", mapping, value],
                ["append", series, value],
                ["append", series, value],
                ["append", series, value],
                ["remove", mapping, name],
                ["count", self.chance.choice("nm")],
                ["hold", self.chance.choice([mapping, series])],
                ["give", key, value],
                ["held_append", series, value],
                ["held_put", mapping, name, value],
                ["set", "user_id" if self._writes_user else key, self.chance.choice([0, 2])],
            ]
        )

    def _read(self) -> Step:
        plain: list[Step] = [["get", self._key()], ["all"], ["in", self._key()], ["state"], ["times"], ["handle"]]
        return self.chance.choice(plain)

    def _life(self) -> Step:
        granted = {self.chance.choice(["cart", "rights"]): self._value()} if self.chance.random() < 0.4 else {}
        return self.chance.choice(
            [
                ["login", self._user(), granted],
                ["login", self._user(), granted],
                ["logout", self.chance.random() < 0.3],
                ["destroy"],
                ["regenerate", True],
                ["regenerate", False],
                ["save"],
                ["save"],
                ["reload"],
                ["touch"],
                ["drop"],
                ["raise"],
                ["advance", self.chance.choice([1.0, 700.0])],
                ["revoke_user", self._user()],
                ["cookie", "max_age", self.chance.choice([None, 60, 7200])],
                ["cookie", "max_age", self.chance.choice([None, 60, 7200])],
                ["cookie", "same_site", self.chance.choice(["Lax", "Strict"])],
                ["cookie", "path", self.chance.choice(["/", "/app"])],
            ]
        )

    def _browser(self) -> str:
        return self.chance.choices(BROWSERS, weights=[3, 1])[0]

    def _key(self) -> str:
        return self.chance.choice(KEYS)

    def _user(self) -> Any:
        return self.chance.choice(self._users)

    def _value(self) -> int:
        return self.chance.choice(self._values)


def smallest(script: Script, is_seen: Callable[[Script], bool]) -> Script:
    """Return a part of a script in which the same is still seen, and without any one of its parts no more."""
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for part in _parts(script):
            if is_seen(part):
                script, is_smaller = part, True
                break
    return script


def _parts(script: Script) -> Iterator[Script]:
    """Return the script without one of its parts, the largest first."""
    for path in sorted(_removable(script, ()), key=len):
        part = copy.deepcopy(script)
        place: Any = part
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]
        yield part


def _removable(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Return the paths of what can be left out: actions, steps, chunks, and options."""
    if isinstance(value, dict):
        for name, item in value.items():
            if (
                path == ("options",)
                and name not in ("format", "name", "touch_after")
                or name in ("late", "stream", "base", "headers")
            ):
                yield (*path, name)
            yield from _removable(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, list):
                if item and isinstance(item[0], str) and path:
                    yield (*path, number)
                yield from _removable(item, (*path, number))
            elif isinstance(item, dict):
                yield from _removable(item, (*path, number))
