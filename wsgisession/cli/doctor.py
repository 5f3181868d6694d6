"""An examination of a store: what its server says about itself, and then each method, timed, on one new record."""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from ..device.diagnosis import examine_endpoints
from ..errors import StoreError
from ..stores import Record, Store
from ..stores.findings import Finding
from .index import sessions_not_indexed

_WRITERS = 16
_READS = 15
_TTL = 60.0
_SLOW = 0.02
_INDEX_SECONDS = 5.0
_LOST = (
    "what was written is not there: look for an eviction policy, a replica, a TTL index with another unit, "
    "or a proxy that sends reads to another server"
)
_CREATE_FIRST = "correct the store's URL, or run `wsgisession init URL`, and then run doctor again"
_REPAIR = (
    "each is repaired when a request next restarts its idle timeout; if the server evicts keys, set its"
    " maxmemory-policy to noeviction"
)


@dataclass(frozen=True)
class Step:
    """One step of the examination.

    :param seconds: how long it took; for ``latency``, the median read.
    :param is_last: whether it failed, which makes further steps pointless.
    """

    name: str
    seconds: float
    findings: list[Finding] = field(default_factory=list)
    is_last: bool = False


def examine(
    store: Store, *, clock: Callable[[], float] = time.time, index_seconds: float = _INDEX_SECONDS
) -> Iterator[Step]:
    """Run and time each step, until one fails. Nothing is created except one record, which is deleted again.

    :param clock: the application's clock, which the server's is compared with.
    :param index_seconds: for how long to look for sessions that no user's index contains.
    """
    patient = _Patient(store, clock)
    steps = (patient.connect, patient.create, patient.read, patient.replace, patient.race, patient.delete)
    try:
        for each in steps:
            step = _timed(each)
            yield step
            if step.is_last:
                return
        yield _timed(lambda: _of_index(store, clock=clock, seconds=index_seconds), "index")
        yield patient.latency()
    finally:
        patient.clean_up()


def examine_devices(url: str) -> Step:
    """Ask the endpoints for device-bound sessions of a running site, and time that.

    :param url: of the registration endpoint.
    """
    return _timed(lambda: list(examine_endpoints(url)), "devices")


def absent(store: Store) -> str:
    """Return the sentence that says what a store lacks that does not exist yet."""
    parts = store.missing()
    return f"{parts[0] if parts else repr(store)} does not exist"


class _StopError(Exception):
    """Ends the examination with findings."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings


def _timed(step: Callable[[], list[Finding] | None], name: str = "") -> Step:
    began = time.perf_counter()
    try:
        findings, failed = step() or [], False
    except StoreError as error:
        findings, failed = [_finding("problem", error)], True
    except _StopError as stop:
        findings, failed = stop.findings, True
    return Step(name or step.__name__, time.perf_counter() - began, findings, failed)


def _finding(level: Literal["problem", "warning"], error: StoreError) -> Finding:
    fact, _, cure = str(error).partition(": ")
    return Finding(level, fact, cure)


def _of_index(store: Store, *, clock: Callable[[], float], seconds: float) -> list[Finding]:
    counts = sessions_not_indexed(store, clock=clock, seconds=seconds)
    if not counts.missing:
        return []
    of = "" if counts.is_complete else f" of the first {counts.seen:,}"
    fact = f"{counts.missing:,}{of} sessions are in no user's index, so revoke_user and the session limit miss them"
    return [Finding("problem", fact, _REPAIR)]


class _Patient:
    """One record, and what is done with it."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._handle = f"doctor-{secrets.token_hex(16)}"
        self._record = Record(b'{"doctor":0}', _TTL)
        self._has_written = False

    def connect(self) -> list[Finding]:
        try:
            findings = self._store.diagnose(now=self._clock())
        except StoreError as error:
            self._load()  # fails too if the store is out of reach
            findings = [_finding("warning", error)]
        if not self._store.exists:
            raise _StopError([*findings, Finding("problem", absent(self._store), _CREATE_FIRST)])
        return findings

    def create(self) -> None:
        self._has_written = True
        self._keep(self._store.create(self._handle, self._record, now=self._clock()))

    def read(self) -> None:
        found = self._load()
        if found is None or found.data != self._record.data:
            raise StoreError(_LOST)

    def replace(self) -> None:
        self._keep(self._replaced(-1))

    def race(self) -> None:
        with ThreadPoolExecutor(_WRITERS) as writers:
            won = [one for one in writers.map(self._replaced, range(_WRITERS)) if one is not None]
        if len(won) != 1:
            raise StoreError(f"{len(won)} of {_WRITERS} writers of one version won, not one: report this as a bug")
        self._keep(won[0])

    def delete(self) -> None:
        if not self._store.delete(self._handle, now=self._clock()) or self._load() is not None:
            raise StoreError(_LOST)

    def latency(self) -> Step:
        took = statistics.median(_timed(self._look).seconds for _ in range(_READS))
        findings = []
        if took > _SLOW:
            fact = f"a read takes {took * 1000:.0f} ms, and delays every request that uses its session by as much"
            findings.append(Finding("warning", fact, "move the store closer to the app, or check its load"))
        return Step("latency", took, findings)

    def clean_up(self) -> None:
        if self._has_written:
            with contextlib.suppress(StoreError):
                self._store.delete(self._handle, now=self._clock())

    def _look(self) -> None:
        self._load()

    def _load(self) -> Record | None:
        return self._store.load(self._handle, now=self._clock(), touch_after=None)

    def _replaced(self, number: int) -> Record | None:
        new = Record(b'{"doctor":%d}' % number, _TTL, version=self._record.version)
        return self._store.replace(self._handle, new, now=self._clock())

    def _keep(self, written: Record | None) -> None:
        if written is None:
            raise StoreError(_LOST)
        self._record = written
