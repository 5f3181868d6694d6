"""``python -m tests.upstream [SUITE ...] [--store KIND] [--stock-only] [--fresh]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack

from tests import servers
from tests.upstream.expected import expected_failures
from tests.upstream.running import run, stock_result
from tests.upstream.suites import STOCK, SUITES, Suite
from tests.upstream.table import Run, surprises, table

SHOWN = 20
"""How many unexpected tests of a run are printed."""


class Stores:
    """A fresh store for each run; the servers start when they are first needed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[str, servers.Redis | servers.PostgreSQL] = {}

    def url(self, kind: str) -> str:
        """Return the URL of an empty store."""
        if kind == "sqlite":
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="wsgisession-upstream-"))
            return f"sqlite:///{folder}/sessions.db"
        if kind == "postgresql":
            return self._server(kind, servers.PostgreSQL).url  # each suite's rows have IDs of their own
        server = self._server(kind, servers.Redis)
        server.call("FLUSHALL")
        return server.url

    def _server(self, kind: str, make: type) -> servers.Redis | servers.PostgreSQL:
        if kind not in self._started:
            server = make().start()
            self._stack.callback(server.stop)
            self._started[kind] = server
        return self._started[kind]


def main(arguments: list[str] | None = None) -> int:
    """Run the suites, print the table, and return 1 if anything was unexpected."""
    chosen = _parser().parse_args(arguments)
    runs: list[Run] = []
    with ExitStack() as stack:
        stores = Stores(stack)
        for key in chosen.suites or SUITES:
            for store in _kinds(SUITES[key], chosen):
                runs.append(_one(key, store, stores, fresh=chosen.fresh))
    wrong = [each for each in runs if surprises(each)]
    print("", table(runs), "", *_explained(runs), sep="\n")
    print(f"{len(wrong)} of {len(runs)} runs did not behave as expected." if wrong else "All behaved as expected.")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"one of {', '.join(SUITES)}; all by default")
    parser.add_argument("--store", action="append", help="run on this kind of store only (sqlite, redis, postgresql)")
    parser.add_argument("--fresh", action="store_true", help="run the framework's own sessions again, too")
    parser.add_argument("--stock-only", action="store_true", help="run on the framework's own sessions only")
    return parser


def _kinds(suite: Suite, chosen: argparse.Namespace) -> Iterator[str]:
    yield STOCK
    if not chosen.stock_only:
        yield from (store for store in suite.stores if chosen.store is None or store in chosen.store)


def _one(key: str, store: str, stores: Stores, *, fresh: bool) -> Run:
    suite, started = SUITES[key], time.monotonic()
    url = "" if store == STOCK else stores.url(store)
    database = url if key == "allauth" and store == "postgresql" else ""
    result = stock_result(suite, fresh=fresh) if store == STOCK else run(suite, store, url, database=database)
    done = Run(key, suite, store, result)
    seconds = time.monotonic() - started
    print(f"{key} on {store}: {result.passed} passed, {len(result.failed)} failed, {seconds:.0f} s", flush=True)
    found = surprises(done)
    for sentence in found[:SHOWN]:
        print(f"    {sentence}", flush=True)
    if len(found) > SHOWN:
        print(f"    and {len(found) - SHOWN} more", flush=True)
    return done


def _explained(runs: list[Run]) -> Iterator[str]:
    """Say why tests were expected to fail."""
    for key in dict.fromkeys(each.key for each in runs):
        everything = expected_failures(key, ours=True, postgresql=any(each.store == "postgresql" for each in runs))
        for name, reason in everything.items():
            yield f"expected to fail: {key} {name}: {reason}"


if __name__ == "__main__":
    sys.exit(main())
