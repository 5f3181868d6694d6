"""The counter app with its figures under /metrics."""

from __future__ import annotations

import os

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.apps.counter import counter
from wsgisession import SessionMiddleware
from wsgisession.metrics import Metrics

metrics = Metrics()
counting = SessionMiddleware(counter, store=metrics.observed(os.environ["STORE"]), on_event=metrics)
app = DispatcherMiddleware(counting, {"/metrics": metrics.app})
