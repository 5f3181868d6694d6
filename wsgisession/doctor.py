"""An examination of a store: each step is tried and timed on a record of its own, which is deleted at the end."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .errors import StoreError
from .stores import Record, Store

_WRITERS = 16
_TTL = 60.0
_SLOW = 0.1
_LOST = "what was written is not there: look for an eviction policy, a replica or another database behind this URL"


@dataclass(frozen=True)
class Finding:
    """What one step of the examination found.

    :param seconds: how long the step took.
    :param problem: the fact and its cure, or None where all is well.
    """

    step: str
    seconds: float
    problem: str | None = None


def examine(store: Store) -> Iterator[Finding]:
    """Try and time each step, until one finds a problem."""
    patient = _Patient(store)
    steps = (patient.connect, patient.create, patient.read, patient.replace, patient.race, patient.delete)
    try:
        for step in steps:
            finding = _timed(step)
            yield finding
            if finding.problem is not None:
                return
    finally:
        patient.clean_up()


def _timed(step: Callable[[], str | None]) -> Finding:
    began = time.perf_counter()
    try:
        problem = step()
    except StoreError as error:
        problem = str(error)
    took = time.perf_counter() - began
    if problem is None and took > _SLOW and step.__name__ in {"read", "replace"}:
        problem = f"it took {took * 1000:.0f} ms, as it does at a request: move the store nearer, or look at its load"
    return Finding(step.__name__, took, problem)


class _Patient:
    """One record, and what is done to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._handle = f"doctor-{secrets.token_hex(16)}"
        self._record = Record(b'{"doctor":0}', _TTL)

    def connect(self) -> str | None:
        return None if self._load() is None else "a record that nobody wrote is there: the store answers wrongly"

    def create(self) -> str | None:
        return self._keep(self._store.create(self._handle, self._record, now=time.time()))

    def read(self) -> str | None:
        found = self._load()
        return None if found is not None and found.data == self._record.data else _LOST

    def replace(self) -> str | None:
        return self._keep(self._replaced(-1))

    def race(self) -> str | None:
        with ThreadPoolExecutor(_WRITERS) as writers:
            won = [one for one in writers.map(self._replaced, range(_WRITERS)) if one is not None]
        if len(won) != 1:
            return f"{len(won)} of {_WRITERS} writers of one version won, not one: writes would be lost; report it"
        return self._keep(won[0])

    def delete(self) -> str | None:
        deleted = self._store.delete(self._handle, now=time.time())
        return None if deleted and self._load() is None else _LOST

    def clean_up(self) -> None:
        with contextlib.suppress(StoreError):
            self._store.delete(self._handle, now=time.time())

    def _load(self) -> Record | None:
        return self._store.load(self._handle, now=time.time(), touch_after=None)

    def _replaced(self, number: int) -> Record | None:
        new = Record(b'{"doctor":%d}' % number, _TTL, version=self._record.version)
        return self._store.replace(self._handle, new, now=time.time())

    def _keep(self, written: Record | None) -> str | None:
        if written is None:
            return _LOST
        self._record = written
        return None
