"""Metrics for Prometheus: events by name and reason, store calls by verb, and nothing about a person."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Sample
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client

from tests.visitors import Site
from tests.web import Browser, Gunicorn, until
from wsgisession import StoreError
from wsgisession.metrics import Metrics
from wsgisession.stores.memory import MemoryStore


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def site(metrics) -> Site:
    return Site(metrics.observed("memory://"), on_event=metrics)


def text_of(metrics: Metrics) -> str:
    return Client(metrics.app).get("/metrics").text


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Return the metrics shown, by name and label values."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(one.name.removeprefix("wsgisession_"), *labels_of(one)): one.value for one in samples}


def labels_of(sample: Sample) -> list[str]:
    return [sample.labels[name] for name in ("event", "reason", "verb", "store", "le") if name in sample.labels]


def test_events_are_counted_by_name_and_reason(metrics, site):
    site.logged_in("ada").put(n=1)
    for cookies in ("sid=x", "sid=y"):
        site.browser().visit(dict, cookies=cookies)
    shown = figures(text_of(metrics))
    counted = {labels[1:]: value for labels, value in shown.items() if labels[0] == "events_total"}
    assert counted == {("created", ""): 1, ("loaded", ""): 1, ("saved", ""): 1, ("rejected", "malformed"): 2}


def test_store_calls_are_counted_and_timed_by_verb(metrics, site):
    site.logged_in("ada").put(n=1)
    site.manager.sessions_for("ada")
    shown = figures(text_of(metrics))
    counted = {labels[1:]: value for labels, value in shown.items() if labels[0] == "store_duration_seconds_count"}
    assert counted == {(verb, "memory"): 1 for verb in ("create", "load", "replace", "find_user")}
    assert 0 < shown["store_duration_seconds_sum", "load", "memory"] < 1
    assert shown["store_duration_seconds_bucket", "load", "memory", "+Inf"] == 1
    assert shown["store_errors_total", "load", "memory"] == 0


def test_a_failed_call_is_counted_and_timed_too(metrics):
    class Broken(MemoryStore):
        def load(self, handle, **options):
            raise StoreError("redis://secret-host is down")

    site = Site(metrics.observed(Broken()), on_event=metrics)
    browser = site.logged_in("ada")
    with pytest.raises(StoreError):
        browser.visit(dict)
    text = text_of(metrics)
    shown = figures(text)
    assert shown["store_errors_total", "load", "broken"] == 1
    assert shown["store_duration_seconds_count", "load", "broken"] == 1
    assert shown["events_total", "store_error", ""] == 1
    assert "secret-host" not in text


def test_metrics_contain_no_user_handle_or_id(metrics, site):
    """SECURITY 56. The number of series does not grow with the number of sessions either."""
    site.logged_in("ada-lovelace")
    before = len(figures(text_of(metrics)))
    browsers = [site.logged_in(f"ada-lovelace-{number}") for number in range(20)]
    text = text_of(metrics)
    assert len(figures(text)) == before
    assert "lovelace" not in text
    assert not any(browser.handle in text or browser.session_id in text for browser in browsers)


def test_several_managers_can_share_one_metrics(metrics):
    for _ in range(2):
        Site(metrics.observed("memory://"), on_event=[metrics]).logged_in("ada")
    assert figures(text_of(metrics))["events_total", "created", ""] == 2


def test_each_worker_shows_the_metrics_of_all_workers(sqlite_url, tmp_path):
    shared = tmp_path / "metrics"
    shared.mkdir()
    variables = {"STORE": sqlite_url, "PROMETHEUS_MULTIPROC_DIR": str(shared)}
    server = Gunicorn("tests.apps.measured:app", "--workers=3", **variables)
    try:
        url = server.start().url
        answers: list[Any] = []

        def have_two_answered() -> bool:
            with ThreadPoolExecutor(8) as pool:
                answers.extend(pool.map(lambda number: Browser(url).get("/set", key=number), range(8)))
            return len({answer["pid"] for answer in answers}) > 1

        until(have_two_answered)
        shown = figures(Browser(url).get("/metrics"))
    finally:
        server.stop()
    assert shown["events_total", "created", ""] == len(answers)
    assert shown["store_duration_seconds_count", "create", "sqlite"] == len(answers)
