"""Session metrics for Prometheus: `Metrics`."""

from .observing.metrics import Metrics

__all__ = ["Metrics"]
