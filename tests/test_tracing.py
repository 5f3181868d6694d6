"""Store calls as OpenTelemetry spans."""

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


def test_each_store_call_is_a_span_inside_the_requests_span(exported, tracer):
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


def test_the_drivers_spans_are_inside_the_calls_span(exported, tracer):
    class Traced(MemoryStore):
        def find_user(self, user_id, **options):
            with tracer.start_as_current_span("of the driver"):
                return super().find_user(user_id, **options)

    Site(traced(Traced(), tracer=tracer)).manager.sessions_for("ada")
    inner, outer = exported.get_finished_spans()
    assert (inner.name, outer.name) == ("of the driver", "session find_user")
    assert inner.parent.span_id == outer.context.span_id


def test_the_span_of_a_failed_call_has_the_message_of_the_error(exported, tracer):
    """SECURITY 56: the driver's exception may quote a record, so it is not in the span."""

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


def test_spans_contain_no_user_handle_or_id(exported, tracer):
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
