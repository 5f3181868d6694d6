"""The store's calls as spans of OpenTelemetry."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from tests.visitors import Site
from wsgisession import StoreError
from wsgisession.stores.memory import MemoryStore
from wsgisession.tracing import traced


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exported) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return provider.get_tracer("of the app")


def test_each_call_of_the_store_is_a_span_below_the_request_s(exported, tracer):
    site = Site(traced("memory://", tracer=tracer))
    browser = site.logged_in("ada")
    exported.clear()
    with tracer.start_as_current_span("request") as request:
        browser.put(n=1)
    load, replace, _ = exported.get_finished_spans()
    assert [load.name, replace.name] == ["session load", "session replace"]
    assert load.parent.span_id == replace.parent.span_id == request.get_span_context().span_id
    assert (load.kind, load.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert load.attributes == {"db.system.name": "memory", "db.operation.name": "load"}


def test_what_the_driver_traces_stands_below_the_call(exported, tracer):
    class Traced(MemoryStore):
        def find_user(self, user_id, **options):
            with tracer.start_as_current_span("of the driver"):
                return super().find_user(user_id, **options)

    Site(traced(Traced(), tracer=tracer)).manager.sessions_for("ada")
    inner, outer = exported.get_finished_spans()
    assert (inner.name, outer.name) == ("of the driver", "session find_user")
    assert inner.parent.span_id == outer.context.span_id


def test_a_span_of_a_call_that_failed_says_so_in_the_error_s_own_words(exported, tracer):
    """SECURITY 56: what the driver said may quote a record, and stays out."""

    class Broken(MemoryStore):
        def load(self, handle, **options):
            try:
                raise ValueError("near {password: hunter2}")
            except ValueError as error:
                raise StoreError("redis://localhost cannot be reached") from error

    browser = Site(traced(Broken(), tracer=tracer)).logged_in("ada")
    with pytest.raises(StoreError):
        browser.visit(dict)
    span = exported.get_finished_spans()[-1]
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "redis://localhost cannot be reached",
    )
    assert span.attributes["error.type"] == "StoreError"
    assert "hunter2" not in span.to_json()


def test_no_span_tells_of_anybody(exported, tracer):
    """SECURITY 56."""
    site = Site(traced("memory://", tracer=tracer))
    browser = site.logged_in("ada-lovelace")
    site.manager.sessions_for("ada-lovelace")
    site.manager.revoke_user("ada-lovelace")
    told = "".join(span.to_json() for span in exported.get_finished_spans())
    assert "session delete_user" in told
    assert not any(secret in told for secret in ("lovelace", browser.session_id, browser.cookie))


def test_without_a_provider_the_store_works_as_before():
    browser = Site(traced("memory://")).logged_in("ada")
    assert browser.data == {"user_id": "ada"}
