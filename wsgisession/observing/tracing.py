"""`traced`: store calls as OpenTelemetry spans. Needs ``pip install opentelemetry-api`` (the extra ``tracing``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import SpanKind, StatusCode, Tracer, get_tracer

from ..errors import StoreError
from ..stores import Store
from .observed import ObservedStore


def traced(store: str | Store, *, tracer: Tracer | None = None) -> Store:
    """Return the store with a span around each call, inside the request's span if there is one.

    A span contains the verb, the kind of store, and the message of a `StoreError`, which ends with the first line of
    what the driver said. It contains no handle, no user, and not the driver's exception, which may quote a record.

    :param store: a URL or a `Store`.
    :param tracer: the default is a tracer of the global provider, even if that is set later.
    :raises ConfigurationError: for a URL that `open_store` would refuse.
    """
    chosen = get_tracer("wsgisession") if tracer is None else tracer

    @contextmanager
    def span(verb: str, kind: str) -> Iterator[None]:
        with chosen.start_as_current_span(
            f"session {verb}",
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": kind, "db.operation.name": verb},
            record_exception=False,
            set_status_on_exception=False,
        ) as current:
            try:
                yield
            except StoreError as error:
                current.set_attribute("error.type", "StoreError")
                current.set_status(StatusCode.ERROR, str(error))
                raise

    return ObservedStore(store, span)
