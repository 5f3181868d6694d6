"""An examination of a store: its server's own word, then each verb, tried and timed on a record that goes again."""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from ..errors import StoreError
from ..stores import Record, Store
from ..stores.findings import Finding

_WRITERS = 16
_READS = 15
_TTL = 60.0
_SLOW = 0.02
_LOST = (
    "what was written is not there: look for an eviction policy, a replica, a TTL index of another unit, "
    "or a proxy that sends reads elsewhere"
)


@dataclass(frozen=True)
class Step:
    """One step of the examination.

    :param seconds: how long it took; of ``latency``, the median read.
    :param is_last: whether it failed, so that the next ones would say nothing new.
    """

    name: str
    seconds: float
    findings: list[Finding] = field(default_factory=list)
    is_last: bool = False


def examine(store: Store, *, clock: Callable[[], float] = time.time) -> Iterator[Step]:
    """Try and time each step, until one fails.

    :param clock: the application's, which the server's is compared with.
    """
    patient = _Patient(store, clock)
    steps = (patient.connect, patient.create, patient.read, patient.replace, patient.race, patient.delete)
    try:
        for each in steps:
            step = _tried(each)
            yield step
            if step.is_last:
                return
        yield patient.latency()
    finally:
        patient.clean_up()


def _tried(step: Callable[[], list[Finding] | None]) -> Step:
    began = time.perf_counter()
    try:
        findings, failed = step() or [], False
    except StoreError as error:
        findings, failed = [_finding("problem", error)], True
    return Step(step.__name__, time.perf_counter() - began, findings, failed)


def _finding(level: Literal["problem", "warning"], error: StoreError) -> Finding:
    fact, _, cure = str(error).partition(": ")
    return Finding(level, fact, cure)


class _Patient:
    """One record, and what is done to it."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._handle = f"doctor-{secrets.token_hex(16)}"
        self._record = Record(b'{"doctor":0}', _TTL)

    def connect(self) -> list[Finding]:
        try:
            return self._store.diagnose(now=self._clock())
        except StoreError as error:
            self._load()  # where that fails too, the store is out of reach
            return [_finding("warning", error)]

    def create(self) -> None:
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
            raise StoreError(f"{len(won)} of {_WRITERS} writers of one version won, not one: report it")
        self._keep(won[0])

    def delete(self) -> None:
        if not self._store.delete(self._handle, now=self._clock()) or self._load() is not None:
            raise StoreError(_LOST)

    def latency(self) -> Step:
        took = statistics.median(_tried(self._look).seconds for _ in range(_READS))
        findings = []
        if took > _SLOW:
            fact = f"a read takes {took * 1000:.0f} ms, and so does every request that looks at its session"
            findings.append(Finding("warning", fact, "move the store nearer, or look at its load"))
        return Step("latency", took, findings)

    def clean_up(self) -> None:
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
