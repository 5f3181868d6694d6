"""`Metrics`: session metrics for Prometheus. Needs ``pip install prometheus-client`` (the extra ``metrics``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from .._core.events import SessionEvent
from ..errors import StoreError
from ..stores import Store
from .observed import ObservedStore

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # of seconds


class Metrics:
    """Counts session events and times store calls. Use one for all managers of a registry::

        metrics = Metrics()
        sessions = SessionManager(store=metrics.observed("redis://localhost"), on_event=metrics)

    No label is a handle, a user, or the text of an error, so the number of series is limited.

    :param registry: the registry that collects the metrics; the default is prometheus_client's own.
    :ivar app: a WSGI app that shows all metrics of the registry. If the environment variable
        ``PROMETHEUS_MULTIPROC_DIR`` names a directory that the workers share, it shows the sum of all workers.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._events = Counter(
            "wsgisession_events", "What happened to sessions.", ["event", "reason"], registry=registry
        )
        self._seconds = Histogram(
            "wsgisession_store_duration_seconds",
            "How long the session store took for a call.",
            ["verb", "store"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._errors = Counter(
            "wsgisession_store_errors", "Calls that the session store failed.", ["verb", "store"], registry=registry
        )
        self.app = make_wsgi_app(_of_all_workers() if "PROMETHEUS_MULTIPROC_DIR" in os.environ else registry)

    def __call__(self, event: SessionEvent) -> None:
        """Count an event: for ``on_event``."""
        self._events.labels(event.name, event.reason or "").inc()

    def observed(self, store: str | Store) -> Store:
        """Return the store with its calls timed.

        :param store: a URL or a `Store`.
        :raises ConfigurationError: for a URL that `open_store` would refuse.
        """
        return ObservedStore(store, self._call)

    @contextmanager
    def _call(self, verb: str, store: str) -> Iterator[None]:
        errors = self._errors.labels(verb, store)  # at the first call, because a series that begins at 1 has no rate
        with self._seconds.labels(verb, store).time(), errors.count_exceptions(StoreError):
            yield


def _of_all_workers() -> CollectorRegistry:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
